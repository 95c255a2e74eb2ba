import copy

import pytest
import torch
from safetensors.torch import load, save
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from gencore.errors import InputError
from gencore.networks.conditional_dcgan import ConditionalDCGAN
from gencore.networks.dcgan import DCGAN
from gencore.networks.spectral import SpectralNorm, follow_spectrum

JUDGES = ["concat", "projection"]
# No batch normalisation, so that one picture can be looked at by itself.
SMALL = DCGAN(size=16, latent=3, width=8, norm="group", discriminator_norm="group")


def awake(judge="projection", dcgan=SMALL, conditions=(3, 2)):
    """Both players, all parameters drawn anew, large enough that nothing hides behind rounding; float64."""
    torch.manual_seed(0)
    players = ConditionalDCGAN(dcgan, conditions, embedding=5, judge=judge).build()
    for player in players:
        for parameter in player.parameters():
            nn.init.normal_(parameter, std=0.3)
    return [player.double() for player in players]


def inputs(batch=4):
    torch.manual_seed(1)
    cond = torch.stack([torch.randint(3, (batch,)), torch.randint(2, (batch,))], 1)
    return torch.randn(batch, 3).double(), torch.randn(batch, 1, 16, 16).double(), cond


def rows(told, cond):
    """The sum of the conditions' vectors, row by row."""
    weights = [table.weight for table in told.tables]
    return torch.stack([sum(w[value] for w, value in zip(weights, row, strict=True)) for row in cond.tolist()])


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("size, channels", [(14, 1), (28, 1), (32, 3)])
def test_shapes_and_ranges(size, channels, judge):
    config = ConditionalDCGAN(DCGAN(size=size, channels=channels, latent=8, width=8), (10, 3), judge=judge)
    assert (config.size, config.channels, config.latent, config.conditions) == (size, channels, 8, (10, 3))
    generator, discriminator = config.build()
    cond = torch.tensor([[0, 0], [9, 2], [4, 1]])
    images = generator(torch.randn(3, 8), cond)
    assert images.shape == (3, channels, size, size) and images.abs().max() <= 1
    assert discriminator(images, cond).shape == (3,)


def leaky(h):
    return torch.where(h > 0, h, 0.2 * h)


def test_the_generator_written_plainly():
    """Mirza & Osindero: the latent vector and what is told are one longer vector."""
    (generator, _), (z, _, cond) = awake(), inputs()
    w = iter(generator.generator.parameters())
    h = torch.einsum("bl,lcij->bcij", torch.cat([z, rows(generator.told, cond)], 1), next(w))
    for _ in range(2):
        h = F.group_norm(h, 8, next(w), next(w)).clamp(min=0)
        h = F.conv_transpose2d(h, next(w), None if h.shape[1] == 16 else next(w), stride=2, padding=1)
    assert (h.tanh().abs() < 0.9).double().mean() > 0.2, "all is saturated"
    torch.testing.assert_close(generator(z, cond), h.tanh())


def plain_features(x, w):
    h = leaky(F.conv2d(x, next(w), next(w), stride=2, padding=1))
    return leaky(F.group_norm(F.conv2d(h, next(w), stride=2, padding=1), 8, next(w), next(w)))


def test_the_discriminator_that_joins_written_plainly():
    """Mirza & Osindero: each pixel carries, beside its brightness, what is told."""
    (_, discriminator), (_, x, cond) = awake("concat"), inputs()
    w = iter(discriminator.discriminator.parameters())
    told = rows(discriminator.told, cond)
    pixels = torch.stack([torch.cat([x[:, :, i, j], told], 1) for i in range(16) for j in range(16)], 2)
    h = plain_features(pixels.unflatten(2, (16, 16)), w)
    torch.testing.assert_close(discriminator(x, cond), (h * next(w)).sum((1, 2, 3)) + next(w))


def test_the_discriminator_that_projects_written_plainly():
    """Miyato & Koyama, equation 3: y' V phi(x) + psi, with y one-hot."""
    (_, discriminator), (_, x, cond) = awake("projection"), inputs()
    w = iter(discriminator.discriminator.parameters())
    h = plain_features(x, w)
    phi, logits = h.flatten(2).sum(2), (h * next(w)).sum((1, 2, 3)) + next(w)
    for y, table in zip(cond.T, discriminator.told.tables, strict=True):
        y = F.one_hot(y, table.num_embeddings).double()
        logits = logits + torch.einsum("by,yc,bc->b", y, table.weight, phi)
    torch.testing.assert_close(discriminator(x, cond), logits)


def test_two_labels_differ_by_the_projection_of_the_features():
    (_, discriminator), (_, x, _) = awake("projection", conditions=(4,)), inputs()
    phi = discriminator.discriminator.features(x).sum((2, 3))
    table = discriminator.told.tables[0].weight
    for a in range(4):
        for b in range(4):
            difference = [discriminator(x, torch.full((4, 1), y)) for y in (a, b)]
            torch.testing.assert_close(difference[0] - difference[1], phi @ (table[a] - table[b]))


