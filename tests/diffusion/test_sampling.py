"""Sampling from a model: each picture by itself, what it shows if nobody says, and each way to walk."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gencore import diffusion, families
from gencore.data import Digits, Emoji, Shapes
from gencore.data.shapes import CAPTION_LENGTH, VOCABULARY, encode
from gencore.diffusion import EDM, Cosine, DiffusionRecipe, Flow, Networks, Sampling, samplers, walk
from gencore.diffusion.sampling import build, conditions, denoiser, untold, with_mirrored
from gencore.errors import InputError
from gencore.networks.denoising import DenoisingUNet
from gencore.networks.text import TextEncoder
from gencore.networks.text_unet import TextUNet
from gencore.networks.transformer import Transformer
from gencore.networks.unet import UNet
from gencore.training import recipe_io, rng
from tests.diffusion.exact import gaussian

UNET = UNet(1, width=8, multipliers=(1, 2), embedding=8)
TOLD = DiffusionRecipe(
    data=Digits(14), network=DenoisingUNet(14, UNET, (10,)), told=("class",), sampling=Sampling("euler", steps=3)
)
PLAIN = replace(TOLD, network=DenoisingUNet(14, UNET), told=())
EMOJI = DiffusionRecipe(
    data=Emoji(("noto", "twemoji"), size=8),
    network=DenoisingUNet(8, replace(UNET, channels=3), (8, 2, 2)),
    told=("class", "style"),
    mirror=True,
    sampling=Sampling("euler", steps=2),
)


class Pointwise(nn.Module):
    """Treats each pixel by itself, so that no arithmetic depends on what is computed beside it; remembers its questions."""

    def __init__(self):
        super().__init__()
        self.factor, self.asked = nn.Parameter(torch.tensor(0.3)), []

    def forward(self, x_t, t, cond):
        self.asked.append((t, cond))
        told = cond.sum(1, keepdim=True) if cond.shape[1] else torch.zeros(len(x_t), 1)
        return self.factor * x_t * x_t - x_t + (0.05 * told + t[:, None])[:, :, None, None]


def pointwise(recipe):
    return Networks(Pointwise()), recipe


def trained_a_little(recipe):
    """A network in which nothing is zero any more."""
    networks = build(recipe)
    for parameter in networks.model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    return networks, recipe


READING = DiffusionRecipe(
    data=Shapes(size=16, images=20),
    network=TextUNet(
        16,
        UNet(3, width=8, multipliers=(1, 2), embedding=8, heads=2, context=8),
        TextEncoder(len(VOCABULARY), CAPTION_LENGTH, Transformer(8, 1, 2)),
    ),
    told=("caption",),
    sampling=Sampling("euler", steps=2),
)
WAYS = {
    "ancestral": Sampling("ancestral", steps=3),
    "ddim": Sampling("ddim", steps=3),
    "ddim with noise": Sampling("ddim", steps=3, eta=0.7),
    "euler": Sampling("euler", steps=3),
    "heun": Sampling("heun", steps=3),
    "dpm_solver": Sampling("dpm_solver", steps=3),
    "guided": Sampling("heun", steps=3, guidance=2.0, interval=(0.2, 0.9)),
}
RANGE = {(): (), ("class",): (10,), ("class", "style"): (8, 2)}  # what the conditions are drawn from
each_way = pytest.mark.parametrize("how", WAYS.values(), ids=WAYS)


@each_way
@pytest.mark.parametrize("recipe", [TOLD, PLAIN, EMOJI], ids=["told", "plain", "emoji"])
def test_an_image_does_not_depend_on_its_batch(how, recipe):
    """Bitwise: its noise and every step are its own."""
    model, cond = pointwise(replace(recipe, sampling=how)), torch.arange(7)[:, None] % torch.tensor(RANGE[recipe.told])
    seven = diffusion.sample(model, 7, seed=3, cond=cond)
    assert torch.equal(diffusion.sample(model, 7, seed=3, batch_size=2, cond=cond), seven)
    one_by_one = [diffusion.sample(model, 1, seed=3, first=i, cond=cond[i : i + 1]) for i in range(7)]
    assert torch.equal(torch.cat(one_by_one), seven)
    assert torch.equal(diffusion.sample(model, 4, seed=3, first=3, cond=cond[3:]), seven[3:])
    other = diffusion.sample(model, 7, seed=4, cond=cond)
    assert all(not torch.equal(other[i], seven[i]) for i in range(7))
    assert all(not torch.equal(seven[i], seven[j]) for i in range(7) for j in range(i))


@each_way
def test_nor_with_a_real_network_but_for_rounding(how):
    """Matrix products of several images are summed in another order."""
    model, cond = trained_a_little(replace(TOLD, sampling=how)), torch.arange(5)[:, None]
    five = diffusion.sample(model, 5, seed=3, cond=cond)
    assert torch.allclose(five, diffusion.sample(model, 5, seed=3, batch_size=2, cond=cond), atol=1e-5)
    assert torch.allclose(five[2:], diffusion.sample(model, 3, seed=3, first=2, cond=cond[2:]), atol=1e-5)
    assert five.shape == (5, 1, 14, 14) and five.dtype == torch.float32 and not five.requires_grad
    assert five.abs().max() <= 1 and five.std() > 0.1


def test_each_step_draws_its_own_noise():
    """The number of steps changes how much is drawn, not with what a picture starts."""
    noise = rng.normal_per_image(2, (4, 1, 14, 14), 3, 5)
    for how in (Sampling("ancestral", steps=4), Sampling("ddim", steps=4, eta=1.0)):
        model = pointwise(replace(PLAIN, sampling=how))
        by_hand = walk(lambda x_t, t: denoiser(model)(x_t, t.expand(len(x_t)), torch.empty(len(x_t), 0)), Flow(), how, noise)
        assert torch.equal(diffusion.sample(model, 2, seed=3, first=5), by_hand.clamp(-1, 1).detach())
    assert how.random and not Sampling("ddim").random and not Sampling("heun", eta=1.0).random


def asked_conditions(recipe, *arguments, **options):
    model = pointwise(recipe)
    diffusion.sample(model, *arguments, **options)
    return torch.cat([cond for t, cond in model[0].model.asked if (t == t.max()).all() and t[0] == 1])


def test_by_default_pictures_show_what_training_pictures_show():
    """All the training pictures' conditions, once each, before any comes again; in an order of the seed's own."""
    recipe = replace(EMOJI, sampling=Sampling("euler", steps=1))
    table = conditions(recipe, recipe.data.load("train"))
    n = len(table)
    asked = asked_conditions(recipe, n + 5, seed=1)
    assert asked.shape == (n + 5, 3) and not asked[:, 2].any(), "none is mirrored"
    rows = sorted(map(tuple, asked[:n, :2].tolist()))
    assert rows == sorted(map(tuple, table.tolist()))
    assert torch.equal(asked[n:], asked[:5])
    assert not torch.equal(asked[:100, :2], table[:100])
    assert not torch.equal(asked_conditions(recipe, 100, seed=2), asked[:100])
    assert torch.equal(asked_conditions(recipe, 10, seed=1, first=90), asked[90:100])
    digits = asked_conditions(replace(TOLD, sampling=recipe.sampling), 9_000, seed=0)[:, 0]
    assert torch.equal(digits.bincount(), Digits().load("train").labels.bincount())


def test_pictures_show_what_is_asked_for():
    cond = torch.tensor([[1, 0], [7, 1], [8, 1], [8, 2]])  # the last two are not told all
    assert torch.equal(asked_conditions(EMOJI, 4, seed=0, cond=cond), torch.cat([cond, torch.zeros(4, 1).long()], 1))
    model = trained_a_little(TOLD)
    ones, twos = (diffusion.sample(model, 3, 0, cond=torch.full((3, 1), digit)) for digit in (1, 2))
    assert (ones - twos).abs().flatten(1).amax(1).min() > 1e-4


@pytest.mark.parametrize(
    "cond", [torch.zeros(3, 2), torch.zeros(2, 1), torch.zeros(3), torch.full((3, 1), 11), torch.full((3, 1), -1)]
)
def test_conditions_that_do_not_fit_are_refused(cond):
    with pytest.raises(InputError, match="^cond"):
        diffusion.sample(pointwise(TOLD), 3, 0, cond=cond.long())


def test_the_column_of_mirrored_pictures_is_never_hidden():
    cond = torch.tensor([[1, 0], [7, 1]])
    shown = with_mirrored(EMOJI, cond, torch.tensor([0, 1]))
    assert shown.tolist() == [[1, 0, 0], [7, 1, 1]]
    assert untold(EMOJI, shown).tolist() == [[8, 2, 0], [8, 2, 1]] and untold(EMOJI, cond).tolist() == [[8, 2]] * 2
    assert shown.tolist() == [[1, 0, 0], [7, 1, 1]] and with_mirrored(TOLD, cond, torch.tensor([0, 1])) is cond
    guided = pointwise(replace(EMOJI, sampling=Sampling("euler", steps=1, guidance=2.0)))
    diffusion.sample(guided, 2, 0, cond=cond)
    ((_, asked),) = guided[0].model.asked
    assert asked.tolist() == [[1, 0, 0], [7, 1, 0], [8, 2, 0], [8, 2, 0]]


def test_what_training_pictures_are_told():
    data = EMOJI.data.load("train")
    table = conditions(EMOJI, data)
    assert torch.equal(table[:, 0], data.labels)
    assert [EMOJI.data.styles[style] for style in table[:, 1]] == list(data.meta["style"])
    swapped = replace(EMOJI, told=("style", "class"), network=replace(EMOJI.network, conditions=(2, 8, 2)))
    assert torch.equal(conditions(swapped, data), table.flip(1))
    assert conditions(PLAIN, Digits(14).load("train")).shape == (9_000, 0)


def test_more_values_than_the_network_knows_are_refused():
    few = replace(TOLD, network=replace(TOLD.network, conditions=(9,)))
    with pytest.raises(InputError, match="network.conditions: class has 10 values or more, the network 9"):
        conditions(few, Digits(14).load("train"))
    few = replace(EMOJI, network=replace(EMOJI.network, conditions=(8, 1, 2)))
    with pytest.raises(InputError, match="network.conditions: style has 2 values or more, the network 1"):
        conditions(few, EMOJI.data.load("train"))
    with pytest.raises(InputError, match="told: digits/train has no styles"):
        conditions(replace(EMOJI, network=replace(EMOJI.network, conditions=(10, 2, 2))), Digits(14).load("train"))


BASE = Sampling("ddim", steps=4, guidance=2.0, interval=(0.0, 1.0), bend=1.0, eta=0.5)
CHANGES = [
    dict(sampler="ancestral"),
    dict(sampler="euler"),
    dict(sampler="heun"),
    dict(sampler="dpm_solver"),
    dict(steps=5),
    dict(guidance=1.0),
    dict(guidance=3.0),
    dict(interval=(0.0, 0.5)),
    dict(interval=(0.6, 1.0)),
    dict(bend=2.0),
    dict(eta=0.0),
    dict(clip=True),
]


@pytest.mark.parametrize("change", CHANGES, ids=repr)
def test_every_option_changes_the_samples(change):
    model = pointwise(TOLD)
    cond = torch.tensor([[3], [5]])
    a, b = (diffusion.sample(model, 2, 0, cond=cond, sampling=how) for how in (BASE, replace(BASE, **change)))
    assert (a - b).abs().max() > 1e-3
    assert torch.equal(diffusion.sample((model[0], replace(TOLD, sampling=replace(BASE, **change))), 2, 0, cond=cond), b)


def test_no_option_was_forgotten():
    assert set().union(*CHANGES) == {field for field in recipe_io.to_dict(BASE) if field != "type"}


@pytest.mark.parametrize(
    ("how", "options"),
    [
        (Sampling("euler", 6, bend=1.5), ()),
        (Sampling("heun", 6, bend=1.5), ()),
        (Sampling("dpm_solver", 6, bend=1.5), ()),
        (Sampling("ancestral", 6, bend=1.5), ("fresh",)),
        (Sampling("ddim", 6, bend=1.5, eta=0.3), ("fresh", 0.3)),
    ],
)
def test_a_walk_is_its_sampler(how, options):
    """From noise as large as the process has it at t = 1; each step's noise is a row of its own."""
    noise = torch.randn(3, 6, 2, 2, generator=torch.Generator().manual_seed(0))
    options = [(lambda step: noise[:, 1 + step]) if each == "fresh" else each for each in options]
    for process in (EDM(), Cosine(), Flow()):
        times = samplers.even_times(6, bend=1.5)
        start = process.sigma(torch.ones(())) * noise[:, 0]
        expected = getattr(samplers, how.sampler)(gaussian(process, 0.5), process, times, start, *options)
        torch.testing.assert_close(walk(gaussian(process, 0.5), process, how, noise), expected)


