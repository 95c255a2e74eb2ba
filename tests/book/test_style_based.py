"""The equations of the chapter on growing and styles, held to counts by hand, plain loops and large samples."""

import math

import pytest
import torch

from gencore.gan import Draw, Growth, Networks, PathLength, path_length, truncate
from gencore.networks.equalised import EqualConv2d, EqualLinear
from gencore.networks.minibatch_std import minibatch_std
from gencore.networks.progressive import PixelNorm, Progressive, reduce_to
from gencore.networks.stylegan2 import ModulatedConv
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "gan/style-based"


@equation(
    "SB.1",
    r"k(n) = \min\Big(L,\ \Big\lfloor\frac{n}{2P}\Big\rfloor + \max\Big(0,\ \frac{n \bmod 2P}{P} - 1\Big)\Big)",
)
@pytest.mark.parametrize(
    "seen, expected",
    [(0, 0), (99, 0), (100, 0), (150, 0.5), (175, 0.75), (200, 1), (299, 1), (300, 1), (310, 1.1), (400, 2), (950, 2)],
)
def test_level_by_hand(seen, expected):
    """(SB.1): phases of 100 images and two doublings: rest, fade, rest, fade, and then for ever."""
    (level,) = load(CHAPTER, "level")
    assert level(seen, 100, 2) == pytest.approx(expected)
    assert Growth(phase=100).level(seen, 2) == pytest.approx(expected)


