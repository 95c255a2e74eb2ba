"""The equations of the chapter on inpainting and editing, held to sums, loops, autograd and gencore."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from gencore import vae, zoo
from gencore.applications import editing
from gencore.applications.inpainting import jumps
from gencore.applications.palette import Seen, guided
from gencore.data import to_float
from gencore.data.edits import END
from gencore.diffusion import Flow
from gencore.diffusion.denoiser import clean
from gencore.diffusion.samplers import even_times
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "applications/inpainting-and-editing"


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@equation(
    "IE.1",
    r"p(x) \propto \exp\big(-\tfrac12 x^\top Q\, x\big), \qquad x^\top Q\, x = \frac{1}{s^2} \sum_{i \sim j} (x_i - x_j)^2 +"
    r" \epsilon \sum_i x_i^2,",
)
def test_precision_of_neighbours_that_are_alike():
    """(IE.1): the quadratic form, pair by pair."""
    (precision,) = load(CHAPTER, "precision")
    x, s, epsilon = normal(5, 5), 0.7, 0.3
    pairs = 0.0
    for i, j in product(range(5), range(5)):
        for k, l in ((i + 1, j), (i, j + 1)):
            if k < 5 and l < 5:
                pairs += (x[i, j] - x[k, l]) ** 2
    close(x.flatten() @ precision(5, s, epsilon) @ x.flatten(), pairs / s**2 + epsilon * x.square().sum())


def world():
    (precision, possible) = load(CHAPTER, "precision", "possible")
    Q, y = precision(3), normal(4, 9)
    d = torch.tensor([0.0, 2.0, 5.0, 0.0, 1.0, 3.0, 0.0, 0.5, 9.0], dtype=torch.float64)
    return Q, y, d, *possible(Q, y, d)


@equation("IE.2", r"\text{precision } \Lambda = Q + D, \qquad \text{mean } m = \Lambda^{-1} D\, y.")
def test_what_a_noised_picture_with_holes_leaves_possible():
    """(IE.2): the mean makes the joint exponent's gradient vanish, and the precision is its curvature, by autograd."""
    Q, y, d, m, L = world()
    for mean, seen in zip(m, y):
        exponent = lambda x, seen=seen: 0.5 * x @ Q @ x + 0.5 * (d * (seen - x) ** 2).sum()  # noqa: E731
        close(torch.autograd.functional.jacobian(exponent, mean), torch.zeros(9, dtype=torch.float64))
        close(torch.autograd.functional.hessian(exponent, mean), L @ L.T)


@equation(
    "IE.3",
    r"x = m + L^{-\top} z, \qquad \text{since then } x - m \text{ has the covariance } L^{-\top} L^{-1} = \Lambda^{-1}.",
)
def test_draws_have_the_mean_and_the_covariance():
    """(IE.3): the map is linear in z, and its square is the inverse of the precision."""
    (draw,) = load(CHAPTER, "draw")
    Q, _, d, m, L = world()
    close(draw(m, L, torch.zeros_like(m)), m)
    A = draw(torch.zeros(9, 9, dtype=torch.float64), L, torch.eye(9, dtype=torch.float64))  # rows: images of unit vectors
    close(A.T @ A, torch.linalg.inv(Q + torch.diag(d)))


