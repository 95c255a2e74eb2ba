r"""The equations of the chapter "Pixel by pixel", held to independent computations."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, kl_divergence

from gencore.autoregressive import Categorical, Draw, Networks, NextSymbol
from gencore.networks.pixel_rnn import DiagonalBiLSTM
from gencore.networks.symbols import Grid
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "autoregressive/pixel-rnn"
ORDERS = list(itertools.permutations(range(4)))

pytestmark = pytest.mark.usefixtures("double_precision")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_table(seed=0):
    return random(16, seed=seed).softmax(0)


def kinds():
    return list(itertools.product((0, 1), repeat=4))


def conditional(p, kind, order, i):
    """P(x_i | x_<i) of one picture, by adding up probabilities of pictures one by one."""
    alike = lambda other, places: all(other[place] == kind[place] for place in places)  # noqa: E731
    joint = sum(p[k] for k, other in enumerate(kinds()) if alike(other, order[: i + 1]))
    return joint / sum(p[k] for k, other in enumerate(kinds()) if alike(other, order[:i]))


@equation("PR.1", r"p(x) = \prod_{i=1}^{D} p(x_i \mid x_{<i})")
def test_the_chain_rule_in_every_order():
    """(PR.1): each conditional from sums over pictures, and their product."""
    conditionals, chain = load(CHAPTER, "conditionals", "chain")
    p = some_table()
    for order in ORDERS:
        close(chain(p, order), p)
    for order in ((0, 1, 2, 3), (2, 0, 3, 1)):
        for i, (_, found) in enumerate(conditionals(p, order)):
            for kind in kinds():
                close(found[tuple(kind[place] for place in order[: i + 1])], conditional(p, kind, order, i))


@equation("PR.2", r"-\log p(x) = \sum_{i=1}^{D} -\log p(x_i \mid x_{<i})")
def test_the_surprise_of_a_picture_is_a_sum():
    """(PR.2): pixel by pixel, and the probabilities of all small pictures add up to 1."""
    surprise, SmallRowLSTM = load(CHAPTER, "surprise", "SmallRowLSTM")
    logits, x = 2 * random(3, 1, 4, 5), (random(3, 1, 4, 5, seed=1) > 0).double()
    found = surprise(logits, x)
    for b in range(3):
        white = logits[b].sigmoid().flatten()
        close(found[b], sum(-torch.log(p if pixel else 1 - p) for p, pixel in zip(white, x[b].flatten(), strict=True)))
    torch.manual_seed(0)
    everything = torch.tensor(kinds()).double().view(16, 1, 2, 2)
    close((-surprise(SmallRowLSTM(features=4)(everything), everything)).exp().sum(), 1.0)


@equation(
    "PR.3",
    r"\mathcal L = \frac1B \sum_{b=1}^{B} \sum_{i=1}^{D} -\log p\big(x_i^{(b)} \mid x_{<i}^{(b)}\big)",
)
def test_the_loss_is_the_mean_surprise_of_a_picture():
    """(PR.3): gencore's objective, symbol by symbol."""
    logits, symbols = random(3, 5, 2, 2), torch.randint(5, (3, 1, 2, 2), generator=torch.Generator().manual_seed(1))
    loss = NextSymbol(Categorical())(Networks(lambda x, cond: logits), symbols, None, Draw())
    total = 0.0
    for b, r, q in itertools.product(range(3), range(2), range(2)):
        p = logits[b, :, r, q].exp() / logits[b, :, r, q].exp().sum()
        total -= math.log(p[symbols[b, 0, r, q]])
    close(loss.parts["nats"], total / 3)
    close(loss.total, total / 12)


