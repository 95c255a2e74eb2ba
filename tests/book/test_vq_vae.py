"""The equations of the chapter on discrete codes, against independent computations."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from gencore import vae
from gencore.metrics import PerceptualDistance
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.quantiser import FSQ, Codebook, perplexity
from gencore.networks.vae import Level
from gencore.networks.vqvae import VQ, VQVAE
from gencore.training.loss import Loss
from gencore.vae.adversary import DELTA, adaptive_weight, discriminator_loss, with_adversary, with_perceptual
from tests.book.chapter_code import load
from tests.book.equations import equation

CHAPTER = "vae/vq-vae"


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@equation("VQ.1", r"c = \arg\min_k \|z - e_k\|^2")
def test_the_nearest_codeword():
    """(VQ.1), in the chapter and in gencore."""
    (choose,) = load(CHAPTER, "choose")
    vectors, words = normal(50, 3), normal(7, 3, seed=1)
    squared = (vectors[:, None] - words[None]).square().sum(2)  # (50, 7)
    assert torch.equal(choose(vectors, words), squared.argmin(1))
    quantiser = Codebook(7).build(3)
    quantiser.codebook.copy_(words)
    assert torch.equal(quantiser(vectors.T[None, :, :, None]).codes.flatten(), squared.argmin(1))


@equation("VQ.2", r"q = z + \mathrm{sg}[e_c - z]")
def test_straight_through():
    """(VQ.2): forwards the codeword, backwards the identity."""
    Alphabet, Grid = load(CHAPTER, "Alphabet", "Grid")
    for quantise in (Alphabet(7, 3), Codebook(7).build(3)):
        z = normal(2, 3, 4, 4).requires_grad_()
        q, codes = quantise(z)[:2]
        words = quantise.words if isinstance(quantise, Alphabet) else quantise.codebook
        torch.testing.assert_close(q, words[codes].movedim(-1, 1))
        weights = normal(*q.shape, seed=3)
        (gradient,) = torch.autograd.grad((weights * q).sum(), z)
        torch.testing.assert_close(gradient, weights)
    z = torch.full((1, 1, 1, 1), 0.4, requires_grad=True)
    (gradient,) = torch.autograd.grad(Grid((5,))(z)[0].sum(), z)
    assert gradient.item() == pytest.approx(1.998 * (1 - math.tanh(0.4) ** 2) / 2, rel=1e-5)  # the squashing's slope


@equation(
    "VQ.3",
    r"J'(\theta) = 2(\theta - t) + 1 - 2f, \qquad \mathbb E\big[2(q - t)\big] = 2(\theta - t)",
)
@pytest.mark.parametrize("theta, t", [(0.2, 0.3), (-1.7, 0.3), (2.45, -1.1), (0.999, 0.0)])
def test_the_toy(theta, t):
    """(VQ.3): a numerical derivative of the exact average, and the mean of autograd's estimate."""
    round_trip, true_slope, straight_slope = load(CHAPTER, "round_trip", "true_slope", "straight_slope")
    u = torch.linspace(-0.5, 0.5, 200_001, dtype=torch.float64)[:-1] + 1 / 400_000

    def average(value):
        upper = value - math.floor(value)  # probability of the next whole number
        return (1 - upper) * (math.floor(value) - t) ** 2 + upper * (math.floor(value) + 1 - t) ** 2

    step = 1e-6
    numeric = (average(theta + step) - average(theta - step)) / (2 * step)
    assert true_slope(theta, t) == pytest.approx(numeric, abs=1e-4)
    parameter = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    loss = (round_trip(parameter, u) - t).square().mean()
    assert loss.item() == pytest.approx(average(theta), abs=1e-4)
    assert torch.autograd.grad(loss, parameter)[0].item() == pytest.approx(straight_slope(theta, t), abs=1e-4)


@equation(
    "VQ.4",
    r"\mathcal L = \mathrm{mean}\,(x - \hat x)^2 + \beta\;\mathrm{mean}\,(z - \mathrm{sg}[e_c])^2",
)
def test_the_loss():
    """(VQ.4)."""
    torch.manual_seed(0)
    model = VQVAE(VQ(Autoencoder(size=16, channels=3, latent=3, flat=False, width=8, multipliers=(1, 2)), Codebook(9)))
    x = normal(2, 3, 16, 16).clamp(-1, 1)
    loss = vae.VectorQuantised(0.3)(vae.Networks(model), x, None, vae.Draw(()))
    z = model.encoder(x)
    words = model.quantiser.codebook[model.encode(x)].movedim(-1, 1)
    expected = F.mse_loss(model.decoder(words), x) + 0.3 * F.mse_loss(z, words)
    torch.testing.assert_close(loss.total, expected)


