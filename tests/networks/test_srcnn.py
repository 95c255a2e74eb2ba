import pytest
import torch
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.bicubic import enlarge
from gencore.networks.srcnn import SRCNN, SRCNNNetwork


def build(**sizes):
    torch.manual_seed(0)
    return SRCNNNetwork(SRCNN(**sizes))


def test_it_is_what_the_paper_writes_down():
    network, x = build(times=3, widths=(10, 6), kernels=(7, 3, 5)), torch.randn(2, 3, 8, 9)
    w = dict(network.named_parameters())
    h = F.interpolate(x, size=(24, 27), mode="bicubic", antialias=True)
    h = F.conv2d(h, w["hidden.0.weight"], w["hidden.0.bias"], padding=3).clamp(min=0)
    h = F.conv2d(h, w["hidden.1.weight"], w["hidden.1.bias"], padding=1).clamp(min=0)
    torch.testing.assert_close(network(x), F.conv2d(h, w["head.weight"], w["head.bias"], padding=2))


def test_the_paper_s_sizes():
    """9-1-5 with 64 and 32 channels; 8,032 weights on luminance alone, as the paper counts."""
    weights = sum(p.numel() for name, p in build(channels=1).named_parameters() if name.endswith("weight"))
    assert weights == 8_032


@pytest.mark.parametrize(("times", "exact"), [(2, 5), (4, 3)])
def test_a_pixel_depends_on_what_lies_within_reach(times, exact):
    config = SRCNN(times=times, widths=(4, 4))
    assert farthest(build(times=times, widths=(4, 4)), times) == exact <= config.reach <= exact + 1


def farthest(network, times, side=41):
    """Largest distance, in pixels of the small picture, from which the large pixels of its middle one are moved."""
    for p in network.parameters():  # biases of 1 and small weights: no unit is off
        torch.nn.init.uniform_(p, 0.01, 0.02) if p.dim() > 1 else torch.nn.init.ones_(p)
    x = torch.zeros(1, 3, side, side, requires_grad=True)
    middle = side // 2
    block = network(x)[..., times * middle : times * (middle + 1), times * middle : times * (middle + 1)]
    found = 0
    for value in block.sum(1).flatten():
        (gradient,) = torch.autograd.grad(value, x, retain_graph=True)
        rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
        found = max(found, middle - rows[0].item(), rows[-1].item() - middle)
    return found


def test_learning_to_copy_the_enlargement_is_possible():
    """A middle pixel of each kernel passes colours through, shifted so that none is cut off."""
    network = build(widths=(3, 3), kernels=(9, 1, 5))
    with torch.no_grad():
        for layer, shift in ((network.hidden[0], 3.0), (network.hidden[1], 0.0), (network.head, -3.0)):
            layer.weight.zero_()
            side = layer.weight.shape[-1] // 2
            layer.weight[range(3), range(3), side, side] = 1
            layer.bias.fill_(shift)
    x = torch.rand(1, 3, 6, 7) * 2 - 1
    torch.testing.assert_close(network(x), enlarge(x, 4))


@pytest.mark.parametrize(
    ("field", "value"), [("times", 0), ("channels", 0), ("widths", (8,)), ("widths", (8, 0)), ("kernels", (9, 2, 5)), ("kernels", (9, 5))]
)
def test_bad_sizes_are_named(field, value):
    with pytest.raises(InputError, match=field):
        SRCNN(**{field: value})
