"""The equations of the chapter on DCGAN, held to PyTorch's layers, to weights followed by hand and to one dimension."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.book.chapter_code import load
from tests.book.equations import equation

CHAPTER = "gan/dcgan"


@equation("DC.1", r"n' = (n-1)\,s - 2a + k")
@pytest.mark.parametrize(
    "n, kernel, stride, padding", [(1, 7, 1, 0), (7, 4, 2, 1), (5, 3, 2, 1), (6, 5, 3, 2), (9, 2, 2, 0)]
)
def test_output_size_of_a_transposed_convolution(n, kernel, stride, padding):
    """(DC.1)."""
    (output_size,) = load(CHAPTER, "output_size")
    layer = nn.ConvTranspose1d(1, 1, kernel, stride, padding)
    assert layer(torch.zeros(1, 1, n)).shape[-1] == output_size(n, kernel, stride, padding)


@equation("DC.2", r"u' = \gamma\,\frac{u - \mu}{\sqrt{v + \epsilon}} + \beta")
def test_batch_normalisation_value_by_value():
    """(DC.2), with a gain, an offset and a large constant, over batch and pixels."""
    layer = nn.BatchNorm2d(2, eps=0.3).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.5, -2.0]))
        layer.bias.copy_(torch.tensor([0.5, 3.0]))
    u = torch.randn(3, 2, 2, 2, dtype=torch.float64)
    out = layer(u)
    for channel in range(2):
        values = u[:, channel].flatten().tolist()
        mean = sum(values) / 12
        variance = sum((value - mean) ** 2 for value in values) / 12
        gamma, beta = layer.weight[channel].item(), layer.bias[channel].item()
        expected = [gamma * (value - mean) / math.sqrt(variance + 0.3) + beta for value in values]
        assert out[:, channel].flatten().tolist() == pytest.approx(expected)


@equation("DC.3", r"\bar\theta \leftarrow \lambda\,\bar\theta + (1-\lambda)\,\theta, \qquad \lambda = 2^{-B/h}")
def test_the_moving_average_of_weights_and_buffers():
    """(DC.3): runs of one, two and three steps tell the weights in between, and so what their average must be."""
    (train,) = load(CHAPTER, "train")
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    judge = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    batches = SimpleNamespace(batch_size=8, at=lambda seen: SimpleNamespace(x=torch.ones(8, 2) * (1 + seen)))
    expected = first.state_dict()
    for steps in (1, 2, 3):
        pair = copy.deepcopy(first), copy.deepcopy(judge)
        average, _ = train(*pair, batches, steps, lr=0.1, latent=3, half_life=16)
        keep = 0.5**0.5  # batches of 8, a half-life of 16
        values = pair[0].state_dict()
        expected = {name: keep * old + (1 - keep) * values[name] for name, old in expected.items()}
    compared = {name for name, value in average.state_dict().items() if value.is_floating_point()}
    assert {"0.weight", "1.running_mean", "1.running_var"} <= compared and not average.training
    for name in compared:
        torch.testing.assert_close(average.state_dict()[name], expected[name])
        assert (expected[name] - values[name]).abs().max() > 1e-3, f"{name} does not tell average from weights"


@equation(
    "DC.4",
    r"d^2 = \|\mu_1 - \mu_2\|^2"
    r" + \operatorname{tr}\!\Big(\Sigma_1 + \Sigma_2 - 2\big(\Sigma_1^{1/2}\Sigma_2\Sigma_1^{1/2}\big)^{1/2}\Big)",
)
def test_frechet_distance_by_hand():
    """(DC.4): the sum over dimensions where covariances commute, a product of 2 by 2 roots where they do not."""
    (frechet,) = load(CHAPTER, "frechet")
    corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64) * (3 / 4) ** 0.5
    assert torch.allclose(corners.T.cov(), torch.eye(2, dtype=torch.float64))
    wide = corners * torch.tensor([2.0, 5])
    moved = corners * torch.tensor([3.0, 1]) + torch.tensor([1.0, -2])
    assert frechet(wide, moved).item() == pytest.approx(1 + 4 + (2 - 3) ** 2 + (5 - 1) ** 2)
    mix = torch.tensor([[2.0, 1], [1, 1]], dtype=torch.float64)
    a, b = mix @ mix, torch.diag(torch.tensor([4.0, 25], dtype=torch.float64))
    # the root's trace, of a 2 by 2 matrix of trace t and determinant d, is sqrt(t + 2 sqrt(d)); mix is the root of a
    middle = mix @ b @ mix
    root = math.sqrt(middle.trace() + 2 * math.sqrt(torch.linalg.det(middle)))
    assert frechet(corners @ mix, wide).item() == pytest.approx((a + b).trace().item() - 2 * root)


@equation(
    "DC.5",
    r"z_t = \frac{\sin((1-t)\,\omega)}{\sin\omega}\, z_0 + \frac{\sin(t\,\omega)}{\sin\omega}\, z_1,"
    r" \qquad 0 \le t \le 1",
)
def test_walks_turn_by_equal_angles_on_the_sphere():
    """(DC.5)."""
    (spherical,) = load(CHAPTER, "spherical")
    torch.manual_seed(0)
    z0, z1 = (z / z.norm() for z in torch.randn(2, 8, dtype=torch.float64))
    t = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    walk = spherical(z0, z1, t)
    torch.testing.assert_close(walk.norm(dim=1), torch.ones(4, dtype=torch.float64))
    angle = torch.arccos(z0 @ z1)
    torch.testing.assert_close(walk @ z0, torch.cos(t * angle))
    torch.testing.assert_close(walk[[0, -1]], torch.stack([z0, z1]))
