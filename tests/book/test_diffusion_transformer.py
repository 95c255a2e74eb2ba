r"""The equations of the chapter "Diffusion transformers", held to independent computations."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.nn.functional import conv2d, gelu, linear, silu

from gencore.networks.embeddings import sinusoidal_grid
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "diffusion/diffusion-transformer"

pytestmark = pytest.mark.usefixtures("double_precision")


def awake(module, std=0.3):
    """The module with random weights everywhere, gates and last layers included."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module


def small(**sizes):
    (SmallDiT,) = load(CHAPTER, "SmallDiT")
    return SmallDiT(**dict(rows=3, columns=2, patch=2, width=8, depth=2, heads=2, classes=4) | sizes)


@equation("DT.1", r"n = (S/P)^2, \qquad \mathbf h_i = W \mathbf u_i + \mathbf b + \mathbf p_i, \quad i = 1, \dots, n,")
def test_tokens_are_patches_widened_and_placed():
    """(DT.1): what the first block is given, against a convolution of stride P and a table of positions."""
    network, seen = awake(small(rows=4, columns=4)), []
    network.blocks[0].register_forward_pre_hook(lambda block, given: seen.append(given[0]))
    x_t = torch.randn(3, 1, 8, 8)
    network(x_t, torch.rand(3), torch.tensor([0, 1, 4]))
    kernel = network.stem.weight.view(8, 1, 2, 2)
    tokens = conv2d(x_t, kernel, network.stem.bias, stride=2).flatten(2).mT + sinusoidal_grid(4, 4, 8)
    close(seen[0], tokens, atol=1e-6)
    assert seen[0].shape[1] == (8 // 2) ** 2


@equation("DT.2", r"\text{multiplications of a block} = 12\,nD^2 + 2\,n^2D + 6\,D^2")
@pytest.mark.parametrize(("n", "width"), [(6, 8), (49, 16)])
def test_multiplications_of_a_block(n, width):
    """(DT.2), by adding up what each linear map is given, and all pairs of tokens twice."""
    block_cost, Block = load(CHAPTER, "block_cost", "Block")
    block, found = Block(width, 2, 0.0), []
    for layer in block.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda layer, given, out: found.append(out.numel() * layer.in_features))
    block(torch.randn(1, n, width), torch.randn(1, width))
    of_a_head = n * n * (width // 2)  # scores, and the same for the sums of values
    assert block_cost(n, width) == sum(found) + 2 * (2 * of_a_head)


@equation("DT.3", r"\text{parameters of a block} = 18\,D^2 + 12\,D")
@pytest.mark.parametrize("width", [8, 20])
def test_parameters_of_a_block(width):
    """(DT.3), by counting."""
    block_parameters, Block = load(CHAPTER, "block_parameters", "Block")
    assert block_parameters(width) == sum(p.numel() for p in Block(width, 2, 0.0).parameters())


MEAN, STD = (-0.8, 0.1, 0.9), (0.3, 0.6, 0.2)


@equation(
    "DT.4",
    r"""
    \min_{f\ \text{equivariant}} \mathbb E\,\big|f(x_t) - x\big|^2 = \mathbb E\,\big|\bar x_\Pi(x_t) - x\big|^2, \qquad
    \bar x_\Pi(x_t) = \mathbb E\big[\Pi x \,\big|\, \Pi x_t = x_t\big]
    """,
)
def test_no_equivariant_function_beats_the_mean_of_shuffled_data():
    """(DT.4): on the data, not shuffled, its error is orthogonal to every equivariant function, and to others it is not."""
    (any_order,) = load(CHAPTER, "any_order")
    generator, t = torch.Generator().manual_seed(0), torch.tensor(0.5)
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    x = mean + std * torch.randn(200_000, 3, generator=generator)
    x_t = (1 - t) * x + t * torch.randn(200_000, 3, generator=generator)
    best = any_order(x_t, t, mean, std)
    order = torch.tensor([2, 0, 1])
    close(any_order(x_t[:, order], t, mean, std), best[:, order], atol=1e-9)

    def along(g):
        """Mean of (error times g), in standard errors."""
        product = ((best - x) * g).sum(1)
        return product.mean() / (product.std() / len(x) ** 0.5)

    together = x_t.sum(1, keepdim=True)
    for g in (x_t, x_t**3, torch.tanh(x_t - together), x_t.max(1, keepdim=True).values * x_t.cos(), torch.ones_like(x_t)):
        assert along(g).abs() < 4
    assert along(torch.tensor([1.0, 0.0, 0.0]).expand_as(x_t)).abs() > 30


@equation(
    "DT.5",
    r"""
    \bar x_i = m_i + \frac{\alpha_t s_i^2}{\alpha_t^2 s_i^2 + \sigma_t^2}\,(x_{t,i} - \alpha_t m_i), \qquad
    \mathbb E\,(\bar x_i - x_i)^2 = \frac{s_i^2\,\sigma_t^2}{\alpha_t^2 s_i^2 + \sigma_t^2}
    """,
)
@pytest.mark.parametrize("t", [0.2, 0.7])
def test_one_place_by_quadrature(t):
    """(DT.5), by sums over a fine grid of clean values, and of noised ones."""
    one_place, error_with_places = load(CHAPTER, "one_place", "error_with_places")
    mean, std, t = torch.tensor(0.4), torch.tensor(0.5), torch.tensor(t)
    x = torch.linspace(-5, 6, 2001)
    x_t = torch.linspace(-6, 7, 1501)[:, None]
    joint = (Normal(mean, std).log_prob(x) + Normal((1 - t) * x, t).log_prob(x_t)).exp()  # (X_t, X)
    by_sum = (joint * x).sum(1) / joint.sum(1)
    formula = one_place(x_t[:, 0], t, mean, std)
    near = (x_t[:, 0] - (1 - t) * mean).abs() < 2.5
    close(formula[near], by_sum[near], atol=1e-8)
    cell = (x[1] - x[0]) * (x_t[1, 0] - x_t[0, 0])
    close(error_with_places(t, std[None]), ((formula[:, None] - x) ** 2 * joint).sum() * cell, atol=1e-8)


@equation(
    "DT.6",
    r"""
    \bar x_{\Pi,i}(x_t) = \sum_\pi w_\pi\, \bar x_i^{(\pi)}, \qquad
    w_\pi \propto \prod_{i=1}^{6} \mathcal N\big(x_{t,i};\; \alpha_t m_{\pi(i)},\; \alpha_t^2 s_{\pi(i)}^2 + \sigma_t^2\big)
    """,
)
def test_any_order_by_quadrature():
    """(DT.6) with two places, by a sum over a grid of clean pairs, which are in either order with equal probability."""
    (any_order,) = load(CHAPTER, "any_order")
    mean, std, t = torch.tensor([-0.5, 0.8]), torch.tensor([0.3, 0.7]), torch.tensor(0.4)
    line = torch.linspace(-4, 5, 401)
    pairs = torch.cartesian_prod(line, line)  # (G, 2)
    law = [Normal(mean[order], std[order]).log_prob(pairs).sum(1).exp() for order in ([0, 1], [1, 0])]
    for point in torch.tensor([[0.3, -0.2], [1.0, 0.9], [-0.7, 0.1]]):
        weight = (law[0] + law[1]) * Normal((1 - t) * pairs, t).log_prob(point).sum(1).exp()
        by_sum = (weight[:, None] * pairs).sum(0) / weight.sum()
        close(any_order(point[None], t, mean, std)[0], by_sum, atol=1e-7)


@equation(
    "DT.7",
    r"""
    \begin{aligned}
    \mathbf h_i &\leftarrow \mathbf h_i + \mathbf g \odot
      \mathrm{Attention}\big((1 + \gamma) \odot \mathrm{LN}(\mathbf h) + \beta\big)_i, \\
    \mathbf h_i &\leftarrow \mathbf h_i + \mathbf g' \odot
      \mathrm{MLP}\big((1 + \gamma') \odot \mathrm{LN}(\mathbf h_i) + \beta'\big), \\
    (\beta, \gamma, \mathbf g, \beta', \gamma', \mathbf g') &= V\,\mathrm{SiLU}(\mathbf c) + \mathbf v.
    \end{aligned}
    """,
)
def test_a_block_written_plainly():
    """(DT.7), on the same weights."""
    (Block,) = load(CHAPTER, "Block")
    block, h, c = awake(Block(8, 2, 0.0)), torch.randn(3, 5, 8), torch.randn(3, 8)

    def norm(h):
        return (h - h.mean(2, keepdim=True)) / (h.var(2, correction=0, keepdim=True) + 1e-6).sqrt()

    six = (c * torch.sigmoid(c)) @ block.steer.weight.T + block.steer.bias
    beta, gamma, g, beta2, gamma2, g2 = six[:, None].split(8, 2)
    expected = h + g * block.attention((1 + gamma) * norm(h) + beta)
    first, last = block.mlp[0], block.mlp[2]
    inner = gelu(linear((1 + gamma2) * norm(expected) + beta2, first.weight, first.bias))
    expected = expected + g2 * linear(inner, last.weight, last.bias)
    close(block(h, c), expected, atol=1e-10)
    fresh = Block(8, 2, 0.0)
    assert torch.equal(fresh(h, c), h)


@equation(
    "DT.8",
    r"""
    \mathcal L_{\text{start}} = \frac1N\,\mathbb E\,|\varepsilon - x|^2 = 1 + \frac1N\,\mathbb E\,|x|^2,
    """,
)
def test_the_first_loss():
    """(DT.8), by Monte Carlo, for a network that nothing has trained."""
    (velocity_loss,) = load(CHAPTER, "velocity_loss")
    generator = torch.Generator().manual_seed(0)
    x, eps = torch.rand(4000, 1, 6, 4, generator=generator) - 0.2, torch.randn(4000, 1, 6, 4, generator=generator)
    with torch.no_grad():
        loss = velocity_loss(small(), x, torch.zeros(4000, dtype=torch.int64), eps, torch.rand(4000))
    close(loss, (eps - x).square().mean(), atol=1e-12)
    error = (eps - x).square().std() / x.numel() ** 0.5
    close(loss, 1 + x.square().mean(), atol=4 * error.item())


@equation(
    "DT.9",
    r"""
    \frac{\partial\mathcal L}{\partial\mathbf g} = \sum_{i=1}^n \delta_i \odot \mathbf F_i, \qquad
    \frac{\partial\mathcal L}{\partial\theta} = \sum_{i=1}^n (\mathbf g \odot \delta_i)^{\!\top}\,
    \frac{\partial\mathbf F_i}{\partial\theta}
    """,
)
@pytest.mark.parametrize("opened", [0.0, 0.7])
def test_what_a_gate_and_its_part_learn(opened):
    """(DT.9): the attention's gate and weights, against the part's own output and what comes back from the loss."""
    (Block,) = load(CHAPTER, "Block")
    torch.manual_seed(0)
    block, h, target = Block(8, 2, 0.0), torch.randn(1, 5, 8), torch.randn(1, 5, 8)
    block.steer.bias.data[16:24] = opened  # the second gate stays shut, so h' is what leaves
    out = block(h, torch.randn(1, 8))
    out.retain_grad()
    (out - target).square().sum().backward()
    delta = out.grad
    part = block.attention(block.norm(h))
    close(block.steer.bias.grad[16:24], (delta * part).sum((0, 1)), atol=1e-10)
    weights = [block.attention.query.weight, block.attention.key_value.weight, block.attention.out.weight]
    expected = torch.autograd.grad(part, weights, grad_outputs=opened * delta)
    for weight, gradient in zip(weights, expected, strict=True):
        close(weight.grad, gradient, atol=1e-10)
        assert bool(weight.grad.any()) == (opened > 0)


def test_a_tower_of_new_blocks_passes_gradients_unchanged():
    """Section 4: a hundred blocks are the identity, and so is their derivative."""
    (Block,) = load(CHAPTER, "Block")
    h = torch.randn(1, 5, 8, requires_grad=True)
    out, told = h, silu(torch.randn(1, 8))
    for _ in range(100):
        out = Block(8, 2, 0.0)(out, told)
    direction = torch.randn(1, 5, 8)
    (gradient,) = torch.autograd.grad(out, h, direction)
    assert torch.equal(out, h) and torch.equal(gradient, direction)


def test_attention_overtakes_at_six_widths():
    """Section 2: 2 n^2 D = 12 n D^2 at n = 6 D."""
    (block_cost,) = load(CHAPTER, "block_cost")
    n, width = 6 * 16, 16
    both = block_cost(n, width) - 6 * width**2
    assert math.isclose(both, 2 * (12 * n * width**2))


@equation("DT.10", r"\mathcal L_{\text{blind}} = 1 + \frac1{P^2} \sum_{k=1}^{P^2} \mathrm{Var}(u_k),")
def test_the_loss_of_a_network_that_sees_nothing():
    """(DT.10): the smallest squared distance of eps - x to one patch at all places, by least squares over many noises."""
    (blind_loss,) = load(CHAPTER, "blind_loss")
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(40, 1, 4, 6, generator=generator) * torch.linspace(0.2, 3, 24).view(1, 1, 4, 6)
    targets = torch.randn(2000, 40, 4, 6, generator=generator) - x[:, 0]
    targets = torch.cat([part.flatten(2) for part in targets.unfold(2, 2, 2).unfold(3, 2, 2).flatten(2, 3).unbind(2)])
    targets = targets.flatten(0, 1)  # (2000 * 40 * 6, 4)
    fitted = torch.linalg.lstsq(torch.ones(len(targets), 1), targets).solution
    residual = (targets - fitted).square()
    close(blind_loss(x, 2), residual.mean(), atol=4 * (residual.std() / residual.numel() ** 0.5).item())
