"""The loop: resuming, what is drawn, what options do, and that every recipe learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from gencore import families
from gencore.applications import style_transfer
from gencore.applications.style_transfer import Brushes, Layers, Painted, StyleRecipe, Styles
from gencore.applications.style_transfer.examples import Stream, mixture, turn_colours, windows
from gencore.applications.style_transfer.sampling import build, looking, replay, to_show
from gencore.data import Photos
from gencore.errors import InputError
from gencore.networks.adain import AdaIN
from gencore.networks.image_transform import ImageTransform
from gencore.training import checkpoint
from gencore.training.log import read_curve
from gencore.training.loss import NonFiniteLoss
from gencore.training.optimiser import AdamW
from tests.comparing import assert_same, weights

ROWS = StyleRecipe(
    data=Photos(64),
    network=ImageTransform(styles=3, width=4, blocks=1),
    styles=Styles(left_out=(2, 3, 4, 5, 6, 7), side=64),
    objective=Painted(Layers((1, 4), content=4)),
    window=32,
    optimiser=AdamW(lr=1e-3, weight_decay=1e-3, warm_up=4),
    images=12,
    batch_size=2,
    ema_half_life=4,
    log_every=2,
    checkpoint_every=6,
)
ANY = replace(ROWS, network=AdaIN((1, 4), (64, 128), (1, 2), (4, 8)), styles=replace(ROWS.styles, others=True))
KINDS = {"rows": ROWS, "any": ANY}
each_kind = pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)


@pytest.fixture(autouse=True)
def few_styles(monkeypatch):
    """Sheets and textures are slow to make, and so are replays."""
    from gencore.applications.style_transfer import loop, styles

    monkeypatch.setattr(loop, "REPLAY_SAMPLES", 2)
    monkeypatch.setattr(styles, "SHEETS", 2)
    monkeypatch.setattr(styles, "TEXTURES", 2)


def run(recipe, folder=None, **options):
    for state in style_transfer.train(recipe, folder, device="cpu", **options):
        pass
    return state


@each_kind
def test_training_six_steps_equals_three_and_resume_three(recipe, tmp_path):
    whole = weights(run(recipe, tmp_path / "whole"))
    stream = style_transfer.train(recipe, tmp_path / "halves", device="cpu")
    for state in stream:
        if state.images_seen == 6:
            stream.close()
    resumed = run(recipe, tmp_path / "halves")
    assert resumed.images_seen == 12
    assert_same(weights(resumed), whole)
    assert any(key.startswith("ema.") and not torch.equal(value, whole[f"model.{key[4:]}"]) for key, value in whole.items())
    curves = [read_curve(tmp_path / folder / "curve.csv") for folder in ("whole", "halves")]
    ours, theirs = ([{k: v for k, v in row.items() if k != "seconds"} for row in rows] for rows in curves)
    assert ours == theirs and len(ours) == 6


def test_a_loaded_run_paints_what_its_average_paints(tmp_path):
    """And the application of a folder is known by its recipe; replays are of that average."""
    state = run(replace(ROWS, images=4), tmp_path / "run")
    application, found = families.read(tmp_path / "run")
    assert application is style_transfer and found == replace(ROWS, images=4) and not families.draws(application, found)
    loaded = families.load(tmp_path / "run")
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    ours, theirs = style_transfer.paint(loaded, x, 1), style_transfer.paint((state.averaged, found), x, 1)
    assert torch.equal(ours, theirs)
    assert families.parameters(application, loaded) == sum(p.numel() for p in state.networks.model.parameters())
    paths = sorted((tmp_path / "run" / "replay").iterdir())
    assert [int(path.stem) for path in paths] == [2, 4]
    made = replay(loaded, *to_show(found, 2, 128))
    assert torch.equal(torch.from_numpy(np.array(Image.open(paths[-1]))).permute(2, 0, 1), torch.cat(list(made), 2))


def test_a_nan_stops_the_run_and_is_not_saved(tmp_path):
    stream = style_transfer.train(replace(ROWS, log_every=6), tmp_path / "run", device="cpu")
    state = next(stream)
    with torch.no_grad():
        next(state.networks.model.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match="'style' became nan at step 4;"):
        list(stream)
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path / "run")] == ["000000000006"]


NAMES = [name for name in families.recipes() if name.startswith("style_transfer.")]


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_takes_steps_and_every_parameter_moves(name):
    """Without weight decay, which would move what learns nothing. Rows move if they are drawn, but for the first step, in
    which only the last convolution does, which starts at zero."""
    recipe = families.recipes()[name]()
    optimiser = replace(recipe.optimiser, weight_decay=0.0, warm_up=0)
    recipe = replace(recipe, data=Photos(64), window=32, images=36, batch_size=12, log_every=12, optimiser=optimiser)
    recipe = replace(recipe, precision="fp32", styles=replace(recipe.styles, side=64))
    before = {key: value.clone() for key, value in checkpoint.flatten(build(recipe)._asdict()).items()}
    after = checkpoint.flatten(run(recipe).networks._asdict())
    assert all(value.isfinite().all() for value in after.values())
    still = [key for key in before if torch.equal(before[key], after[key])]
    assert still == [key for key in before if key.endswith("unit")]
    if not isinstance(recipe.network, ImageTransform):
        return
    stream = Stream(recipe, looking(recipe), torch.device("cpu"))
    drawn = [set(stream.at(seen)[1].mix.nonzero()[:, 1].tolist()) for seen in (0, 12, 24)]
    for key in (key for key in before if key.endswith(("scale", "shift"))):
        wanted = drawn[1] | drawn[2]
        if ".colour_" in key:  # the photograph has no colours of its own there
            wanted = (wanted | drawn[0]) - {recipe.styles.count}
        assert {*(before[key] != after[key]).any(1).nonzero()[:, 0].tolist()} == wanted, key


@pytest.fixture(scope="module")
def stream():
    return Stream(replace(ROWS, batch_size=64), looking(ROWS), torch.device("cpu"))


def test_half_of_the_photographs_become_paintings_and_the_others_less(stream):
    """Every painting has its turn; the matrices are those of the painting in the mixture."""
    x, draw = stream.at(64)
    assert x.shape == (64, 3, 32, 32) and x.abs().max() <= 1
    assert draw.strength.min() < 0.3 and (draw.strength == 1).float().mean().item() == pytest.approx(0.5, abs=0.2)
    assert draw.mix.sum(1).sub(1).abs().max() < 1e-6 and torch.equal(draw.mix[:, -1], 1 - draw.strength)
    number = draw.mix[:, :-1].argmax(1)
    assert set(number.tolist()) == {0, 1}
    features = looking(ROWS)
    for row, picture in enumerate(ROWS.styles.whole()):
        wanted = style_transfer.grams(features(picture), ROWS.objective.layers)
        for layer, matrix in wanted.items():
            assert torch.equal(draw.grams[layer][number == row], matrix.expand((number == row).sum(), -1, -1))


def test_each_step_draws_anew_and_apart(stream):
    (a, one), (b, two) = stream.at(0), stream.at(64)
    assert not torch.equal(a, b) and not torch.equal(one.strength, two.strength)
    again, same = Stream(replace(ROWS, batch_size=64), looking(ROWS), torch.device("cpu")).at(64)
    assert torch.equal(again, b) and torch.equal(same.mix, two.mix)


def test_a_mixture_is_a_style_and_the_photograph():
    mix = mixture(torch.tensor([0, 2]), torch.tensor([1.0, 0.25]), 4)
    assert torch.equal(mix, torch.tensor([[1.0, 0, 0, 0], [0, 0, 0.25, 0.75]]))


def test_windows_are_cut_where_the_numbers_say():
    """The whole picture, its corners at its own resolution, and mirrored."""
    x = torch.rand(1, 3, 64, 64)
    whole, corner = torch.tensor([[0.0, 0, 0, 0.9]]), torch.tensor([[0.0, 0.999999, 0, 0.9]])
    torch.testing.assert_close(windows(x, whole, 32), x[:, :, :32, :32], rtol=0, atol=1e-4)
    torch.testing.assert_close(windows(x, corner, 32), x[:, :, :32, 32:], rtol=0, atol=1e-3)
    mirrored = torch.tensor([[0.0, 0, 0.999999, 0.1]])
    torch.testing.assert_close(windows(x, mirrored, 32), x[:, :, 32:, :32].flip(3), rtol=0, atol=1e-3)
    all_of_it = windows(torch.nn.functional.avg_pool2d(x, 2).repeat_interleave(2, 2).repeat_interleave(2, 3), torch.tensor([[0.9999999, 0.5, 0.5, 0.9]]), 32)
    torch.testing.assert_close(all_of_it, torch.nn.functional.avg_pool2d(x, 2), rtol=0, atol=1e-4)


def test_colours_turn_around_grey():
    """Grey stays grey, a third of a turn exchanges the channels, none does nothing, and lengths are kept."""
    x = torch.rand(3, 3, 4, 4) * 0.8 - 0.4
    third = 2 * torch.pi / 3
    turned = turn_colours(x, torch.tensor([0.0, third, 2 * third]))
    torch.testing.assert_close(turned[0], x[0])
    torch.testing.assert_close(turned[1], x[1].roll(1, 0))
    torch.testing.assert_close(turned[2], x[2].roll(2, 0))
    some = turn_colours(x, torch.tensor([0.3, 1.0, 2.0]))
    torch.testing.assert_close(some.sum(1), x.sum(1))
    torch.testing.assert_close(some.square().sum(1), x.square().sum(1))
    assert not torch.allclose(some, x, atol=0.05)


def test_styles_for_any_are_paintings_and_others():
    """Patches of the paintings come first; the one that is left out is in none of them."""
    some, count = Styles(left_out=(1,), others=True).patches(0)
    alone, same = Styles(left_out=(1,)).patches(0)
    assert count == same == len(alone) < len(some) and torch.equal(some[:count], alone)
    assert some.shape[1:] == (3, 256, 256) and some.dtype == torch.uint8
    less, fewer = Styles(left_out=(0, 1)).patches(0)
    assert torch.equal(alone[count - fewer :], less) and fewer < count


CHANGES = [
    dict(data=Photos(72)),
    dict(network=replace(ROWS.network, width=8)),
    dict(network=replace(ROWS.network, blocks=2)),
    dict(network=replace(ROWS.network, norm="batch")),
    dict(styles=replace(ROWS.styles, left_out=(1, 3, 4, 5, 6, 7))),
    dict(styles=replace(ROWS.styles, side=96)),
    dict(objective=replace(ROWS.objective, layers=Layers((1,), 4))),
    dict(objective=replace(ROWS.objective, layers=Layers((1, 4), 1))),
    dict(objective=replace(ROWS.objective, layers=Layers((1, 4), 4, enlarge=1))),
    dict(objective=replace(ROWS.objective, layers=Layers((1, 4), 4, pool="mean"))),
    dict(objective=replace(ROWS.objective, style=50.0)),
    dict(objective=replace(ROWS.objective, content=30.0)),
    dict(objective=replace(ROWS.objective, variation=300.0)),
    dict(objective=replace(ROWS.objective, pixels=3000.0)),
    dict(window=48),
    dict(optimiser=replace(ROWS.optimiser, lr=2e-3)),
    dict(images=14),
    dict(batch_size=3),
    dict(clip=0.1),
    dict(precision="bf16"),
    dict(seed=1),
]


@pytest.fixture(scope="module")
def plain():
    return weights(run(replace(ROWS, images=6, log_every=6)))


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: str(*change))
def test_every_option_changes_what_is_learned(change, plain):
    recipe = replace(ROWS, images=6, log_every=6)
    changed = weights(run(replace(recipe, **change)))
    assert changed.keys() != plain.keys() or any(
        value.shape != plain[key].shape or not torch.equal(value, plain[key]) for key, value in changed.items()
    )


def test_others_change_what_any_learns():
    recipe = replace(ANY, images=4, log_every=4)
    ours, theirs = (weights(run(replace(recipe, styles=replace(ANY.styles, others=others)))) for others in (True, False))
    assert any(not torch.equal(value, theirs[key]) for key, value in ours.items())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (dict(window=40), "window 40"),
        (dict(window=80), "window 80"),
        (dict(window=16), "window 16"),
        (dict(images=0), "images is 0"),
        (dict(batch_size=0), "batch_size is 0"),
        (dict(clip=0.0), "clip is 0.0"),
        (dict(network=ImageTransform(styles=4)), "network.styles 4"),
        (dict(styles=Styles(others=True)), "styles.others"),
    ],
)
def test_a_recipe_that_makes_no_sense_names_the_field(change, field):
    with pytest.raises(InputError, match=field):
        replace(ROWS, **change)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Styles(left_out=(8,)), "left_out"),
        (lambda: Styles(left_out=tuple(range(8))), "left_out"),
        (lambda: Styles(side=10), "side 10"),
        (lambda: Layers(()), "style"),
        (lambda: Layers(enlarge=0), "enlarge 0"),
        (lambda: Painted(style=-1.0), "style -1.0"),
        (lambda: ImageTransform(blocks=0), "blocks 0"),
        (lambda: ImageTransform(norm="layer"), "norm 'layer'"),
        (lambda: AdaIN((4, 1), (8, 8), (2, 8)), "must rise"),
        (lambda: AdaIN((4,), (8,), (3,)), "powers of two"),
        (lambda: AdaIN((4, 5), (8,), (8,)), "channels and strides"),
    ],
)
def test_what_makes_no_sense_is_refused(make, field):
    with pytest.raises(InputError, match=field):
        make()


def test_resume_refuses_another_recipe(tmp_path):
    run(replace(ROWS, images=2), tmp_path / "run")
    with pytest.raises(InputError, match="another recipe.*window"):
        run(replace(ROWS, images=2, window=48), tmp_path / "run")


def test_brushes_are_what_the_objective_is_given(monkeypatch):
    seen, original = [], Painted.by_network
    monkeypatch.setattr(Painted, "by_network", lambda *given: seen.append(given) or original(*given))
    run(replace(ROWS, images=2))
    ((_, networks, features, x, draw),) = seen
    assert isinstance(draw, Brushes) and x.shape == (2, 3, 32, 32) and features.layers == (1, 4)
