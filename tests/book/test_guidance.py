r"""The equations of the chapter "Guidance", held to independent computations."""

import math

import pytest
import torch

from gencore.analytic import GaussianMixture
from gencore.diffusion import EDM, Cosine, Denoiser, Flow, Linear
from gencore.diffusion.denoiser import clean, noise_in, target
from gencore.diffusion.guidance import classifier_guided, extrapolate
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "diffusion/guidance"
PROCESSES = (Linear(), Cosine(), Flow(), EDM())
COUNT = 3  # components of the class, as in the chapter

pytestmark = pytest.mark.usefixtures("double_precision")
each_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)


@pytest.fixture
def both():
    """Five Gaussians without any symmetry, of which the first three make the class."""
    factors = torch.tensor([[[0.5, 0.0], [0.3, 0.4]], [[0.3, 0.0], [-0.1, 0.6]], [[0.4, 0.0], [0.0, 0.4]]])
    factors = torch.cat([factors, factors[:2].flip(0)])
    means = torch.tensor([[-1.0, 0.2], [1.3, 0.7], [0.6, -1.1], [0.2, 0.9], [-0.7, -0.8]])
    return GaussianMixture(torch.tensor([0.25, 0.2, 0.1, 0.3, 0.15]), means, factors @ factors.mT)


@pytest.fixture
def told(both):
    """The class alone."""
    weights = both.weights[:COUNT] / both.weights[:COUNT].sum()
    return GaussianMixture(weights, both.means[:COUNT], both.covariances[:COUNT])


def points(n=6):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(3))


def half_way(process):
    """A time at which data and noise can both be seen, and the two factors."""
    t = {"Linear": 0.3, "Cosine": 0.45, "Flow": 0.45, "EDM": 0.35}[type(process).__name__]
    t = torch.tensor(t)
    return t, process.alpha(t), process.sigma(t)


def slope(f, x, h=1e-5):
    """The gradient of a function of points (N, 2), by central differences."""
    steps = h * torch.eye(2)
    return torch.stack([(f(x + step) - f(x - step)) / (2 * h) for step in steps], 1)


@equation(
    "GU.1",
    r"\nabla \log p_t(x_t \mid y) = \nabla \log p_t(x_t) + \nabla \log P_t(y \mid x_t)",
)
@each_process
def test_the_score_of_a_class_by_bayes(both, told, process):
    """(GU.1): both scores by differences of log-densities, and the classifier from the two densities."""
    score_by_bayes, log_class = load(CHAPTER, "score_by_bayes", "log_class")
    t, alpha, sigma = half_way(process)
    x_t = alpha * points()
    of_class, of_all = told.noised(alpha, sigma), both.noised(alpha, sigma)
    close(score_by_bayes(both, process, x_t, t), slope(of_class.log_prob, x_t), atol=1e-7)
    prior = both.weights[:COUNT].sum().log()
    close(log_class(both, process, x_t, t), prior + of_class.log_prob(x_t) - of_all.log_prob(x_t), atol=1e-9)


@equation(
    "GU.2",
    r"D_w(x_t, t, y) = D(x_t, t) + w\,\frac{\sigma_t^2}{\alpha_t}\,\nabla \log P_t(y \mid x_t)",
)
@each_process
@pytest.mark.parametrize("w", [0.0, 1.0, 2.5])
def test_a_classifier_moves_the_mean_clean_point(both, told, process, w):
    """(GU.2): chapter and library, against Tweedie's formula on a score that is put together by differences."""
    by_classifier, log_class = load(CHAPTER, "by_classifier", "log_class")
    t, alpha, sigma = half_way(process)
    x_t = alpha * points()
    of_all, of_class = both.noised(alpha, sigma).log_prob, told.noised(alpha, sigma).log_prob
    score = slope(lambda x: of_all(x) + w * (of_class(x) - of_all(x)), x_t)
    expected = (x_t + sigma**2 * score) / alpha
    close(by_classifier(both, process, w)(x_t, t), expected, atol=1e-6)
    library = classifier_guided(
        lambda x, s: both.denoise(alpha, sigma, x), process, lambda x, s: log_class(both, process, x, s), w
    )
    close(library(x_t, t), expected, atol=1e-6)


