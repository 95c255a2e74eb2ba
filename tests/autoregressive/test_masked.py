"""Hidden symbols: how many and which, what a guess of them costs, and how they are drawn many at once."""

import math
from itertools import combinations, product
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from gencore.autoregressive import masked
from gencore.autoregressive.masked import MaskedSymbols, hidden_places
from gencore.autoregressive.objectives import Draw, Networks
from gencore.errors import InputError
from gencore.networks.maskgit import MaskGIT, MaskGITNetwork
from gencore.networks.symbols import Grid

GRID = Grid(size=4, levels=5, named=True, conditions=(3,))
MASK, N = 5, 16


def network():
    made = MaskGITNetwork(MaskGIT(GRID, width=8, depth=1, heads=2))
    torch.manual_seed(9)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=1.5)  # so that what it sees makes a difference
    return made.requires_grad_(False)


def hiding(batch, seed=1):
    torch.manual_seed(seed)
    return Draw(None, torch.rand(batch), torch.rand(batch, N))


class Answers:
    """Says what it is told to say, and remembers what it was asked."""

    def __init__(self, logits, grid=GRID):
        self.logits, self.config, self.asked = logits, SimpleNamespace(grid=grid), []

    def __call__(self, symbols, cond=None, u=None, hidden=None):
        self.asked.append(symbols.clone() if hidden is None else symbols.masked_fill(hidden, MASK))
        return self.logits.expand(len(symbols), *self.logits.shape[1:])


def drawn(net, steps, batch=3, seed=2, cond=None, **options):
    torch.manual_seed(seed)
    return list(masked.draw(net, cond, torch.rand(batch, steps, 2, N), **options))


# Objective


@pytest.mark.parametrize(
    ("u", "count"),
    [(0.0, 16), (0.1, 16), (0.25, 15), (0.5, 12), (0.75, 7), (0.95, 2), (0.97, 1), (0.9999, 1), (1 - 2**-24, 1), (1.0, 1)],
)
def test_how_many_are_hidden(u, count):
    """ceil(16 cos(pi u / 2)), worked out by hand: 15.8, 14.8, 11.3, 6.1, 1.26, 0.75, ..."""
    assert hidden_places(torch.tensor([u]), torch.rand(1, N)).sum() == count


def test_each_image_hides_its_own_places_those_with_the_lowest_numbers():
    draw = hiding(64)
    hidden = hidden_places(draw.ratio, draw.order)
    for row, u, order in zip(hidden, draw.ratio.tolist(), draw.order, strict=True):
        count = math.ceil(math.cos(math.pi * u / 2) * N)
        assert sorted(row.nonzero()[:, 0].tolist()) == sorted(order.sort().indices[:count].tolist())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_counts_hidden_places_only(smoothing):
    draw, logits = hiding(3), torch.randn(3, 5, 4, 4, dtype=torch.float64)
    symbols, answers = torch.randint(5, (3, 1, 4, 4)), Answers(logits)
    loss = MaskedSymbols(smoothing)(Networks(answers), symbols, None, draw)
    hidden, total, nats = hidden_places(draw.ratio, draw.order), 0.0, 0.0
    for image in range(3):
        where = hidden[image].nonzero()[:, 0]
        said, true = logits[image].flatten(1).T[where], symbols[image].flatten()[where]
        total += F.cross_entropy(said, true, reduction="sum", label_smoothing=smoothing) / N / 3
        nats += F.cross_entropy(said, true) / 3
    torch.testing.assert_close(loss.total, total)
    torch.testing.assert_close(loss.parts["nats"], nats)
    (asked,) = answers.asked
    assert torch.equal(asked.flatten(1) == MASK, hidden)
    assert torch.equal(asked.flatten(1)[~hidden], symbols.flatten(1)[~hidden])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_visible_places_teach_nothing(smoothing):
    draw, logits = hiding(3), torch.randn(3, 5, 4, 4, requires_grad=True)
    MaskedSymbols(smoothing)(Networks(Answers(logits)), torch.randint(5, (3, 1, 4, 4)), None, draw).total.backward()
    taught = (logits.grad != 0).all(1).flatten(1)
    untaught = (logits.grad == 0).all(1).flatten(1)
    assert torch.equal(taught, hidden_places(draw.ratio, draw.order))
    assert torch.equal(untaught, ~hidden_places(draw.ratio, draw.order))


