"""Adaptive instance normalisation, and the decoder that follows it: the paper's formulas restated."""

import pytest
import torch
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.adain import AdaIN, AdaINDecoder, adain, moments

TWO = AdaIN(layers=(1, 4), channels=(5, 7), strides=(2, 4), widths=(3, 4, 6))


def maps(config, side=16, batch=2, seed=0):
    torch.manual_seed(seed)
    return [
        torch.randn(batch, channels, side // stride, side // stride + 4 // stride)
        for channels, stride in zip(config.channels, config.strides, strict=True)
    ]


def test_means_and_deviations_become_those_of_the_style():
    """Equation 8: and nothing else of the content changes."""
    torch.manual_seed(0)
    content, style = 3 * torch.randn(2, 4, 9, 8) + 1, 0.5 * torch.randn(2, 4, 5, 6) - 2
    made = adain(content, style)
    for ours, theirs in zip(moments(made), moments(style), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(F.instance_norm(made), F.instance_norm(content), rtol=1e-3, atol=1e-3)
    expected = style.std((2, 3), correction=0, keepdim=True) * F.instance_norm(content) + style.mean((2, 3), keepdim=True)
    torch.testing.assert_close(made, expected, rtol=1e-3, atol=1e-4)


def test_a_style_of_its_own_changes_nothing():
    content = torch.randn(1, 3, 6, 6)
    torch.testing.assert_close(adain(content, content), content, rtol=1e-4, atol=1e-5)


def test_a_flat_map_is_no_trouble():
    made = adain(torch.ones(1, 2, 4, 4), torch.full((1, 2, 4, 4), 5.0))
    torch.testing.assert_close(made, torch.full((1, 2, 4, 4), 5.0))


def test_the_decoder_is_what_its_docstring_says():
    """Maps in units of their size; nearest neighbours; lower layers join where their resolution is reached; mirrored borders."""
    torch.manual_seed(0)
    model = AdaINDecoder(TWO)
    model.unit.copy_(torch.tensor([2.0, 3.0]))
    fine, coarse = maps(TWO)

    def conv(h, layer):
        return F.conv2d(F.pad(h, (1, 1, 1, 1), mode="reflect"), layer.weight, layer.bias)

    def twice(h, level):
        return F.relu(conv(F.relu(conv(h, model.first[level])), model.second[level]))

    def doubled(h):
        return h.repeat_interleave(2, 2).repeat_interleave(2, 3)

    h = twice(coarse / 3, 0)
    h = twice(torch.cat([doubled(h), fine / 2], 1), 1)
    h = twice(doubled(h), 2)
    torch.testing.assert_close(model([fine, coarse]), torch.tanh(conv(h, model.last)), rtol=1e-4, atol=1e-5)
    assert model([fine, coarse]).shape == (2, 3, 16, 20)


def test_every_map_is_used():
    model = AdaINDecoder(TWO)
    given = [each.requires_grad_() for each in maps(TWO)]
    model(given).square().sum().backward()
    assert all(each.grad.abs().sum() > 0 for each in given)
    assert all(p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("wrong", [0, 1])
def test_maps_that_do_not_belong_together_are_refused(wrong):
    given = maps(TWO)
    given[wrong] = given[wrong][:, :, :-1]
    with pytest.raises(InputError, match="this decoder takes"):
        AdaINDecoder(TWO)(given)
