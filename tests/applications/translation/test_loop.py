"""Both loops: resumed bitwise, finite, and every option heard."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gencore.applications import translation
from gencore.applications.translation import recipes
from gencore.applications.translation.pairs import Colour, Dress, Restyle
from gencore.applications.translation.recipes import CycleRecipe, TranslationRecipe
from gencore.data import Emoji
from gencore.data.figures import Figures
from gencore.errors import InputError
from gencore.gan.augmentation import Augmentation
from gencore.gan.objectives import LeastSquares, NonSaturating
from gencore.gan.penalties import R1
from gencore.networks.patchgan import PatchGAN
from gencore.networks.translator import Translator
from gencore.networks.unet import UNet
from gencore.training import checkpoint, device as devices
from gencore.training.log import read_curve

SHORT = dict(images=48, batch_size=8, log_every=8, checkpoint_every=24, ema_half_life=32, precision="fp32")
SMALL = UNet(channels=3, out_channels=3, width=8, multipliers=(1, 2), embedding=8)
JUDGE = PatchGAN(channels=8, width=8, strided=1)
LOST = UNet(channels=1, out_channels=3, width=8, multipliers=(1, 2), embedding=8)
PLAIN = replace(SMALL, embedding=0)
PAIRED = {
    "styles": TranslationRecipe(
        Emoji(("noto", "twemoji"), size=12),
        Restyle(("noto", "twemoji"), ("noto", "twemoji")),
        Translator(SMALL, (2,), dropout=0.25, residual=True),
        JUDGE,
        penalty=R1(gamma=0.1, every=2),
        **SHORT,
    ),
    "edges": TranslationRecipe(
        Emoji(("noto", "twemoji"), size=12), Colour(), Translator(LOST, (2,)), replace(JUDGE, channels=6), **SHORT
    ),
    "figures": TranslationRecipe(
        Figures(size=16, images=30),
        Dress(),
        Translator(SMALL, Figures.conditions),
        replace(JUDGE, channels=6 + sum(Figures.conditions)),
        mirror=False,
        **SHORT,
    ),
}
CYCLES = {
    "cycle": CycleRecipe(
        Emoji(("noto", "twemoji"), size=12),
        Restyle(("noto",), ("twemoji",)),
        Translator(PLAIN, residual=True),
        Translator(PLAIN, residual=True),
        replace(JUDGE, channels=3),
        replace(JUDGE, channels=3),
        history=16,
        veil=0.1,
        penalty=R1(gamma=0.1, every=2),
        **SHORT,
    ),
    "cycle of edges": CycleRecipe(
        Emoji(("noto",), size=12),
        Colour(),
        Translator(replace(LOST, embedding=0)),
        Translator(replace(PLAIN, out_channels=1)),
        replace(JUDGE, channels=1),
        replace(JUDGE, channels=3),
        history=16,
        identity=0.0,
        **SHORT,
    ),
}
KINDS = PAIRED | CYCLES
EVERY_RECIPE = {
    name: function for name, function in vars(recipes).items() if callable(function) and name[0].islower()
    and getattr(function, "__module__", "") == recipes.__name__
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(recipe, folder=None, **options):
    for state in translation.train(recipe, folder, device="cpu", **options):
        pass
    return state


def weights(state):
    return checkpoint.flatten(state.networks._asdict() | {f"ema {k}": v for k, v in state.averaged._asdict().items()})


@pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)
def test_training_six_steps_equals_three_and_resume_three(tmp_path, recipe):
    whole = weights(run(recipe, tmp_path / "whole"))
    stream = translation.train(recipe, tmp_path / "halves", device="cpu")
    for state in stream:
        if state.images_seen == 24:
            stream.close()
    resumed = run(recipe, tmp_path / "halves")
    assert resumed.images_seen == 48
    found = weights(resumed)
    assert found.keys() == whole.keys()
    assert [key for key in whole if not torch.equal(found[key], whole[key])] == []
    rows = [
        [{k: v for k, v in row.items() if "seconds" not in k} for row in read_curve(tmp_path / each / "curve.csv")]
        for each in ("whole", "halves")
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 6


@pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)
def test_all_that_should_learn_has_moved_and_what_ships_is_what_translates(tmp_path, recipe):
    state = run(recipe, tmp_path / "run")
    first = checkpoint.flatten(
        translation.build(recipe)._asdict() | _judges(recipe, state.networks)
    )
    found = checkpoint.flatten(state.networks._asdict())
    still = [key for key in first if torch.equal(first[key], found[key])]
    assert still == []
    assert all(torch.isfinite(value).all() for value in found.values())
    networks, loaded = translation.load(tmp_path / "run")
    assert loaded == recipe and networks._fields == state.averaged._fields
    assert checkpoint.flatten(networks._asdict()).keys() == {key for key in first if "judge" not in key}
    for ours, theirs in zip(networks, state.averaged, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    pictures = sorted(path.name for path in (tmp_path / "run" / "replay").iterdir())
    assert pictures[-1] == "000000000048.png"


def _judges(recipe, networks):
    """The judges as they were built."""
    if isinstance(recipe, CycleRecipe):
        return dict(zip(("judge_a", "judge_b"), translation.sampling.build_judges(recipe), strict=True))
    return {"judge": translation.sampling.build_players(recipe).judge}


def losses(recipe, steps=4):
    state = run(replace(recipe, images=steps * recipe.batch_size, log_every=10**9))
    return state.losses, {key: value for key, value in weights(state).items() if not key.startswith("history")}


PAIRED_OPTIONS = [
    dict(adversarial=0.0), dict(adversarial=2.0), dict(l1=20.0), dict(penalty=None), dict(penalty=R1(gamma=1.0, every=2)),
    dict(penalty=R1(gamma=0.1, every=1)), dict(augmentation=None), dict(augmentation=Augmentation(0.0, 0.0, 0.5)),
    dict(mirror=False), dict(shift=0.0), dict(objective=LeastSquares()), dict(seed=1),
    dict(network=Translator(SMALL, (2,), dropout=0.0, residual=True)),
    dict(network=Translator(SMALL, (2,), dropout=0.25, residual=False)),
]  # fmt: skip


@pytest.mark.parametrize("options", PAIRED_OPTIONS, ids=str)
def test_every_option_of_pairs_changes_what_is_learned(options):
    plain = PAIRED["styles"]
    (_, ours), (_, theirs) = losses(plain), losses(replace(plain, **options))
    key = "generator.unet.head.weight"
    assert not torch.equal(ours[key], theirs[key])


CYCLE_OPTIONS = [
    dict(adversarial=0.0), dict(cycle=1.0), dict(identity=0.0), dict(veil=0.0), dict(penalty=None), dict(history=0),
    dict(penalty=R1(gamma=1.0, every=2)), dict(penalty=R1(gamma=0.1, every=1)), dict(augmentation=None),
    dict(mirror=False), dict(shift=0.0), dict(objective=NonSaturating()), dict(seed=1), dict(history=24),
]  # fmt: skip


@pytest.mark.parametrize("options", CYCLE_OPTIONS, ids=str)
def test_every_option_of_a_cycle_changes_what_is_learned(options):
    plain = CYCLES["cycle"]
    (_, ours), (_, theirs) = losses(plain, 5), losses(replace(plain, **options), 5)
    for key in ("there.unet.head.weight", "back.unet.head.weight"):
        assert not torch.equal(ours[key], theirs[key])


def test_without_a_game_no_judge_learns_and_none_is_asked():
    recipe = replace(PAIRED["styles"], adversarial=0.0)
    state = run(recipe)
    assert set(state.losses) == {"l1"}
    first = translation.sampling.build_players(recipe).judge
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), state.networks.judge.parameters(), strict=True))


FOR_A_PROCESSOR = {"cycle_edges", "cycle_edges_veiled", "pose_to_figure32"}  # which may have no bf16


@pytest.mark.parametrize("name", EVERY_RECIPE)
def test_every_recipe_says_what_it_is(name):
    recipe = EVERY_RECIPE[name]()
    sizes = [sum(p.numel() for p in network.parameters()) for network in translation.build(recipe)]
    assert sum(sizes) <= 1_600_000, "what ships takes a byte a parameter"
    assert recipe.precision == ("fp32" if name in FOR_A_PROCESSOR else "bf16")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(l1=-1.0), "l1 -1.0"), (dict(adversarial=0.0, l1=0.0), "one of them must weigh"),
        (dict(images=0), "images is 0"), (dict(shift=0.6), "shift 0.6"),
        (dict(judge=replace(JUDGE, channels=7)), "judge.channels 7: .* have 8"),
        (dict(network=Translator(SMALL)), r"network.conditions \(\): the task tells \(2,\)"),
        (dict(network=Translator(LOST, (2,))), r"network: its U-Net has \(1, 3\) .* \(3, 3\)"),
        (dict(data=Emoji(("noto", "twemoji"), size=13)), "data.size 13: .* multiples of 2"),
        (dict(data=Emoji(("noto",), size=12)), "needs the styles .'twemoji'."),
        (dict(data=Figures(size=16)), "Restyle needs Emoji, but data are Figures"),
        (dict(augmentation=Augmentation()), "augmentation.colour"),
    ],
)  # fmt: skip
def test_a_recipe_of_pairs_that_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        replace(PAIRED["styles"], **wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(history=4), "history 4: .* batch of 8"), (dict(veil=-1.0), "veil -1.0"), (dict(shift=-0.1), "shift -0.1"),
        (dict(task=Restyle(("noto", "twemoji"), ("noto", "twemoji"))), "two kinds"),
        (dict(there=Translator(SMALL, (2,))), "there: .* told nothing"),
        (dict(there=Translator(SMALL, (), dropout=0.5)), "there: .* drop nothing"),
        (dict(back=Translator(LOST)), r"back: its U-Net has \(1, 3\)"),
        (dict(judge_b=replace(JUDGE, channels=1)), "judge_b.channels 1: .* have 3"),
    ],
)  # fmt: skip
def test_a_recipe_of_a_cycle_that_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        replace(CYCLES["cycle"], **wrong)


def test_identity_needs_kinds_with_the_same_channels_and_figures_are_not_mirrored():
    with pytest.raises(InputError, match="identity 5.0: the kinds have 1 and 3"):
        replace(CYCLES["cycle of edges"], identity=5.0)
    with pytest.raises(InputError, match="mirror: a mirrored figure"):
        replace(PAIRED["figures"], mirror=True)


def test_compiled_are_the_translators_only(monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    for recipe, count in ((PAIRED["styles"], 1), (CYCLES["cycle"], 2)):
        compiled.clear()
        run(replace(recipe, images=8), compile=True)
        assert compiled == ["TranslatorNetwork"] * count


def test_bf16_is_used_where_asked_for(monkeypatch):
    asked = []
    plain = devices.autocast
    monkeypatch.setattr(devices, "autocast", lambda device, precision: asked.append(precision) or plain(device, precision))
    for recipe in (PAIRED["styles"], CYCLES["cycle"]):
        asked.clear()
        state = run(replace(recipe, images=16, precision="bf16"))
        assert set(asked) == {"bf16"} and all(map(lambda value: value == value, state.losses.values()))