@equation("IE.4", r"q(x_h \mid x_k) = \prod_{i \in h} p(x_i \mid x_{<i}),")
def test_drawing_in_turns():
    """(IE.4): simulated pixel by pixel on a random law; equal to the conditional law for a prefix, and only then."""
    by_turns, by_bayes = load(CHAPTER, "by_turns", "by_bayes")
    p = torch.rand(2, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = p / p.sum()
    for known in ({2: 1}, {0: 0, 2: 1}, {1: 0}):
        q = torch.zeros_like(p)
        for x in product((0, 1), repeat=3):
            if any(x[i] != value for i, value in known.items()):
                continue
            first, second, third = p.sum((1, 2)), p.sum(2), p
            turns = (
                first[x[0]],
                second[x[0], x[1]] / first[x[0]],
                third[x] / second[x[0], x[1]],
            )
            q[x] = math.prod(turns[i] for i in range(3) if i not in known)
        close(by_turns(p, known), q)
        assert q.sum().item() == pytest.approx(1)
        assert (q - by_bayes(p, known)).abs().sum() > 1e-3
    for known in ({0: 1}, {0: 0, 1: 1}):
        close(by_turns(p, known), by_bayes(p, known))
    close(by_bayes(p, {2: 1})[..., 1], p[..., 1] / p[..., 1].sum())


def linear(x_t, t):
    """A denoiser that is easy to follow by hand."""
    return 0.5 * x_t + 0.1


@equation(
    "IE.5",
    r"x_s \leftarrow h \odot x_s + (1 - h) \odot \big(\alpha(s)\, x_k + \sigma(s)\, \varepsilon\big),",
)
def test_known_pixels_stand_there_at_the_noise_of_the_step():
    """(IE.5): after one step, known pixels are those of the picture, noised; the hole's are the model's own."""
    (repaint,) = load(CHAPTER, "repaint")
    picture, hole = normal(6, 4), torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    noises = [normal(6, 4, seed=seed) for seed in range(1, 4)]
    seen, fresh = [], iter(noises)

    def denoise(x_t, t):
        seen.append((x_t.clone(), t))
        return linear(x_t, t)

    times = torch.tensor([1.0, 0.6, 0.0], dtype=torch.float64)
    filled = repaint(denoise, picture, hole, times, [0, 1, 2], lambda: next(fresh))
    x, t = seen[1]
    assert t == 0.6
    close(x[:, hole == 0], (0.4 * picture + 0.6 * noises[2])[:, hole == 0])
    # At t = 1 nothing of the clean picture is left: the step draws from N(alpha x, sigma^2) of the denoiser's picture.
    close(x[:, hole == 1], (0.4 * linear(noises[0], 1.0) + 0.6 * noises[1])[:, hole == 1])
    close(filled[:, hole == 0], picture[:, hole == 0])


@equation(
    "IE.6",
    r"x_t = \frac{\alpha(t)}{\alpha(s)}\, x_s + \sqrt{\sigma(t)^2 - \frac{\alpha(t)^2}{\alpha(s)^2}\, \sigma(s)^2}\;\varepsilon,",
)
def test_the_way_back_up_ends_at_the_noise_of_the_time():
    """(IE.6): known pixels, noised to s and carried up, have the mean and the variance of time t."""
    (repaint,) = load(CHAPTER, "repaint")
    count, generator, seen = 100_000, torch.Generator().manual_seed(0), []

    def denoise(x_t, t):
        seen.append((x_t.clone(), float(t)))
        return torch.zeros_like(x_t)

    picture, hole = torch.full((count, 1), 2.0, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    times = torch.tensor([1.0, 0.7, 0.3, 0.0], dtype=torch.float64)
    fresh = lambda: torch.randn(count, 1, generator=generator, dtype=torch.float64)  # noqa: E731
    repaint(denoise, picture, hole, times, [0, 1, 2, 1, 2, 3], fresh)
    carried, t = seen[2]
    assert t == 0.7
    assert carried.mean().item() == pytest.approx(0.3 * 2.0, abs=0.01)
    assert carried.std().item() == pytest.approx(0.7, abs=0.01)
    before, _ = seen[1]
    assert torch.corrcoef(torch.cat([before, carried], 1).T)[0, 1].item() == pytest.approx(0, abs=0.02)  # beside a new noising


def test_the_chapter_walks_as_gencore_does():
    (repaint,) = load(CHAPTER, "repaint")
    from gencore.applications.inpainting import repaint as ours

    picture, hole = normal(3, 5), torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    made = []
    for method in (repaint, None):
        generator = torch.Generator().manual_seed(1)
        fresh = lambda generator=generator: torch.randn(3, 5, generator=generator, dtype=torch.float64)  # noqa: E731
        times, walk = even_times(8), jumps(8, 2, 3)
        if method:
            made.append(method(linear, picture, hole, times, walk, fresh))
        else:
            made.append(ours(linear, Flow(), times, picture, hole > 0, fresh, walk))
    close(*made)


@equation(
    "IE.7",
    r"\mathbb E\; \frac{\big\| h \odot \big(v(h \odot x_t, t, y, h) - (\varepsilon - x)\big) \big\|^2}{\|h\|^2}, \qquad x_t ="
    r" (1 - t)\, x + t\, \varepsilon, \quad y = (1 - h) \odot x,",
)
def test_loss_counts_what_is_in_the_hole_of_each_picture():
    """(IE.7): picture by picture, in plain sums; and what the network is given."""
    mending_loss, with_hole, Mender = load(CHAPTER, "mending_loss", "with_hole", "Mender")
    x, eps = normal(5, 1, 14, 14), normal(5, 1, 14, 14, seed=1)
    shown, hole = with_hole(x, torch.Generator().manual_seed(0))
    hole = hole.double()
    close(shown, (1 - hole) * x)
    assert len({each.sum().item() for each in hole}) > 1
    t = torch.tensor([0.0, 0.2, 0.5, 0.8, 1.0], dtype=torch.float64)
    given = {}

    def network(x_t, t, y, h):
        given.update(x_t=x_t, y=y, h=h)
        return 0.3 * x_t + y - t[:, None, None, None]

    found = mending_loss(network, x, shown, hole, eps, t)
    total = 0.0
    for n in range(5):
        x_t = (1 - t[n]) * x[n] + t[n] * eps[n]
        off = 0.3 * x_t + shown[n] - t[n] - (eps[n] - x[n])
        total += (off[hole[n] > 0] ** 2).sum() / (hole[n] > 0).sum()
        close(given["x_t"][n], x_t)
    close(found, total / 5)
    # The network looks at the hole's part of the noised picture only.
    torch.manual_seed(0)
    network, hole = Mender(), hole.float()
    a, b = torch.randn(2, 5, 1, 14, 14)
    b = hole * a + (1 - hole) * b
    close(network(a, t.float(), shown.float(), hole), network(b, t.float(), shown.float(), hole), atol=1e-6)


@equation("IE.8", r"\varepsilon - v(h \odot \varepsilon, 1, y, h) = \mathbb E[x \mid y, h].")
def test_at_full_noise_the_network_holds_the_best_guess():
    """(IE.8): with the velocity that minimises (IE.7) for correlated Gaussian pairs, the conditional mean comes out."""
    (guess,) = load(CHAPTER, "guess")
    rho, y = 0.8, normal(50, 1)
    shown, hole = torch.cat([0.1 * y, torch.zeros_like(y)], 1), torch.tensor([0.0, 1.0], dtype=torch.float64).expand(50, 2)

    def ideal(x_t, t, shown, hole):  # E[eps - x | x_1, y]: at t = 1, x_1 is eps
        assert (t == 1).all()
        return x_t - rho * shown[:, :1]

    found = guess(ideal, shown, hole, normal(50, 2, seed=1))
    close(found[:, 1:], rho * shown[:, :1])
    close(found[:, :1], shown[:, :1])


@equation(
    "IE.9",
    r"x_\tau = (1 - \tau)\, y + \tau\, \varepsilon, \qquad \text{then from } \tau \text{ to } 0 \text{ as usual.}",
)
def test_a_drawing_is_noised_up_to_its_strength():
    """(IE.9): where the denoiser is first asked, and that gencore's does the same."""
    (redraw,) = load(CHAPTER, "redraw")
    y, eps, seen = normal(10), normal(10, seed=1), []

    def denoise(x_t, t):
        seen.append((x_t.clone(), float(t)))
        return torch.tanh(x_t)

    from gencore.diffusion.samplers import heun

    found = redraw(denoise, y, 0.4, eps, steps=4)
    x, t = seen[0]
    assert t == pytest.approx(0.4)
    close(x, 0.6 * y + 0.4 * eps)
    close(found, editing.sdedit(denoise, Flow(), y, 0.4, eps, steps=10, sampler=heun))


@equation("IE.10", r"r(\tau) = \frac{1 - \tau}{\sqrt{(1 - \tau)^2 + \tau^2}}.")
def test_how_much_of_a_drawing_is_kept():
    """(IE.10): the correlation of a (1 - tau) y + tau eps with y, from the sums of independent variances."""
    (kept,) = load(CHAPTER, "kept")
    y, eps = normal(400_000), normal(400_000, seed=1)
    for strength in (0.0, 0.25, 0.5, 0.9, 1.0):
        x = (1 - strength) * y + strength * eps
        assert kept(strength) == pytest.approx(torch.corrcoef(torch.stack([x, y]))[0, 1].item(), abs=5e-3)


@equation(
    "IE.11",
    r"\hat x = \hat x(\varnothing, \varnothing) + g_c\, \big(\hat x(c, \varnothing) - \hat x(\varnothing, \varnothing)\big) +"
    r" g_w\, \big(\hat x(c, w) - \hat x(c, \varnothing)\big).",
)
def test_guidance_by_picture_and_by_words():
    """(IE.11): gencore's `guided`, with a network whose three answers are known."""
    from types import SimpleNamespace

    def network(x_t, t, source, words):
        told = (words != END).any(1).to(x_t)[:, None, None, None]
        return 0.2 * x_t + source + 3.0 * told * source.square() + 0.5 * told

    x_t, source, words = normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1), torch.tensor([[1, 2, END], [3, END, END]])
    recipe = SimpleNamespace(process=Flow(), prediction="velocity")
    t = torch.tensor(0.6, dtype=torch.float64)

    def answer(source, words):
        v = network(x_t, t, source, words).float()
        return clean("velocity", Flow(), v, x_t, t.expand(2))

    silent, blank = torch.full_like(words, END), torch.zeros_like(source)
    nothing, picture, both = answer(blank, silent), answer(source, silent), answer(source, words)
    found = guided(((network,), recipe), Seen(source, words=words), words=2.5, picture=1.7)(x_t, t)
    close(found, nothing + 1.7 * (picture - nothing) + 2.5 * (both - picture), atol=1e-5)


@equation(
    "IE.12",
    r"d = \overline{z}_{\text{shows}} - \overline{z}_{\text{does not}}, \qquad x' = x + g(z + a\, d) - g(z),",
)
def test_arithmetic_on_codes():
    """(IE.12): means by loops; a walk adds the difference of two decoded codes, and none adds nothing."""
    direction, walk = load(CHAPTER, "direction", "walk")
    codes, shows = normal(7, 3), torch.tensor([True, False, True, True, False, False, False])
    means = [np.mean([code.numpy() for code, has in zip(codes, shows) if has == wanted], axis=0) for wanted in (True, False)]
    close(direction(codes, shows), torch.from_numpy(means[0] - means[1]))
    model = vae.load(zoo.folder("vae_digits"))
    walk.__globals__["coding"] = model
    images = torch.randint(0, 256, (4, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    along = normal(16).float()
    close(walk(images, along, 0.0), to_float(images))
    (network,), recipe = model
    with torch.no_grad():
        z = network.encode(to_float(images))[0]
        locate = recipe.objective.likelihood.location
        wanted = to_float(images) + locate(network.decode(z + 0.7 * along)) - locate(network.decode(z))
    close(walk(images, along, 0.7), wanted.clamp(-1, 1), atol=1e-6)
