import copy
from statistics import NormalDist

import pytest
import torch
from safetensors.torch import load, save
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from gencore.errors import InputError
from gencore.networks.dcgan import DCGAN
from gencore.networks.infogan import LOG_STD_RANGE, InfoGAN

# No batch normalisation, so that one picture can be looked at by itself.
SMALL = DCGAN(size=16, latent=9, width=8, norm="group", discriminator_norm="group")


def awake(classes=4, continuous=2, dcgan=SMALL):
    """Both players, all parameters drawn anew, large enough that nothing hides behind rounding; float64."""
    torch.manual_seed(0)
    players = InfoGAN(dcgan, classes, continuous).build()
    for player in players:
        for parameter in player.parameters():
            nn.init.normal_(parameter, std=0.2)
    torch.manual_seed(1)
    return *(player.double() for player in players), torch.randn(5, 9).double(), torch.randn(5, 1, 16, 16).double()


def many(count=100_000, classes=5, continuous=2):
    """Codes of many latents."""
    generator, *_ = awake(classes, continuous)
    torch.manual_seed(2)
    return generator.codes(torch.randn(count, 9))


@pytest.mark.parametrize("size, channels", [(14, 1), (28, 1), (32, 3)])
@pytest.mark.parametrize("classes, continuous", [(10, 2), (0, 3), (4, 0)])
def test_shapes_and_ranges(size, channels, classes, continuous):
    config = InfoGAN(DCGAN(size=size, channels=channels, latent=16, width=8), classes, continuous)
    assert (config.size, config.channels, config.latent) == (size, channels, 16)
    assert not hasattr(config, "conditions")  # nobody tells these networks anything
    generator, discriminator = config.build()
    z = torch.randn(3, 16)
    images = generator(z)
    assert images.shape == (3, channels, size, size) and images.abs().max() <= 1
    assert [tuple(code.shape) for code in generator.codes(z)] == [(3, classes), (3, continuous)]
    reading = discriminator.read(images)
    assert [tuple(part.shape) for part in reading] == [(3, classes), (3, continuous), (3, continuous)]
    assert discriminator(images).shape == (3,)


def test_codes_written_plainly():
    generator, _, z, _ = awake()
    category, numbers = generator.codes(z)
    for row, one, two in zip(z.tolist(), category.tolist(), numbers.tolist(), strict=True):
        assert one == [float(number == max(row[:4])) for number in row[:4]]
        assert two == pytest.approx([2 * NormalDist().cdf(number) - 1 for number in row[4:6]], abs=1e-12)
    assert category.dtype == numbers.dtype == z.dtype


def test_the_generator_written_plainly():
    """Codes, then what is left of z as noise, then DCGAN."""
    generator, _, z, _ = awake()
    category = (z[:, :4] == z[:, :4].amax(1, keepdim=True)).double()
    given, w = torch.cat([category, 2 * torch.special.ndtr(z[:, 4:6]) - 1, z[:, 6:]], 1), iter(generator.parameters())
    h = torch.einsum("bl,lcij->bcij", given, next(w))
    for _ in range(2):
        h = F.group_norm(h, 8, next(w), next(w)).clamp(min=0)
        h = F.conv_transpose2d(h, next(w), None if h.shape[1] == 16 else next(w), stride=2, padding=1)
    assert (h.tanh().abs() < 0.9).double().mean() > 0.2, "all is saturated"
    torch.testing.assert_close(generator(z), h.tanh())


def test_all_classes_are_equally_likely():
    category, _ = many()
    assert torch.equal(category.sum(1), torch.ones(100_000)) and set(category.unique().tolist()) == {0.0, 1.0}
    # One standard deviation of a share is sqrt(0.2 * 0.8 / 100,000) = 0.0013.
    torch.testing.assert_close(category.mean(0), torch.full((5,), 0.2), rtol=0, atol=0.005)


def test_numbers_are_uniform():
    _, numbers = many()
    assert numbers.abs().max() <= 1
    levels = torch.linspace(0.05, 0.95, 19)
    for number in numbers.T:
        torch.testing.assert_close(number.quantile(levels), 2 * levels - 1, rtol=0, atol=0.015)
    assert numbers.var(0).tolist() == pytest.approx([1 / 3, 1 / 3], abs=0.005)


