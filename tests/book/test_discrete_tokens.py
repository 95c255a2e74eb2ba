"""The equations of the chapter on discrete tokens, against independent computations."""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import interpolate
from torch.utils.flop_counter import FlopCounterMode

from gencore.autoregressive import Pixels, log_likelihood, masked, next_scale
from gencore.autoregressive.masked import MaskedSymbols, hidden_places
from gencore.autoregressive.objectives import Draw, Networks, NextSymbol
from gencore.data import ImageSet
from gencore.networks.image_transformer import ImageTransformer, ImageTransformerNetwork
from gencore.networks.maskgit import MaskGIT, MaskGITNetwork
from gencore.networks.multiscale import MultiScale
from gencore.networks.quantiser import Codebook
from gencore.networks.symbols import Grid
from gencore.networks.transformer import Transformer
from gencore.networks.var import VAR, VARNetwork
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "autoregressive/discrete-tokens"
PICTURES = list(itertools.product((0, 1), repeat=4))
GROUPS = [[[0, 1, 2, 3]], [[0, 1], [2, 3]], [[3, 0], [1, 2]], [[2], [0], [1, 3]], [[1], [0], [2], [3]]]


def law(seed=0):
    """Probabilities of the sixteen pictures, of no symmetry."""
    p = torch.rand(16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.05
    return p / p.sum()


def probability(P, x, places):
    """Of the pixels of x at some places, by adding up a table."""
    return sum(P[n].item() for n, y in enumerate(PICTURES) if all(y[i] == x[i] for i in places))


def conditional(P, x, i, before):
    return probability(P, x, [*before, i]) / probability(P, x, before)


@equation(
    "TK.1",
    r"""
    -\log_2 p(x) = \sum_{i=1}^{N} -\log_2 p(x_i \mid x_{<i}) \quad\text{bits}, \qquad
    \text{and } N \log_2 V \text{ if all pages are equally likely.}
    """,
)
def test_bits_of_a_page():
    """(TK.1), place by place, and for a network that knows nothing."""
    net = ImageTransformerNetwork(ImageTransformer(Grid(2, levels=8, named=True), Transformer(8, 1, 2, causal=True)))
    page = torch.randint(8, (1, 1, 2, 2), generator=torch.Generator().manual_seed(0))
    at = net.incremental(page)
    steps = [at(i // 2, i % 2).log_softmax(1)[0, page.flatten()[i]].item() for i in range(4)]
    nats = NextSymbol()(Networks(net), page, None, Draw()).parts["nats"].item()
    assert nats / math.log(2) == pytest.approx(-sum(steps) / math.log(2), rel=1e-5)
    recipe = SimpleNamespace(
        objective=NextSymbol(), pixels=Pixels(8), augmentation=None, told=(), conditions=(), mirror=False
    )
    picture = ImageSet("page", (page * 255 / 7).round().to(torch.uint8), torch.zeros(1).long(), ("one",))
    assert log_likelihood((Networks(net), recipe), picture).item() == pytest.approx(sum(steps), rel=1e-5)
    torch.nn.init.zeros_(net.head.weight)
    torch.nn.init.zeros_(net.head.bias)
    ignorant = NextSymbol()(Networks(net), page, None, Draw()).parts["nats"].item()
    assert ignorant / math.log(2) == pytest.approx(4 * math.log2(8), rel=1e-6)


@equation("TK.2", r"q(x) = \prod_{k=1}^{K} \prod_{i \in g_k} p(x_i \mid x_{g_{<k}})")
@pytest.mark.parametrize("groups", GROUPS)
def test_groups(groups):
    """(TK.2)"""
    (by_groups,) = load(CHAPTER, "by_groups")
    P, q = law(), by_groups(law(), groups)
    for n, x in enumerate(PICTURES):
        expected, before = 1.0, []
        for group in groups:
            expected *= math.prod(conditional(P, x, i, before) for i in group)
            before += group
        close(q[n].item(), expected, 1e-12)
    close(q.sum().item(), 1.0)


@equation(
    "TK.3",
    r"""
    \mathrm{KL}(p\,\|\,q) = \sum_{k=1}^{K} \mathbb E_p \log \frac{p(x_{g_k} \mid x_{g_{<k}})}{\prod_{i \in g_k}
    p(x_i \mid x_{g_{<k}})} = \sum_{k=1}^{K} \Big( \sum_{i \in g_k} H(x_i \mid x_{g_{<k}}) - H(x_{g_k} \mid x_{g_{<k}}) \Big)
    """,
)
@pytest.mark.parametrize("groups", GROUPS)
def test_total_correlation(groups):
    """(TK.3), the divergence and each bracket, from tables."""
    by_groups, total_correlations = load(CHAPTER, "by_groups", "total_correlations")
    P, found, before = law(), total_correlations(law(), groups), []
    for k, group in enumerate(groups):
        expected = 0.0
        for n, x in enumerate(PICTURES):
            together = probability(P, x, [*before, *group]) / probability(P, x, before)
            apart = math.prod(conditional(P, x, i, before) for i in group)
            expected += P[n].item() * math.log(together / apart)
        close(found[k].item(), expected, 1e-12)
        assert expected > 1e-6 or len(group) == 1
        before += group
    q = by_groups(P, groups)
    close(found.sum().item(), (P * (P / q).log()).sum().item(), 1e-12)


@equation(
    "TK.4",
    r"""
    \mathcal L = \mathbb E_{x,\,r,\,\mathcal M}\; \frac1N \sum_{i \in \mathcal M} -\log p_\theta(x_i \mid x_{\bar{\mathcal M}}),
    \qquad |\mathcal M| = \lceil \gamma(r) N \rceil
    """,
)
def test_objective():
    """(TK.4), in the chapter and in gencore: what is hidden, and what it costs."""
    hide, masked_loss, TinyMaskGIT = load(CHAPTER, "hide", "masked_loss", "TinyMaskGIT")
    torch.manual_seed(0)
    net = TinyMaskGIT(5, 3, width=8)
    symbols = torch.randint(5, (4, 9), generator=torch.Generator().manual_seed(1))
    hidden = hide(symbols, torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(2)
    r, order = torch.rand(4, 1, generator=generator)[:, 0], torch.rand(4, 9, generator=generator)
    count = [math.ceil(math.cos(math.pi * each / 2) * 9) for each in r.tolist()]

    def lowest(order):
        return torch.stack([each <= each.sort().values[n - 1] for each, n in zip(order, count, strict=True)])

    assert torch.equal(hidden, lowest(order))
    loss = 0.0
    for page, gone in zip(symbols, hidden, strict=True):
        p = net(torch.where(gone, 5, page)[None])[0].softmax(1)
        loss += sum(-p[i, page[i]].log().item() for i in range(9) if gone[i]) / 9 / 4
    assert masked_loss(net, symbols, hidden).item() == pytest.approx(loss, rel=1e-5)
    # the output at a visible place counts for nothing, and the symbol at a hidden one is not seen
    other = torch.where(hidden, (symbols + 1) % 5, symbols)
    assert torch.equal(net(symbols.masked_fill(hidden, 5)), net(other.masked_fill(hidden, 5)))
    theirs = MaskGITNetwork(MaskGIT(Grid(3, levels=5, named=True), width=8, depth=1, heads=2))
    draw = Draw(None, r, torch.rand(4, 9, generator=torch.Generator().manual_seed(3)))
    gone = hidden_places(draw.ratio, draw.order)
    assert torch.equal(gone, lowest(draw.order))
    p = theirs(torch.where(gone, 5, symbols).view(4, 1, 3, 3)).softmax(1).flatten(2)  # (4, 5, 9)
    expected = -(p.gather(1, symbols[:, None])[:, 0].log() * gone).sum() / 9 / 4
    close(MaskedSymbols()(Networks(theirs), symbols.view(4, 1, 3, 3), None, draw).total, expected, 1e-5)


def test_density_of_shares():
    """The probability that the share hidden is below s, and the density that the text derives from it."""
    for s in (0.2, 0.5, 0.9):
        density = 2 / (math.pi * math.sqrt(1 - s * s))
        step = 1e-5
        below = [1 - 2 / math.pi * math.acos(s + side) for side in (-step, step)]
        assert (below[1] - below[0]) / (2 * step) == pytest.approx(density, rel=1e-6)
        r = (torch.arange(100_000) + 0.5) / 100_000
        assert (masked.share_hidden(r) <= s).double().mean().item() == pytest.approx(1 - 2 / math.pi * math.acos(s), abs=1e-4)


@equation(
    "TK.5",
    r"""
    n_k = \lfloor \gamma(k/K)\,N \rfloor \ \text{ remain hidden}, \qquad \text{confidence}_i = \log p(\hat x_i \mid
    x_{\text{visible}}) + \tau\Big(1 - \frac kK\Big)\,\mathsf g_i
    """,
)
@pytest.mark.parametrize("tau", [0.0, 1.0, 4.5, 50.0])
def test_confidence(tau):
    """(TK.5): the chapter's exact law is that of its sampler, and of gencore's, with exact conditionals."""
    confident_law, given, write_masked = load(CHAPTER, "confident_law", "given", "write_masked")
    P = law(3) ** 3  # far from even: confidence matters
    P = P / P.sum()
    table = torch.stack([given(P, torch.tensor(seen)) for seen in itertools.product((-1, 0, 1), repeat=4)])  # (81, 4)

    class Exact:
        mask, config = 2, type("Config", (), {"grid": Grid(2, levels=2, named=True)})

        def __call__(self, symbols, cond=None):
            rank = torch.where(symbols == 2, 0, symbols + 1).flatten(1)  # hidden first, as in the table
            white = table[(rank * torch.tensor([27, 9, 3, 1])).sum(1)]
            logits = torch.stack([1 - white, white], 2).clamp(min=1e-12).log().float()  # (B, 4, 2)
            return logits if symbols.dim() == 2 else logits.mT.unflatten(2, (2, 2))

    q, count = confident_law(P, tau), 20_000
    u = torch.rand(count, 4, 2, 4, generator=torch.Generator().manual_seed(5))
    *_, theirs = masked.draw(Exact(), None, u, tau)
    for pages in (write_masked(Exact(), count, 4, 4, tau=tau), theirs.flatten(1)):
        found = torch.bincount((pages * torch.tensor([8, 4, 2, 1])).sum(1), minlength=16) / count
        assert (found - q).abs().max() < 0.02  # over five standard errors; tau off by a step makes 0.05
    close(q.sum().item(), 1.0)
    if tau == 50:
        close(q, P, atol=0.01)
    if tau == 0:
        assert (q - P).abs().max() > 0.05


@pytest.mark.parametrize("steps", [12, 64])
def test_how_many_remain(steps):
    """(TK.5), first half: in the chapter's sampler and in gencore's, as the floor says, and always fewer."""
    (write_masked,) = load(CHAPTER, "write_masked")
    asked = []

    class Even:
        mask, config = 3, type("Config", (), {"grid": Grid(8, levels=3, named=True)})

        def __call__(self, symbols, cond=None):
            asked.append((symbols == 3).flatten(1).sum(1).tolist())
            return torch.zeros(*symbols.shape, 3) if symbols.dim() == 2 else torch.zeros(len(symbols), 3, 8, 8)

    left = [64]
    for k in range(1, steps):
        left.append(min(math.floor(math.cos(math.pi * k / (2 * steps)) * 64), left[-1] - 1))
    write_masked(Even(), 2, 64, steps)
    list(masked.draw(Even(), None, torch.rand(2, steps, 2, 64)))
    assert asked == 2 * [[n, n] for n in left]
    assert left[1] == 63 and left[-1] == (8 if steps == 12 else 1)  # as the text says of the first and the last step


def small_ladder():
    torch.manual_seed(0)
    ladder = MultiScale(Codebook(7), scales=(1, 2, 4), blends=2).build(3)
    ladder.words.codebook.normal_()
    for blend in ladder.blends:
        torch.nn.init.normal_(blend.weight, std=0.3)
    return ladder.requires_grad_(False)


@equation(
    "TK.6",
    r"""
    r_k = Q\Big(\downarrow_k\!\Big(z - \sum_{j<k} \uparrow e(r_j)\Big)\Big), \qquad \hat z_k = \sum_{j \le k} \uparrow e(r_j)
    """,
)
def test_scales():
    """(TK.6), in the chapter and in gencore, with shrinking, searching, enlarging and smoothing written out."""
    (write_scales,) = load(CHAPTER, "write_scales")
    ladder, z = small_ladder(), torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    total, codes = torch.zeros_like(z), []
    for k, side in enumerate((1, 2, 4)):
        rest, width = z - total, 4 // side
        small = torch.stack([rest[:, :, r * width : (r + 1) * width, c * width : (c + 1) * width].mean((2, 3))
                             for r in range(side) for c in range(side)], 1)  # fmt: skip
        nearest = (small[:, :, None] - ladder.words.codebook).square().sum(3).argmin(2)  # (B, side * side)
        words = ladder.words.codebook[nearest].mT.unflatten(2, (side, side))
        large = words if side == 4 else interpolate(words, (4, 4), mode="bicubic")
        total = total + (large + ladder.blends[k * 2 // 3](large)) / 2
        codes.append(nearest)
    found = write_scales(z, ladder)
    assert torch.equal(torch.cat([each for each, _ in found], 1), torch.cat(codes, 1))
    close(found[-1][1], total, 1e-5)
    assert torch.equal(ladder(z).codes, torch.cat(codes, 1))
    close(ladder.decode(torch.cat(codes, 1)), total, 1e-5)


@equation(
    "TK.7",
    r"""
    p(r_1, \dots, r_K) = \prod_{k=1}^{K} p(r_k \mid r_1, \dots, r_{k-1}), \qquad
    p(r_k \mid r_{<k}) = \prod_{i} p(r_{k,i} \mid r_{<k})
    """,
)
def test_product_over_scales():
    """(TK.7): log-probabilities are those said scale by scale, whatever stands here and later; so are drawings."""
    ladder, net = small_ladder(), VARNetwork(VAR((1, 2, 4), 7, 3, Transformer(8, 1, 2)))
    codes = torch.randint(7, (2, 21), generator=torch.Generator().manual_seed(0))
    whole = next_scale.log_prob(net, ladder, codes)
    at, total, found = net.incremental(None, 2), torch.zeros(2, 3, 4, 4), []
    for k, span in enumerate(net.config.spans):
        says = at(None if k == 0 else interpolate(total, (k * 2, k * 2), mode="area").flatten(2).mT)
        found.append(says.log_softmax(2).gather(2, codes[:, span, None])[..., 0])
        total = total + ladder.rise(codes[:, span], k)
    close(whole, torch.cat(found, 1), 1e-5)
    u = torch.rand(2, 21, generator=torch.Generator().manual_seed(1))
    drawn = next_scale.draw(net, ladder, None, u)
    below = net(ladder.inputs(drawn)).softmax(2).cumsum(2)  # (2, 21, 7), the distribution functions
    assert torch.equal(drawn, (below <= u[..., None]).sum(2))


@equation(
    "TK.8",
    r"""
    \begin{aligned} M_{\text{masked}} &= K\big((12L(N+1) + cN)D^2 + 2L(N+1)^2D + NDV\big), \\
    M_{\text{scales}} &= \sum_k n_k\big(12LD^2 + 2L\,s_k D + DV\big) + (1 + c)(s_K - n_1)\,dD. \end{aligned}
    """,
)
def test_costs():
    """(TK.8), and (IT.6) as this chapter writes it, against what PyTorch counts at other sizes."""
    raster_cost, masked_cost, scales_cost = load(CHAPTER, "raster_cost", "masked_cost", "scales_cost")
    page = torch.zeros(1, 1, 3, 3, dtype=torch.int64)
    config = MaskGIT(Grid(3, levels=7, named=True), width=16, depth=2, heads=2)
    hidden, hidden_near = MaskGITNetwork(config), MaskGITNetwork(replace(config, near=1))
    raster = ImageTransformerNetwork(
        ImageTransformer(Grid(3, levels=7, named=True), Transformer(16, 2, 2, causal=True))
    )
    scales, scales_near = (VARNetwork(VAR((1, 2, 4), 7, 3, Transformer(16, 2, 2), near=near)) for near in (0, 2))

    def counted(work):
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            work()
        return counter.get_total_flops() / 2

    def masked_steps(network):
        for _ in masked.draw(network, None, torch.rand(1, 5, 2, 9)):
            pass

    def places():
        at = raster.incremental(page)
        for i in range(9):
            at(i // 3, i % 3)

    def scale_by_scale(network):
        at, side = network.incremental(None, 1), (1, 2, 4)
        for k in range(3):
            at(torch.zeros(1, side[k] ** 2, 3) if k else None)

    assert counted(lambda: masked_steps(hidden)) == masked_cost(9, 16, 2, 7, 5)
    assert counted(lambda: masked_steps(hidden_near)) == masked_cost(9, 16, 2, 7, 5, 9)
    assert counted(places) == raster_cost(9, 16, 2, 7)
    near = ImageTransformerNetwork(ImageTransformer(raster.config.grid, raster.config.transformer, near=2))
    more = counted(lambda: near(page)) - counted(lambda: raster(page))
    assert more == raster_cost(9, 16, 2, 7, 2) - raster_cost(9, 16, 2, 7)
    assert counted(lambda: scale_by_scale(scales)) == scales_cost([1, 4, 16], 16, 2, 7, 3)
    assert counted(lambda: scale_by_scale(scales_near)) == scales_cost([1, 4, 16], 16, 2, 7, 3, 25)
