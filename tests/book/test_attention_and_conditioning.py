"""The equations of the chapter on attention, held to autograd, Monte Carlo, PyTorch's own functions and brute force."""

import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from gencore.networks.embeddings import sinusoidal
from tests.book.chapter_code import load
from tests.book.equations import equation

CHAPTER = "foundations/attention-and-conditioning"

pytestmark = pytest.mark.usefixtures("double_precision")


@equation(
    "AT.1",
    r"""
    \ell_j = \frac{\mathbf q \cdot \mathbf k_j}{\sqrt d}, \qquad a_j = \frac{e^{\ell_j}}{\sum_{m=1}^n e^{\ell_m}},
    \qquad \mathbf o = \sum_{j=1}^n a_j\, \mathbf v_j
    """,
)
def test_attention_of_one_query_by_the_sums():
    """(AT.1), written out with loops."""
    (attention,) = load(CHAPTER, "attention")
    q, k, v = torch.randn(1, 5), torch.randn(4, 5), torch.randn(4, 3)
    answer, weights = attention(q, k, v)
    shares = [math.exp(sum(q[0, i].item() * k[j, i].item() for i in range(5)) / math.sqrt(5)) for j in range(4)]
    expected = [share / sum(shares) for share in shares]
    torch.testing.assert_close(weights[0], torch.tensor(expected))
    torch.testing.assert_close(answer[0], sum(a * row for a, row in zip(expected, v)))


@equation(
    "AT.2",
    r"""
    \max_{a}\; \sum_j a_j \ell_j + \tau H(a) \quad\text{is reached at}\quad a_j = \frac{e^{\ell_j/\tau}}{\sum_m
    e^{\ell_m/\tau}}
    """,
)
def test_softmax_maximises_score_and_entropy():
    """(AT.2): stationary on the simplex, and no random weights do better."""
    soft_weights, tempered = load(CHAPTER, "soft_weights", "tempered")
    scores, temperature = torch.randn(6), 0.7
    best = soft_weights(scores, temperature).requires_grad_()
    slope = torch.autograd.grad(tempered(best, scores, temperature), best)[0]
    torch.testing.assert_close(slope, slope[:1].expand(6))  # equal entries: no direction within the simplex goes up
    rivals = torch.distributions.Dirichlet(torch.ones(6)).sample((10_000,))
    assert tempered(rivals, scores, temperature).max() < tempered(best, scores, temperature)


@equation("AT.3", r"\mathrm{Var}(\mathbf q \cdot \mathbf k) = \sum_{i=1}^d \mathrm{Var}(q_i k_i) = d")
@pytest.mark.parametrize("d", [4, 100])
def test_variance_of_a_dot_product(d):
    """(AT.3), for entries that are not normal."""
    q, k = math.sqrt(3) * (2 * torch.rand(2, 200_000, d) - 1)
    assert (q * k).sum(1).var().item() == pytest.approx(d, rel=0.02)


@equation(
    "AT.4",
    r"""
    \frac{\partial a_i}{\partial \ell_j} = \frac{\delta_{ij}\, e^{\ell_i}}{Z} - \frac{e^{\ell_i} e^{\ell_j}}{Z^2}
    = a_i\,(\delta_{ij} - a_j)
    """,
)
def test_jacobian_of_the_softmax():
    """(AT.4), against autograd."""
    (softmax_jacobian,) = load(CHAPTER, "softmax_jacobian")
    scores = torch.randn(5)
    expected = torch.autograd.functional.jacobian(lambda s: s.softmax(0), scores)
    torch.testing.assert_close(softmax_jacobian(scores), expected)


@equation(
    "AT.5",
    r"""
    \mathrm{Attention}(\mathbf Q, \mathbf K, \mathbf V) = \mathrm{softmax}\Big(\frac{\mathbf Q \mathbf
    K^\top}{\sqrt d}\Big)\, \mathbf V
    """,
)
@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_pytorchs(masked):
    """(AT.5)."""
    (attention,) = load(CHAPTER, "attention")
    q, k, v = torch.randn(2, 6, 8), torch.randn(2, 6, 8), torch.randn(2, 6, 4)
    seen = torch.ones(6, 6).tril().bool() if masked else None
    expected = scaled_dot_product_attention(q, k, v, is_causal=masked)
    torch.testing.assert_close(attention(q, k, v, seen)[0], expected)


@equation(
    "AT.6",
    r"""
    \begin{aligned} \mathrm{MultiHead}(\mathbf X, \mathbf Y) &= \big[\mathrm{head}_1, \dots,
    \mathrm{head}_h\big]\, W_O, \\ \mathrm{head}_i &= \mathrm{Attention}\big(\mathbf X W_Q^i, \mathbf Y W_K^i,
    \mathbf Y W_V^i\big). \end{aligned}
    """,
)
def test_heads_equal_pytorchs_layer():
    """(AT.6)."""
    (multi_head,) = load(CHAPTER, "multi_head")
    layer, x, y = torch.nn.MultiheadAttention(12, 3, bias=False), torch.randn(5, 12), torch.randn(7, 12)
    matrices = [weight.T for weight in layer.in_proj_weight.chunk(3)]
    torch.testing.assert_close(multi_head(x, y, *matrices, layer.out_proj.weight.T, heads=3), layer(x, y, y)[0])


