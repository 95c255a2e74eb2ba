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


def test_every_output_pixel_is_reached_by_the_same_number_of_taps():
    """Kernel 4 at stride 2 covers evenly: with constant weights, the inside of the output is constant."""
    layer = torch.nn.ConvTranspose2d(1, 1, 4, 2, 1, bias=False)
    torch.nn.init.ones_(layer.weight)
    inside = layer(torch.ones(1, 1, 8, 8))[0, 0, 2:-2, 2:-2]
    assert (inside == inside[0, 0]).all()


def test_initial_weights_have_the_papers_standard_deviation():
    weights = torch.cat([p.flatten() for p in Discriminator(DCGAN(width=32)).parameters() if p.ndim == 4])
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)