def test_codes_know_nothing_of_each_other():
    category, numbers = many()
    both = torch.corrcoef(torch.cat([category[:, 1:], numbers, numbers.square()], 1).T)
    classes = 4  # of one class, the others know that it is not theirs
    torch.testing.assert_close(both[:classes, classes:], torch.zeros(classes, 4), rtol=0, atol=0.02)
    torch.testing.assert_close(both[classes:, classes:], torch.eye(4), rtol=0, atol=0.02)


def test_codes_and_pictures_do_not_depend_on_the_batch():
    generator, discriminator, z, x = awake()
    latents = torch.randn(100, 9)
    alone = [torch.cat(codes) for codes in zip(*(generator.codes(row) for row in latents.split(1)), strict=True)]
    assert all(torch.equal(now, then) for now, then in zip(generator.codes(latents), alone, strict=True))
    torch.testing.assert_close(generator(z)[1:2], generator(z[1:2]))
    for whole, alone in zip(discriminator.read(x), discriminator.read(x[1:2]), strict=True):
        torch.testing.assert_close(whole[1:2], alone)


def test_the_picture_hears_of_the_first_numbers_only_which_is_the_largest():
    generator, _, z, _ = awake()
    first, largest = generator(z), z[:, :4].argmax(1, keepdim=True)
    moved = z.clone()
    moved[:, :4] = (z[:, :4] * 0.5 - 1).scatter_add(1, largest, torch.ones(5, 1).double())
    assert torch.equal(generator(moved), first)
    moved[:, :4] = moved[:, :4].roll(1, 1)
    assert ((generator(moved) - first).abs().amax((1, 2, 3)) > 1e-3).all()


@pytest.mark.parametrize("place", [4, 5, 6, 8])
def test_each_other_number_is_heard_by_its_own_picture_only(place):
    generator, _, z, _ = awake()
    moved = z.clone()
    moved[1, place] += 0.5
    changed = (generator(moved) - generator(z)).abs().amax((1, 2, 3))
    assert changed[1] > 1e-3 and changed[[0, 2, 3, 4]].max() < 1e-12
    category, numbers = ((now != then).any(0).tolist() for now, then in zip(generator.codes(moved), generator.codes(z)))
    assert category == [False] * 4 and numbers == [place == 4, place == 5]


def leaky(h):
    return torch.where(h > 0, h, 0.2 * h)


def test_the_discriminator_written_plainly():
    """One trunk, two heads; Q's has a hidden layer of 128."""
    _, discriminator, _, x = awake()
    w = iter(discriminator.parameters())
    h = leaky(F.conv2d(x, next(w), next(w), stride=2, padding=1))
    h = leaky(F.group_norm(F.conv2d(h, next(w), stride=2, padding=1), 8, next(w), next(w))).flatten(1)
    torch.testing.assert_close(discriminator(x), h @ next(w).flatten() + next(w))
    hidden = leaky(h @ next(w).flatten(1).T + next(w))
    assert hidden.shape == (5, 128)
    out = hidden @ next(w).flatten(1).T + next(w)
    low, high = LOG_STD_RANGE
    expected = [out[:, :4], out[:, 4:6], low + (high - low) / (1 + (-out[:, 6:]).exp())]
    for part, wanted in zip(discriminator.read(x), expected, strict=True):
        torch.testing.assert_close(part, wanted.float(), rtol=1e-5, atol=1e-5)


def test_spreads_are_bounded_and_come_back_from_the_bounds():
    _, discriminator, _, x = awake()
    for scale, bound in ((-9.0, LOG_STD_RANGE[0]), (9.0, LOG_STD_RANGE[1])):
        with torch.no_grad():
            discriminator.reader[-1].weight[6:] = 0
            discriminator.reader[-1].bias[6:] = scale
        log_std = discriminator.read(x).log_std
        assert ((log_std - bound).abs() < 1e-3).all()
        (gradient,) = torch.autograd.grad(log_std.sum(), discriminator.reader[-1].bias)
        assert (gradient[6:] > 1e-4).all() and not gradient[:6].any()
    discriminator.reader[-1].bias.data[6:] = 0
    assert (discriminator.read(x).log_std == -1).all()


def test_verdict_and_reading_teach_all_but_each_other_s_last_layers():
    generator, discriminator, z, _ = awake()
    images = generator(z)
    logits, reading = discriminator(images), discriminator.read(images)
    parameters = {**dict(generator.named_parameters()), **dict(discriminator.named_parameters())}
    verdict_only = {"discriminator.layers.5.weight", "discriminator.layers.5.bias"}
    reading_only = {name for name in parameters if name.startswith("reader")}
    for parts, deaf in (([logits], reading_only), (reading, verdict_only)):
        total = sum((part * torch.randn_like(part)).sum() for part in parts)
        gradients = torch.autograd.grad(total, list(parameters.values()), retain_graph=True, allow_unused=True)
        named = zip(parameters, gradients, strict=True)
        assert {name for name, gradient in named if gradient is None or not gradient.any()} == deaf