@equation(
    "GU.3",
    r"""
    \nabla \log P_t(y \mid x_t) = \nabla \log p_t(x_t \mid y) - \nabla \log p_t(x_t) =
    \frac{\alpha_t}{\sigma_t^2}\,\big(D(x_t, t, y) - D(x_t, t, \varnothing)\big)
    """,
)
@each_process
def test_two_clean_points_imply_a_classifier(both, told, process):
    """(GU.3): against differences of the classifier's logarithm."""
    (implicit_compass,) = load(CHAPTER, "implicit_compass")
    t, alpha, sigma = half_way(process)
    x_t = alpha * points()
    seen = [law.denoise(alpha, sigma, x_t) for law in (told, both)]

    def log_classifier(x):
        return both.noised(alpha, sigma).posterior(x)[:, :COUNT].sum(1).log()

    close(implicit_compass(process, *seen, t), slope(log_classifier, x_t), atol=1e-7)


@equation(
    "GU.4",
    r"""
    D_w(x_t, t, y) = D(x_t, t, \varnothing) + w\,\big(D(x_t, t, y) - D(x_t, t, \varnothing)\big)
    """,
)
@pytest.mark.parametrize("w", [0.0, 0.5, 1.0, 3.0])
def test_without_a_classifier_the_same(both, told, w):
    """(GU.4) is (GU.2), and Ho & Salimans' equation 6 with their weight w - 1; the library's line is the chapter's."""
    ours, guided, by_classifier = load(CHAPTER, "extrapolate", "guided", "by_classifier")
    t, alpha, sigma = half_way(Flow())
    x_t = alpha * points()
    seen = [law.denoise(alpha, sigma, x_t) for law in (told, both)]
    close(guided(both, told, Flow(), w)(x_t, t), by_classifier(both, Flow(), w)(x_t, t), atol=1e-9)
    noises = [noise_in(Flow(), x_t, x, t) for x in (ours(*seen, w), *seen)]
    close(noises[0], (1 + (w - 1)) * noises[1] - (w - 1) * noises[2], atol=1e-9)

    def network(x, t, cond):
        return torch.where(cond == 0, told.denoise(alpha, sigma, x), both.denoise(alpha, sigma, x))

    cond = torch.zeros(6, 1, dtype=torch.int64)
    close(extrapolate(Denoiser(network, Flow(), "x"), x_t, t.expand(6), cond, cond + 1, w), ours(*seen, w).float(), atol=1e-6)


@equation(
    "GU.5",
    r"""
    (1 - w)\,\big(a\,x_t + b\,D(x_t, t, \varnothing)\big) + w\,\big(a\,x_t + b\,D(x_t, t, y)\big) = a\,x_t + b\,D_w(x_t, t, y)
    """,
)
@each_process
@pytest.mark.parametrize("prediction", ["x", "eps", "v", "velocity", "edm"])
def test_every_output_may_be_extrapolated(process, prediction):
    """(GU.5): the outputs of two clean points, extrapolated, mean the extrapolated clean point."""
    (ours,) = load(CHAPTER, "extrapolate")
    t, alpha, sigma = half_way(process)
    x_t, told, untold, w = alpha * points(), points().flip(0), points().sin(), 4.0
    outputs = [target(prediction, process, x, (x_t - alpha * x) / sigma, t) for x in (told, untold)]
    close(clean(prediction, process, ours(*outputs, w), x_t, t), w * told - (w - 1) * untold, atol=1e-8)


def plane(side=161, reach=4.5):
    line = torch.linspace(-reach, reach, side)
    return torch.cartesian_prod(line, line), (line[1] - line[0]) ** 2


@equation(
    "GU.6",
    r"q_w(x) = \frac{1}{Z}\,p(x \mid y)^w\,p(x)^{1-w} = \frac{1}{Z'}\,p(x)\,P(y \mid x)^w",
)
@pytest.mark.parametrize("w", [0.0, 0.5, 1.0, 3.0])
def test_the_tilted_law(both, told, w):
    """(GU.6): the first form by the chapter, the second from the classifier; both are laws."""
    (tilted,) = load(CHAPTER, "tilted")
    grid, cell = plane()
    found = tilted(both, told, w, grid)
    second = both.log_prob(grid).exp() * both.posterior(grid)[:, :COUNT].sum(1) ** w
    close(found, second / second.sum(), atol=1e-12)
    close(found.sum(), 1.0)
    if w == 1:
        close(found / cell, told.log_prob(grid).exp(), atol=1e-4)


