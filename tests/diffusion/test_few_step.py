"""Consistency and progressive distillation, on Gaussian data: teacher and consistency function are known exactly."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from gencore.diffusion import samplers
from gencore.diffusion.denoiser import Denoiser, clean
from gencore.diffusion.few_step import Consistency, Denoisers, Progressive, clean_of_step, consistent, solver_step
from gencore.diffusion.objectives import Draw, LogisticNormalTimes, MinSNR, UniformTimes
from gencore.diffusion.process import EDM, Cosine, Flow, Linear, add_noise, beside
from gencore.errors import InputError

pytestmark = pytest.mark.usefixtures("double_precision")
PROCESSES = [Flow(), Cosine(), Linear(), EDM(least=0.02, most=20.0)]
each_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
MEAN, VARIANCE = 0.3, 0.6


@dataclass
class Known:
    """What stands where a denoiser stands: ``clean(x_t, t)`` by a formula, times a factor that may learn."""

    process: object
    formula: object
    factor: torch.Tensor | float = 1.0
    prediction: str = "x"

    def __call__(self, x_t, t, cond=None):
        return self.factor * self.formula(self.process, x_t, t)


def mean_clean(process, x_t, t):
    """The exact denoiser of N(MEAN, VARIANCE)."""
    alpha, sigma = beside(process.alpha(t), x_t), beside(process.sigma(t), x_t)
    return MEAN + alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2) * (x_t - alpha * MEAN)


def end(process, x_t, t):
    """Where the exact flow through noised data ends: their place in the law, in units of its deviation, is kept."""
    alpha, sigma = beside(process.alpha(t), x_t), beside(process.sigma(t), x_t)
    last = math.sqrt(VARIANCE + float(process.sigma(torch.zeros(()))) ** 2)
    return MEAN + last * (x_t - alpha * MEAN) / (alpha**2 * VARIANCE + sigma**2).sqrt()


def leap(process, x_t, t):
    """The clean picture by which a straight step ends there; at t = 0 there is no step."""
    zero = torch.zeros_like(t)
    step = clean_of_step(process, x_t, end(process, x_t, t), t.clamp(min=1e-9), zero)
    return torch.where(beside(t > 0, x_t), step, x_t)


def data(count=2_000):
    return MEAN + VARIANCE**0.5 * torch.randn(count, 1, 1, 2), Draw(torch.randn(count, 1, 1, 2), torch.rand(count))


class Rough(nn.Module):
    """A network whose answer depends on all it is given."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 2))

    def forward(self, x_t, t, cond=None):
        return torch.sin(3 * x_t @ self.weight) + beside(t, x_t)


@pytest.mark.parametrize(
    ("process", "prediction"),
    [
        (process, prediction)
        for process in PROCESSES
        for prediction in ("v", "velocity", "edm")
        if (process, prediction) != (Linear(), "velocity")  # infinite there, and refused by the recipe
    ],
)
def test_at_no_noise_the_function_is_the_identity(process, prediction):
    x, zero = torch.randn(5, 1, 1, 2), torch.zeros(5)
    found = consistent(Denoiser(Rough(), process, prediction), x, zero)
    if isinstance(process, EDM):  # its t = 0 has some noise, by which is divided
        torch.testing.assert_close(found, x, atol=1e-12, rtol=0)
    else:
        assert torch.equal(found, x)
    assert not torch.allclose(consistent(Denoiser(Rough(), process, prediction), x, zero + 0.5), x, atol=0.1)


def test_what_skips_and_what_comes_out():
    """c_skip x_t + c_out F, for three kinds of F."""
    network, x_t, t = Rough(), torch.randn(5, 1, 1, 2), torch.rand(5)
    f, wide = network(x_t, t), t[:, None, None, None]
    found = consistent(Denoiser(network, Flow(), "velocity"), x_t, t)
    torch.testing.assert_close(found, x_t - wide * f, atol=1e-6, rtol=1e-6)
    turn, found = math.pi / 2 * wide, consistent(Denoiser(network, Cosine(), "v"), x_t, t)
    torch.testing.assert_close(found, turn.cos() * x_t - turn.sin() * f, atol=1e-6, rtol=1e-6)
    process = EDM()
    sigma, least = beside(process.sigma(t), x_t), 0.002
    f = network(x_t / (sigma**2 + 0.25).sqrt(), t)
    denoised = 0.25 / (sigma**2 + 0.25) * x_t + 0.5 * sigma / (sigma**2 + 0.25).sqrt() * f
    expected = denoised + least / sigma * (x_t - denoised)
    torch.testing.assert_close(consistent(Denoiser(network, process, "edm"), x_t, t), expected, atol=1e-6, rtol=1e-6)