def test_clipping_holds_clean_pictures_to_the_range_of_pixels():
    """The sampler sees the clipped pictures, each of them."""
    seen, noise = [], torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))

    def bold(x_t, t):
        seen.append(3 * x_t)
        return seen[-1]

    found = walk(bold, Flow(), Sampling("ancestral", steps=4, clip=True), noise)
    assert torch.equal(found, seen[-1].clamp(-1, 1)) and seen[-1].abs().max() > 1
    held = samplers.ancestral(
        lambda x_t, t: (3 * x_t).clamp(-1, 1), Flow(), samplers.even_times(4), noise[:, 0], lambda step: noise[:, step + 1]
    )
    assert torch.equal(found, held)


def test_parameters_are_all_of_the_network():
    networks = build(TOLD)
    assert diffusion.parameters((networks, TOLD)) == sum(p.numel() for p in networks.model.parameters()) > 1000


def test_building_depends_on_the_seed_and_disturbs_nothing():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = build(TOLD), build(TOLD), build(replace(TOLD, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    pairs = [[a.unet.stem.weight for a in pair] for pair in zip(one, same, other, strict=True)][0]
    assert torch.equal(pairs[0], pairs[1]) and not torch.equal(pairs[0], pairs[2])


@pytest.mark.parametrize("name", [name for name in families.recipes() if name.startswith("diffusion.")])
def test_recipes_survive_json(name):
    recipe = families.recipes()[name]()
    assert recipe_io.from_dict(type(recipe), recipe_io.to_dict(recipe)) == recipe


def test_every_choice_survives_json():
    for weight in (diffusion.MinSNR(2.0), diffusion.EDMWeight()):
        objective = diffusion.Denoising(diffusion.UniformTimes(), weight)
        recipe = replace(TOLD, process=EDM(), prediction="edm", objective=objective, sampling=WAYS["guided"])
        assert recipe_io.from_dict(DiffusionRecipe, recipe_io.to_dict(recipe)) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(network=replace(TOLD.network, size=28)), "network.size is 28, but the data have 14"),
        (dict(network=replace(TOLD.network, unet=replace(UNET, channels=3))), "network.channels is 3, but the data have 1"),
        (dict(images=0), "images is 0"),
        (dict(batch_size=0), "batch_size is 0"),
        (dict(micro_batches=0), "micro_batches is 0"),
        (dict(log_every=0), "log_every is 0"),
        (dict(checkpoint_every=0), "checkpoint_every is 0"),
        (dict(clip=0.0), "clip is 0"),
        (dict(drop=1.0), "drop is 1"),
        (dict(drop=-0.1), "drop is -0.1"),
        (dict(told=("style",)), "told: only emoji have styles"),
        (dict(told=()), "network.conditions .10,.: must be 0 for told$"),
        (dict(mirror=True), "network.conditions .10,.: must be 1 for told, and 2"),
        (dict(mirror=True, network=replace(TOLD.network, conditions=(10, 3))), "must be 1 for told, and 2"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(TOLD, **change)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(steps=0), "steps 0"),
        (dict(bend=0.0), "bend 0.0"),
        (dict(eta=1.5), "eta 1.5"),
        (dict(eta=-0.5), "eta -0.5"),
        (dict(interval=(0.5,)), "interval"),
        (dict(interval=(0.6, 0.5)), "interval"),
        (dict(interval=(0.0, 1.5)), "interval"),
    ],
)
def test_what_is_no_walk_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Sampling(**fields)


