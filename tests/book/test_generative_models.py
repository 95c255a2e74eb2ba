"""The equations of the chapter "What a generative model is"."""

import math

import pytest
import torch
from scipy.stats import energy_distance as scipy_energy_distance
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from gencore.data import toys
from gencore.metrics import energy_distance
from tests.book.chapter_code import load
from tests.book.equations import equation

CHAPTER = "foundations/generative-models"

pytestmark = pytest.mark.usefixtures("double_precision")


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@equation(
    "GM.1",
    r"""
    \mathcal E(p, q) = 2\,\mathbb E\,\lVert x - y\rVert - \mathbb E\,\lVert x - x'\rVert - \mathbb E\,\lVert y -
    y'\rVert
    """,
)
def test_energy_distance_is_that_of_scipy():
    """(GM.1): SciPy takes the root, and counts the zero distances from each point to itself."""
    a, b = draws(50), 0.5 + 2 * draws(70, seed=1)
    spread = sum((x[:, None] - x[None]).abs().sum() / len(x) * (1 / (len(x) - 1) - 1 / len(x)) for x in (a, b))
    expected = scipy_energy_distance(a, b) ** 2 - spread.item()
    assert energy_distance(a[:, None], b[:, None]) == pytest.approx(expected)


@equation(
    "GM.2",
    r"""
    \begin{aligned} -\mathrm{ELBO}(x) ={}& \mathbb E_{z\sim r}\!\left[\frac{\lVert x-\mu(z)\rVert^2}{2s^2} + 2\log
    s + \log 2\pi\right] \\ &+ \frac12\sum_{i=1}^{2}\left(m_i^2 + e^{\ell_i} - \ell_i - 1\right) \end{aligned}
    """,
)
def test_negative_elbo_is_reconstruction_plus_kl():
    """(GM.2), with both terms by torch.distributions."""
    (negative_elbo,) = load(CHAPTER, "negative_elbo")
    x, decoded, m, ell = (draws(3, 5, 2, seed=seed) for seed in range(4))
    log_s = torch.tensor([-1.0, 0.0, 0.5])[:, None, None]
    given_z = Independent(Normal(decoded, log_s.exp().expand_as(decoded)), 1)
    encoder, prior = (Independent(Normal(*law), 1) for law in ((m, (ell / 2).exp()), (0 * m, 1 + 0 * m)))
    expected = -given_z.log_prob(x) + kl_divergence(encoder, prior)
    assert torch.allclose(negative_elbo(x, decoded, log_s, m, ell), expected)


def test_the_elbo_is_below_the_integrated_density():
    """(GM.2) against the integral over z, for a decoder and an encoder that were never trained."""
    MLP, encode, negative_elbo, vae_log_density = load(CHAPTER, "MLP", "encode", "negative_elbo", "vae_log_density")
    torch.manual_seed(0)
    decoder, encoder, log_s, x = MLP(2, 2), MLP(2, 4), torch.full((3, 1, 1), -1.0), draws(3, 2000, 2)
    for weight in decoder.weights:
        weight.data *= 3  # so that z matters, and an encoder that knows nothing pays for it
    z, m, ell = encode(encoder, x, torch.Generator().manual_seed(0))
    bound = -negative_elbo(x, decoder(z), log_s, m, ell).mean()
    assert bound < vae_log_density(decoder, log_s, x, side=41).mean() - 0.1


def test_the_integrated_density_of_a_linear_decoder():
    """With mu(z) = z, samples have the law N(0, (1 + s^2) I)."""
    (vae_log_density,) = load(CHAPTER, "vae_log_density")
    x, s = draws(3, 20, 2), 0.5
    expected = Normal(0.0, math.sqrt(1 + s**2)).log_prob(x).sum(-1)
    assert torch.allclose(vae_log_density(lambda z: z, torch.full((3, 1, 1), math.log(s)), x), expected, atol=1e-6)


