"""The equations of the chapter on image translation, held to drawn samples, numerical derivatives and gencore."""

import math

import pytest
import torch
from torch import nn

from gencore.applications.translation.objectives import CycleDraw, CycleNetworks, cross, cycle_loss, translation_loss
from gencore.gan.objectives import NonSaturating
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "applications/image-translation"
VALUES = torch.tensor([-1.0, 0.3, 2.0], dtype=torch.float64)
SHARES = torch.tensor([0.2, 0.35, 0.45], dtype=torch.float64)


def expected(power, a):
    """The expected error of an answer, over three values."""
    return (SHARES * (VALUES - a).abs() ** power).sum()


@equation(
    "TL.1",
    r"\frac{\partial}{\partial a}\, \mathbb E\big[(y - a)^2 \mid x\big] = 0 \quad \Longrightarrow \quad"
    r" a = \mathbb E[y \mid x].",
)
def test_the_squared_error_asks_for_the_mean():
    """(TL.1): the slope vanishes at the mean and nowhere else."""
    a = torch.linspace(-2, 3, 51, dtype=torch.float64, requires_grad=True)
    mean = (SHARES * VALUES).sum()
    (slope,) = torch.autograd.grad(sum(expected(2, each) for each in a), a)
    close(slope, 2 * (a - mean).detach())


@equation(
    "TL.2",
    r"\frac{\partial}{\partial a}\, \mathbb E\big[|y - a| \mid x\big] = P(y < a \mid x) - P(y > a \mid x).",
)
def test_the_absolute_error_asks_for_the_median():
    """(TL.2): the slope by differences, and that the least lies where it changes sign."""
    for a in (-1.5, -0.4, 0.1, 0.9, 1.7, 2.5):
        slope = (expected(1, a + 1e-6) - expected(1, a - 1e-6)) / 2e-6
        close(slope, SHARES[VALUES < a].sum() - SHARES[VALUES > a].sum(), atol=1e-7)
    grid = torch.linspace(-2, 3, 501, dtype=torch.float64)
    best = grid[torch.stack([expected(1, a) for a in grid]).argmin()]
    assert best.item() == pytest.approx(0.3)
    below, above = (SHARES[side].sum() for side in (best - VALUES > 1e-9, VALUES - best > 1e-9))
    assert below <= 0.5 and above <= 0.5


@equation("TL.3", r"D^*(x, y) = \frac{p(y \mid x)}{p(y \mid x) + q(y \mid x)},")
def test_the_best_judge():
    """(TL.3): no other verdict gives the judge more."""
    (best_judge,) = load(CHAPTER, "best_judge")
    p, q = torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.3, 0.2]], dtype=torch.float64)
    verdict = torch.linspace(0.001, 0.999, 9981, dtype=torch.float64)
    for true, made in zip(p, q, strict=True):
        value = true * verdict.log() + made * (1 - verdict).log()
        close(best_judge(true, made), verdict[value.argmax()], atol=2e-4)


@equation(
    "TL.4",
    r"V_\lambda(q) = 2\, \mathrm{JSD}(\pi, q) - \log 4 + 2 \lambda \big(\pi (1 - q) + (1 - \pi)\, q\big),",
)
def test_what_the_generator_pays():
    """(TL.4): the divergence by its definition and the distance by counting; and the stationary point of the answer."""
    paid, best_answer = load(CHAPTER, "paid", "best_answer")
    pi, q, weight = 0.7, 0.45, 0.8

    def kl(a, b):
        return sum(x * math.log(x / y) for x, y in ((a, b), (1 - a, 1 - b)))

    middle = (pi + q) / 2
    jsd = (kl(pi, middle) + kl(q, middle)) / 2
    off = sum(t * m * abs(x - y) for x, t in ((1, pi), (-1, 1 - pi)) for y, m in ((1, q), (-1, 1 - q)))
    found = paid(*(torch.tensor(each, dtype=torch.float64) for each in (pi, q)), weight)
    close(found, torch.tensor(2 * jsd - math.log(4) + weight * off, dtype=torch.float64))
    best = best_answer(torch.tensor([pi], dtype=torch.float64), weight).item()
    force = math.log(best * (2 - pi - best) / ((pi + best) * (1 - best)))
    assert force == pytest.approx(2 * weight * (2 * pi - 1), abs=0.02)
    rare = 1 - best_answer(torch.tensor([pi], dtype=torch.float64), 10.0).item()  # the rule for large weights
    assert rare == pytest.approx((1 - pi) / (1 + pi) * math.exp(-20 * (2 * pi - 1)), rel=0.02)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, 1.2])
