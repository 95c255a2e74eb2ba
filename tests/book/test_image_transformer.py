"""The equations of the chapter on image transformers, against independent computations."""

import itertools
import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gencore.autoregressive.likelihoods import Categorical, nucleus
from gencore.networks.image_transformer import ImageTransformer, ImageTransformerNetwork
from gencore.networks.symbols import Grid
from gencore.networks.transformer import Attention, Transformer
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "autoregressive/image-transformer"


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def symbols_of(*shape, values=5, seed=0):
    return torch.randint(values, shape, generator=torch.Generator().manual_seed(seed))


def looked_up(q, k, v):
    """(IT.1), place by place and token by token."""
    rows = []
    for i in range(len(q)):
        powers = [math.exp((q[i] @ k[j]).item() / math.sqrt(q.shape[1])) for j in range(i + 1)]
        rows.append(sum(power * v[j] for j, power in enumerate(powers)) / sum(powers))
    return torch.stack(rows)


@equation(
    "IT.1",
    r"""
    \mathbf o_i = \sum_{j \le i} a_{ij}\,\mathbf v_j, \qquad a_{ij} = \frac{e^{\ell_{ij}}}{\sum_{m \le i} e^{\ell_{im}}},
    \qquad \ell_{ij} = \frac{\mathbf q_i \cdot \mathbf k_j}{\sqrt d}
    """,
)
def test_causal_attention():
    """(IT.1), in the chapter and in gencore."""
    (attend,) = load(CHAPTER, "attend")
    q, k, v = normal(7, 3), normal(7, 3, seed=1), normal(7, 4, seed=2)
    close(attend(q, k, v, torch.ones(7, 7).triu(1).bool()), looked_up(q, k, v))
    attention = Attention(6, 2, causal=True).double()
    h = normal(1, 7, 6, seed=3)
    q, (k, v) = attention.query(h)[0], attention.key_value(h)[0].chunk(2, dim=1)
    found = [looked_up(q[:, part], k[:, part], v[:, part]) for part in (slice(0, 3), slice(3, 6))]
    close(attention(h)[0], attention.out(torch.cat(found, 1)))