@equation("GM.3", r"x_t = (1 - t)\,x + t\,\varepsilon")
@equation("GM.4", r"L = \mathbb E_{x, \varepsilon, t}\,\bigl\lVert v(x_t, t) - (\varepsilon - x)\bigr\rVert^2")
@equation("GM.8", r"v^*(x_t, t) = \mathbb E[\varepsilon - x \mid x_t] = -\frac{x_t + t\,\nabla\log p_t(x_t)}{1 - t}")
def test_the_ideal_field_is_the_conditional_mean():
    """(GM.3), (GM.4), (GM.8): the loss's gradient vanishes at v*, against simple functions of the point."""
    (exact_velocity,) = load(CHAPTER, "exact_velocity")
    data, generator = toys.ring(3), torch.Generator().manual_seed(0)
    data = toys.two_gaussians(dtype=torch.float64)
    for t in (0.3, 0.9, 1):
        x, eps = data.sample(400_000, generator), torch.randn(400_000, 1, generator=generator)
        x_t = (1 - t) * x + t * eps  # (GM.3)
        miss = exact_velocity(data, x_t, t) - (eps - x)  # (GM.4)
        for test_function in (torch.ones_like(x_t), x_t, x_t.abs().sqrt(), x_t.sin()):
            noise = (miss * test_function).std() / len(x) ** 0.5
            assert (miss * test_function).mean().abs() < 4.5 * noise


@equation("GM.5", r"x_{t - h} = x_t - h\, v(x_t, t), \qquad t = 1,\, 1 - h,\, \dots,\, h")
def test_the_walk_is_eulers_method():
    """(GM.5): on dx/dt = x, each of n steps back multiplies by 1 - 1/n."""
    (walk,) = load(CHAPTER, "walk")
    z = draws(4, 2)
    path = walk(lambda x, t: x, z, steps=10)
    assert path.shape == (11, 4, 2)
    assert torch.allclose(path[-1], z * 0.9**10)
    times = []
    walk(lambda x, t: times.append(t) or x, z, steps=4)
    assert times == [1, 0.75, 0.5, 0.25]


@equation("GM.6", r"q(x_1, x_2) = q(x_1)\; q(x_2 \mid x_1)")
def test_the_autoregressive_density_is_a_product_and_its_sampler_follows_it():
    """(GM.6): sums to 1 over all pairs of bins, and the inverse undoes the cumulative distribution."""
    names = ("MLP", "autoregressive_log_density", "invert", "bin_of", "BINS", "WIDTH")
    MLP, log_density, invert, bin_of, bins, width = load(CHAPTER, *names)
    torch.manual_seed(0)
    network = MLP(2, bins, width=8, seeds=1)
    centres = -3 + width * (torch.arange(bins) + 0.5)
    everywhere = torch.cartesian_prod(centres, centres)[None]  # (1, BINS**2, 2)
    # Given x_1 anywhere in its bin, the second factor changes; at the centres, the sum over x_2 is 1 for each x_1.
    assert log_density(network, everywhere).exp().sum().item() * width**2 == pytest.approx(1)
    logits = draws(1, 1, bins).expand(1, 200_000, bins)
    drawn = invert(logits, torch.rand(1, 200_000, generator=torch.Generator().manual_seed(1)))
    counted = torch.bincount(bin_of(drawn)[0], minlength=bins) / 200_000
    probability = Categorical(logits=logits[0, 0]).probs
    assert ((counted - probability).abs() < 5 * (probability / 200_000).sqrt()).all()


@equation("GM.7", r"\log q(x_0) = \log \mathcal N(x_1; 0, I) + \int_0^1 \operatorname{div} v(x_t, t)\, \mathrm d t")
def test_flow_density_of_one_gaussian():
    """(GM.7) with the exact field of N(0, a^2): the density of the data comes back."""
    flow_log_density, exact_velocity = load(CHAPTER, "flow_log_density", "exact_velocity")
    data = toys.gaussian(0.0, 0.4, dtype=torch.float64)
    x = 0.4 * draws(30, 2)

    def velocity(x, t):  # two independent coordinates
        return torch.cat([exact_velocity(data, part, t) for part in x.split(1, -1)], -1)

    expected = sum(data.log_prob(part) for part in x.split(1, -1))
    assert torch.allclose(flow_log_density(velocity, x, steps=400), expected, atol=1e-3)