def test_the_toys_balance_with_the_other_loss(weight):
    """Against the best judge, held fixed, the loss (TL.6) has slope 0 at the balance, or pulls towards 1 to the end."""
    best_judge, rare_share = load(CHAPTER, "best_judge", "rare_share")
    pi = 0.7
    q = torch.tensor(1 - rare_share(pi, weight), dtype=torch.float64, requires_grad=True)
    judge = [best_judge(true, made).detach() for true, made in ((pi, q), (1 - pi, 1 - q))]
    pays = -(q * judge[0].log() + (1 - q) * judge[1].log()) + 2 * weight * (pi * (1 - q) + (1 - pi) * q)
    (slope,) = torch.autograd.grad(pays, q)
    if q < 1:
        close(slope, torch.tensor(0.0, dtype=torch.float64))
    else:
        assert slope < 0


@equation(
    "TL.5",
    r"\mathbb E \log D(x, y) + \mathbb E \log\big(1 - D(x, G(x, z))\big) + \lambda\, \mathbb E \big| y - G(x, z) \big|,",
)
@equation(
    "TL.6",
    r"L_D = \mathbb E \operatorname{softplus}\big({-s(x, y)}\big) + \mathbb E \operatorname{softplus}\big(s(x, \hat y)\big),"
    r" \qquad L_G = \mathbb E \operatorname{softplus}\big({-s(x, \hat y)}\big) + \lambda\, \mathbb E |y - \hat y|,",
)
def test_losses_of_pairs():
    """(TL.5), (TL.6): logarithms of probabilities against logits; and gencore's generator pays the same."""
    judge_loss, generator_loss, distance = load(CHAPTER, "judge_loss", "generator_loss", "distance")
    draw = torch.Generator().manual_seed(0)
    real, made = torch.randn(2, 4, 1, 3, 3, dtype=torch.float64, generator=draw)
    y, guess = torch.randn(2, 4, 3, 8, 8, dtype=torch.float64, generator=draw)
    real_says, made_says = real.sigmoid(), made.sigmoid()
    close(judge_loss(real, made), -(real_says.log().mean() + (1 - made_says).log().mean()))
    close(generator_loss(made, y, guess, 10.0), -made_says.log().mean() + 10 * (y - guess).abs().mean())

    class Judge(nn.Module):
        def forward(self, y, given):
            return made

    theirs = translation_loss(NonSaturating(), 1.0, 10.0, Judge(), y, guess, (y, guess, y))
    close(generator_loss(made, y, guess, 10.0), theirs.total)

    class Pairs:
        target = torch.tensor([[0, 255]], dtype=torch.uint8)

    close(distance(torch.tensor([[0.0, 0.5]]), Pairs()), 0.75)


class Line(nn.Module):
    """A straight line."""

    def __init__(self, slope, shift):
        super().__init__()
        self.slope, self.shift = slope, shift

    def forward(self, x):
        return self.slope * x + self.shift


def lines(w, v):
    """Two translators, pictures of both kinds, and how gencore crosses them."""
    m_a, s_a, m_b, s_b = load_world()
    draw = torch.Generator().manual_seed(0)
    n = torch.randn(2, 400_000, 1, 1, 1, dtype=torch.float64, generator=draw)
    a, b = m_a + s_a * n[0], m_b + s_b * n[1]
    networks = CycleNetworks(Line(w, m_b - w * m_a), Line(v, m_a - v * m_b))
    nothing = torch.zeros(1, dtype=torch.float64)
    return a, b, cross(networks, a, b, 0.0, CycleDraw(nothing, nothing, nothing), True)


def load_world():
    """The means and standard deviations of the chapter's toy."""
    return -0.5, 1.0, 0.5, 1.5


def test_the_toy_is_the_chapters():
    """What `load_world` says stands in the notebook."""
    (comes_back,) = load(CHAPTER, "comes_back")
    names = comes_back.__globals__
    assert (names["M_A"], names["S_A"], names["M_B"], names["S_B"]) == load_world()


def as_the_chapter_says(formula, w, v, cycle, identity, atol):
    """Hold a formula of the chapter for two slopes to gencore's loss on many pictures; return names, pictures and crossing."""
    names = load(CHAPTER, formula)[0].__globals__
    names.setdefault("MEAN", math.sqrt(2 / math.pi))
    a, b, crossing = lines(w, v)
    found = cycle_loss(a, b, crossing, cycle, identity).total
    close(names[formula](*torch.tensor([w, v], dtype=torch.float64)), found, atol=atol)
    return names, a, b, crossing