@equation(
    "VQ.5",
    r"""
    N_k \leftarrow \gamma N_k + (1-\gamma)\, n_k, \qquad
    m_k \leftarrow \gamma\, m_k + (1-\gamma) \sum_{i:\, c_i = k} z_i, \qquad e_k = \frac{m_k}{N_k}
    """,
)
def test_the_moving_averages():
    """(VQ.5), three batches, in the chapter and in gencore."""
    (Alphabet,) = load(CHAPTER, "Alphabet")
    torch.manual_seed(0)
    live, quantiser = Alphabet(4, 2, decay=0.8), Codebook(4, decay=0.8, restart_below=0.0).build(2)
    quantiser.codebook.copy_(live.words)
    N, m = [0.0] * 4, [torch.zeros(2) for _ in range(4)]
    for batch in range(3):
        z = normal(1, 2, 5, 5, seed=batch)
        words = live.words.clone()
        live.follow(z, live(z)[1], None)
        found = quantiser(z)
        quantiser.move(found.counts, found.sums, torch.zeros(4, 2))
        vectors = z[0].flatten(1).T  # (25, 2)
        codes = [min(range(4), key=lambda k: (vector - words[k]).norm().item()) for vector in vectors]
        for k in range(4):
            mine = [vector for vector, c in zip(vectors, codes) if c == k]
            N[k] = 0.8 * N[k] + 0.2 * len(mine)
            m[k] = 0.8 * m[k] + 0.2 * sum(mine, torch.zeros(2))
            if N[k] > 0:
                torch.testing.assert_close(live.words[k], m[k] / N[k])
                torch.testing.assert_close(quantiser.codebook[k], m[k] / N[k])


@equation("VQ.6", r"R = h\,w\,\log_2 K")
def test_bits_of_a_page():
    """(VQ.6): as many pages as strings of bits."""
    (bits_of_page,) = load(CHAPTER, "bits_of_page")
    assert 2 ** bits_of_page(2, 3, 8) == 8 ** (2 * 3)
    assert bits_of_page(8, 8, 512) == 576


@equation("VQ.7", r"\mathrm{perplexity} = \exp\Big(-\sum_{k=1}^K p_k \log p_k\Big)")
def test_perplexity():
    """(VQ.7), in the chapter and in gencore."""
    (in_chapter,) = load(CHAPTER, "perplexity")
    counts = torch.tensor([5.0, 0.0, 3.0, 2.0])
    expected = 1 / (0.5**0.5 * 0.3**0.3 * 0.2**0.2)
    assert in_chapter(counts) == pytest.approx(expected)
    assert perplexity(counts).item() == pytest.approx(expected)