def test_a_wrong_field_of_a_file_is_named():
    fields = recipe_io.to_dict(TOLD)
    for change, name in (
        (dict(prediction="noise"), "prediction"),
        (dict(process={"type": "Sine"}), "process"),
        (dict(sampling={"type": "Sampling", "sampler": "leap"}), "sampling.sampler"),
        (dict(told=["colour"]), "told"),
        (dict(mirrors=True), "mirrors"),
        (dict(drop=2.0), "type"),
    ):
        with pytest.raises(InputError, match=f"recipe: field '{name}'"):
            recipe_io.from_dict(DiffusionRecipe, fields | change)


def test_what_is_asked_for_by_default_does_not_depend_on_size(tmp_path, monkeypatch):
    """Emoji of 64 pixels do not ship; a model of them draws without its data, what one of small emoji would."""
    monkeypatch.setenv("GENCORE_DATA", str(tmp_path))
    large = replace(EMOJI, data=replace(EMOJI.data, size=64), network=replace(EMOJI.network, size=64))
    asked = []
    for recipe in (EMOJI, large):
        model = pointwise(recipe)
        assert diffusion.sample(model, 5, seed=3).shape == (5, 3, recipe.data.size, recipe.data.size)
        asked.append(model[0].model.asked[0][1])
    assert torch.equal(*asked)