@each_process
def test_the_exact_flow_ends_where_it_is_said_to(process):
    """`end`, which the tests below rest on, against many small steps of Heun's."""
    x_t, t = torch.randn(4, 1, 1, 2), torch.full((4,), 0.7)
    x, times = x_t, torch.linspace(0.7, 0, 101)
    for a, b in zip(times[:-1], times[1:], strict=True):
        x = solver_step("heun", Known(process, mean_clean), process, x, a.expand(4), b.expand(4))
    torch.testing.assert_close(x, end(process, x_t, t), atol=1e-3, rtol=0)
    torch.testing.assert_close(consistent(Known(process, leap), x_t, t), end(process, x_t, t))


@pytest.mark.parametrize("process", PROCESSES[:2] + PROCESSES[3:], ids=lambda process: type(process).__name__)
@pytest.mark.parametrize(("solver", "order"), [("ddim", 1), ("heun", 2)])
def test_the_exact_function_has_no_loss_as_teachers_steps_shrink(process, solver, order):
    """One step's error is of order h^(order + 1); that of a function that is not consistent is of order h."""
    (x, draw), exact, teacher = data(), Known(process, leap), Known(process, mean_clean)
    other = Known(process, lambda process, x_t, t: leap(process, x_t, t) * (1 + beside(t, x_t)))
    draw = draw._replace(u=0.3 + 0.4 * draw.u)  # apart from the ends
    loss = Consistency(solver, UniformTimes())

    def error(student, steps):
        denoisers = Denoisers(student, student, teacher)
        return math.sqrt(replace(loss, first=steps, last=steps)(denoisers, x, None, draw).parts["squared_error"])

    assert error(exact, 128) / error(exact, 256) == pytest.approx(2 ** (order + 1), rel=0.15)
    assert error(other, 128) / error(other, 256) == pytest.approx(2, rel=0.15)
    assert error(exact, 256) < 0.02 * error(other, 256)


@pytest.mark.parametrize("process", PROCESSES[:2], ids=lambda process: type(process).__name__)
def test_without_a_teacher_the_exact_function_is_where_the_loss_is_least(process):
    """Up to an error of order h^2: Song et al., theorem 2. Means are exact, over x and noise of two values each.

    With the target held, the loss is a square in the factor of the student; its minimum is read off two slopes.
    """
    signs = torch.cartesian_prod(torch.tensor([-1.0, 1.0]), torch.tensor([-1.0, 1.0]))[:, :, None, None, None]
    x, draw = MEAN + VARIANCE**0.5 * signs[:, 0], Draw(signs[:, 1], torch.full((4,), 0.5))

    def best(steps):
        def slope(factor):
            factor = torch.tensor(factor, requires_grad=True)

            def scaled(process, x_t, t):
                return MEAN + factor * (leap(process, x_t, t) - MEAN)

            loss = Consistency(None, UniformTimes(), steps, steps, huber=1e4)  # in effect the squared error
            denoisers = Denoisers(Known(process, scaled), Known(process, leap))
            return torch.autograd.grad(loss(denoisers, x, None, draw).total, factor)[0]

        low, high = slope(0.9), slope(1.1)
        return 0.9 - 0.2 * (low / (high - low)).item()

    errors = [abs(best(steps) - 1) for steps in (64, 128)]
    assert errors[1] < 1e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


def test_the_loss_written_plainly():
    """Pseudo-Huber of the two ends, over the length of the step; noise and picture are those of both neighbours."""
    (x, draw), student, target = data(50), Denoiser(Rough(), Flow(), "velocity"), Denoiser(Rough(), Flow(), "velocity")
    found = Consistency(None, UniformTimes(), 7, 7, huber=0.3)(Denoisers(student, target), x, None, draw)
    total = []
    for picture, eps, u in zip(x, draw.eps, draw.u, strict=True):
        t, s = math.ceil(7 * u) / 7, (math.ceil(7 * u) - 1) / 7
        ends = []
        for denoiser, time in ((student, t), (target, s)):
            x_t = ((1 - time) * picture + time * eps)[None]
            ends.append(x_t - time * denoiser.network(x_t, torch.tensor([time])))
        c = 0.3 * math.sqrt(2)
        total.append(7 * (math.sqrt((ends[0] - ends[1]).square().sum().item() + c**2) - c))
    assert found.total.item() == pytest.approx(sum(total) / 50, rel=1e-5)