@equation(
    "AT.7",
    r"""
    \mathrm{SelfAttention}(\Pi\mathbf X) = \Pi\,\mathbf A\,\Pi^\top\,\Pi\,\mathbf V =
    \Pi\;\mathrm{SelfAttention}(\mathbf X)
    """,
)
def test_permutation_equivariance_of_the_chapters_attention():
    """(AT.7)."""
    (multi_head,) = load(CHAPTER, "multi_head")
    x, matrices = torch.randn(6, 12), torch.randn(4, 12, 12)
    permutation = torch.eye(6)[torch.randperm(6)]
    shuffled = multi_head(permutation @ x, permutation @ x, *matrices, heads=3)
    torch.testing.assert_close(shuffled, permutation @ multi_head(x, x, *matrices, heads=3))


@equation(
    "AT.8",
    r"""
    \begin{aligned} \mathbf p_t &= \big(\sin\omega_0 t, \dots, \sin\omega_{D/2-1} t,\; \cos\omega_0 t, \dots,
    \cos\omega_{D/2-1} t\big), \\ \omega_i &= 10000^{-2i/D}. \end{aligned}
    """,
)
@equation(
    "AT.9",
    r"""
    \mathbf p_{t+k} = \mathbf R_k\, \mathbf p_t, \qquad \mathbf R_k = \begin{pmatrix}\mathbf C_k & \mathbf S_k\\
    -\mathbf S_k & \mathbf C_k\end{pmatrix}
    """,
)
def test_positions_and_their_step():
    """(AT.8) against complex exponentials, (AT.9) by matrices."""
    clocks, step_matrix = load(CHAPTER, "clocks", "step_matrix")
    places = torch.arange(40.0)
    hands = torch.exp(1j * places[:, None] * 10_000 ** (-torch.arange(0.0, 16, 2) / 16))
    torch.testing.assert_close(clocks(places, 16), torch.cat([hands.imag, hands.real], 1))
    torch.testing.assert_close(clocks(places, 16), sinusoidal(places, 16))
    torch.testing.assert_close(clocks(places + 3, 16), clocks(places, 16) @ step_matrix(3, 16).T)
    torch.testing.assert_close(step_matrix(3, 16) @ step_matrix(4, 16), step_matrix(7, 16))
    torch.testing.assert_close(step_matrix(5, 16).T, step_matrix(-5, 16))


@equation("AT.10", r"\text{multiplications} = 4\,nD^2 + 2\,n^2D")
@pytest.mark.parametrize("n, width, heads", [(5, 8, 2), (50, 16, 4)])
def test_multiplications_of_self_attention(n, width, heads):
    """(AT.10), as PyTorch counts them."""
    multi_head, multiplications = load(CHAPTER, "multi_head", "multiplications")
    x, matrices = torch.randn(n, width), torch.randn(4, width, width)
    with FlopCounterMode(display=False) as counter:
        multi_head(x, x, *matrices, heads=heads)
    assert counter.get_total_flops() == 2 * multiplications(n, width)


@equation("AT.11", r"\mathbf h \;\leftarrow\; \big(1 + \gamma(y)\big) \odot \mathbf h + \beta(y)")
def test_scale_and_shift():
    """(AT.11): the condition enters as 1 + gamma and beta, unit by unit."""
    (Conditioned,) = load(CHAPTER, "Conditioned")
    network = Conditioned("FiLM", 4)
    h, y, enter = torch.randn(3, 4), torch.randn(3, 1, 4), network.enter[0]
    gamma, beta = (y[:, 0] @ enter.weight.T + enter.bias).split(4, dim=1)
    for unit in range(4):
        expected = h[:, unit] + gamma[:, unit] * h[:, unit] + beta[:, unit]
        torch.testing.assert_close(network.condition(h, y, enter)[:, unit], expected)


def test_addition_only_moves():
    (Conditioned,) = load(CHAPTER, "Conditioned")
    network, y = Conditioned("addition", 4), torch.randn(1, 1, 4)
    a, b = torch.randn(2, 1, 4)
    moved = network.condition(a, y, network.enter[0]) - network.condition(b, y, network.enter[0])
    torch.testing.assert_close(moved, a - b)


@equation(
    "AT.12",
    r"""
    \mathbb E\big[\|f(y) - x\|^2 \,\big|\, y\big] = \|f(y) - \bar x\|^2 + \mathbb E\big[\|x - \bar x\|^2 \,\big|\,
    y\big]
    """,
)
def test_the_mean_picture_has_the_least_squared_error():
    """(AT.12): the error of any other picture is larger by its squared distance to the mean."""
    mean_picture, scene_of = load(CHAPTER, "mean_picture", "scene_of")
    from gencore.data import to_float
    from gencore.data.shapes import render

    fact, slides = (("red", "star"), "above", ("blue", "ring")), [0.1 * (i / 20 - 1) for i in range(41)]
    pictures = torch.stack([to_float(render(scene_of(*fact, slide=slide), 16)) for slide in slides]).double()
    best = mean_picture(fact, 0.1).double()
    other = best + 0.1 * torch.randn(3, 16, 16)

    def error(f):
        return (f - pictures).square().sum((1, 2, 3)).mean()

    torch.testing.assert_close(error(other), (other - best).square().sum() + error(best), rtol=1e-5, atol=1e-4)