def test_parts_of_a_batch_add_up():
    draw, net = hiding(4), network()
    symbols, cond = torch.randint(5, (4, 1, 4, 4)), torch.tensor([[0], [1], [2], [3]])

    def loss(rows):
        return MaskedSymbols()(Networks(net), symbols[rows], cond[rows], Draw(None, draw.ratio[rows], draw.order[rows]))

    whole, first, rest = loss(slice(0, 4)), loss(slice(0, 1)), loss(slice(1, 4))
    torch.testing.assert_close(whole.total, first.total / 4 + 3 * rest.total / 4)
    torch.testing.assert_close(whole.parts["nats"], first.parts["nats"] / 4 + 3 * rest.parts["nats"] / 4)


def test_conditions_reach_the_network():
    draw, net, symbols = hiding(2), network(), torch.randint(5, (2, 1, 4, 4))
    losses = [MaskedSymbols()(Networks(net), symbols, c, draw).total for c in (None, torch.tensor([[0], [1]]))]
    assert losses[0] != losses[1]


def test_smoothing_outside_its_range_is_refused():
    for smoothing in (-0.1, 1.0):
        with pytest.raises(InputError, match="smoothing"):
            MaskedSymbols(smoothing)


# Sampler


@pytest.mark.parametrize("start", [16, 10, 1])
@pytest.mark.parametrize("steps", [1, 3, 4, 8, 16, 20])
def test_how_many_are_left_after_each_step(steps, start):
    """floor(gamma(t / T) n) of the n hidden at the start, at least one fewer than before, none at the end."""
    known = torch.full((3, N), MASK)
    known[:, start:] = 2
    grids = drawn(network(), steps, known=known.view(3, 1, 4, 4))
    assert len(grids) == steps
    left = start
    for t, grid in enumerate(grids, 1):
        share = 0.5 if 3 * t == 2 * steps else math.cos(math.pi / 2 * t / steps)  # 0.5 exactly, which rounding must not lower
        left = max(0, min(math.floor(share * start), left - 1))
        assert ((grid == MASK).sum((1, 2, 3)) == left).all()
    assert left == 0
    if steps == start:
        assert [(grid[0] == MASK).sum().item() for grid in grids] == list(range(start - 1, -1, -1))  # one a step


def test_the_schedule_in_figures():
    counts = [(grid[0] == MASK).sum().item() for grid in drawn(network(), 8)]
    assert counts == [15, 14, 13, 11, 8, 6, 3, 0]  # of 16 cos(pi t / 16): 15.7, 14.8, 13.3, 11.3, 8.9, 6.1, 3.1, 0


def test_what_is_visible_stays():
    known = torch.where(torch.rand(3, 1, 4, 4) < 0.4, torch.randint(5, (3, 1, 4, 4)), MASK)
    assert (known != MASK).any()
    before, kept = known, known.clone()
    for grid in drawn(network(), 4, known=known):
        assert torch.equal(grid[before != MASK], before[before != MASK])
        before = grid
    assert torch.equal(known, kept)  # nothing is written into what the caller gave
    complete = torch.randint(5, (3, 1, 4, 4))
    assert all(torch.equal(grid, complete) for grid in drawn(network(), 2, known=complete))


def test_the_network_sees_what_was_drawn_before():
    answers = Answers(torch.zeros(1, 5, 4, 4))
    grids = drawn(answers, 4)
    assert (answers.asked[0] == MASK).all()
    assert all(torch.equal(asked, grid) for asked, grid in zip(answers.asked[1:], grids, strict=False))


def test_the_same_numbers_give_the_same_image_in_any_batch():
    torch.manual_seed(3)
    net, u, cond = network(), torch.rand(5, 6, 2, N), torch.tensor([[0], [1], [2], [3], [0]])
    known = torch.where(torch.rand(5, 1, 4, 4) < 0.3, torch.randint(5, (5, 1, 4, 4)), MASK)
    (*_, whole) = masked.draw(net, cond, u, known=known)
    for i in range(5):
        (*_, alone) = masked.draw(net, cond[i : i + 1], u[i : i + 1], known=known[i : i + 1])
        assert torch.equal(alone[0], whole[i])
    (*_, other) = masked.draw(net, cond, u.flip(0), known=known)
    assert not torch.equal(other, whole)


def test_one_step_draws_every_place_by_itself():
    """By the inverse of the distribution function, from the first logits."""
    torch.manual_seed(4)
    net, u = network(), torch.rand(3, 1, 2, N)
    (grid,) = masked.draw(net, None, u)
    p = net(torch.full((3, 1, 4, 4), MASK)).softmax(1).flatten(2)  # (3, 5, 16)
    for image, place in product(range(3), range(N)):
        total, value = p[image, 0, place], 0
        while total <= u[image, 0, 0, place]:
            value += 1
            total = total + p[image, value, place]
        assert grid[image].flatten()[place] == value


