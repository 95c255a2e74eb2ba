"""The equations of the chapter on style transfer, held to sums by hand, to definitions, and to gencore."""

import torch
from torch import nn
from torch.nn import functional as F

from gencore.applications.style_transfer import (
    Brushes, Examples, Layers, Networks, Painted, content_distance, gram, grams, style_distance, total_variation,
)
from gencore.applications.style_transfer.examples import mixture
from gencore.applications.style_transfer.objectives import blended
from gencore.networks.adain import EPSILON, adain
from gencore.networks.image_transform import ImageTransform, StyledConv
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "applications/style-transfer"
LAYERS = Layers((0, 1), content=1, enlarge=1)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@equation("STY.1", r"G(h) = \frac 1N \sum_{n=1}^N h_n h_n^\top")
def test_gram_matrix():
    """(STY.1), place by place."""
    h = noise(2, 3, 4, 5).float()
    for b in range(2):
        places = h[b].flatten(1).T  # (N, C)
        close(gram(h)[b], sum(torch.outer(v, v) for v in places) / len(places), 1e-5)


@equation(
    "STY.2", r"S(G, A) = \frac 1L \sum_{l=1}^L \frac{\lVert G_l - A_l \rVert^2}{\lVert A_l \rVert^2}"
)
def test_style_distance():
    """(STY.2), entry by entry."""
    G, A = ({n: noise(1, n, n, seed=seed + n) for n in (2, 3, 4)} for seed in (0, 10))
    total = 0.0
    for n in (2, 3, 4):
        above = sum((G[n][0, i, j] - A[n][0, i, j]) ** 2 for i in range(n) for j in range(n))
        total += above / sum(A[n][0, i, j] ** 2 for i in range(n) for j in range(n))
    close(style_distance(G, A), (total / 3)[None])


@equation(
    "STY.3",
    r"\begin{aligned} \lVert G(h) - G(a) \rVert^2 = {} & \frac 1{N^2} \sum_{n,n'} k(h_n, h_{n'})"
    r" - \frac 2{NM} \sum_{n,m} k(h_n, a_m) \\ & + \frac 1{M^2} \sum_{m,m'} k(a_m, a_{m'}), \quad"
    r" k(x, y) = (x^\top y)^2. \end{aligned}",
)
def test_gram_matrices_are_compared_by_a_quadratic_kernel():
    """(STY.3): both sides, the right one by plain sums."""
    (mmd,) = load(CHAPTER, "mmd")
    h, a = noise(7, 3), noise(5, 3, seed=1) + 0.5

    def k(x, y):
        return float((x * y).sum()) ** 2

    right = sum(k(x, y) for x in h for y in h) / 49 - 2 * sum(k(x, y) for x in h for y in a) / 35
    right += sum(k(x, y) for x in a for y in a) / 25
    close(mmd(h, a).item(), right)
    left = (sum(torch.outer(v, v) for v in h) / 7 - sum(torch.outer(v, v) for v in a) / 5).square().sum()
    close(mmd(h, a), left)


@equation("STY.4", r"C(x, p) = \frac{\sum_n \lVert h_n(x) - h_n(p) \rVert^2}{\sum_n \lVert h_n(p) \rVert^2}")
def test_content_distance():
    """(STY.4), place by place."""
    x, p = noise(1, 3, 2, 4).float(), noise(1, 3, 2, 4, seed=1).float()
    pairs = list(zip(x[0].flatten(1).T, p[0].flatten(1).T, strict=True))
    expected = sum(((u - v) ** 2).sum() for u, v in pairs) / sum((v**2).sum() for _, v in pairs)
    close(content_distance(x, p), expected[None], 1e-6)


@equation(
    "STY.5",
    r"T(x) = \operatorname{mean}_{i,j} (x_{i+1,j} - x_{i,j})^2 + \operatorname{mean}_{i,j} (x_{i,j+1} - x_{i,j})^2",
)
def test_total_variation():
    """(STY.5), pixel by pixel."""
    x = noise(1, 2, 3, 4)
    down = [(x[0, c, i + 1, j] - x[0, c, i, j]) ** 2 for c in range(2) for i in range(2) for j in range(4)]
    across = [(x[0, c, i, j + 1] - x[0, c, i, j]) ** 2 for c in range(2) for i in range(3) for j in range(3)]
    close(total_variation(x), (sum(down) / 16 + sum(across) / 18)[None])