@equation(
    "GU.7",
    r"""
    \nabla\log q_{w,t}(x_t) - \big(\nabla\log p_t(x_t) + w\,\nabla\log P_t(y \mid x_t)\big) =
    \nabla\log\frac{\mathbb E\big[P(y \mid x)^w \mid x_t\big]}{\mathbb E\big[P(y \mid x) \mid x_t\big]^w}
    """,
)
@pytest.mark.parametrize("w", [0.0, 0.5, 1.0, 3.0])
def test_what_guidance_leaves_out(both, told, w):
    """(GU.7): the left side by differences, with the noised tilted law as a sum over a grid of clean points."""
    missing_term, denoise_grid, guided = load(CHAPTER, "missing_term", "denoise_grid", "guided")
    process, (grid, _) = Flow(), plane()
    t, alpha, sigma = half_way(process)
    x_t = alpha * points()
    log_mass = (w * told.log_prob(grid) + (1 - w) * both.log_prob(grid)).log_softmax(0)

    def noised(x):
        away = (x[:, None] - alpha * grid).square().sum(-1)
        return (log_mass - away / (2 * sigma**2)).logsumexp(1)

    of_all, of_class = both.noised(alpha, sigma).log_prob, told.noised(alpha, sigma).log_prob
    left = slope(lambda x: noised(x) - (1 - w) * of_all(x) - w * of_class(x), x_t)
    close(missing_term(both, told, process, w, x_t, t, grid), left, atol=1e-6)
    if w in (0, 1):
        close(left, torch.zeros(6, 2), atol=1e-6)
    else:
        assert left.abs().max() > 0.05
    repaired = guided(both, told, process, w)(x_t, t) + sigma**2 / alpha * left
    close(denoise_grid(log_mass.exp(), grid, process)(x_t, t), repaired, atol=1e-3)


@equation(
    "GU.8",
    r"""
    \text{guided: } c^{\,w}\,s^{\,1-w}, \qquad\qquad \text{tilted: } \Big(\frac{w}{c^2} + \frac{1-w}{s^2}\Big)^{-1/2}
    """,
)
@pytest.mark.parametrize(("c", "s", "w"), [(0.5, 1.0, 3.0), (0.8, 1.3, 0.4), (0.7, 0.7, 5.0), (0.5, 1.0, 0.0)])
def test_widths_of_gaussians(c, s, w):
    """(GU.8): the walk by its equation in r, step by step; the tilted law by adding up a line."""
    (widths,) = load(CHAPTER, "widths")
    guided, tilt = widths(c, s, w)
    r = torch.logspace(4, -4, 40001)
    middle = (r[1:] + r[:-1]) / 2
    rate = w * middle / (c**2 + middle**2) + (1 - w) * middle / (s**2 + middle**2)
    close(r[0] * math.exp((rate * (r[1:] - r[:-1])).sum()), guided, atol=1e-5)
    line = torch.linspace(-12, 12, 24001)
    log = -w * line**2 / (2 * c**2) - (1 - w) * line**2 / (2 * s**2)
    mass = log.softmax(0)
    close((mass * line**2).sum().sqrt(), tilt, atol=1e-6)


def test_equal_covariances_move_the_law_and_keep_its_width():
    """The chapter's exception: two Gaussians of one covariance, where guidance is exact, and sharpens nothing."""
    guided, tilted = load(CHAPTER, "guided", "tilted")
    covariance = torch.tensor([[[0.5, 0.1], [0.1, 0.3]]])
    there, here = (GaussianMixture(torch.ones(1), torch.tensor([mean]), covariance) for mean in ([0.5, 0.2], [-0.3, 0.1]))
    w = 2.5
    moved = GaussianMixture(torch.ones(1), w * there.means + (1 - w) * here.means, covariance)
    for process in PROCESSES:
        t, alpha, sigma = half_way(process)
        x_t = alpha * points()
        close(guided(here, there, process, w)(x_t, t), moved.denoise(alpha, sigma, x_t), atol=1e-9)
    grid, cell = plane()
    close(tilted(here, there, w, grid) / cell, moved.log_prob(grid).exp(), atol=1e-3)
