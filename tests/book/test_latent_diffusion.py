r"""The equations of the chapter "Latent diffusion", held to independent computations."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gencore.diffusion import Flow, samplers
from gencore.diffusion.process import log_snr
from gencore.metrics import mmd2
from gencore.networks.transformer import Block, Transformer
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "diffusion/latent-diffusion"
SCALES = (0.1, 0.7, 1.0, 5.0)

pytestmark = pytest.mark.usefixtures("double_precision")


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def wasserstein(a, b):
    """The least root mean squared distance of any pairing, for equally many points (N, D)."""
    squared = torch.cdist(a, b).square()
    rows, columns = linear_sum_assignment(squared.numpy())
    return squared[rows, columns].mean().sqrt()


@equation(
    "LD.1",
    r"""
    W(p, G_\# q) \le \underbrace{W(p, G_\# r)}_{\text{first stage}} + \underbrace{W(G_\# r, G_\# q)}_{\text{second stage}},
    \qquad W(p, G_\# r)^2 \le \mathbb E\,|x - G(E(x))|^2, \qquad W(G_\# r, G_\# q) \le L\, W(r, q)
    """,
)
def test_two_stages_and_the_triangle():
    """(LD.1): the chapter's numbers by assignment; then all three inequalities in the plane, with a bent decoder."""
    (stages,) = load(CHAPTER, "stages")
    x, codes = draws(60), 0.5 * draws(60, seed=1) + 0.3

    def decode(z):
        return 2 * z.tanh()  # L = 2

    found = stages(x, lambda x: 0.4 * x, decode, codes)
    sets = (x[:, None], decode(0.4 * x)[:, None], decode(codes)[:, None])
    close(torch.stack(found), torch.stack([wasserstein(sets[a], sets[b]) for a, b in ((0, 2), (0, 1), (1, 2))]))
    x, codes = draws(60, 2), draws(60, 2, seed=2).abs()
    r = 0.4 * x
    copies, drawn = decode(r), decode(codes)
    assert wasserstein(x, drawn) <= wasserstein(x, copies) + wasserstein(copies, drawn)
    assert wasserstein(x, copies) ** 2 <= (x - copies).square().sum(1).mean()
    assert wasserstein(copies, drawn) <= 2 * wasserstein(r, codes)


@equation("LD.2", r"\min_q W(p, G_\# q)^2 = \mathbb E\,\min_z |x - G(z)|^2")
def test_floor_of_a_decoder_by_trying_all_second_stages():
    """(LD.2): the best of all sets of four drawable numbers."""
    (nearest_error,) = load(CHAPTER, "nearest_error")
    x, drawable = draws(4), torch.tensor([-1.5, -0.4, 0.1, 0.9, 2.0])
    best = min(
        wasserstein(x[:, None], drawable[list(chosen)][:, None]) ** 2
        for chosen in itertools.product(range(5), repeat=4)
    )
    close(nearest_error(x, drawable), best)


@equation(
    "LD.3",
    r"""
    \mathrm{MMD}^2(p, \hat q) = \underbrace{\mathrm{MMD}^2(p, \hat r)}_{\text{first stage}} +
    \underbrace{\mathrm{MMD}^2(\hat r, \hat q)}_{\text{second stage}} +
    \underbrace{2\,\langle \mu_p - \mu_{\hat r},\; \mu_{\hat r} - \mu_{\hat q}\rangle}_{\text{do they pull the same way?}}
    """,
)
def test_parts_of_the_kernel_distance_by_an_explicit_map():
    """(LD.3): inner products from the list of all monomials that the cubic kernel stands for, in two dimensions."""
    (kernel_parts,) = load(CHAPTER, "kernel_parts")

    def psi(a):  # (a . b / 2 + 1)^3 = sum over i + j <= 3 of the multinomial times monomials
        columns = []
        for i, j in itertools.product(range(4), repeat=2):
            if i + j <= 3:
                ways = math.factorial(3) / (math.factorial(i) * math.factorial(j) * math.factorial(3 - i - j))
                columns.append(math.sqrt(ways / 2 ** (i + j)) * a[:, 0] ** i * a[:, 1] ** j)
        return torch.stack(columns, 1)

    real, copies, drawn = draws(7, 2), draws(6, 2, seed=1) + 0.3, draws(5, 2, seed=2) * 0.6 - 0.2
    p, r, q = psi(real).mean(0), psi(copies).mean(0), psi(drawn).mean(0)
    others = (psi(copies).sum(0).square().sum() - psi(copies).square().sum()) / (6 * 5)  # of different copies
    first, second, same_way = kernel_parts(real, copies, drawn)
    close(same_way, 2 * (p @ r - p @ q - others + r @ q))
    close(first, mmd2(real, copies))
    close(second, mmd2(copies, drawn))
    close(first + second + same_way, mmd2(real, drawn))


@equation(
    "LD.4",
    r"""
    W^2 = \underbrace{\sum_{i > k} \lambda_i}_{\text{floor}} + \underbrace{(1 - m)^2 \sum_{i \le k} \lambda_i}_{\text{second stage}}
    """,
)
def test_distance_of_two_stages_on_gaussian_data():
    """(LD.4): against the formula of two Gaussians by matrix roots, in turned coordinates."""
    (two_stage_error,) = load(CHAPTER, "two_stage_error")
    variances, k, m = torch.tensor([3.0, 1.2, 0.5, 0.3, 0.1]), 2, 0.7
    basis = torch.linalg.qr(draws(5, 5)).Q
    data = basis @ variances.diag() @ basis.T
    drawn = m**2 * basis[:, :k] @ variances[:k].diag() @ basis[:, :k].T

    def root(matrix):
        values, vectors = torch.linalg.eigh(matrix)
        return vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T

    between = root(root(data) @ drawn @ root(data)).trace()
    floor, second = two_stage_error(variances, k, m)
    close(floor + second, data.trace() + drawn.trace() - 2 * between, atol=1e-7)
    close(floor, variances.sum() - variances[:k].sum())


@equation(
    "LD.5",
    r"""
    m_N(s) = \prod_{n=1}^{N} \Big(1 - \tfrac1N\,\frac{t_n - (1-t_n)s^2}{(1-t_n)^2 s^2 + t_n^2}\Big), \qquad t_n = \frac nN
    """,
)
@pytest.mark.parametrize("s", SCALES)
def test_spread_of_what_few_steps_draw(s):
    """(LD.5): gencore's Euler steps move one number by this factor; many of them give the right spread."""
    (drawn_std,) = load(CHAPTER, "drawn_std")

    def perfect(z_t, t):
        return (1 - t) * s**2 / ((1 - t) ** 2 * s**2 + t**2) * z_t

    for steps in (1, 2, 7):
        found = samplers.euler(perfect, Flow(), samplers.even_times(steps), torch.ones(1))
        close(found[0], drawn_std(s, steps), atol=1e-12)
    close(drawn_std(s, 20_000) / s, 1.0, atol=2e-3)


@equation(
    "LD.6",
    r"""
    \lambda^{(s)}_t = \lambda_t + \log s, \qquad\text{and for } \texttt{Flow}\text{:}\quad
    \text{$u$ is as noisy as at the time}\quad \tau = \frac{t}{t + s\,(1 - t)}
    """,
)
@pytest.mark.parametrize("s", SCALES)
def test_scale_of_a_code_is_a_clock(s):
    """(LD.6): signal-to-noise ratios from variances; the time from the library's process; and back."""
    standard_time, own_time = load(CHAPTER, "standard_time", "own_time")
    t = torch.linspace(0.05, 0.95, 10)
    tau = standard_time(t, s)
    signal_to_noise = ((1 - t) * s) ** 2 / t**2
    close(0.5 * signal_to_noise.log(), log_snr(Flow(), t) + math.log(s))
    close(log_snr(Flow(), tau), log_snr(Flow(), t) + math.log(s))
    close(own_time(tau, s), t)


@equation(
    "LD.7",
    r"""
    \int_0^1 \mathbb E\,\Big|\frac st\,(u - \hat u)\Big|^2 dt = \int_0^1 \Big(\frac{s\tau}{t}\Big)^2\,
    \mathbb E\,\Big|\frac1\tau\,(u - \hat u)\Big|^2\, \frac{dt}{d\tau}\, d\tau = s \int_0^1 \mathbb E\,\Big|\frac1\tau\,(u - \hat u)\Big|^2\, d\tau
    """,
)
@pytest.mark.parametrize("s", SCALES)
def test_the_loss_does_not_see_the_scale(s):
    """(LD.7): the velocity's error from its definition, over quadrature nodes of code and noise, at both scales."""
    (velocity_loss,) = load(CHAPTER, "velocity_loss")
    nodes, masses = np.polynomial.hermite_e.hermegauss(12)
    nodes, masses = torch.as_tensor(nodes), torch.as_tensor(masses / math.sqrt(2 * math.pi))
    u, eps, mass = nodes[:, None], nodes[None, :], masses[:, None] * masses[None, :]

    def estimate(tau):
        return 0.9 * (1 - tau) / ((1 - tau) ** 2 + tau**2) + 0.1, 0.3 * tau

    def by_definition(scale, count=4000):
        t = ((torch.arange(count) + 0.5) / count)[:, None, None]
        z_t = (1 - t) * scale * u + t * eps
        ratio = t / (scale * (1 - t))  # noise in units of the code
        tau = ratio / (1 + ratio)
        slope, offset = estimate(tau)
        guess = slope * z_t * (tau / t) + offset  # z_t in the standardised code's own scale
        velocity = (z_t - scale * guess) / t
        return (mass * (velocity - (eps - scale * u)).square()).sum((1, 2)).mean()

    close(velocity_loss(estimate, s), by_definition(s), atol=1e-6, rtol=1e-6)
    close(by_definition(s) / s, by_definition(1.0), rtol=0.02, atol=0)


@equation("LD.8", r"M_\text{conv} = k^2\,c\,c'\,h\,w, \qquad M_\text{block} = 12\,n\,d^2 + 2\,n^2\,d")
def test_multiply_adds_as_torch_counts_them():
    """(LD.8): PyTorch's own counter, which counts a multiplication and an addition as two."""
    conv_cost, block_cost, multiply_adds = load(CHAPTER, "conv_cost", "block_cost", "multiply_adds")
    conv, block = nn.Conv2d(5, 7, 3, padding=1), Block(Transformer(width=24, heads=3))
    for network, x, expected in (
        (conv, torch.zeros(1, 5, 6, 10), conv_cost(3, 5, 7, 6, 10)),
        (block, torch.zeros(1, 11, 24), block_cost(11, 24)),
    ):
        with FlopCounterMode(display=False) as counter:
            network(x)
        assert counter.get_total_flops() == 2 * expected
        assert multiply_adds(network, x) == expected


@equation(
    "LD.9",
    r"""
    M_\text{draw} = N g\,M_\text{denoiser} + M_G, \qquad M_\text{train} = 3\,M_\text{denoiser} + \tfrac1e\,M_E
    """,
)
def test_cost_of_drawing_and_of_training():
    """(LD.9): counted by PyTorch while a small network draws in five guided steps, and while it learns."""
    drawing_cost, training_cost = load(CHAPTER, "drawing_cost", "training_cost")
    denoiser, decoder, encoder = nn.Linear(8, 8), nn.Linear(8, 30), nn.Linear(30, 8)
    with FlopCounterMode(display=False) as counter:
        noise = torch.zeros(1, 8)
        drawn = samplers.euler(lambda z, t: 2 * denoiser(z) - denoiser(z), Flow(), samplers.even_times(5), noise)
        decoder(drawn)
    assert counter.get_total_flops() == 2 * drawing_cost(5, 64, 240, looks=2)
    epochs, z = 4, None
    with FlopCounterMode(display=False) as counter:
        z = encoder(torch.zeros(1, 30)).detach().requires_grad_()  # a network's inner layers all pass gradients on
        for _ in range(epochs):
            denoiser(z).sum().backward()
    assert counter.get_total_flops() == 2 * epochs * training_cost(64, 240, epochs)