def test_neighbours_cover_all_of_the_time():
    asked = {"student": [], "target": []}

    def spy(name):
        def formula(process, x_t, t):
            asked[name].append(t)
            return x_t

        return Known(Flow(), formula)

    x, draw = data(4_000)
    Consistency(None, UniformTimes(), 4, 8)(Denoisers(spy("student"), spy("target")), x, None, draw)
    (t,), (s,) = asked.values()
    torch.testing.assert_close(t.unique(), torch.tensor([0.25, 0.5, 0.75, 1.0]))
    torch.testing.assert_close(t - s, torch.full((4_000,), 0.25))
    asked["student"].clear()
    Consistency(None, LogisticNormalTimes(-1.1, 2.0), 4, 8)(Denoisers(spy("student"), spy("target")), x, None, draw)
    share = (asked["student"][0] == 1).double().mean().item()  # the logit of 3/4 is 1.0986
    assert share == pytest.approx(0.5 * math.erfc((math.log(3) + 1.1) / 2 / math.sqrt(2)), abs=0.02)


def objectives():
    return [Consistency(), Consistency("ddim"), Consistency("heun"), Progressive(2, 1)]


@pytest.mark.parametrize("objective", objectives(), ids=["training", "ddim", "heun", "progressive"])
def test_no_gradient_reaches_target_or_teacher(objective):
    networks = [Rough() for _ in range(3)]
    denoisers = Denoisers(*(Denoiser(network, Flow(), "velocity") for network in networks))
    x, draw = data(20)
    objective(denoisers, x, None, draw).total.backward()
    assert networks[0].weight.grad.abs().max() > 0
    assert networks[1].weight.grad is None and networks[2].weight.grad is None
    for place in (1, 2):  # and yet what they say counts
        others = [Rough() if k == place else network for k, network in enumerate(networks)]
        uses = place == (2 if isinstance(objective, Progressive) else 1) or place == 2 and objective.solver is not None
        changed = Denoisers(*(Denoiser(network, Flow(), "velocity") for network in others))
        same = objective(changed, x, None, draw).total == objective(denoisers, x, None, draw).total
        assert bool(same) == (not uses)


@pytest.mark.parametrize("objective", objectives()[1:], ids=["ddim", "heun", "progressive"])
def test_a_missing_teacher_is_refused(objective):
    student, (x, draw) = Denoiser(Rough(), Flow(), "velocity"), data(2)
    with pytest.raises(InputError, match="teacher: missing"):
        objective(Denoisers(student, student), x, None, draw)