def test_what_a_model_that_reads_draws_is_measured_against_its_captions(monkeypatch):
    """By the pictures of one series, each asked for by its caption alone; of other models there is nothing to say."""
    asked = []
    monkeypatch.setattr(diffusion.sampling, "measure_adherence", lambda data, draw: asked.append((data, draw)) or ["measured"])
    model = trained_a_little(READING)
    assert diffusion.measure(model) == ["measured"]
    ((data, draw),), captions = asked, ("a red circle", "two blue stars")
    assert data == READING.data
    assert torch.equal(draw(captions), diffusion.sample(model, 2, seed=1, cond=encode(captions)))
    assert diffusion.measure(trained_a_little(TOLD)) == [] and len(asked) == 1


def test_guidance_leads_away_from_the_empty_caption():
    model, captions = trained_a_little(READING), encode(["a red circle", "two blue stars"])
    plain, empty, guided = (
        diffusion.sample(model, 2, 0, cond=cond, sampling=Sampling("euler", 1, guidance=weight))
        for cond, weight in ((captions, 1.0), (torch.zeros_like(captions), 1.0), (captions, 1.5))
    )
    inside = (plain.abs() < 0.9) & (empty.abs() < 0.9) & (guided.abs() < 0.9)  # pictures are held to [-1, 1]
    torch.testing.assert_close(guided[inside], (empty + 1.5 * (plain - empty))[inside], atol=1e-5, rtol=1e-4)
    assert inside.float().mean() > 0.1 and (plain - empty).abs().max() > 1e-3
