import pytest
import torch

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
