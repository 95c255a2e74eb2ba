import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.blocks import Downsample, ResidualBlock, Upsample


def wake(block: nn.Module) -> nn.Module:
    """Give layers that start at zero some weights, as training does at once."""
    for parameter in block.parameters():
        if parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return block


def test_a_new_block_is_the_identity():
    h = torch.randn(2, 16, 5, 7)
    assert torch.equal(ResidualBlock(16, 16)(h), h)
    assert torch.equal(ResidualBlock(16, 16, embedding=3)(h, torch.randn(2, 3)), h)
    assert not torch.allclose(wake(ResidualBlock(16, 16))(h), h, atol=0.01)


def test_a_new_block_with_other_channels_is_its_shortcut():
    block, h = ResidualBlock(16, 24), torch.randn(2, 16, 5, 7)
    assert torch.equal(block(h), block.shortcut(h))
    assert block(h).shape == (2, 24, 5, 7)


def test_the_sum_is_free_of_normalisation():
    """A constant added to the input is added to the output: nothing stands on the way of the sum."""
    block, h = wake(ResidualBlock(16, 16)), torch.randn(2, 16, 5, 7)
    torch.testing.assert_close(block(h + 10) - block(h), torch.full_like(h, 10), atol=1e-3, rtol=0)


def test_the_condition_scales_and_shifts_what_was_normalised():
    torch.manual_seed(0)
    block, h, embedding = wake(ResidualBlock(8, 8, embedding=4)), torch.randn(2, 8, 5, 5), torch.randn(2, 4)
    scale, shift = block.film(nn.functional.silu(embedding)).unflatten(1, (2, 8)).unbind(1)  # (B, C) each
    r = block.norm2(block.conv1(nn.functional.silu(block.norm1(h))))
    expected = h + block.conv2(nn.functional.silu(r * (1 + scale)[:, :, None, None] + shift[:, :, None, None]))
    torch.testing.assert_close(block(h, embedding), expected)
    assert not torch.allclose(block(h, embedding), block(h, -embedding), atol=1e-3)


def test_an_example_does_not_depend_on_its_batch():
    block, h = wake(ResidualBlock(16, 24, embedding=4)), torch.randn(3, 16, 5, 5)
    embedding = torch.randn(3, 4)
    torch.testing.assert_close(block(h, embedding)[:1], block(h[:1], embedding[:1]))


def test_down_halves_and_up_doubles():
    assert Downsample(8)(torch.zeros(1, 8, 6, 10)).shape == (1, 8, 3, 5)
    assert Upsample(8)(torch.zeros(1, 8, 3, 5)).shape == (1, 8, 6, 10)


@pytest.mark.parametrize("size", [(7, 6), (6, 7)])
def test_an_odd_map_is_not_halved(size):
    with pytest.raises(InputError, match=f"{size[0]}x{size[1]} cannot be halved"):
        Downsample(8)(torch.zeros(1, 8, *size))


def test_a_constant_stays_constant_when_doubled():
    """No checkerboard, whatever the weights: inside, where no padding reaches, all pixels are equal."""
    inside = Upsample(8)(torch.ones(1, 8, 6, 6))[..., 1:-1, 1:-1]
    torch.testing.assert_close(inside, inside[..., :1, :1].expand_as(inside))


@pytest.mark.parametrize("layer, step_in, step_out", [(Downsample(8), 2, 1), (Upsample(8), 1, 2)])
def test_a_shifted_map_gives_a_shifted_map(layer, step_in, step_out):
    layer.conv.padding_mode = "circular"
    h = torch.randn(1, 8, 8, 8)
    torch.testing.assert_close(layer(h.roll(step_in, 3)), layer(h).roll(step_out, 3))


def test_half_a_step_is_no_shift():
    layer, h = Downsample(8), torch.randn(1, 8, 8, 8)
    layer.conv.padding_mode = "circular"
    shifted = layer(h.roll(1, 3))
    assert not any(torch.allclose(shifted, layer(h).roll(step, 3), atol=0.1) for step in range(4))


def group_norm(h, gain, bias, groups=8):
    """Wu & He 2018, equation 1: the mean and the variance of a picture's group of channels."""
    h = h.unflatten(1, (groups, -1))
    h = (h - h.mean((2, 3, 4), keepdim=True)) / (h.var((2, 3, 4), keepdim=True, unbiased=False) + 1e-5).sqrt()
    return gain[:, None, None] * h.flatten(1, 2) + bias[:, None, None]


@pytest.mark.parametrize("out_channels", [16, 24])
def test_a_block_written_plainly(out_channels):
    """He et al. 2016, equation 1 and figure 4(e), with a condition."""
    block = ResidualBlock(16, out_channels, embedding=3).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    w = dict(block.named_parameters())
    h, e = torch.randn(2, 16, 5, 7, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)

    def swish(a):
        return a / (1 + (-a).exp())

    r = swish(group_norm(h, w["norm1.weight"], w["norm1.bias"]))
    r = F.conv2d(r, w["conv1.weight"], w["conv1.bias"], padding=1)
    film = (swish(e) @ w["film.weight"].T + w["film.bias"])[:, :, None, None]
    r = (1 + film[:, :out_channels]) * group_norm(r, w["norm2.weight"], w["norm2.bias"]) + film[:, out_channels:]
    r = F.conv2d(swish(r), w["conv2.weight"], w["conv2.bias"], padding=1)
    s = h if out_channels == 16 else F.conv2d(h, w["shortcut.weight"], w["shortcut.bias"])
    torch.testing.assert_close(block(h, e), s + r)


def test_down_and_up_written_plainly():
    h, down, up = torch.randn(2, 8, 6, 4), Downsample(8), Upsample(8)
    torch.testing.assert_close(down(h), F.conv2d(h, down.conv.weight, down.conv.bias, padding=1)[:, :, ::2, ::2])
    doubled = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(up(h), F.conv2d(doubled, up.conv.weight, up.conv.bias, padding=1))
