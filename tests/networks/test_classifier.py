import torch
from torch.nn import functional as F

from gencore.networks.classifier import Classifier, ImageClassifier


def test_shapes():
    network, x = ImageClassifier(Classifier(channels=3, classes=7, width=4, features=6)), torch.randn(2, 3, 28, 20)
    assert network(x).shape == (2, 7)
    assert network.features(x).shape == (2, 6) and network.features(x).min() >= 0


def test_the_network_written_plainly():
    """Five convolutions, two of them with stride 2, each normalised and cut at zero; then the mean over the map."""
    torch.manual_seed(0)
    network = ImageClassifier(Classifier(width=2, features=3, classes=4)).double().eval()
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn_like(tensor).abs() if tensor.ndim == 1 else torch.randn_like(tensor))
    x, w = torch.randn(3, 1, 8, 12, dtype=torch.float64), network.state_dict()
    h = x
    for layer, stride in zip((0, 3, 6, 9, 12), (1, 2, 1, 2, 1), strict=True):
        h = F.conv2d(h, w[f"body.{layer}.weight"], stride=stride, padding=1)
        gain, bias, mean, variance = (
            w[f"body.{layer + 1}.{name}"][:, None, None] for name in ("weight", "bias", "running_mean", "running_var")
        )
        h = (gain * (h - mean) / (variance + 1e-5).sqrt() + bias).clamp(min=0)
    assert h.shape == (3, 8, 2, 3)
    features = (h.mean((2, 3)) @ w["body.17.weight"].T + w["body.17.bias"]).clamp(min=0)
    assert features.max() > 0
    torch.testing.assert_close(network.features(x), features)
    torch.testing.assert_close(network(x), features @ w["head.weight"].T + w["head.bias"])