@equation(
    "TL.7",
    r"L_{\text{cycle}} = \mathbb E\, \big| G(F(a)) - a \big| + \mathbb E\, \big| F(G(b)) - b \big|.",
)
@equation(
    "TL.8",
    r"\mathbb E |G(F(a)) - a| = |1 - vw|\, s_a \sqrt{2/\pi}, \qquad \mathbb E |F(G(b)) - b| = |1 - vw|\, s_b \sqrt{2/\pi}.",
)
@pytest.mark.parametrize(("w", "v"), [(1.5, 1 / 1.5), (-1.5, -1 / 1.5), (0.7, -0.4), (1.2, 0.9)])
def test_coming_back(w, v):
    """(TL.7), (TL.8): gencore's cycle loss on many pictures against the formula, both signs."""
    _, a, b, crossing = as_the_chapter_says("comes_back", w, v, cycle=1.0, identity=0.0, atol=1e-2)
    _, s_a, _, s_b = load_world()
    for back, x, std in ((crossing.back_a, a, s_a), (crossing.back_b, b, s_b)):  # each term by itself
        mean = abs(1 - v * w) * std * math.sqrt(2 / math.pi)
        close((back - x).abs().mean(), torch.tensor(mean, dtype=torch.float64), atol=1e-2)


@equation(
    "TL.9",
    r"\mathbb E |F(b) - b| = \tau \sqrt{2/\pi}\; e^{-\mu^2 / 2 \tau^2} + \mu \big(1 - 2\, \Phi(-\mu / \tau)\big),",
)
@pytest.mark.parametrize(("w", "v"), [(1.5, 1 / 1.5), (-1.5, -1 / 1.5), (0.7, -0.4)])
def test_staying(w, v):
    """(TL.9): gencore's identity loss on many pictures against the formula."""
    names, _, b, crossing = as_the_chapter_says("stays", w, v, cycle=0.0, identity=1.0, atol=2e-2)
    m_a, _, m_b, s_b = load_world()
    mu, tau = torch.tensor([w * (m_b - m_a), s_b * abs(w - 1)], dtype=torch.float64)
    close(names["folded"](mu, tau), (crossing.same_b - b).abs().mean(), atol=1e-2)  # the term that is displayed


@equation("TL.10", r"\mathbb E (t - \hat t)^2 = \frac{\sigma^2}{\alpha^2 + \sigma^2}.")
def test_reading_a_faint_secret():
    """(TL.10): the best straight line through the origin, fitted to drawn pairs, has this error."""
    (reading_error,) = load(CHAPTER, "reading_error")
    t, n = torch.randn(2, 400_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for alpha, sigma in ((2.0, 1.0), (1.0, 3.0)):
        arrived = alpha * t + sigma * n
        read = arrived * (arrived * t).mean() / arrived.square().mean()
        close(reading_error(alpha, sigma), (t - read).square().mean().item(), atol=5e-3)


@equation("TL.11", r"I = \tfrac12 \log_2 \Big(1 + \frac{\alpha^2}{\sigma^2}\Big).")
def test_room_for_a_secret():
    """(TL.11): what is known afterwards, in bits: entropies of Gaussians before and after reading."""
    room, reading_error = load(CHAPTER, "room", "reading_error")
    for alpha, sigma in ((2.0, 1.0), (1.0, 3.0), (0.5, 0.29)):
        close(room(alpha, sigma), -0.5 * math.log2(reading_error(alpha, sigma)))


@equation(
    "TL.12",
    r"L = \mathbb E\, \big| R(H(b) + \nu n) - b \big| + \kappa\, \mathbb E \big(H(b) - \operatorname{grey}(b)\big)^2.",
)
def test_what_hider_and_reader_minimise():
    """(TL.12): by loops over pixels; and that a true grey picture pays nothing for its looks."""
    hiding_loss, grey, Hider = load(CHAPTER, "hiding_loss", "grey", "Hider")
    draw = torch.Generator().manual_seed(0)
    b, read = torch.rand(2, 2, 3, 4, 4, dtype=torch.float64, generator=draw)
    a = torch.rand(2, 1, 4, 4, dtype=torch.float64, generator=draw)
    come, look = 0.0, 0.0
    for picture in range(2):
        for i in range(4):
            for j in range(4):
                red, green, blue = b[picture, :, i, j].tolist()
                look += (a[picture, 0, i, j].item() - 0.299 * red - 0.587 * green - 0.114 * blue) ** 2
                come += sum(abs(read[picture, c, i, j].item() - b[picture, c, i, j].item()) for c in range(3))
    close(hiding_loss(b, a, read, 7.0), torch.tensor(come / 96 + 7 * look / 32, dtype=torch.float64))
    close(hiding_loss(b, grey(b), b, 7.0), torch.tensor(0.0, dtype=torch.float64))
    hider = Hider().double()
    close(hider(b), grey(b) + hider.change(b))