def test_what_is_read_can_be_learned_by_both():
    """Q and the generator together raise log Q(c | x), as the paper's bound asks: the codes become legible."""
    torch.manual_seed(0)
    generator, discriminator = InfoGAN(DCGAN(size=14, latent=8, width=8, norm="group"), 4, 1).build()
    optimiser = torch.optim.Adam([*generator.parameters(), *discriminator.parameters()], 2e-3, (0.5, 0.99))
    for _ in range(60):
        z = torch.randn(64, 8)
        category, numbers = generator.codes(z)
        logits, mean, log_std = discriminator.read(generator(z))
        loss = F.cross_entropy(logits, category) + (0.5 * ((numbers - mean) / log_std.exp()) ** 2 + log_std).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (logits.argmax(1) == category.argmax(1)).float().mean() > 0.9  # by chance 0.25
    assert (numbers - mean).square().mean() < 0.1  # by chance 1/3


def test_first_weights_of_the_reader():
    _, discriminator = InfoGAN(DCGAN()).build()
    assert discriminator.reader[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert discriminator.reader[2].weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not discriminator.reader[0].bias.any() and not discriminator.reader[2].bias.any()


def test_spectral_norms_hold_for_the_verdict_and_leave_the_reader_free():
    _, discriminator = InfoGAN(DCGAN(size=14, latent=16, width=8, spectral=True)).build()
    for module in discriminator.discriminator.layers:
        assert parametrize.is_parametrized(module) == isinstance(module, nn.Conv2d)
    assert not any(parametrize.is_parametrized(module) for module in discriminator.reader)


def test_a_pass_moves_no_state_and_what_is_kept_gives_the_players_back():
    dcgan = DCGAN(size=16, latent=9, width=8, norm="group", discriminator_norm="group", spectral=True)
    config = InfoGAN(dcgan, 4, 2)
    torch.manual_seed(0)
    (generator, discriminator), (other_generator, other_discriminator) = config.build(), config.build()
    z = torch.randn(5, 9)
    before = [copy.deepcopy(player.state_dict()) for player in (generator, discriminator)]
    images = generator(z)
    logits, reading = discriminator(images), discriminator.read(images)
    sum(part.sum() for part in (logits, *reading)).backward()
    for player, state in zip((generator, discriminator), before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in player.state_dict().items())
    assert not torch.allclose(other_generator(z), images)
    other_generator.load_state_dict(load(save(generator.state_dict())))
    other_discriminator.load_state_dict(load(save(discriminator.state_dict())))
    assert torch.equal(other_generator(z), images) and torch.equal(copy.deepcopy(generator)(z), images)
    assert torch.equal(other_discriminator.read(images).mean, reading.mean)


def test_half_precision():
    generator, discriminator, z, x = awake()
    generator, discriminator, z, x = generator.float(), discriminator.float(), z.float(), x.float()
    with torch.autocast("cpu", torch.bfloat16):
        codes, images, logits, reading = generator.codes(z), generator(z), discriminator(x), discriminator.read(x)
    assert all(torch.equal(now, then) for now, then in zip(codes, generator.codes(z), strict=True))
    assert {part.dtype for part in reading} == {torch.float32}
    pairs = [(images, generator(z)), (logits, discriminator(x)), *zip(reading, discriminator.read(x), strict=True)]
    for halved, exact in pairs:
        assert (halved - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"classes": 1}, "classes 1: must be 0"),
        ({"classes": -1}, "classes -1"),
        ({"continuous": -1}, "continuous -1"),
        ({"classes": 0, "continuous": 0}, "at least one code"),
        ({"classes": 63, "continuous": 2}, "no more numbers than dcgan.latent 64"),
    ],
)
def test_bad_sizes_are_named(fields, sentence):
    with pytest.raises(InputError, match=sentence):
        InfoGAN(**fields)


def test_all_of_the_latent_vector_may_be_codes():
    generator, _ = InfoGAN(DCGAN(size=14, latent=12, width=8)).build()
    assert generator(torch.randn(2, 12)).shape == (2, 1, 14, 14)
