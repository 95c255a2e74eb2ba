"""The fixed network: SqueezeNet restated, its options, and VGG-19 where it can be had."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gencore.applications.style_transfer import StyleFeatures, features, vgg19_features
from gencore.errors import InputError
from gencore.metrics.features import MEAN_COLOUR, squeezenet


def picture(height=32, width=48):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("enlarge", [1, 2])
@pytest.mark.parametrize("pool", ["max", "mean"])
def test_maps_are_squeezenets(enlarge, pool):
    """Blue first, 0 to 255, without the mean colour; mirrored at the first convolution."""
    x, plain = picture(), squeezenet()
    found = StyleFeatures((1, 4, 7), enlarge, pool)(x)
    h = F.interpolate(x, scale_factor=float(enlarge), mode="bilinear", align_corners=False)
    h = ((h + 1) * 127.5)[:, [2, 1, 0]] - torch.tensor(MEAN_COLOUR)[:, None, None]
    h = F.relu(F.conv2d(F.pad(h, (1, 1, 1, 1), mode="reflect"), plain[0].weight, plain[0].bias, stride=2))
    torch.testing.assert_close(found[1], h, rtol=1e-4, atol=1e-2)

    def pooled(h):
        return F.max_pool2d(h, 3, 2, ceil_mode=True) if pool == "max" else F.avg_pool2d(h, 3, 2, ceil_mode=True)

    h = plain[4](plain[3](pooled(h)))
    torch.testing.assert_close(found[4], h, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(found[7], plain[7](plain[6](pooled(h))), rtol=1e-4, atol=1e-2)


def test_sides_halve_exactly():
    found = StyleFeatures((1, 4, 7, 10))(picture())
    assert {n: tuple(h.shape[2:]) for n, h in found.items()} == {1: (32, 48), 4: (16, 24), 7: (8, 12), 10: (4, 6)}


def test_a_layer_is_not_changed_by_the_next():
    """SqueezeNet's activations work in place."""
    x = picture()
    assert torch.equal(StyleFeatures((0, 1))(x)[0], StyleFeatures((0,))(x)[0])
    assert StyleFeatures((0, 1))(x)[0].min() < 0


@pytest.mark.parametrize("layers", [(), (-1,), (13,)])
def test_layers_that_are_not_there_are_refused(layers):
    with pytest.raises(InputError, match="layers"):
        StyleFeatures(layers)


def test_vgg19_without_its_weights_is_one_error(monkeypatch):
    def fail(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(InputError, match="VGG-19.*no network.*SqueezeNet"):
        vgg19_features()


def test_vgg19_sees_pictures_standardised_as_imagenets(monkeypatch):
    """By a smaller network of the same kind."""
    torch.manual_seed(0)
    network = nn.Module()
    network.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3))
    monkeypatch.setattr(features.torchvision.models, "vgg19", lambda weights: network)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: network.state_dict())
    x = picture()
    found = vgg19_features((0, 1, 3))(x)
    h = ((x + 1) / 2 - torch.tensor((0.485, 0.456, 0.406))[:, None, None]) / torch.tensor((0.229, 0.224, 0.225))[:, None, None]
    h = network.features[0](h)
    torch.testing.assert_close(found[0], h, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1], h.relu())
    torch.testing.assert_close(found[3], network.features[3](F.max_pool2d(h.relu(), 2)))