class Two(nn.Module):
    """A fixed network of two layers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

    def forward(self, x):
        h = self.first(x).relu()
        return {0: h, 1: self.second(h).relu()}


class Shows(nn.Module):
    def __init__(self, picture):
        super().__init__()
        self.picture = picture

    def forward(self, *given):
        return self.picture


@equation("STY.6", r"J(x) = \alpha\, S\big(G(x), G(s)\big) + \beta\, C(x, p) + \gamma\, T(x)")
def test_what_optimisation_minimises():
    """(STY.6)."""
    features = Two()
    x, p, s = (noise(1, 3, 8, 8, seed=seed).float() for seed in range(3))
    loss = Painted(LAYERS, style=7, content=5, variation=3).of_picture(features, x, features(p)[1], grams(features(s), LAYERS))
    S = style_distance(grams(features(x), LAYERS), grams(features(s), LAYERS))
    expected = 7 * S + 5 * content_distance(features(x)[1], features(p)[1]) + 3 * total_variation(x)
    close(loss.total, expected[0], 1e-5)


@equation("STY.7", r"\mathrm{AdaIN}(h, a) = d'\, \frac{h - m}{d} + m'")
def test_adaptive_instance_normalisation():
    """(STY.7), but for what is added to variances."""
    h, a = 2 * noise(1, 2, 5, 6) + 1, noise(1, 2, 4, 3, seed=1) - 3
    for c in range(2):
        m, d = h[0, c].mean(), (h[0, c].var(correction=0) + EPSILON).sqrt()
        other, wanted = a[0, c].mean(), (a[0, c].var(correction=0) + EPSILON).sqrt()
        close(adain(h.float(), a.float())[0, c].double(), wanted * (h[0, c] - m) / d + other, 1e-4)


@equation("STY.8", r"W^2 = \mathbb E\big[(\mathrm{AdaIN}(h, a) - h)^2\big] = (m - m')^2 + (d - d')^2")
def test_what_moving_a_normal_law_costs():
    """(STY.8): by the map itself, and by the quantiles of two normal laws."""
    (wasserstein,) = load(CHAPTER, "wasserstein")
    u = torch.special.ndtri((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000)
    h, a = 1.7 * u - 0.4, 0.6 * u + 2.0
    by_hand = torch.tensor((-0.4 - 2.0) ** 2 + (1.7 - 0.6) ** 2, dtype=torch.float64)
    close(wasserstein(h, a), by_hand, 1e-3)
    close((0.6 * (h + 0.4) / 1.7 + 2.0 - h).square().mean(), by_hand, 1e-3)
    close((h.sort().values - a.sort().values).square().mean(), wasserstein(h, a), 1e-9)


@equation("STY.9", r"\hat h_{bcn} = \frac{h_{bcn} - m_{bc}}{\sqrt{d_{bc}^2 + \epsilon}}")
def test_instance_normalisation():
    """(STY.9): a styled convolution whose scale is 1 and shift 0 is PyTorch's instance normalisation."""
    torch.manual_seed(0)
    layer = StyledConv(3, 4, 3, ImageTransform(styles=2, width=4, blocks=1))
    x = noise(2, 3, 8, 9).float()
    h = layer.conv(F.pad(x, (1, 1, 1, 1), mode="reflect"))
    found = layer(x, torch.tensor([[1.0, 0.0], [0.3, 0.7]]))
    close(found, F.instance_norm(h), 1e-5)
    m, d2 = h[1, 2].mean(), h[1, 2].var(correction=0)
    close(found[1, 2], (h[1, 2] - m) / (d2 + 1e-5).sqrt(), 1e-5)


@equation(
    "STY.10",
    r"\tilde h_{bcn} = \Big(\sum_k w_{bk}\, g_{kc}\Big)\, \hat h_{bcn} + \sum_k w_{bk}\, e_{kc}",
)
def test_rows_of_scales_and_shifts_are_mixed():
    """(STY.10), channel by channel."""
    torch.manual_seed(0)
    layer = StyledConv(3, 4, 3, ImageTransform(styles=3, width=4, blocks=1))
    x, w = noise(2, 3, 6, 6).float(), torch.tensor([[0.2, 0.5, 0.3], [0.0, 0.1, 0.9]])
    hat = layer(x, w)  # scales are 1 and shifts 0
    with torch.no_grad():
        g, e = layer.scale.normal_(), layer.shift.normal_()
    found = layer(x, w)
    for b in range(2):
        for c in range(4):
            scale, shift = (sum((w[b, k] * rows[k, c].detach()).item() for k in range(3)) for rows in (g, e))
            close(found[b, c], scale * hat[b, c] + shift, 1e-5)


@equation(
    "STY.11",
    r"J = \alpha\, a\, S + \beta\, C + \gamma\, T + \delta\, (1 - a)\, \operatorname{mean}\big((x - p)^2\big)",
)
def test_what_networks_minimise():
    """(STY.11), for both kinds of networks."""
    features, a = Two(), 0.3
    x, p, s = (noise(1, 3, 8, 8, seed=seed).float() for seed in range(3))
    objective, strength = Painted(LAYERS, style=7, content=5, variation=3, pixels=11), torch.tensor([a])
    wanted = grams(features(s), LAYERS)
    S = style_distance(grams(features(x), LAYERS), wanted)
    rest = 7 * a * S + 3 * total_variation(x) + 11 * (1 - a) * ((x - p) ** 2).mean()
    by_rows = objective.by_network(Networks(Shows(x)), features, p, Brushes(torch.ones(1, 1), wanted, strength))
    close(by_rows.total, (rest + 5 * content_distance(features(x)[1], features(p)[1]))[0], 1e-4)
    by_example = objective.by_example(Networks(Shows(x)), features, p, Examples(s, strength), (1,))
    target = blended(features(p), features(s), (1,), strength)[0]
    close(by_example.total, (rest + 5 * content_distance(features(x)[1], target))[0], 1e-4)


@equation("STY.12", r"w_k = a, \qquad w_{\text{last}} = 1 - a")
def test_shares_of_a_style_and_of_the_photograph():
    """(STY.12)."""
    close(mixture(torch.tensor([1]), torch.tensor([0.3]), 4), torch.tensor([[0.0, 0.3, 0.0, 0.7]]), 1e-6)


@equation("STY.13", r"t = (1 - a)\, h(p) + a\, \mathrm{AdaIN}\big(h(p), h(s)\big)")
def test_part_of_the_way():
    """(STY.13)."""
    h, s = noise(1, 3, 4, 4).float(), 2 * noise(1, 3, 5, 5, seed=1).float() + 1
    (found,) = blended({4: h}, {4: s}, (4,), torch.tensor([0.3]))
    close(found, 0.7 * h + 0.3 * adain(h, s), 1e-5)