def test_frequencies_are_probabilities():
    torch.manual_seed(5)
    logits = torch.randn(1, 5, 4, 4)
    (grid,) = masked.draw(Answers(logits), None, torch.rand(20_000, 1, 2, N))
    often = F.one_hot(grid[:, 0], 5).double().mean(0).movedim(-1, 0)  # (5, 4, 4)
    torch.testing.assert_close(often, logits[0].softmax(0).double(), atol=0.02, rtol=0)


def confidences(net, before, u):
    """Log-probabilities of the symbols that the first numbers draw, (B, N)."""
    log_p = net(before, None).log_softmax(1).flatten(2).transpose(1, 2)
    symbols = (log_p.double().exp().cumsum(2) <= u[..., None]).sum(2).clamp(max=4)
    return log_p.gather(2, symbols[..., None])[..., 0]


def test_without_choice_temperature_the_most_confident_are_kept():
    torch.manual_seed(6)
    net, u = network(), torch.rand(3, 4, 2, N)
    before = torch.full((3, 1, 4, 4), MASK)
    for step, grid in enumerate(masked.draw(net, None, u, temperature=0)):
        confidence = confidences(net, before, u[:, step, 0])
        hidden, still = (before == MASK).flatten(1), (grid == MASK).flatten(1)
        for image in range(3):
            kept = confidence[image][hidden[image] & ~still[image]]
            assert not still[image].any() or kept.min() >= confidence[image][still[image]].max()
        before = grid


def test_choice_temperature_disturbs_confidence_by_gumbel_noise_that_fades():
    torch.manual_seed(7)
    net, u, before = network(), torch.rand(3, 4, 2, N), torch.full((3, 1, 4, 4), MASK)
    for step, grid in enumerate(masked.draw(net, None, u, temperature=3.0)):
        noise = torch.distributions.Gumbel(0.0, 1.0).icdf(u[:, step, 1])
        disturbed = confidences(net, before, u[:, step, 0]) + 3.0 * (1 - (step + 1) / 4) * noise
        hidden, still = (before == MASK).flatten(1), (grid == MASK).flatten(1)
        for image in range(3):
            count = (hidden[image] & ~still[image]).sum()
            best = disturbed[image].masked_fill(~hidden[image], -torch.inf).topk(count).indices
            assert not still[image][best].any()
        before = grid


def test_a_uniform_number_of_zero_is_no_accident():
    """Its Gumbel noise would be minus infinity, and that times a temperature of 0 no number."""
    torch.manual_seed(8)
    net, u = network(), torch.rand(3, 4, 2, N)
    zero = u.clone()
    zero[:, :, 1, ::2] = 0
    for one, other in zip(masked.draw(net, None, u, temperature=0), masked.draw(net, None, zero, temperature=0), strict=True):
        assert torch.equal(one, other)


def test_guidance_goes_from_untold_to_told():
    net, cond, untold = network(), torch.tensor([[0], [1], [2]]), torch.full((3, 1), 3)
    told = drawn(net, 4, cond=cond)[-1]
    not_told = drawn(net, 4, cond=untold)[-1]
    assert not torch.equal(told, not_told)
    assert torch.equal(drawn(net, 4, cond=cond, guidance=1.0, untold=untold)[-1], told)
    assert torch.equal(drawn(net, 4, cond=cond, guidance=0.0, untold=untold)[-1], not_told)
    assert torch.equal(drawn(net, 4, cond=cond, guidance=0.0)[-1], not_told)  # None tells nothing
    hidden = torch.full((3, 1, 4, 4), MASK)
    other = torch.tensor([[3], [2], [0]])
    a, b = net(hidden, cond), net(hidden, other)
    torch.testing.assert_close(masked.guided_logits(net, hidden, cond, 2.5, other), 2.5 * a - 1.5 * b)


@pytest.mark.parametrize(
    ("u", "known", "sentence"),
    [
        (torch.rand(1, 4, 2, 15), None, "need"),
        (torch.rand(1, 0, 2, N), None, "and a step"),
        (torch.rand(4, 2, N), None, "need"),
        (torch.rand(2, 4, 2, N), torch.full((1, 1, 4, 4), MASK), "known symbols"),
    ],
)
def test_what_does_not_fit_is_refused(u, known, sentence):
    with pytest.raises(InputError, match=sentence):
        list(masked.draw(network(), None, u, known=known))


# The price of drawing many at once, on grids of 2x2 black and white symbols whose distribution is known


def correlated():
    """Probabilities (2, 2, 2, 2) of grids whose neighbours like to be equal, white more than black."""
    p = torch.zeros(2, 2, 2, 2, dtype=torch.float64)
    for a, b, c, d in product(range(2), repeat=4):
        p[a, b, c, d] = math.exp(1.2 * ((a == b) + (c == d) + (a == c) + (b == d)) + 0.4 * (a + b + c) - 0.3 * d)
    return p / p.sum()


