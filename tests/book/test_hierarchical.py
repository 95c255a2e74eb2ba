r"""The equations of the chapter on hierarchies and compression, held to independent computations."""

import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from gencore.vae import ELBO, Gaussian, compression
from gencore.vae.objectives import Draw
from tests.book.chapter_code import load
from tests.book.equations import close, equation
from tests.vae.test_compression import make

CHAPTER = "vae/hierarchical"

pytestmark = pytest.mark.usefixtures("double_precision")


def pass_through(likelihood, images):
    """A small hierarchy of the library, and what one pass of random images through it gives."""
    networks, _ = make(likelihood)
    model = networks.model.double()
    x = torch.rand(images, 1, 8, 8) * 2 - 1
    draw = Draw(tuple(torch.randn(images, *shape) for shape in model.latent_shapes))
    return networks, x, draw, *model(x, draw.eps)


def groups(sizes=(2, 3), seed=0, **options):
    """The chapter's network of groups, with heads that are not zero."""
    torch.manual_seed(seed)
    (network,) = load(CHAPTER, "Groups")
    made = network(sizes, **options)
    for head in (*made.prior, *made.encoder):
        torch.nn.init.normal_(head[-1].weight, std=0.3)
        torch.nn.init.normal_(head[-1].bias, std=0.3)
    return made


@equation(
    "HI.1",
    r"""
    \mathbb E_{x}\,\mathrm{KL}\big(q(z \mid x)\,\|\,p(z)\big) = I_q(x; z) + \mathrm{KL}\big(q(z)\,\|\,p(z)\big)
    """,
)
def test_mean_divergence_is_information_plus_gap():
    """(HI.1): three codes in the plane; the left side by the chapter's closed form, the right side by adding up a grid."""
    (prior_units_kl,) = load(CHAPTER, "prior_units_kl")
    mean = torch.tensor([[0.9, -0.3], [-1.1, 0.4], [0.2, 1.3]])
    log_std = torch.tensor([[-0.5, -0.1], [-0.8, 0.1], [-0.2, -0.6]])
    line = torch.linspace(-9, 9, 721)
    z = torch.cartesian_prod(line, line)
    area = (line[1] - line[0]).item() ** 2
    codes = Normal(mean[:, None], log_std.exp()[:, None]).log_prob(z).sum(2).exp()  # q(z | x), (3, grid)
    aggregate, prior = codes.mean(0), Normal(0.0, 1.0).log_prob(z).sum(1).exp()
    information = (torch.xlogy(codes, codes) - torch.xlogy(codes, aggregate)).sum(1).mean() * area
    gap = (torch.xlogy(aggregate, aggregate) - aggregate * prior.log()).sum() * area
    close(prior_units_kl(mean, log_std).sum(1).mean(), information + gap, atol=1e-7)
    assert information > 0.3 and gap > 0.05


@equation(
    "HI.2",
    r"""
    \mathrm{ELBO}(x) = \mathbb E_q\big[\log p(x \mid z)\big] - \sum_{l=1}^{L}
    \mathbb E_{q(z_{<l} \mid x)}\Big[\mathrm{KL}\big(q(z_l \mid z_{<l}, x)\,\|\,p(z_l \mid z_{<l})\big)\Big]
    """,
)
def test_bound_of_a_chain_is_exact_with_the_true_posterior():
    """(HI.2): the evidence by the joint Gaussian; the bound of the poorer encoder by averaging over its own draws."""
    toy_bound, a, s, rho = load(CHAPTER, "toy_bound", "A", "S", "RHO")
    make_joint = torch.tensor([[1.0, 0, 0], [a, s, 0], [a, s, rho]])  # (z1, z2, x) of three independent numbers
    covariance = make_joint @ make_joint.T
    whole = MultivariateNormal(torch.zeros(3), covariance)
    evidence = Normal(0.0, covariance[2, 2].sqrt())
    for x in (-1.5, 0.0, 2.0):
        close(toy_bound(x), evidence.log_prob(torch.tensor(x)), atol=1e-12)
        # independent draws with the posterior's mean and the diagonal of its precision
        posterior_mean = covariance[:2, 2] / covariance[2, 2] * x
        precision = torch.linalg.inv(covariance)[:2, :2]
        q = Normal(posterior_mean, precision.diagonal().rsqrt())
        z = q.sample((200_000,))
        terms = whole.log_prob(torch.cat([z, torch.full((len(z), 1), x)], 1)) - q.log_prob(z).sum(1)
        assert abs(terms.mean() - toy_bound(x, False)) < 5 * terms.std() / len(z) ** 0.5


