r"""The equations of the chapter on masked convolutions, held to independent computations."""

import math
import zlib
from fractions import Fraction
from itertools import product

import pytest
import torch

from gencore.autoregressive import LogisticMixture
from gencore.networks import gated_pixelcnn
from gencore.networks.gated_pixelcnn import GatedLayer, GatedPixelCNN
from gencore.networks.pixelcnn import MaskedConv2d, PixelCNN, PixelCNNNetwork, colours, mask
from gencore.networks.symbols import Grid
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "autoregressive/pixel-cnn"

pytestmark = pytest.mark.usefixtures("double_precision")


@equation("PC.1", r"""
    \log p(x) = \sum_{i=1}^{n} \Big(x_i \log \sigma(\ell_i) + (1 - x_i) \log\big(1 - \sigma(\ell_i)\big)\Big), \qquad
    \ell_i = \ell_i(x_{<i})""")
@pytest.mark.parametrize("first", ["A", "B"])
def test_the_chapters_network_is_a_probability_with_mask_a_alone(first):
    """(PC.1): pixel by pixel with plain numbers; its derivatives; and its sum over all pictures of 2x2."""
    pixelcnn, log_prob = load(CHAPTER, "pixelcnn", "log_prob")
    torch.manual_seed(0)
    network = pixelcnn(first, width=6, depth=2)
    x = torch.randint(0, 2, (3, 1, 4, 5)).double()
    logits = network(2 * x - 1)
    by_hand = [0.0] * 3
    for b, (logit, white) in enumerate(zip(logits.flatten(1).tolist(), x.flatten(1).tolist(), strict=True)):
        for at, value in zip(logit, white, strict=True):
            chance = 1 / (1 + math.exp(-at))
            by_hand[b] += value * math.log(chance) + (1 - value) * math.log(1 - chance)
    close(log_prob(network, x).detach(), torch.tensor(by_hand), atol=1e-9)
    slopes = torch.autograd.functional.jacobian(lambda x: network(x).flatten(), torch.rand(1, 1, 3, 4)).reshape(12, 12)
    assert (slopes.triu(1) == 0).all()
    assert (slopes.diagonal() == 0).all() == (first == "A")
    squares = torch.tensor(list(product((0.0, 1.0), repeat=4))).view(16, 1, 2, 2)
    total = log_prob(network, squares).exp().sum().item()
    assert (abs(total - 1) < 1e-12) == (first == "A")


@equation("PC.2", r"y_{o,p,q} = b_o + \sum_{c,u,v} M_{o,c,u,v}\, w_{o,c,u,v}\, x_{c,\,p+u-m,\,q+v-m}")
@pytest.mark.parametrize("ours", [True, False])
def test_a_masked_convolution_is_a_sum_over_earlier_places(ours):
    """(PC.2): the chapter's and gencore's layer, summed place by place."""
    (masked,) = load(CHAPTER, "Masked")
    torch.manual_seed(1)
    layer = masked("B", 2, 3, 3) if ours else MaskedConv2d(2, 3, 3, "B").double()
    seen = layer.seen.expand(3, 2, 3, 3) if ours else layer.mask
    x = torch.randn(1, 2, 4, 5)
    wanted = torch.zeros(1, 3, 4, 5)
    for o, p, q in product(range(3), range(4), range(5)):
        total = layer.bias[o].item()
        for c, u, v in product(range(2), range(3), range(3)):
            if 0 <= p + u - 1 < 4 and 0 <= q + v - 1 < 5:
                total += (seen[o, c, u, v] * layer.weight[o, c, u, v] * x[0, c, p + u - 1, q + v - 1]).item()
        wanted[0, o, p, q] = total
    close(layer(x).detach(), wanted, atol=1e-7)


@equation("PC.3", r"""
    M_{o,c,m,m} = \begin{cases} 1 & \text{if } g_c < g_o, \\
    1 & \text{if } g_c = g_o \text{ and the mask is of kind B,} \\ 0 & \text{otherwise.} \end{cases}""")