@pytest.mark.parametrize("number", [0, 1])
def test_each_condition_is_heard_by_its_own_picture_only(number):
    z, x, cond = inputs()
    other = cond.clone()
    other[1, number] = (cond[1, number] + 1) % (3, 2)[number]
    for judge in JUDGES:
        generator, discriminator = awake(judge)
        for player, given in ((generator, z), (discriminator, x)):
            first, then = player(given, cond), player(given, other)
            assert (first[1] - then[1]).abs().min() > 1e-6
            torch.testing.assert_close(first[[0, 2, 3]], then[[0, 2, 3]], rtol=0, atol=1e-12)
            torch.testing.assert_close(player(given[1:2], cond[1:2]), first[1:2])


@pytest.mark.parametrize("judge", JUDGES)
def test_the_picture_is_heard(judge):
    (generator, discriminator), (z, x, cond) = awake(judge), inputs()
    assert not torch.allclose(generator(z.flip(0), cond), generator(z, cond), atol=0.01)
    assert not torch.allclose(discriminator(x.flip(0), cond), discriminator(x, cond), atol=0.01)


@pytest.mark.parametrize("judge", JUDGES)
def test_every_parameter_learns(judge):
    z, x, cond = inputs(8)
    for player, given in zip(awake(judge), (z, x), strict=True):
        out = player(given, cond)
        (out * torch.randn_like(out)).sum().backward()
        assert [name for name, p in player.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_first_vectors():
    """As long as one-hot vectors, lest the generator ignore z; where they project, as small as all weights."""
    torch.manual_seed(0)
    for embedding, judge in ((64, "concat"), (16, "projection")):
        generator, discriminator = ConditionalDCGAN(DCGAN(), (500,), embedding, judge).build()
        vectors, projected = generator.told.tables[0].weight, discriminator.told.tables[0].weight
        assert vectors.norm(dim=1).mean().item() == pytest.approx(1, abs=0.03)
        if judge == "concat":
            assert projected.norm(dim=1).mean().item() == pytest.approx(1, abs=0.03)
        else:
            assert projected.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("judge", JUDGES)
def test_what_the_discriminator_is_told_has_spectral_norm_1_too(judge):
    torch.manual_seed(0)
    dcgan = DCGAN(size=14, latent=3, width=8, discriminator_norm="none", spectral=True)
    generator, discriminator = ConditionalDCGAN(dcgan, (10, 4), judge=judge).build()
    assert not any(isinstance(module, SpectralNorm) for module in generator.modules())
    for _ in range(500):
        follow_spectrum(discriminator)
    layers = [m for m in discriminator.modules() if isinstance(m, (nn.Conv2d, nn.Embedding))]
    assert len(layers) == 4
    for layer in layers:
        assert len(layer.parametrizations.weight) == 1
        sigma = torch.linalg.svdvals(layer.weight.flatten(1))[0]
        assert sigma.item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("judge", JUDGES)
def test_without_spectral_nothing_is_normalised(judge):
    _, discriminator = ConditionalDCGAN(SMALL, judge=judge).build()
    assert not any(parametrize.is_parametrized(module) for module in discriminator.modules())


@pytest.mark.parametrize("judge", JUDGES)
def test_a_pass_moves_no_state_and_what_is_kept_gives_the_players_back(judge):
    torch.manual_seed(0)
    dcgan = DCGAN(size=16, latent=3, width=8, norm="group", discriminator_norm="group", spectral=True)
    config = ConditionalDCGAN(dcgan, (3, 2), judge=judge)
    z, x, cond = inputs()
    for player, other, given in zip(config.build(), config.build(), (z.float(), x.float()), strict=True):
        before = copy.deepcopy(player.state_dict())
        out = player(given, cond)
        out.sum().backward()
        assert all(torch.equal(tensor, before[name]) for name, tensor in player.state_dict().items())
        assert not torch.allclose(other(given, cond), out)
        other.load_state_dict(load(save(player.state_dict())))
        assert torch.equal(other(given, cond), out) and torch.equal(copy.deepcopy(player)(given, cond), out)


@pytest.mark.parametrize("judge", JUDGES)
def test_half_precision(judge):
    z, x, cond = inputs()
    for player, given in zip(awake(judge), (z, x), strict=True):
        player, given = player.float().to(memory_format=torch.channels_last), given.float()
        with torch.autocast("cpu", torch.bfloat16):
            halved = player(given, cond)
        exact = player(given, cond)
        assert (halved - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("shape", [(4, 1), (4, 3), (3, 2), (4,), None])
def test_more_or_fewer_conditions_are_refused(shape, judge):
    z, x, _ = inputs()
    cond = None if shape is None else torch.zeros(shape, dtype=torch.int64)
    for player, given in zip(awake(judge), (z, x), strict=True):
        with pytest.raises(InputError, match=r"conditions .*: this network takes \(4, 2\)"):
            player(given, cond)


@pytest.mark.parametrize("value", [-1, 3])
def test_conditions_that_do_not_exist_are_refused(value):
    """There is no number for "not told"."""
    z, x, cond = inputs()
    cond[0, 0] = value
    for player, given in zip(awake(), (z, x), strict=True):
        with pytest.raises(IndexError):
            player(given, cond)


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"conditions": ()}, r"conditions \(\): give at least one"),
        ({"conditions": (3, 0)}, r"conditions \(3, 0\): give"),
        ({"embedding": 0}, "embedding 0"),
    ],
)
def test_bad_sizes_are_named(fields, sentence):
    with pytest.raises(InputError, match=sentence):
        ConditionalDCGAN(**fields)