def marginals(p, seen):
    """Exact probabilities (4, 2) of each place given the visible ones, ``seen`` = {place: symbol}."""
    for place, symbol in seen.items():
        wanted = torch.zeros(2, dtype=p.dtype)
        wanted[symbol] = 1
        p = p * wanted.view([2 if axis == place else 1 for axis in range(4)])
    return torch.stack([p.sum([axis for axis in range(4) if axis != place]) for place in range(4)]) / p.sum()


class Oracle:
    """A network that has learned everything: the true probability of each place, given the visible ones."""

    def __init__(self, p):
        self.config = SimpleNamespace(grid=Grid(size=2, levels=2, named=True))
        self.answers = {}
        for pattern in product(range(3), repeat=4):
            seen = {place: symbol for place, symbol in enumerate(pattern) if symbol < 2}
            self.answers[pattern] = marginals(p, seen).log().T  # (2, 4)
        self.table = torch.stack(list(self.answers.values()))  # (81, 2, 4)

    def __call__(self, symbols, cond=None):
        number = (symbols.flatten(1) * torch.tensor([27, 9, 3, 1])).sum(1)
        return self.table[number].unflatten(2, (2, 2))


def law(p, groups):
    """Exact distribution of grids drawn in groups of these sizes at random places, each symbol of a group by itself."""
    result = torch.zeros_like(p)

    def go_on(seen, weight, groups):
        if not groups:
            result[tuple(seen[place] for place in range(4))] += weight
            return
        hidden = [place for place in range(4) if place not in seen]
        chosen = list(combinations(hidden, groups[0]))
        said = marginals(p, seen)
        for places in chosen:
            for symbols in product(range(2), repeat=len(places)):
                chance = math.prod(said[place, symbol].item() for place, symbol in zip(places, symbols, strict=True))
                go_on(seen | dict(zip(places, symbols, strict=True)), weight * chance / len(chosen), groups[1:])

    go_on({}, 1.0, groups)
    return result


def frequencies(p, steps, temperature, count=100_000):
    torch.manual_seed(9)
    u = torch.rand(count, steps, 2, 4, dtype=torch.float64)
    (*_, grids) = masked.draw(Oracle(p), None, u, temperature)
    number = (grids.flatten(1) * torch.tensor([8, 4, 2, 1])).sum(1)
    return (torch.bincount(number, minlength=16) / count).view(2, 2, 2, 2).double()


def far_apart(p, q):
    """Kullback-Leibler divergence of p from q in nats."""
    return (p * (p / q).log()).sum().item()


NEAR = 0.007  # four standard errors of the frequency of a probability of a half, and one to spare


def test_one_step_draws_from_the_product_of_marginals():
    """Its price is the total correlation: what the places' entropies add up to beyond the grid's own."""
    p = correlated()
    product_of_marginals = torch.ones_like(p)
    entropies = 0.0
    for place, own in enumerate(marginals(p, {})):
        product_of_marginals = product_of_marginals * own.view([2 if axis == place else 1 for axis in range(4)])
        entropies -= (own * own.log()).sum().item()
    torch.testing.assert_close(law(p, [4]), product_of_marginals)
    torch.testing.assert_close(frequencies(p, 1, 4.5), product_of_marginals, atol=NEAR, rtol=0)
    assert far_apart(p, product_of_marginals) == pytest.approx(entropies + (p * p.log()).sum().item())
    assert (p - product_of_marginals).abs().max() > 0.2


def test_one_symbol_a_step_in_random_order_draws_from_the_truth():
    p = correlated()
    torch.testing.assert_close(law(p, [1, 1, 1, 1]), p)
    torch.testing.assert_close(frequencies(p, 4, 1e6), p, atol=NEAR, rtol=0)


def test_two_steps_cost_less_than_one():
    """floor(4 cos(pi / 4)) = 2: two symbols, then two."""
    p = correlated()
    torch.testing.assert_close(frequencies(p, 2, 1e6), law(p, [2, 2]), atol=NEAR, rtol=0)
    costs = [far_apart(p, law(p, groups)) for groups in ([4], [2, 2], [1, 1, 2], [1, 1, 1, 1])]
    assert costs[0] > 4 * costs[1] > 4 * costs[2] > 4 * costs[3] > -1e-12


def test_the_confident_first_is_not_the_truth_even_one_symbol_a_step():
    """A likely symbol is kept where it was drawn, an unlikely one is drawn again: the likely grids become likelier."""
    p = correlated()
    often = frequencies(p, 4, 0.0)
    assert often[1, 1, 1, 1] > p[1, 1, 1, 1] + 10 * NEAR