@pytest.mark.parametrize("kind", ["A", "B"])
def test_the_middle_of_a_mask(kind):
    """(PC.3): entry by entry, and the chapter's mask for one colour."""
    groups_in, groups_out = colours(6, 3), colours(9, 3)
    found = mask(kind, 5, groups_in, groups_out)
    for o, c, u, v in product(range(9), range(6), range(5), range(5)):
        if (u, v) == (2, 2):
            wanted = c // 2 < o // 3 or (c // 2 == o // 3 and kind == "B")
        else:
            wanted = u < 2 or (u == 2 and v < 2)
        assert found[o, c, u, v] == wanted
    (masked,) = load(CHAPTER, "Masked")
    assert torch.equal(masked(kind, 1, 1, 5).seen == 1, mask(kind, 5, colours(1, 1), colours(1, 1))[0, 0] == 1)


@equation("PC.4", r"""
    -\sum_{j} r_j \le e \le \sum_{j=1}^{d} r_{(j)}, \qquad 1 \le d \le \sum_{j} r_j""")
@pytest.mark.parametrize("reaches", [(1,), (1, 1, 1), (3, 1, 1), (2, 1, 2), (3, 2, 1)])
def test_what_masked_convolutions_see_is_a_cone(reaches):
    """(PC.4): all paths, walked one layer after the other; and the gradient of gencore's network."""
    cone, seen_by = load(CHAPTER, "cone", "seen_by")
    side, place = 15, (9, 6)
    reached = {(0, 0)}
    for number, reach in enumerate(reaches):
        steps = {(-u, e) for u in range(1, reach + 1) for e in range(-reach, reach + 1)}
        steps |= {(0, -e) for e in range(number == 0, reach + 1)}  # the first layer cannot stay
        reached = {(p + u, q + e) for p, q in reached for u, e in steps}
    wanted = torch.zeros(side, side, dtype=torch.bool)
    for p, q in reached:
        if 0 <= place[0] + p < side and 0 <= place[1] + q < side:
            wanted[place[0] + p, place[1] + q] = True
    wanted[place] = False
    assert torch.equal(cone(list(reaches), side, place), wanted)
    if set(reaches[1:]) <= {1}:
        torch.manual_seed(0)
        config = PixelCNN(Grid(side), width=8, depth=len(reaches) - 1, kernel=2 * reaches[0] + 1)
        assert torch.equal(seen_by(PixelCNNNetwork(config).double(), side, place), wanted)


@equation("PC.5", r"\mathrm{gate}(a) = \tanh(a_1) \odot \sigma(a_2), \qquad a = W * h + V_y")
def test_a_gate_and_where_the_class_enters():
    """(PC.5): number by number, and both stacks of a layer, at one place."""
    a = torch.randn(2, 6, 3, 3)
    found = gated_pixelcnn.gate(a)
    for b, c, p, q in product(range(2), range(3), range(3), range(3)):
        first, second = a[b, c, p, q].item(), a[b, c + 3, p, q].item()
        close(found[b, c, p, q], math.tanh(first) / (1 + math.exp(-second)))
    torch.manual_seed(2)
    layer = GatedLayer(GatedPixelCNN(Grid(4, conditions=(10,)), width=3)).double()
    v, h, cond = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4), torch.tensor([[7]])
    told = layer.told(cond, 1)[0]
    new_v, new_h = layer(v, h, cond)
    p, q = 2, 1

    def rows_above(row):  # W * v in a row, of that row and the one above it
        window = v[0, :, row - 1 : row + 1, q - 1 : q + 2]
        return (layer.vertical.weight * window).sum((1, 2, 3)) + layer.vertical.bias

    squash = lambda a: a[:3].tanh() * a[3:].sigmoid()  # noqa: E731
    close(new_v[0, :, p, q], v[0, :, p, q] + squash(rows_above(p) + told[:6]), atol=1e-9)
    beside = (layer.horizontal.weight[:, :, 0] * h[0, :, p, q - 1 : q + 1]).sum((1, 2)) + layer.horizontal.bias
    mixed = beside + layer.hand_over.weight[:, :, 0, 0] @ rows_above(p - 1) + told[6:]
    out = layer.out.weight[:, :, 0, 0] @ squash(mixed) + layer.out.bias
    close(new_h[0, :, p, q], h[0, :, p, q] + out, atol=1e-9)


