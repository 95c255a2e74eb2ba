import pytest
import torch
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.bicubic import enlarge
from gencore.networks.edsr import EDSR, EDSRNetwork


def build(moved=True, **sizes):
    torch.manual_seed(0)
    network = EDSRNetwork(EDSR(**sizes))
    if moved:  # what starts at zero would hide all before it
        torch.nn.init.normal_(network.head.weight, std=0.2)
        torch.nn.init.normal_(network.head.bias, std=0.2)
    return network


def test_it_is_what_the_papers_write_down():
    network, x = build(times=3, width=6, blocks=2, finish=5, scaling=0.7), torch.randn(2, 3, 7, 9)
    w = dict(network.named_parameters())

    def conv(h, name):
        return F.conv2d(h, w[f"{name}.weight"], w[f"{name}.bias"], padding=1)

    start = h = conv(x, "stem")
    for block in ("blocks.0", "blocks.1"):
        h = h + 0.7 * conv(F.relu(conv(h, f"{block}.conv1")), f"{block}.conv2")
    h = conv(start + conv(h, "body"), "subpixel")  # (2, 45, 7, 9)
    large = torch.zeros(2, 5, 21, 27)
    for row in range(3):
        for column in range(3):  # equation 4 of Shi et al.: channel 9 c + 3 row + column lies at that place of its square
            large[:, :, row::3, column::3] = h[:, 3 * row + column :: 9]
    expected = F.interpolate(x, size=(21, 27), mode="bicubic", antialias=True) + conv(F.relu(large), "head")
    torch.testing.assert_close(network(x), expected)


def test_a_new_network_is_bicubic_interpolation():
    x = torch.randn(1, 3, 5, 6)
    assert torch.equal(build(moved=False)(x), enlarge(x, 4))


@pytest.mark.parametrize(("times", "blocks"), [(2, 1), (4, 2)])
def test_a_pixel_depends_on_what_lies_within_reach_and_on_all_of_it(times, blocks):
    network, side = build(times=times, width=4, blocks=blocks, finish=2), 41
    for p in network.parameters():  # biases of 1 and positive weights: no unit is off
        torch.nn.init.uniform_(p, 0.01, 0.02) if p.dim() > 1 else torch.nn.init.ones_(p)
    x = torch.zeros(1, 3, side, side, requires_grad=True)
    middle, found = side // 2, 0
    block = network(x)[..., times * middle : times * (middle + 1), times * middle : times * (middle + 1)]
    for value in block.sum(1).flatten():
        (gradient,) = torch.autograd.grad(value, x, retain_graph=True)
        rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
        found = max(found, middle - rows[0].item(), rows[-1].item() - middle)
    assert found == EDSR(times=times, blocks=blocks).reach


def test_gradients_are_the_same_in_both_memory_layouts():
    found, x = [], torch.randn(2, 3, 8, 8)
    for layout in (torch.contiguous_format, torch.channels_last):
        network = build(width=8, blocks=2).to(memory_format=layout)
        network(x).square().mean().backward()
        found.append([p.grad for p in network.parameters()])
    for plain, last in zip(*found, strict=True):
        assert plain.any()
        torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("field", ["times", "channels", "width", "blocks", "finish", "scaling"])
def test_bad_sizes_are_named(field):
    with pytest.raises(InputError, match=field):
        EDSR(**{field: 0})
