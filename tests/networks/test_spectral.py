import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from gencore.networks.dcgan import DCGAN, Discriminator
from gencore.networks.spectral import SpectralNorm, follow_spectrum, normalise_spectrum

LAYERS = {
    "convolution": lambda: nn.Conv2d(3, 8, 4, bias=False),
    "dense": lambda: nn.Linear(12, 5),
    "table": lambda: nn.Embedding(10, 6),
}


def largest(weight):
    """The largest singular value, all axes but the first as one."""
    return torch.linalg.svdvals(weight.flatten(1))[0]


def normalised(kind, steps):
    """A layer that has been followed for some steps."""
    layer = normalise_spectrum(LAYERS[kind]())
    for _ in range(steps):
        follow_spectrum(layer)
    return layer, layer.parametrizations.weight.original, layer.parametrizations.weight[0]


def spectral_norms(network):
    return [module for module in network.modules() if isinstance(module, SpectralNorm)]


@pytest.mark.parametrize("kind", LAYERS)
def test_the_power_iteration_finds_the_largest_singular_value(kind, double_precision):
    layer, weight, norm = normalised(kind, steps=1000)
    sigma = norm.u @ weight.flatten(1) @ norm.v
    torch.testing.assert_close(sigma, largest(weight))
    torch.testing.assert_close(layer.weight, weight / largest(weight))
    torch.testing.assert_close(largest(layer.weight), torch.tensor(1.0))


@pytest.mark.parametrize("kind", LAYERS)
def test_what_a_layer_computes_is_divided_by_it(kind, double_precision):
    plain = LAYERS[kind]()
    layer = normalise_spectrum(copy.deepcopy(plain))
    for _ in range(1000):
        follow_spectrum(layer)
    x = {"convolution": torch.randn(2, 3, 6, 6), "dense": torch.randn(4, 12), "table": torch.arange(10)}[kind]
    bias = plain(torch.zeros(1, 12)) if kind == "dense" else 0
    torch.testing.assert_close(layer(x) - bias, (plain(x) - bias) / largest(plain.weight))


@pytest.mark.parametrize("kind", LAYERS)
def test_one_step_is_algorithm_1(kind, double_precision):
    layer, weight, norm = normalised(kind, steps=0)
    norm.u.copy_(nn.functional.normalize(torch.randn_like(norm.u), dim=0))
    matrix = weight.detach().flatten(1)
    v = matrix.T @ norm.u / (matrix.T @ norm.u).norm()
    u = matrix @ v / (matrix @ v).norm()
    follow_spectrum(layer)
    torch.testing.assert_close((norm.u, norm.v), (u, v))


@pytest.mark.parametrize("kind", LAYERS)
def test_the_gradient_is_that_of_the_weight_over_its_norm(kind, double_precision):
    """d sigma / dW = u v', although u and v are held: at singular vectors they add nothing to first order."""
    layer, weight, norm = normalised(kind, steps=3000)
    direction = torch.randn_like(weight)
    (gradient,) = torch.autograd.grad((layer.weight * direction).sum(), weight)
    through_svd = weight.detach().clone().requires_grad_()
    sigma = largest(through_svd)
    (slope,) = torch.autograd.grad(sigma, through_svd, retain_graph=True)
    torch.testing.assert_close(slope.flatten(1), torch.outer(norm.u, norm.v))
    (expected,) = torch.autograd.grad((through_svd / sigma * direction).sum(), through_svd)
    torch.testing.assert_close(gradient, expected)

    def loss(moved):
        return (moved / largest(moved) * direction).sum()

    towards, step = torch.randn_like(weight), 1e-5
    with torch.no_grad():
        change = (loss(weight + step * towards) - loss(weight - step * towards)) / (2 * step)
    torch.testing.assert_close((gradient * towards).sum(), change, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close((gradient * weight).sum(), torch.tensor(0.0), rtol=0, atol=1e-9)  # its length is nothing


def test_a_forward_pass_moves_nothing_and_a_step_does():
    torch.manual_seed(0)
    network = Discriminator(DCGAN(size=14, width=8, discriminator_norm="none", spectral=True))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network(torch.randn(2, 1, 14, 14)).sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    weights = [parameter.clone() for parameter in network.parameters()]
    follow_spectrum(network)
    # The verdict's matrix has one row, so its u is 1 or -1 and stays.
    moved = {name for name, buffer in network.named_buffers() if not torch.equal(buffer, before[name])}
    assert moved == {name for name in before if name != "layers.2.parametrizations.weight.0.u"}
    assert all(torch.equal(now, then) for now, then in zip(network.parameters(), weights, strict=True))


def test_vectors_may_move_between_a_pass_and_its_gradient():
    torch.manual_seed(0)
    layer, weight, norm = normalised("dense", steps=0)
    norm.u.copy_(nn.functional.normalize(torch.ones(5), dim=0))
    x = torch.randn(4, 12)
    (expected,) = torch.autograd.grad(layer(x).square().sum(), weight)
    verdict = layer(x).square().sum()
    follow_spectrum(layer)
    assert torch.equal(torch.autograd.grad(verdict, weight)[0], expected)


def test_followed_while_it_is_trained_the_norm_stays_near_1():
    """One step of the power iteration for each step of training is enough (the paper, end of section 2.1)."""
    torch.manual_seed(0)
    network = Discriminator(DCGAN(size=16, width=8, discriminator_norm="none", spectral=True))
    optimiser = torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999))
    for _ in range(100):
        optimiser.zero_grad()
        nn.functional.softplus(network(torch.randn(8, 1, 16, 16))).mean().backward()
        optimiser.step()
        follow_spectrum(network)  # without, norms grow to 1.8
    for layer in network.layers:
        if isinstance(layer, nn.Conv2d):
            assert largest(layer.weight).item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_each_layer_of_a_discriminator_has_norm_1(norm):
    torch.manual_seed(0)
    network = Discriminator(DCGAN(size=32, channels=3, width=16, discriminator_norm=norm, spectral=True))
    layers = [layer for layer in network.layers if isinstance(layer, nn.Conv2d)]
    assert len(layers) == len(spectral_norms(network)) == 4
    for layer in layers:  # as drawn
        assert largest(layer.weight).item() == pytest.approx(1, abs=0.2)
    for _ in range(300):
        follow_spectrum(network)
    for layer in layers:
        assert largest(layer.weight).item() == pytest.approx(1, abs=0.01)