@equation("PC.6", r"""
    P(l) = \sum_{k=1}^{K} \pi_k \left[\sigma\Big(\frac{z_l + \delta - \mu_k}{s_k}\Big) -
    \sigma\Big(\frac{z_l - \delta - \mu_k}{s_k}\Big)\right]""")
def test_levels_of_a_mixture_of_logistics():
    """(PC.6): the density integrated over each interval, edges to infinity; and gencore's likelihood."""
    (level_probabilities,) = load(CHAPTER, "level_probabilities")
    weights, middles, scales = torch.tensor([[0.5, 0.3, 0.2], [-1.05, 0.2, 0.8], [0.03, 0.1, 0.02]])
    found = level_probabilities(weights, middles, scales, levels=32)
    half = 1 / 31
    for level in range(32):
        low = -30.0 if level == 0 else 2 * level / 31 - 1 - half
        high = 30.0 if level == 31 else 2 * level / 31 - 1 + half
        grid = torch.linspace(low, high, 400_001)
        z = (grid[:, None] - middles) / scales
        density = (weights / scales * z.sigmoid() * (-z).sigmoid()).sum(1)
        close(found[level], torch.trapezoid(density, grid), atol=1e-6)
    close(found.sum(), 1.0, atol=1e-12)
    params = torch.cat([weights.log(), middles, scales.log()])[None]
    close(LogisticMixture(3, levels=32).probabilities(params)[0, 0], found, atol=1e-9)


@equation("PC.7", r"S(x) = \frac{-\log_2 p(x) - C(x)}{D}")
def test_surplus_is_a_difference_of_two_bills():
    """(PC.7): with zlib's own lengths, and bits that are given."""
    surplus, packed = load(CHAPTER, "surplus", "packed")
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    images[0] = 0
    surplus.__globals__["bits"] = lambda images: torch.tensor([100.0, 7000.0, 8000.0])
    for found, x, own in zip(surplus(images), images, (100, 7000, 8000), strict=True):
        file = zlib.compress(bytes(x.flatten().tolist()), 9)
        close(found, (own - 8 * len(file)) / 784, atol=1e-6)
    assert packed(images)[0] < packed(images)[1]


def exact_chance(written):
    return Fraction(1, 3) if sum(written) % 2 else Fraction(3, 5)


@equation("PC.8", r"a_i = a_{i-1} + w_{i-1}\,F_i(x_i), \qquad w_i = w_{i-1}\,P_i(x_i)")
def test_intervals_lie_in_order_and_are_as_wide_as_pictures_are_likely():
    """(PC.8): in fractions; the start of each interval is the probability of all pictures before it in order."""
    (interval,) = load(CHAPTER, "interval")

    def probability(picture):
        p = Fraction(1)
        for i, x in enumerate(picture):
            white = exact_chance(picture[:i])
            p *= white if x else 1 - white
        return p

    below = Fraction(0)
    for picture in product((0, 1), repeat=4):  # the order of binary numbers
        start, width = interval(picture, exact_chance)
        close(start, float(below), atol=1e-12)
        close(width, float(probability(picture)), atol=1e-12)
        below += probability(picture)
    assert below == 1


@equation("PC.9", r"L = \lceil -\log_2 p(x) \rceil + 1")
def test_a_word_names_its_interval():
    """(PC.9): its length, and that whatever follows it stays inside."""
    interval, code_word = load(CHAPTER, "interval", "code_word")
    for picture in product((0, 1), repeat=5):
        start, width = interval(picture, exact_chance)
        word = code_word(start, width)
        assert 2.0 ** -(len(word) - 1) <= width < 2.0 ** -(len(word) - 2)
        first = sum(int(digit) * 2.0 ** -(i + 1) for i, digit in enumerate(word))
        assert start <= first and first + 2.0 ** -len(word) <= start + width + 1e-15


def test_the_gated_network_of_the_figure_sees_all_rows_above():
    """What a place feels is all of the rows above within reach, and nothing later."""
    seen_by, before, gated = load(CHAPTER, "seen_by", "before", "gated")
    felt = seen_by(gated(5, side=11).double(), 11, (4, 5))
    assert torch.equal(felt, before(11, (4, 5)))
