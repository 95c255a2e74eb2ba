import math

import pytest
import torch
from torch.nn import functional as F

from gencore.networks.equalised import EqualConv2d, EqualLinear


def test_a_convolution_written_plainly():
    """He's constant: the root of 2 over the number of inputs of one output, here 3 channels of 5x5."""
    layer, h = EqualConv2d(3, 4, 5, stride=2, padding=1), torch.randn(2, 3, 9, 9)
    torch.nn.init.normal_(layer.bias)
    torch.testing.assert_close(layer(h), F.conv2d(h, layer.weight * (2 / 75) ** 0.5, layer.bias, 2, 1))
    bare = EqualConv2d(3, 4, 5, bias=False, gain=1.0)
    torch.testing.assert_close(bare(h), F.conv2d(h, bare.weight / 75**0.5))
    assert [name for name, _ in bare.named_parameters()] == ["weight"]


@pytest.mark.parametrize("multiplier", [1.0, 0.01])
def test_a_dense_layer_written_plainly(multiplier):
    layer, h = EqualLinear(6, 5, lr_multiplier=multiplier), torch.randn(2, 3, 6)
    torch.nn.init.normal_(layer.bias)
    weight, bias = layer.weight * multiplier * (2 / 6) ** 0.5, layer.bias * multiplier
    torch.testing.assert_close(layer(h), h @ weight.T + bias)


def test_weights_are_drawn_with_one_scale_and_biases_start_as_told():
    torch.manual_seed(0)
    for layer in (EqualConv2d(32, 32, 3), EqualConv2d(8, 64, 5), EqualLinear(300, 100)):
        assert layer.weight.std().item() == pytest.approx(1, rel=0.02) and not layer.bias.any()
    slow = EqualLinear(300, 100, lr_multiplier=0.01, bias=1.0)
    assert slow.weight.std().item() == pytest.approx(100, rel=0.02)
    torch.testing.assert_close(slow(torch.zeros(1, 300)), torch.ones(1, 100))


@pytest.mark.parametrize(
    "layer", [lambda gain: EqualConv2d(32, 64, 3, gain=gain), lambda gain: EqualLinear(288, 64, gain, 0.1)]
)
def test_the_gain_is_that_of_the_standard_deviation(layer):
    torch.manual_seed(0)
    for gain in (1.0, 3.0):
        one = layer(gain)
        h = 0.7 * torch.randn(200, 32, 4, 4) if isinstance(one, EqualConv2d) else 0.7 * torch.randn(4_000, 288)
        assert one(h).std().item() == pytest.approx(0.7 * gain, rel=0.05)


def test_he_s_constant_keeps_the_size_of_what_passes():
    """Of a symmetric input's square, slope 0.2 leaves (1 + 0.2²) / 2, and the gain doubles it: 1.04."""
    torch.manual_seed(0)
    h = F.leaky_relu(EqualLinear(512, 512)(torch.randn(1_000, 512)), 0.2)
    assert h.square().mean().item() == pytest.approx(1.04, rel=0.02)


def test_the_gradient_of_what_is_learned_is_scaled_as_well():
    """The raw weight's gradient is the scale times that of the weight which is used."""
    layer, h = EqualLinear(6, 5, lr_multiplier=0.1), torch.randn(4, 6)
    layer(h).sum().backward()
    used = h.sum(0).expand(5, 6)  # gradient of the sum with respect to the weight that is used
    torch.testing.assert_close(layer.weight.grad, used * (2 / 6) ** 0.5 * 0.1)
    torch.testing.assert_close(layer.bias.grad, torch.full((5,), 4 * 0.1))


@pytest.mark.parametrize("inputs, multiplier", [(16, 1.0), (64, 1.0), (64, 0.01)])
def test_a_step_of_adam_changes_all_layers_by_the_same_share(inputs, multiplier):
    """Adam's first step moves each raw weight by the learning rate: a share of their scale, whatever the layer's."""
    layer = EqualLinear(inputs, 5, lr_multiplier=multiplier)
    before = layer.scale * layer.weight.detach().clone()
    layer(torch.randn(4, inputs)).square().sum().backward()
    torch.optim.Adam(layer.parameters(), lr=0.01).step()
    moved = (layer.scale * layer.weight.detach() - before).abs()
    expected = torch.full_like(moved, 0.01 * multiplier * math.sqrt(2 / inputs))
    torch.testing.assert_close(moved, expected, rtol=1e-2, atol=0)