def test_the_library_pays_one_divergence_a_group():
    """(HI.2): over many draws, the loss of a small hierarchy is the mean of log q - log p, density by density."""
    networks, x, draw, params, levels = pass_through(Gaussian(0.3), 4_000)
    terms = -Normal(params, 0.3).log_prob(x).flatten(1).sum(1)
    for level in levels:
        terms += Normal(level.mean, level.log_std.exp()).log_prob(level.z).flatten(1).sum(1)
        terms -= Normal(level.prior_mean, level.prior_log_std.exp()).log_prob(level.z).flatten(1).sum(1)
    loss = ELBO(Gaussian(0.3))(networks, x, None, draw)
    assert len(levels) == len(draw.eps) and loss.parts["kl"] > 0.1
    assert abs(loss.total - terms.mean()) < 5 * terms.std() / len(terms) ** 0.5


@equation(
    "HI.3",
    r"q(z_l \mid z_{<l}, x) = \mathcal N\big(\mu_l + \sigma_l\,\delta,\; (\sigma_l\, e^{\tau})^2\big)",
)
def test_the_posterior_is_stated_in_units_of_the_prior(monkeypatch):
    """(HI.3): the chapter's groups and gencore's blocks, moved by hand; both divergences are that of torch."""
    network = groups()
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.full_like(x, 0.7))
    x = torch.rand(5, 196)
    _, kls, units = network(x)
    h, notes = network.stem(x), []
    for up in network.up:
        h = h + up(h)
        notes.append(h)
    shift, stretch = network.encoder[0](notes[1]).chunk(2, 1)
    z1 = shift + 0.7 * stretch.exp()  # the first prior is standard normal
    shift, stretch = network.encoder[1](torch.cat([notes[0], z1], 1)).chunk(2, 1)
    mean, log_std = network.prior[0](z1).chunk(2, 1)
    posterior, prior = Normal(mean + log_std.exp() * shift, log_std.exp() * stretch.exp()), Normal(mean, log_std.exp())
    close(kls[1], kl_divergence(posterior, prior))
    z2 = posterior.mean + 0.7 * posterior.stddev
    close(units[:, 2:], (z2 - mean) / log_std.exp())
    close(network(x)[0], network.decoder(torch.cat([z1, z2], 1)))

    model = make()[0].model.double()
    block = model.down[0][0]
    torch.nn.init.normal_(block.posterior_head.weight, std=0.1)  # stays within the bounds of log_std
    h, up, mean, log_std = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 4), torch.randn(2, 2, 4, 4), 0.3 * torch.randn(2, 2, 4, 4)
    shift, stretch = block.posterior_head(block.posterior_block(torch.cat([h, up], 1))).chunk(2, 1)
    found_mean, found_log_std = block.posterior(h, up, mean, log_std)
    close(found_mean, mean + log_std.exp() * shift, atol=1e-5)  # heads return float32
    close(found_log_std.exp(), log_std.exp() * stretch.exp(), rtol=1e-5)


@equation("HI.4", r"\mathrm{KL} = \tfrac12\big(\delta^2 + e^{2\tau} - 1 - 2\tau\big)")
def test_divergence_in_units_of_the_prior():
    """(HI.4), whatever the prior's moments are."""
    (prior_units_kl,) = load(CHAPTER, "prior_units_kl")
    mean, log_std, shift, stretch = torch.randn(4, 50)
    prior = Normal(mean, log_std.exp())
    posterior = Normal(mean + log_std.exp() * shift, log_std.exp() * stretch.exp())
    close(prior_units_kl(shift, stretch), kl_divergence(posterior, prior))


@equation("HI.5", r"s' = M \left\lfloor \frac{s}{f_x} \right\rfloor + c_x + (s \bmod f_x)")
def test_push_and_pop():
    """(HI.5): the symbol's numbers are taken in order, none twice, and none left out; what was pushed is popped."""
    push, pop = load(CHAPTER, "push", "pop")
    frequencies = [3, 1, 4]
    order = [0, 0, 0, 1, 2, 2, 2, 2]  # which symbol a number stands for, by its remainder
    for symbol in range(3):
        numbers = [number for number in range(800) if order[number % 8] == symbol]
        assert [push(s, symbol, frequencies) for s in range(len(numbers))] == numbers
    for s in range(300):
        assert push(*pop(s, frequencies), frequencies) == s
        for symbol in range(3):
            assert pop(push(s, symbol, frequencies), frequencies) == (s, symbol)
    s = 10**30
    assert math.log2(push(s, 1, frequencies)) - math.log2(s) == pytest.approx(3)  # -log2 of 1/8