@equation("PR.4", r"p(x_i = 1 \mid x_{<i}) = \sigma\Big(b_i + \sum_{j<i} w_{ij}\, x_j\Big)")
def test_the_best_regressions():
    """(PR.4): a distribution of this form is found again; of others, the fit has the same moments."""
    (belief_network,) = load(CHAPTER, "belief_network")
    weights, biases, order = random(4, 4), random(4, seed=1), (2, 0, 3, 1)
    made = []
    for kind in kinds():
        p = 1.0
        for i in range(4):
            t = biases[i] + sum(weights[i, j] * kind[order[j]] for j in range(i))
            white = 1 / (1 + math.exp(-t))
            p *= white if kind[order[i]] else 1 - white
        made.append(p)
    close(belief_network(torch.tensor(made), order), torch.tensor(made))
    P, pictures = some_table(seed=3), torch.tensor(kinds()).double()
    p = belief_network(P, order)
    close(p.sum(), 1.0)
    for i in range(4):
        white = torch.tensor(  # p(x_i = 1 | x_<i) of the fit, at each picture
            [conditional(p, kind, order, i) if kind[order[i]] else 1 - conditional(p, kind, order, i) for kind in kinds()]
        )
        error = P * (pictures[:, order[i]] - white)
        close(error.sum(), 0.0)
        for j in range(i):
            close((error * pictures[:, order[j]]).sum(), 0.0)


@equation(
    "PR.5",
    r"""
    \mathrm{KL}(P\,\|\,p) = \sum_{i=1}^{D} \mathbb E_{x_{<i} \sim P}\Big[\mathrm{KL}\big(P(x_i \mid x_{<i})\,\|\,p(x_i \mid x_{<i})\big)\Big]
    """,
)
def test_the_divergence_is_a_sum_over_pixels():
    """(PR.5): Bernoulli divergences of conditionals, averaged picture by picture."""
    (lost_at_pixels,) = load(CHAPTER, "lost_at_pixels")
    P, p = some_table(), some_table(seed=1)
    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        found = lost_at_pixels(P, p, order)
        for i in range(4):
            mean = 0.0
            for k, kind in enumerate(kinds()):
                white = [conditional(each, kind, order, i) for each in (P, p)]
                white = [each if kind[order[i]] else 1 - each for each in white]
                mean += P[k] * kl_divergence(*map(Bernoulli, white))
            close(found[i], mean)
        close(found.sum(), (P * (P / p).log()).sum())


@equation("PR.6", r"[\,o_r, f_r, i_r, g_r\,] = \sigma\big(K^{ss} * h_{r-1} + K^{is} * x_r\big)")
@equation(
    "PR.7",
    r"c_r = f_r \odot c_{r-1} + i_r \odot g_r, \qquad h_r = o_r \odot \tanh(c_r)",
)
def test_a_row_lstm_place_by_place():
    """(PR.6) and (PR.7), and that nothing to the right is seen in the row."""
    (RowLayer,) = load(CHAPTER, "RowLayer")
    torch.manual_seed(0)
    layer, x, n = RowLayer(3), random(1, 3, 4, 5), 3
    k_is, k_ss = layer.from_input.weight[:, :, 0], layer.from_state.weight  # (4h, h, 3)
    h, c, found = {}, {}, layer(x)
    at = lambda states, r, q: states.get((r, q), torch.zeros(n))  # noqa: E731
    with torch.no_grad():
        for r, q in itertools.product(range(4), range(5)):
            total = layer.from_input.bias + sum(k_ss[:, :, j] @ at(h, r - 1, q + j - 1) for j in range(3))
            total = total + k_is[:, :, 1] @ x[0, :, r, q]
            if q > 0:
                total = total + k_is[:, :, 0] @ x[0, :, r, q - 1]
            o, f, i, g = total.view(4, n)
            c[r, q] = torch.sigmoid(f) * at(c, r - 1, q) + torch.sigmoid(i) * torch.tanh(g)
            h[r, q] = torch.sigmoid(o) * torch.tanh(c[r, q])
            wanted = x[0, :, r, q] + layer.out.weight[:, :, 0, 0] @ h[r, q] + layer.out.bias
            close(found[0, :, r, q].detach(), wanted)