@equation(
    "VQ.8",
    r"""
    b(z_i) = a \tanh(z_i + s) - o, \qquad a = \tfrac12 (L-1)(1 - 10^{-3}), \qquad s = \mathrm{artanh}\,\frac{o}{a}
    """,
)
@pytest.mark.parametrize("levels", [(5,), (4,), (3, 8)])
def test_fixed_grid(levels):
    """(VQ.8), in the chapter and in gencore."""
    (Grid,) = load(CHAPTER, "Grid")
    z = 2 * normal(2, len(levels), 6, 6)
    for q, codes in (Grid(levels)(z)[:2], FSQ(levels).build(len(levels))(z)[:2]):
        number, basis = torch.zeros(2, 6, 6, dtype=torch.int64), 1
        for i, L in enumerate(levels):
            a, o = (L - 1) * (1 - 1e-3) / 2, 0.0 if L % 2 else 0.5
            whole = (a * torch.tanh(z[:, i] + math.atanh(o / a)) - o).round()
            torch.testing.assert_close(q[:, i], whole / (L // 2))
            number, basis = number + basis * (whole.long() + L // 2), basis * L
        assert torch.equal(codes, number)


@equation(
    "VQ.9",
    r"""
    \mathbb E\|x - x'\|^2 = \mathbb E\|x - \mu\|^2 + \mathbb E\|x' - \mu\|^2 = 2v
    """,
)
def test_another_draw_costs_twice():
    """(VQ.9), over all pairs of a finite set."""
    x = normal(40, 6).double()
    v = (x - x.mean(0)).square().sum(1).mean()
    torch.testing.assert_close((x[:, None] - x[None]).square().sum(2).mean(), 2 * v)
    for shift in (0.0, 0.3, 1.0):  # and any fixed answer costs v and its distance from the mean
        answer = x.mean(0) + shift
        torch.testing.assert_close((x - answer).square().sum(1).mean(), v + 6 * shift**2)


@equation(
    "VQ.10",
    r"d(x, \hat x) = \frac1M \sum_{l=1}^M \mathrm{mean}_p\, \big\|\phi_{l,p}(x) - \phi_{l,p}(\hat x)\big\|^2",
)
def test_perceptual_distance():
    """(VQ.10): unit vectors at each place differ by 2 - 2 cos."""
    distance = PerceptualDistance(3, size=32)
    x, y = normal(2, 3, 32, 32).clamp(-1, 1), normal(2, 3, 32, 32, seed=1).clamp(-1, 1)
    terms = []
    for last in (1, 4, 7):
        network = distance.network[: last + 1]
        a, b = (network(127.5 * (image.flip(1) + 1) - distance.mean) for image in (x, y))
        terms.append((2 - 2 * F.cosine_similarity(a, b)).mean((1, 2)))
    torch.testing.assert_close(distance(x, y), sum(terms) / 3, rtol=1e-4, atol=1e-5)


@equation(
    "VQ.11",
    r"""
    \mathcal L_D = \tfrac12\,\mathbb E\big[\max(0, 1 - s(x))\big] + \tfrac12\,\mathbb E\big[\max(0, 1 + s(\hat x))\big],
    \qquad \mathcal L_G = -\,\mathbb E\big[s(\hat x)\big]
    """,
)
def test_hinge():
    """(VQ.11)."""
    real, made = normal(30), normal(30, seed=1)
    expected = sum(max(0, 1 - s) for s in real.tolist()) / 60 + sum(max(0, 1 + s) for s in made.tolist()) / 60
    assert discriminator_loss(nn.Identity(), real, made).total.item() == pytest.approx(expected, rel=1e-5)
    last = nn.Parameter(torch.ones(1))
    loss = with_adversary(Loss((made * last).square().mean(), {}, picture=made * last), nn.Identity(), last, 1.0)
    assert loss.parts["adversarial"].item() == pytest.approx(-made.mean().item(), rel=1e-5)


@equation(
    "VQ.12",
    r"""
    \lambda = \frac{\|\nabla_{\theta_L} \mathcal L_\mathrm{rec}\|}{\|\nabla_{\theta_L} \mathcal L_G\| + \delta}
    """,
)
@equation(
    "VQ.13",
    r"""
    \mathcal L = \underbrace{\mathrm{mean}\,(x - \hat x)^2 + \beta\;\mathrm{mean}\,(z - \mathrm{sg}[e_c])^2
    + w_p\, d(x, \hat x)}_{\mathcal L_\mathrm{rec}} {}+ w_a\, \lambda\, \mathcal L_G
    """,
)
def test_the_whole_loss():
    """(VQ.12) and (VQ.13)."""
    last, h, x = nn.Parameter(normal(5)), normal(8, 5, seed=1), normal(8, seed=2)
    judge = nn.Linear(1, 1)
    picture = (h @ last)[:, None]
    start = Loss((picture[:, 0] - x).square().mean(), {}, picture=picture)

    def distance(a, b):
        return (a - b).abs().flatten(1).mean(1)

    loss = with_adversary(with_perceptual(start, x[:, None], distance, 0.7), judge, last, 0.4)
    rec = start.total + 0.7 * (picture[:, 0] - x).abs().mean()
    game = -judge(picture).mean()
    of_rec, of_game = (torch.autograd.grad(each, last, retain_graph=True)[0] for each in (rec, game))
    weight = of_rec.norm() / (of_game.norm() + DELTA)
    torch.testing.assert_close(adaptive_weight(rec, game, last), weight)
    torch.testing.assert_close(loss.total, rec + 0.4 * weight * game)
    (gradient,) = torch.autograd.grad(loss.total, last)
    torch.testing.assert_close(gradient, of_rec + 0.4 * weight * of_game)


@equation(
    "VQ.14",
    r"R = \frac{1}{\log 2}\;\mathbb E_x\big[\mathrm{KL}\big(q(z \mid x)\,\|\,p(z)\big)\big]",
)
def test_bits_of_a_draw():
    """(VQ.14): torch's divergence, in bits."""
    (bits_of_draw,) = load(CHAPTER, "bits_of_draw")
    mean, log_std = normal(3, 4, 2, 2), normal(3, 4, 2, 2, seed=1)
    zeros = torch.zeros_like(mean)
    found = bits_of_draw(Level(mean, mean, log_std, zeros, zeros))
    nats = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(found, nats / math.log(2))
    assert bits_of_draw(Level(zeros, zeros + 1, zeros, zeros, zeros))[0].item() == pytest.approx(16 * 0.5 / math.log(2))