@equation("SB.2", r"x = (1-\alpha)\,\mathrm{up}(x_k) + \alpha\,x_{k+1}")
def test_fading_pixel_by_pixel():
    """(SB.2) by hand, and in gencore's generator between its two neighbouring levels."""
    (fade,) = load(CHAPTER, "fade")
    old = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]], dtype=torch.float64)
    new = torch.arange(16, dtype=torch.float64).view(1, 1, 4, 4)
    expected = [[0.75 * (1 + 2 * (i // 2) + j // 2) + 0.25 * (4 * i + j) for j in range(4)] for i in range(4)]
    close(fade(old, new, 0.25)[0, 0], torch.tensor(expected, dtype=torch.float64))

    torch.manual_seed(0)
    generator, _ = Progressive(size=16, channels=1, latent=8, width=4, max_width=8).build()
    generator.double()
    z, pictures = torch.randn(2, 8, dtype=torch.float64), {}
    for k in (1.0, 1.25, 2.0):
        generator.grow_to(k)
        pictures[k] = generator(z).detach()
    close(pictures[1.25], 0.75 * pictures[1.0] + 0.25 * pictures[2.0])
    x = torch.randn(2, 1, 16, 16, dtype=torch.float64)
    close(reduce_to(x, 1.25), fade(torch.nn.functional.avg_pool2d(x, 2), x, 0.25))


@equation("SB.3", r"\hat A_{ij} = \frac{g}{\sqrt n}\,A_{ij}, \qquad A_{ij}\sim\mathcal N(0,1) \text{ at the start}")
def test_equalised_weights():
    """(SB.3): the chapter's dense layer, its convolution, gencore's two; Adam moves all of them by its rate."""
    Equalised, Conv = load(CHAPTER, "Equalised", "Conv")
    torch.manual_seed(0)
    layer = Equalised(50, 400)
    assert layer.weight.std().item() == pytest.approx(1, abs=0.02)
    close(layer.used(), layer.weight * math.sqrt(2) / math.sqrt(50), atol=1e-6)
    close(layer(torch.eye(50)), layer.used().T, atol=1e-6)
    assert EqualLinear(50, 3, gain=1.5).scale == pytest.approx(1.5 / math.sqrt(50))
    for scale in (Conv(6, 5).scale, EqualConv2d(6, 5, 3).scale):
        assert scale == pytest.approx(math.sqrt(2) / math.sqrt(6 * 9))
    for inputs in (9, 900):
        layer = Equalised(inputs, 300)
        before = layer.used().detach()
        optimiser = torch.optim.Adam(layer.parameters(), 0.01)
        (layer(torch.randn(20, inputs)) - torch.randn(20, 300)).square().sum().backward()
        optimiser.step()
        assert ((layer.used() - before).norm() / before.norm()).item() == pytest.approx(0.01, rel=0.05)


@equation("SB.4", r"\hat h_c = \frac{h_c}{\sqrt{\tfrac1C\sum_{c'} h_{c'}^2}}")
def test_pixel_normalisation():
    """(SB.4), place by place."""
    (pixel_norm,) = load(CHAPTER, "pixel_norm")
    torch.manual_seed(0)
    h = 3 * torch.randn(2, 5, 3, 4, dtype=torch.float64)
    for b, i, j in ((0, 0, 0), (1, 2, 3), (0, 1, 2)):
        root = math.sqrt(sum(value**2 for value in h[b, :, i, j].tolist()) / 5)
        close(pixel_norm(h)[b, :, i, j], h[b, :, i, j] / root)
    close(PixelNorm()(h), pixel_norm(h), atol=1e-7)


@equation(
    "SB.5",
    r"\bar\sigma = \frac{1}{CHW}\sum_{c,i,j}\sqrt{\frac1M\sum_m \big(h_{mcij} - \bar h_{cij}\big)^2}",
)
def test_minibatch_standard_deviation():
    """(SB.5) by loops, for the chapter's group and for each of gencore's."""
    (std,) = load(CHAPTER, "minibatch_std")
    torch.manual_seed(0)
    h = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    total = 0.0
    for c in range(3):
        for i in range(2):
            for j in range(2):
                values = h[:, c, i, j].tolist()
                mean = sum(values) / 4
                total += math.sqrt(sum((value - mean) ** 2 for value in values) / 4)
    assert std(h).item() == pytest.approx(total / 12, abs=1e-6)
    assert minibatch_std(h)[0, -1, 1, 1].item() == pytest.approx(total / 12, abs=1e-6)
    assert std(h[:1].expand(4, -1, -1, -1)).item() == pytest.approx(1e-4)


@equation("SB.6", r"w' = \bar w + \psi\,(w - \bar w)")
def test_truncation():
    """(SB.6): by hand, and gencore's, whose styles have layers."""
    (cut,) = load(CHAPTER, "truncate")
    w, mean = torch.tensor([[4.0, 0.0], [1.0, 5.0]]), torch.tensor([[2.0, 2.0]])
    by_hand = torch.tensor([[2.5, 1.5], [1.75, 2.75]])
    close(cut(w, mean, 0.25), by_hand)
    close(truncate(w[:, None], mean, 0.25)[:, 0], by_hand)


@equation("SB.7", r"\ell_t = \frac{1}{\epsilon^2}\,d\big(x_t,\ x_{t+\epsilon}\big)")
def test_path_length_of_an_uneven_walk():
    """(SB.7): x_t = t^2 v has the squared speed (2 t |v|)^2, in the chapter and in gencore."""
    (length,) = load(CHAPTER, "path_length")
    torch.manual_seed(0)
    v, t = torch.randn(6, 4, dtype=torch.float64), torch.rand(6, dtype=torch.float64)
    expected = 4 * t.square() * v.square().sum(1)

    def walk(t):
        return t.square()[:, None] * v

    close(length(walk, t, step=1e-6), expected, rtol=1e-4, atol=1e-5)
    close(path_length(walk, lambda a, b: (a - b).square().sum(1), t, step=1e-6), expected, rtol=1e-4, atol=1e-5)


class LinearPainter(torch.nn.Module):
    """x = A w for one layer, as pictures of 2x3 pixels in two channels."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = torch.nn.Parameter(matrix)
        self.register_buffer("mean_path", torch.tensor(1.5))

    def styles(self, z):
        return z[:, None]

    def paint(self, w, z):
        return (w[:, 0] @ self.matrix.T).view(-1, 2, 2, 3)


@equation("SB.8", r"P = \lambda\,\mathbb E\big[(\|J^\top y\| - a)^2\big]")
def test_path_length_penalty_of_a_linear_painter():
    """(SB.8): the Jacobian is the matrix; y has variance 1/N for the N = 6 pixels of a channel."""
    (penalty,) = load(CHAPTER, "path_penalty")
    torch.manual_seed(0)
    matrix, z, y = torch.randn(12, 4), torch.randn(5, 4), torch.randn(5, 2, 2, 3)
    painter = LinearPainter(matrix)
    lengths = [(matrix.T @ (each.flatten() / math.sqrt(6))).norm().item() for each in y]
    expected = 0.7 * sum((each - 1.5) ** 2 for each in lengths) / 5
    w = z.clone().requires_grad_()
    assert penalty(painter.paint(w[:, None], z), w, y, 1.5, 0.7).item() == pytest.approx(expected, rel=1e-5)

    usual = 1.5 + 0.5 * (sum(lengths) / 5 - 1.5)  # gencore's moves first
    loss = PathLength(weight=0.7, every=4, decay=0.5, share=1).loss(
        Networks(painter, None), None, None, Draw(z.requires_grad_(), direction=y), None
    )
    expected = 4 * 0.7 * sum((each - usual) ** 2 for each in lengths) / 5
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)


def styled(seed=0):
    torch.manual_seed(seed)
    return torch.randn(3, 5, 3, 3, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)


@equation("SB.9", r"K'_{oik} = s_i\,K_{oik}")
def test_modulation():
    """(SB.9): to scale the kernel's inputs is to scale the maps."""
    modulate, convolve = load(CHAPTER, "modulate", "convolve")
    kernel, s = styled()
    own = modulate(kernel, s)
    assert own.shape == (2, 3, 5, 3, 3)
    close(own[1, 2, 4, 0, 1], s[1, 4] * kernel[2, 4, 0, 1])
    h = torch.randn(2, 5, 6, 6, dtype=torch.float64)
    close(convolve(h, own), torch.nn.functional.conv2d(h * s[:, :, None, None], kernel))


@equation("SB.10", r"K''_{oik} = \frac{K'_{oik}}{\sqrt{\sum_{i',k'} (K'_{oi'k'})^2}}")
def test_demodulation_keeps_variance_one():
    """(SB.10) by loops; the small pair's layer and gencore's agree; on independent inputs the variance is 1."""
    modulate, demodulate, StyledConv = load(CHAPTER, "modulate", "demodulate", "StyledConv")
    kernel, s = styled()
    own = demodulate(modulate(kernel, s))
    for b in range(2):
        for o in range(3):
            root = math.sqrt(sum((s[b, i] * kernel[o, i]).square().sum().item() for i in range(5)))
            close(own[b, o, 1], s[b, 1] * kernel[o, 1] / root, atol=1e-6)

    layer, w, h = StyledConv(5, 3, style=4), torch.randn(2, 4), torch.randn(2, 5, 7, 7)
    weights = demodulate(modulate(layer.scale * layer.kernel, layer.to_s(w)))
    expected = torch.cat([torch.nn.functional.conv2d(a[None], b, padding=1) for a, b in zip(h, weights)])
    expected = math.sqrt(2) * torch.where(expected > 0, expected, 0.2 * expected)
    close(layer(h, w), expected, atol=1e-4)

    theirs = ModulatedConv(5, 3, 3, style=4)
    weights = demodulate(modulate(theirs.scale * theirs.weight, theirs.affine(w)))
    expected = torch.cat([torch.nn.functional.conv2d(a[None], b, padding=1) for a, b in zip(h, weights)])
    close(theirs(h, w), expected, atol=1e-4)

    h = torch.randn(1, 5, 300, 300, dtype=torch.float64).expand(2, -1, -1, -1)
    out = torch.nn.functional.conv2d(h[:1], own[0])
    close(out.var((0, 2, 3)), torch.ones(3, dtype=torch.float64), atol=0.04)


@equation(
    "SB.11",
    r"\frac{a\,p}{\sqrt{a^2 + S^2/N}} \approx \frac{\sqrt N}{S}\,a\,p \qquad\text{if } S \gg a\sqrt N",
)
def test_strength_that_passes_a_droplet():
    """(SB.11): instance normalisation of a real map with a peak, and the limit of a large one."""
    passed, instance_norm = load(CHAPTER, "passed", "instance_norm")
    torch.manual_seed(0)
    p = torch.randn(1, 1, 100, 100, dtype=torch.float64)
    p[..., 0, 0] = 0
    p = p / p.square().mean().sqrt()
    for a, S in ((0.3, 0.0), (0.3, 50.0), (2.0, 50.0), (2.0, 1000.0)):
        h = a * p
        h[..., 0, 0] += S
        close(instance_norm(h)[..., 1:, 1:], passed(a, S, 10_000) * p[..., 1:, 1:], atol=1e-6)
    assert passed(1.0, 1e5, 100) == pytest.approx(math.sqrt(100) / 1e5, rel=1e-6)


def test_the_bend_takes_the_square_to_the_l_evenly():
    """Continuous, onto the L and nothing else, with the determinant 3/4 everywhere."""
    (bend,) = load(CHAPTER, "bend")
    torch.manual_seed(0)
    z = torch.rand(2000, 2, dtype=torch.float64)
    out = bend(z)
    assert ((out >= 0) & (out <= 1)).all() and not (out > 0.5 + 1e-12).all(1).any()
    step = 1e-7
    columns = [(bend(z + step * axis) - out) / step for axis in torch.eye(2, dtype=torch.float64)]
    determinants = (columns[0][:, 0] * columns[1][:, 1] - columns[0][:, 1] * columns[1][:, 0]).abs()
    assert ((determinants - 0.75).abs() < 1e-5).double().mean() > 0.999
    seam = torch.rand(500, dtype=torch.float64)
    for ratio in (1.0, 2 / 3):
        near = [bend(torch.stack([seam, seam * ratio * (1 + side * 1e-9)], 1)) for side in (1, -1)]
        close(near[0], near[1], atol=1e-8)