@equation(
    "PR.8",
    r"\mathbb E\big[-\log p(x)\big] \;\ge\; \mathbb E_g\Big[\sum_{i=1}^{D} H_2(g_i)\Big]",
)
def test_tosses_cost_what_they_cost():
    """(PR.8): the sum of Bernoulli entropies, and that the entropy of what is tossed is no less."""
    (coin_floor,) = load(CHAPTER, "coin_floor")
    grey = random(5, 1, 2, 2).sigmoid()
    grey[0, 0, 0] = torch.tensor([0.0, 1.0])
    floor = coin_floor(grey)
    inside = grey.clamp(1e-300, 1)
    for b in range(5):
        terms = [0.0 if g in (0.0, 1.0) else Bernoulli(g).entropy() for g in inside[b].flatten()]
        close(floor[b], sum(map(float, terms)), atol=1e-7)
    pictures = torch.tensor(kinds()).double().view(16, 1, 1, 2, 2)
    tossed = torch.where(pictures == 1, grey, 1 - grey).flatten(2).prod(2).mean(1)  # (16,)
    entropy = -torch.xlogy(tossed, tossed).sum()
    assert entropy > floor.mean()
    alone = torch.where(pictures == 1, grey[:1], 1 - grey[:1]).flatten(1).prod(1)  # one grey picture: they are equal
    close(-torch.xlogy(alone, alone).sum(), floor[0])


def diagonal(seed=0, n=4, width=3):
    torch.manual_seed(seed)
    layer = DiagonalBiLSTM().build(Grid(n), width=width)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer.requires_grad_(False)


@equation(
    "PR.9",
    r"[\,o, f, i, g\,]_{r,q} = \sigma\big(K^{\uparrow} h_{r-1,q} + K^{\leftarrow} h_{r,q-1} + K^{is} x_{r,q}\big)",
)
def test_a_direction_comes_from_above_and_beside():
    """(PR.9): the first places by hand; from the right, the mirrored map."""
    (walk,) = load(CHAPTER, "walk")
    gates, above, beside = random(3, 3, 8), random(8, 2, seed=1), random(8, 2, seed=2)

    def cell(total, c):
        o, f, i, g = total.view(4, 2)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    h00, c00 = cell(gates[0, 0], torch.zeros(2))
    h01, _ = cell(gates[0, 1] + beside @ h00, c00)
    h10, c10 = cell(gates[1, 0] + above @ h00, torch.zeros(2))
    h11, _ = cell(gates[1, 1] + above @ h01 + beside @ h10, c10)
    found = walk(gates, above, beside, 1)
    for place, state in {(0, 0): h00, (0, 1): h01, (1, 0): h10, (1, 1): h11}.items():
        close(found[place], state)
    close(walk(gates.flip(1), above, beside, -1).flip(1), found)


@equation(
    "PR.10",
    r"y_{r,q} = x_{r,q} + W\big(h^{\text{left}}_{r,q} + h^{\text{right}}_{r-1,q}\big) + b",
)
def test_the_second_map_is_moved_down():
    """(PR.10): put together from both walks, and gencore's layer gives the same."""
    walk, diagonal_layer, weights_of = load(CHAPTER, "walk", "diagonal_layer", "weights_of")
    layer, x = diagonal(), random(4, 4, 6)
    found = diagonal_layer(x, *weights_of(layer), layer.out)
    close(found, layer(x[:, :, None], None)[:, :, 0])
    maps = [
        walk(torch.einsum("rqk,gk->rqg", x, k) + b, above, beside, step)
        for (k, b, above, beside), step in zip(weights_of(layer), (1, -1), strict=True)
    ]
    for r, q in itertools.product(range(4), repeat=2):
        states = maps[0][r, q] + (maps[1][r - 1, q] if r > 0 else 0)
        close(found[r, q], x[r, q] + layer.out.weight @ states + layer.out.bias)
