"""The painting network: its papers' formulas restated, what styles change, and what normalisation forgets."""

import pytest
import torch
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.image_transform import ImageTransform, ImageTransformNetwork


def network(**sizes):
    torch.manual_seed(0)
    model = ImageTransformNetwork(ImageTransform(**{"styles": 3, "width": 4, "blocks": 2, **sizes}))
    with torch.no_grad():  # styles that differ
        for name, p in model.named_parameters():
            if name.endswith(("scale", "shift")):
                p.add_((0.1 if name.startswith("colour") else 0.5) * torch.randn_like(p))
            if name.startswith("last"):  # zero at first
                p.add_(0.05 * torch.randn_like(p))
    return model


def plainly(weights, x, mix):
    """Johnson et al. 2016, supplement, table 1, with Dumoulin et al. 2017, equation 5."""

    def styled(h, name, stride=1):
        w = weights[f"{name}.conv.weight"]
        h = F.conv2d(F.pad(h, [w.shape[2] // 2] * 4, mode="reflect"), w, stride=stride)
        h = F.instance_norm(h)
        scale, shift = mix @ weights[f"{name}.scale"], mix @ weights[f"{name}.shift"]
        return h * scale[:, :, None, None] + shift[:, :, None, None]

    h = F.relu(styled(x, "down.0"))
    h = F.relu(styled(h, "down.1", 2))
    h = F.relu(styled(h, "down.2", 2))
    for block in range(2):
        h = h + styled(F.relu(styled(h, f"blocks.{block}.first")), f"blocks.{block}.second")
    for layer in range(2):
        h = F.relu(styled(h.repeat_interleave(2, 2).repeat_interleave(2, 3), f"up.{layer}"))
    h = F.conv2d(F.pad(h, [4] * 4, mode="reflect"), weights["last.weight"], weights["last.bias"])
    colours = F.instance_norm(x) * (mix[:, :2] @ weights["colour_scale"])[:, :, None, None]
    colours = colours + (mix[:, :2] @ weights["colour_shift"])[:, :, None, None] + mix[:, 2, None, None, None] * x
    held = 0.95 * colours.clamp(-1, 1)
    return torch.tanh(0.5 * ((1 + held) / (1 - held)).log() + h)


def case(batch=3, height=24, width=28):
    torch.manual_seed(1)
    return torch.rand(batch, 3, height, width) * 2 - 1, torch.rand(batch, 3).softmax(1)


def test_the_network_is_the_papers():
    model, (x, mix) = network(), case()
    torch.testing.assert_close(model(x, mix), plainly(dict(model.named_parameters()), x, mix), rtol=1e-4, atol=1e-5)


def test_pictures_of_a_batch_know_nothing_of_each_other():
    """By instance normalisation; by batch normalisation they do."""
    x, mix = case()
    model, batch = network(), network(norm="batch")
    torch.testing.assert_close(model(x, mix)[:1], model(x[:1], mix[:1]), rtol=1e-4, atol=1e-5)
    assert (batch(x, mix)[:1] - batch(x[:1], mix[:1])).abs().max() > 0.05


def test_contrast_and_brightness_of_a_photograph_are_forgotten():
    """What the first normalisation takes away (Ulyanov et al. 2016, section 3), unless it is to stay a photograph."""
    model, (x, mix) = network(), case()
    mix = mix.index_fill(1, torch.tensor([2]), 0.0)
    torch.testing.assert_close(model(0.4 * x + 0.2, mix), model(x, mix), rtol=0, atol=1e-2)
    assert (model(x.flip(3), mix) - model(x, mix)).abs().max() > 0.1


def test_it_begins_with_the_photograph_in_the_colours_of_the_style():
    model, (x, _) = ImageTransformNetwork(ImageTransform(styles=3, width=4, blocks=1)), case()
    none, first = torch.eye(3)[2].expand(3, -1), torch.eye(3)[0].expand(3, -1)
    torch.testing.assert_close(model(x, none), 0.95 * x)
    with torch.no_grad():
        model.colour_scale[0], model.colour_shift[0] = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.3, 0.0, -0.3])
    made = model(x, first) / 0.95
    torch.testing.assert_close(made.std((2, 3), correction=0), torch.tensor([0.1, 0.2, 0.3]).expand(3, -1), rtol=1e-3, atol=0)
    torch.testing.assert_close(made.mean((2, 3)), torch.tensor([0.3, 0.0, -0.3]).expand(3, -1), rtol=1e-3, atol=1e-5)


def test_a_style_moves_only_its_own_row():
    model, (x, _) = network(), case()
    model(x, torch.eye(3)[1].expand(3, -1)).square().sum().backward()
    for name, p in model.named_parameters():
        if name.endswith(("scale", "shift")):
            assert p.grad[1].any() and not p.grad[[row for row in range(len(p)) if row != 1]].any()
        else:
            assert p.grad.any(), name


def test_batch_normalisation_restated():
    """On equal pictures both normalisations are the same."""
    (x, mix), one, other = case(), network(), network(norm="batch")
    x, mix = x[:1].expand(3, -1, -1, -1), mix[:1].expand(3, -1)
    torch.testing.assert_close(one(x, mix), other(x, mix), rtol=1e-4, atol=1e-5)


def test_gradients_are_the_same_in_both_memory_layouts():
    found, (x, mix) = [], case()
    for layout in (torch.contiguous_format, torch.channels_last):
        model = network().to(memory_format=layout)
        (model(x, mix) - x).square().mean().backward()
        found.append([p.grad for p in model.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-5)


def test_eight_styles_and_the_photograph_fit_the_budget():
    count = sum(p.numel() for p in ImageTransformNetwork(ImageTransform(styles=9)).parameters())
    assert 400_000 < count < 450_000


@pytest.mark.parametrize("size", [(22, 24), (24, 22), (16, 24)])
def test_a_picture_that_does_not_fit_is_refused(size):
    with pytest.raises(InputError, match=f"image of {size[0]}x{size[1]}"):
        network()(torch.zeros(1, 3, *size), torch.ones(1, 3) / 3)


def test_shares_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="mix"):
        network()(torch.zeros(1, 3, 24, 24), torch.ones(1, 4) / 4)