def test_the_steps_double():
    """Song & Dhariwal 2024, section 3.4: min(s0 2^floor(k / K'), s1), with K' = K / (log2(s1 / s0) + 1)."""
    loss = Consistency(first=10, last=160)
    steps = [loss.after(seen, 1_000).first for seen in range(0, 1_001, 100)]
    assert steps == [10, 10, 20, 20, 40, 40, 80, 80, 160, 160, 160]
    assert steps == [min(10 * 2 ** (k // 200), 160) for k in range(0, 1_001, 100)]
    assert [Consistency(first=3, last=10).after(seen, 300).first for seen in (0, 100, 200, 299)] == [3, 6, 10, 10]
    assert {Consistency(first=5, last=5).after(seen, 10).first for seen in range(10)} == {5}


def test_the_steps_halve():
    loss = Progressive(32, 4)
    moments = (0, 249, 250, 499, 500, 750, 999, 1_000)
    assert [loss.after(seen, 1_000).first for seen in moments] == [32, 32, 16, 16, 8, 4, 4, 4]
    assert Progressive(1, 1).stages == 1 and loss.stages == 4


@each_process
def test_one_step_of_the_student_lands_where_two_of_the_teacher_do(process):
    """By the sampler itself: the teacher in two steps, then in one step whoever says the goal all the time."""
    teacher = Known(process, lambda process, x_t, t: torch.tanh(mean_clean(process, x_t, t)))
    x, eps = torch.randn(2, 6, 1, 1, 2)
    for t, s in ((1.0, 0.75), (0.5, 0.25), (0.25, 0.0)):
        late, early = torch.full((6,), t), torch.full((6,), s)
        x_t = add_noise(process, x, eps, late)
        two = samplers.ddim(teacher, process, torch.tensor([t, (t + s) / 2, s]), x_t)
        goal = clean_of_step(process, x_t, two, late, early)

        def says(*_, goal=goal):
            return goal

        torch.testing.assert_close(samplers.ddim(says, process, torch.tensor([t, s]), x_t), two)
        denoisers, draw = Denoisers(Known(process, says), None, teacher), Draw(eps, late - 1e-3)
        assert Progressive(4, 1)(denoisers, x, None, draw).parts["squared_error"] < 1e-20  # it is what the loss asks for
        assert Progressive(8, 1)(denoisers, x, None, draw).parts["squared_error"] > 1e-6  # with four steps


def test_the_progressive_weight_is_snr_plus_one():
    """Salimans & Ho 2022, section 4: squared errors of the clean picture count alpha^2 / sigma^2 + 1 times."""
    (x, draw), process = data(50), Cosine()
    student, teacher = Denoiser(Rough(), process, "v"), Known(process, mean_clean)
    found = Progressive(8, 1)(Denoisers(student, None, teacher), x, None, draw)
    t = (8 * draw.u).ceil() / 8
    x_t = add_noise(process, x, draw.eps, t)
    middle = solver_step("ddim", teacher, process, x_t, t, t - 1 / 16)
    whole = solver_step("ddim", teacher, process, middle, t - 1 / 16, t - 1 / 8)
    goal = clean_of_step(process, x_t, whole, t, t - 1 / 8)
    error = (clean("v", process, student.network(x_t, t), x_t, t) - goal).square().flatten(1).mean(1)
    weight = (process.alpha(t) / process.sigma(t)) ** 2 + 1
    torch.testing.assert_close(found.total, (weight * error).mean(), atol=0, rtol=1e-5)
    other = Progressive(8, 1, MinSNR(2.0))(Denoisers(student, None, teacher), x, None, draw)
    torch.testing.assert_close(other.total, ((weight - 1).clamp(max=2.0) * error).mean(), atol=0, rtol=1e-5)


@each_process
def test_leaps_keep_the_law_of_the_data(process):
    """All is linear in the noises: their squared coefficients add up to the variance, however many leaps there are."""
    for steps in (1, 2, 5):
        times = samplers.even_times(steps)
        noises = torch.cat([torch.zeros(1, steps), torch.eye(steps)])[:, :, None, None, None]  # none, then each alone
        alpha, sigma = (float(factor(times[0])) for factor in (process.alpha, process.sigma))
        start = alpha * MEAN + math.sqrt(alpha**2 * VARIANCE + sigma**2) * noises[:, 0]
        drawn = samplers.consistency(Known(process, leap), process, times, start, lambda step: noises[:, step + 1])
        drawn = drawn.flatten()
        least = float(process.sigma(torch.zeros(())))
        assert drawn[0].item() == pytest.approx(MEAN, abs=1e-9)
        assert (drawn[1:] - drawn[0]).square().sum().item() == pytest.approx(VARIANCE + least**2, rel=1e-9)


def test_each_leap_has_its_own_noise_and_the_last_has_none():
    asked = []

    def noise(step):
        asked.append(step)
        return torch.randn(3, 1, 1, 2)

    samplers.consistency(Known(Flow(), leap), Flow(), samplers.even_times(4), torch.randn(3, 1, 1, 2), noise)
    assert asked == [0, 1, 2]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Consistency(first=0), "first 0"),
        (lambda: Consistency(first=20, last=10), "first 20, last 10"),
        (lambda: Consistency(huber=0.0), "huber 0.0"),
        (lambda: Consistency(target_half_life=-1), "target_half_life -1"),
        (lambda: Progressive(12, 4), "first 12, last 4"),
        (lambda: Progressive(4, 8), "first 4, last 8"),
        (lambda: Progressive(4, 0), "first 4, last 0"),
        (lambda: Progressive(0, 4), "first 0"),
    ],
)
def test_what_makes_no_objective_is_refused(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()