@equation(
    "HI.6",
    r"""
    \text{bits} = -\log_2 P(x \mid z) - \log_2 p(z) + \log_2 q(z \mid x), \qquad \mathbb E_{q(z \mid x)}[\text{bits}] =
    -\frac{\mathrm{ELBO}(x)}{\log 2}
    """,
)
def test_bits_of_one_symbol():
    """(HI.6): for each message the length of one step is the three terms, and its mean over messages the bound."""
    write, read, pop, prior, likelihood = load(CHAPTER, "write", "read", "pop", "PRIOR", "LIKELIHOOD")
    joint = [[prior[z] * likelihood[z][x] for z in range(4)] for x in range(6)]
    draw, x, q = random.Random(0), 4, [0, 5, 8, 3]  # q: no posterior of this model
    lengths = []
    for _ in range(2_000):
        message = draw.getrandbits(200) + (1 << 200)
        z = pop(message, q)[1]
        after = write(message, x, q)
        exact = -math.log2(likelihood[z][x] / 16) - math.log2(prior[z] / 16) + math.log2(q[z] / 16)
        lengths.append(math.log2(after) - math.log2(message))
        assert lengths[-1] == pytest.approx(exact, abs=1e-6)
        assert read(after, {x: q}) == (message, x)
    bound = sum(q[z] / 16 * math.log(joint[x][z] / 256 / (q[z] / 16)) for z in (1, 2, 3))
    assert np.mean(lengths) == pytest.approx(-bound / math.log(2), abs=0.1)
    for _ in range(50):  # with the true posterior, every z costs -log2 P(x)
        message = draw.getrandbits(200) + (1 << 200)
        after = write(message, x, joint[x])
        assert math.log2(after) - math.log2(message) == pytest.approx(-math.log2(sum(joint[x]) / 256), abs=1e-6)


@equation("HI.7", r"z_l = \mu_l + \sigma_l\, \frac{k}{64}, \qquad k \in \{-512, \dots, 512\}")
def test_the_grid_of_latent_variables():
    """(HI.7): places of the grid, its ends, and the one table of the prior."""
    mean, log_std = torch.tensor([0.5, -2.0, 1.0]), torch.tensor([0.0, 1.0, -1.0])
    steps = np.array([-512, 0, 64])
    close(compression._on_grid(steps, mean, log_std), mean + log_std.exp() * torch.tensor([-8.0, 0.0, 1.0]))
    from constriction import stream

    coder = stream.stack.AnsCoder()
    coder.encode_reverse(np.array([-512, 512], dtype=np.int32), compression.PRIOR)  # both ends can be written
    assert coder.decode(compression.PRIOR, 2).tolist() == [-512, 512]
    with pytest.raises(KeyError, match="zero probability"):
        coder.encode_reverse(np.array([513], dtype=np.int32), compression.PRIOR)
    coder = stream.stack.AnsCoder(np.random.default_rng(0).integers(1, 2**32, 20_000, dtype=np.uint32))
    drawn = Counter(coder.decode(compression.PRIOR, 40_000).tolist())
    share = sum(count for step, count in drawn.items() if abs(step) <= 64) / 40_000
    assert share == pytest.approx(0.6861, abs=0.01)  # within 64.5 steps of 64


@equation("HI.8", r"\mathcal L = D + \beta R")
def test_the_loss_is_distortion_and_rate():
    """(HI.8): with a Gaussian likelihood, gencore's loss is the squared error in its units plus beta times the rate."""
    networks, x, draw, params, levels = pass_through(Gaussian(0.5), 6)
    rate = sum(
        kl_divergence(Normal(level.mean, level.log_std.exp()), Normal(level.prior_mean, level.prior_log_std.exp())).sum() / 6
        for level in levels
    )
    constant = 64 * (math.log(0.5) + 0.5 * math.log(2 * math.pi))
    distortion = (params - x).square().sum() / 6 / (2 * 0.5**2) + constant
    for beta in (0.0, 1.0, 3.0):
        close(ELBO(Gaussian(0.5), beta=beta)(networks, x, None, draw).total, distortion + beta * rate, rtol=1e-6)