@equation(
    "IT.2",
    r"""
    \mathbf h_i = \mathbf e(x_{i-1}) + \mathbf r_{\mathrm{row}(i)} + \mathbf c_{\mathrm{col}(i)}, \qquad \mathbf e(x_0) = 0
    """,
)
def test_tokens():
    """(IT.2), in the chapter and in gencore."""
    (TinyGPT,) = load(CHAPTER, "TinyGPT")
    ours = TinyGPT(5, 3, 3, width=8)
    theirs = ImageTransformerNetwork(ImageTransformer(Grid(3, levels=5, named=True), Transformer(8, 1, 2, causal=True)))
    page, seen = symbols_of(2, 9), []
    theirs.body.register_forward_pre_hook(lambda part, given: seen.append(given[0]))
    theirs(page.view(2, 1, 3, 3))
    for net, found in ((ours, ours.tokens(page)), (theirs, seen[0])):
        for i in range(9):
            symbol = net.table.weight[page[:, i - 1]] if i else torch.zeros(2, 8)
            close(found[:, i], symbol + net.rows[i // 3, 0] + net.columns[0, i % 3], atol=1e-6)


@pytest.mark.parametrize("place", [0, 4, 8])
def test_the_proof(place):
    """The output of a place changes with every symbol before it, and with no other."""
    (TinyGPT,) = load(CHAPTER, "TinyGPT")
    torch.manual_seed(0)
    net, page = TinyGPT(5, 3, 3, width=8), symbols_of(1, 9)
    for j in range(9):
        other = page.clone()
        other[0, j] = (page[0, j] + 1) % 5
        moved = (net(page) - net(other))[0, place].abs().max().item()
        assert (moved > 1e-5) == (j < place)


def counted(run):
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        run()
    return counter.get_total_flops() / 2


@equation("IT.3", r"M(N) = (12L + c)\,N D^2 + 2L\,N^2 D + N D V, \qquad c = 2r(r+1)")
def test_cost_of_a_pass():
    """(IT.3): what PyTorch counts, for the chapter's network, and for the convolutions of gencore's."""
    pass_cost, TinyGPT = load(CHAPTER, "pass_cost", "TinyGPT")
    net = TinyGPT(5, 4, 3, width=8, depth=3)
    assert pass_cost(12, 8, 3, 5) == counted(lambda: net(symbols_of(1, 12)))
    for near in (1, 2, 3):
        config = ImageTransformer(Grid(4, levels=5, named=True), Transformer(8, 1, 2, causal=True), near=near)
        theirs = ImageTransformerNetwork(config)
        extra = counted(lambda: theirs._before(torch.zeros(1, 4, 4, 8)))
        assert pass_cost(16, 8, 1, 5, near) - pass_cost(16, 8, 1, 5) == extra


@equation(
    "IT.4",
    r"""
    H = \tfrac N2 \log V, \qquad H_R = N \log V \quad \text{for a network that sees } R < \tfrac N2 \text{ symbols back}
    """,
)
def test_entropy_of_what_repeats():
    """(IT.4), by all sequences of length 6 from 3 symbols: conditional entropies from counts."""
    pages = [first * 2 for first in itertools.product(range(3), repeat=3)]

    def entropy(parts):
        counts = [parts.count(part) for part in set(parts)]
        return -sum(n / len(parts) * math.log(n / len(parts)) for n in counts)

    def surprise(reach):
        total = 0.0
        for i in range(6):
            start = max(0, i - reach)
            total += entropy([page[start : i + 1] for page in pages]) - entropy([page[start:i] for page in pages])
        return total

    assert surprise(6) == pytest.approx(3 * math.log(3)) and surprise(3) == pytest.approx(3 * math.log(3))
    assert surprise(2) == pytest.approx(6 * math.log(3)) and surprise(0) == pytest.approx(6 * math.log(3))
    (repeated,) = load(CHAPTER, "repeated")
    drawn = repeated(100, torch.Generator().manual_seed(0))
    assert torch.equal(drawn[:, :8], drawn[:, 8:]) and drawn.unique().tolist() == list(range(8))


@equation(
    "IT.5",
    r"""
    \mathbf o_i = \frac{1}{Z_i}\Big(\underbrace{\sum_{j < i} e^{\mathbf q_i \cdot \mathbf k_j/\sqrt d}\;\mathbf v_j}_{\mathbf
    k_j,\ \mathbf v_j \text{ known already}} + e^{\mathbf q_i \cdot \mathbf k_i/\sqrt d}\;\mathbf v_i\Big), \qquad Z_i =
    \sum_{j \le i} e^{\mathbf q_i \cdot \mathbf k_j/\sqrt d}
    """,
)
def test_memory():
    """(IT.5): one query and all keys, and step by step the logits of one pass."""
    attend, TinyGPT, step, empty_memory = load(CHAPTER, "attend", "TinyGPT", "step", "empty_memory")
    q, k, v = normal(7, 3), normal(7, 3, seed=1), normal(7, 4, seed=2)
    for i in range(7):
        close(attend(q[i : i + 1], k[: i + 1], v[: i + 1])[0], looked_up(q, k, v)[i])
    torch.manual_seed(0)
    net, page = TinyGPT(5, 3, 3, width=8).double(), symbols_of(2, 9)
    memory = [part.double() for part in empty_memory(net, 2)]
    with torch.no_grad():
        found = torch.stack([step(net, page[:, i - 1], i, memory) for i in range(9)], 1)
    close(found, net(page))


@equation(
    "IT.6",
    r"""
    \sum_{i=1}^N \Big((12L + c)D^2 + 2L\,iD + DV\Big) = (12L + c)\,ND^2 + L\,N(N+1)\,D + NDV < M(N)
    """,
)
def test_cost_of_drawing():
    """(IT.6), by what PyTorch counts for the chapter's step, and as a sum."""
    names = ("drawing_cost", "pass_cost", "TinyGPT", "step", "empty_memory")
    drawing_cost, pass_cost, TinyGPT, step, empty_memory = load(CHAPTER, *names)
    net, page = TinyGPT(5, 3, 4, width=8, depth=3), symbols_of(1, 12)
    memory = empty_memory(net, 1)
    total = counted(lambda: [step(net, page[:, i - 1], i, memory) for i in range(12)])
    pages, begun, kept = drawing_cost(12, 8, 3, 5)
    assert kept == total < pass_cost(12, 8, 3, 5)
    assert pages == 12 * pass_cost(12, 8, 3, 5) and begun == sum(pass_cost(i, 8, 3, 5) for i in range(1, 13))
    assert drawing_cost(12, 8, 3, 5, 2)[2] == sum((36 + 12) * 64 + 6 * i * 8 + 40 for i in range(1, 13))


@equation("IT.7", r"\text{memory} = 2\,L\,N\,D \ \text{ numbers a picture}")
def test_room():
    """(IT.7): what gencore reserves, and what the chapter's step gathers."""
    memory_size, TinyGPT, step, empty_memory = load(CHAPTER, "memory_size", "TinyGPT", "step", "empty_memory")
    config = ImageTransformer(Grid(3, levels=5, named=True), Transformer(8, 3, 2, causal=True))
    caches = ImageTransformerNetwork(config).body.caches(2, 9)
    assert sum(cache.memory.numel() for cache in caches) == 2 * memory_size(9, 8, 3) == 2 * 2 * 3 * 9 * 8
    net, page = TinyGPT(5, 3, 3, width=8, depth=3), symbols_of(2, 9)
    memory = empty_memory(net, 2)
    for i in range(9):
        step(net, page[:, i - 1], i, memory)
    assert sum(part.numel() for part in memory) == 2 * memory_size(9, 8, 3)


def shares(logits, **how):
    """The share of uniform numbers that each symbol gets from gencore's drawing."""
    u = (torch.arange(40_000, dtype=torch.float64)[:, None] + 0.5) / 40_000
    drawn = Categorical().draw(logits.expand(len(u), -1), u, **how)
    return torch.bincount(drawn[:, 0], minlength=len(logits)).double() / len(u)


@equation(
    "IT.8",
    r"""
    p_\tau(x_i \mid x_{<i}) = \frac{p(x_i \mid x_{<i})^{1/\tau}}{\sum_{x'} p(x' \mid x_{<i})^{1/\tau}}
    """,
)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_temperature(temperature):
    """(IT.8)."""
    logits = normal(6)
    powers = logits.softmax(0) ** (1 / temperature)
    close(shares(logits, temperature=temperature), powers / powers.sum(), atol=1e-4)
    assert shares(logits, temperature=0.0).argmax() == logits.argmax() and shares(logits, temperature=0.0).max() == 1


@equation(
    "IT.9",
    r"p_P(x_i \mid x_{<i}) = \frac{p(x_i \mid x_{<i})\;[x_i \in S]}{\sum_{x' \in S} p(x' \mid x_{<i})}",
)
def test_nucleus():
    """(IT.9)."""
    p = torch.tensor([0.05, 0.5, 0.1, 0.3, 0.05], dtype=torch.float64)
    for reach, kept in ((0.4, [1]), (0.6, [1, 3]), (0.85, [1, 2, 3])):
        expected = torch.zeros(5, dtype=torch.float64)
        expected[kept] = p[kept] / p[kept].sum()
        close(shares(p.log(), top_p=reach), expected, atol=1e-4)
        assert nucleus(p, reach).nonzero()[:, 0].tolist() == kept


@equation(
    "IT.10",
    r"p(x_{m+1}, \dots, x_N \mid x_1, \dots, x_m) = \prod_{i=m+1}^N p(x_i \mid x_{<i})",
)
def test_completion():
    """(IT.10): joint over marginal, by all pages of four symbols."""
    torch.manual_seed(0)
    config = ImageTransformer(Grid(2, levels=3, named=True), Transformer(8, 1, 2, causal=True), near=1)
    net = ImageTransformerNetwork(config).double()
    pages = torch.cartesian_prod(*[torch.arange(3)] * 4).view(81, 1, 2, 2)
    with torch.no_grad():
        log_p = Categorical().log_prob(net(pages), pages).flatten(1)  # (81, 4)
    joint = log_p.sum(1).exp()
    assert joint.sum().item() == pytest.approx(1.0)
    begins = (pages.flatten(1)[:, :2] == torch.tensor([2, 1])).all(1)
    close(joint[begins] / joint[begins].sum(), log_p[begins, 2:].sum(1).exp())


@equation("IT.11", r"\mathbf o_i \cdot \frac{\mathbf u}{\lVert\mathbf u\rVert^2} = \frac1i :")
def test_counting():
    """(IT.11)."""
    (attend,) = load(CHAPTER, "attend")
    u, v = torch.tensor([3.0, 0, 0], dtype=torch.float64), normal(9, 3)
    v[:, 0], v[0] = 0, u
    out = attend(torch.zeros(9, 3, dtype=torch.float64), normal(9, 3, seed=1), v, torch.ones(9, 9).triu(1).bool())
    close(out @ u / 9, 1 / torch.arange(1, 10, dtype=torch.float64))