def test_without_it_a_discriminator_is_what_it_was():
    config = {"size": 14, "width": 8}
    torch.manual_seed(0)
    plain = Discriminator(DCGAN(**config))
    torch.manual_seed(0)
    spectral = Discriminator(DCGAN(**config, spectral=True))
    assert list(plain.state_dict()) == ["layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"]
    assert not spectral_norms(plain)
    for number in (0, 2):  # the same numbers are drawn
        assert torch.equal(spectral.layers[number].parametrizations.weight.original, plain.layers[number].weight)
    before = copy.deepcopy(plain.state_dict())
    follow_spectrum(plain)
    assert all(torch.equal(tensor, before[name]) for name, tensor in plain.state_dict().items())


def test_what_is_kept_are_plain_tensors_that_give_the_network_back():
    config = DCGAN(size=14, width=8, spectral=True)
    torch.manual_seed(0)
    network, other = Discriminator(config), Discriminator(config)
    state = network.state_dict()
    parts = ["bias", *(f"parametrizations.weight.{end}" for end in ("original", "0.u", "0.v"))]
    assert set(state) == {f"layers.{number}.{part}" for number in (0, 2) for part in parts}
    assert all(type(tensor) is torch.Tensor for tensor in state.values())
    x = torch.randn(3, 1, 14, 14)
    assert not torch.allclose(other(x), network(x))
    other.load_state_dict(state)
    assert torch.equal(other(x), network(x)) and torch.equal(copy.deepcopy(network)(x), network(x))
    assert [name for name, _ in network.named_parameters() if name.endswith((".u", ".v"))] == []


def test_half_precision_leaves_the_norm_its_digits():
    torch.manual_seed(0)
    layer, weight, _ = normalised("convolution", steps=300)
    with torch.autocast("cpu", torch.bfloat16):
        halved, out = layer.weight, layer(torch.randn(2, 3, 6, 6))
    assert halved.dtype == torch.float32 and out.dtype == torch.bfloat16
    torch.testing.assert_close(halved, layer.weight, rtol=1e-6, atol=1e-7)
    (gradient,) = torch.autograd.grad(out.float().square().sum(), weight)
    assert gradient.dtype == torch.float32 and gradient.isfinite().all()


def test_double_precision_is_kept():
    network = Discriminator(DCGAN(size=14, width=8, spectral=True)).double()
    follow_spectrum(network)
    assert network(torch.randn(2, 1, 14, 14, dtype=torch.float64)).dtype == torch.float64
    assert all(buffer.dtype == torch.float64 for name, buffer in network.named_buffers() if name[-1] in "uv")
    layer = normalise_spectrum(nn.Linear(3, 4, dtype=torch.float64))
    assert layer(torch.ones(1, 3, dtype=torch.float64)).dtype == layer.weight.dtype == torch.float64


def test_nothing_else_is_normalised():
    network = normalise_spectrum(nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.GroupNorm(2, 8)))
    assert [parametrize.is_parametrized(module) for module in network] == [True, False, False]
