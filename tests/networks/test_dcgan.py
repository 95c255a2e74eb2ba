import pytest
import torch
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.dcgan import DCGAN, Discriminator, Generator


@pytest.mark.parametrize("size, channels", [(14, 1), (28, 1), (32, 3), (64, 3)])
def test_shapes_and_ranges(size, channels):
    config = DCGAN(size=size, channels=channels, latent=8, width=8)
    images = Generator(config)(torch.randn(3, 8))
    assert images.shape == (3, channels, size, size)
    assert images.abs().max() <= 1
    assert Discriminator(config)(images).shape == (3,)


def test_a_size_that_does_not_halve_down_is_refused():
    with pytest.raises(InputError, match="size 30 is not"):
        DCGAN(size=30)


@pytest.mark.parametrize("norm", ["group", "none"])
def test_without_batch_norm_an_image_does_not_depend_on_its_batch(norm):
    generator = Generator(DCGAN(size=14, latent=8, width=8, norm=norm))
    z = torch.randn(4, 8)
    assert torch.allclose(generator(z)[:1], generator(z[:1]), atol=1e-6)


def test_with_batch_norm_an_image_depends_on_its_batch():
    generator = Generator(DCGAN(size=14, latent=8, width=8, norm="batch"))
    z = torch.randn(4, 8)
    assert not torch.allclose(generator(z)[:1], generator(z[:2])[:1], atol=1e-4)


@pytest.mark.parametrize("kernel, stride, padding", [(4, 2, 1), (3, 2, 1), (5, 3, 0), (7, 1, 0)])
def test_output_size_of_a_transposed_convolution(kernel, stride, padding):
    """(DC.1)."""
    layer = torch.nn.ConvTranspose2d(1, 1, kernel, stride, padding)
    assert layer(torch.zeros(1, 1, 7, 7)).shape[-1] == (7 - 1) * stride - 2 * padding + kernel


def test_batch_norm_in_both_modes():
    """(DC.2): the batch's statistics in training, the remembered ones in evaluation."""
    layer, h = torch.nn.BatchNorm2d(3), 2 + torch.randn(6, 3, 4, 4)
    mean, variance = h.mean((0, 2, 3), keepdim=True), h.var((0, 2, 3), unbiased=False, keepdim=True)
    torch.testing.assert_close(layer(h), (h - mean) / (variance + layer.eps).sqrt(), atol=1e-5, rtol=1e-5)
    remembered = [buffer.view(1, 3, 1, 1) for buffer in (layer.running_mean, layer.running_var)]
    expected = (h - remembered[0]) / (remembered[1] + layer.eps).sqrt()
    torch.testing.assert_close(layer.eval()(h), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(expected, (h - mean) / variance.sqrt(), atol=0.1)


def test_every_output_pixel_is_reached_by_the_same_number_of_taps():
    """Kernel 4 at stride 2 covers evenly: with constant weights, the inside of the output is constant."""
    layer = torch.nn.ConvTranspose2d(1, 1, 4, 2, 1, bias=False)
    torch.nn.init.ones_(layer.weight)
    inside = layer(torch.ones(1, 1, 8, 8))[0, 0, 2:-2, 2:-2]
    assert (inside == inside[0, 0]).all()


def test_initial_weights_have_the_papers_standard_deviation():
    weights = torch.cat([p.flatten() for p in Discriminator(DCGAN(width=32)).parameters() if p.ndim == 4])
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)


def awake(network):
    """Draw all parameters anew, large enough that nothing hides behind rounding."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def plain_norm(h, gain, bias, kind):
    """Batch or group normalisation of maps, from the formula."""
    groups = h.unflatten(1, (8, -1) if kind == "group" else (-1, 1))  # (B, groups, channels / groups, H, W)
    over = (2, 3, 4) if kind == "group" else (0, 2, 3, 4)
    mean, variance = groups.mean(over, keepdim=True), groups.var(over, keepdim=True, unbiased=False)
    whitened = ((groups - mean) / (variance + 1e-5).sqrt()).flatten(1, 2)
    return gain[:, None, None] * whitened + bias[:, None, None]


@pytest.mark.parametrize("kind", ["batch", "group", "none"])
def test_the_generator_written_plainly(kind):
    """Section 3 of the paper: ReLU after each normalisation, tanh and no normalisation at the end."""
    network = awake(Generator(DCGAN(size=16, latent=3, width=8, norm=kind))).double()
    z, w = torch.randn(5, 3, dtype=torch.float64), iter(network.parameters())
    h = torch.einsum("bl,lcij->bcij", z, next(w))  # every latent number paints its kernel, 4x4
    h = F.conv_transpose2d(plain(h, w, kind).clamp(min=0), next(w), stride=2, padding=1)
    h = plain(h, w, kind).clamp(min=0)
    h = F.conv_transpose2d(h, next(w), next(w), stride=2, padding=1)
    assert (h.tanh().abs() < 0.9).float().mean() > 0.2, "all is saturated"
    torch.testing.assert_close(network(z), h.tanh())


@pytest.mark.parametrize("kind", ["batch", "group", "none"])
def test_the_discriminator_written_plainly(kind):
    """Section 3 of the paper: slope 0.2, no normalisation of the first layer, no hidden dense layers."""
    network = awake(Discriminator(DCGAN(size=16, width=8, discriminator_norm=kind))).double()
    x, w = torch.randn(5, 1, 16, 16, dtype=torch.float64), iter(network.parameters())
    h = F.conv2d(x, next(w), next(w), stride=2, padding=1)
    h = F.conv2d(torch.where(h > 0, h, 0.2 * h), next(w), stride=2, padding=1)
    h = plain(h, w, kind)
    h = torch.where(h > 0, h, 0.2 * h)
    torch.testing.assert_close(network(x), (h * next(w)).sum((1, 2, 3)) + next(w))


def plain(h, w, kind):
    """Normalise by the next parameters, if there is a normalisation."""
    return h if kind == "none" else plain_norm(h, next(w), next(w), kind)
