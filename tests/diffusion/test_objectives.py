"""The objective against a plain restatement, its weights in units of the clean picture, and the laws of its times."""

import math

import pytest
import torch
from torch import nn

from gencore import families
from gencore.diffusion import (
    Cosine, Denoiser, Denoising, Draw, EDMWeight, Flow, Linear, LogisticNormalTimes, MinSNR, Simple, UniformTimes,
)
from gencore.diffusion.denoiser import DATA_STD, clean, noise_in, scale_of_error, target
from gencore.diffusion.few_step import Progressive
from gencore.diffusion.samplers import even_times
from gencore.errors import InputError
from tests.diffusion.exact import INSIDE, each_prediction, each_preserving, each_process, normal_cdf

WEIGHTS = {"simple": Simple(), "min_snr": MinSNR(), "edm": EDMWeight()}
each_weight = pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)


def of_clean(weight, prediction, process):
    """What a squared error of the clean picture costs, if that of the output costs ``weight``."""
    return weight(prediction, process, INSIDE) / scale_of_error(prediction, process, INSIDE) ** 2


def snr(process):
    return (process.alpha(INSIDE) / process.sigma(INSIDE)) ** 2


@each_process
def test_simple_counts_outputs_alike(process):
    """(DD.11); in units of the picture, errors of the noise are worth the signal-to-noise ratio."""
    for prediction in ("x", "eps", "v", "velocity", "edm"):
        assert torch.equal(Simple()(prediction, process, INSIDE), torch.ones_like(INSIDE))
    torch.testing.assert_close(of_clean(Simple(), "eps", process), snr(process))
    torch.testing.assert_close(of_clean(Simple(), "x", process), torch.ones_like(INSIDE))


@each_preserving
def test_simple_on_v_is_worth_one_more(process):
    """Salimans & Ho 2022, section 4: "SNR + 1 weighting"."""
    torch.testing.assert_close(of_clean(Simple(), "v", process), snr(process) + 1)


def test_simple_on_the_velocity_of_a_straight_line():
    """x_t - x = t velocity: errors of the picture are those of the velocity times t."""
    torch.testing.assert_close(of_clean(Simple(), "velocity", Flow()), INSIDE**-2)


@each_process
@each_prediction
def test_min_snr_is_the_papers(process, prediction):
    """Hang et al. 2023, section 3.4: min(SNR, gamma) for the picture, whatever the network says."""
    for most in (5.0, 0.5):
        torch.testing.assert_close(of_clean(MinSNR(most), prediction, process), snr(process).clamp(max=most))


@each_preserving
def test_min_snr_of_noise_and_v_is_the_papers(process):
    ratio = snr(process)
    torch.testing.assert_close(MinSNR(5.0)("eps", process, INSIDE), ratio.clamp(max=5) / ratio)
    torch.testing.assert_close(MinSNR(5.0)("v", process, INSIDE), ratio.clamp(max=5) / (ratio + 1))


@each_process
@each_prediction
def test_edm_weight_is_the_papers(process, prediction):
    """Karras et al. 2022, table 1: (sigma^2 + sigma_data^2) / (sigma sigma_data)^2, for data that are not scaled."""
    sigma = process.sigma(INSIDE) / process.alpha(INSIDE)
    expected = (sigma**2 + DATA_STD**2) / (sigma * DATA_STD) ** 2
    torch.testing.assert_close(of_clean(EDMWeight(), prediction, process), expected)
    torch.testing.assert_close(EDMWeight()("edm", process, INSIDE), torch.ones_like(INSIDE))


class Says(nn.Module):
    """Gives the output that stands for one picture, whatever is predicted."""

    def __init__(self, picture, process, prediction):
        super().__init__()
        self.picture, self.process, self.prediction, self.asked = picture, process, prediction, []

    def forward(self, x_t, t, cond):
        self.asked.append((x_t, t, cond))
        if self.prediction == "edm":  # undo what scales the input
            x_t = x_t * ((self.process.alpha(t) * DATA_STD) ** 2 + self.process.sigma(t) ** 2).sqrt()[:, None, None, None]
        noise = noise_in(self.process, x_t, self.picture, t)
        return target(self.prediction, self.process, self.picture, noise, t)


def case(batch=6):
    generator = torch.Generator().manual_seed(0)
    x, guess, eps = (torch.rand(batch, 2, 3, 3, generator=generator) for _ in range(3))
    return x, guess, Draw(eps, torch.linspace(0.2, 0.8, batch))


@each_process
@each_weight
def test_one_guess_costs_the_same_whatever_is_predicted(process, weight):
    """The errors of the picture, weighted; only the plain loss depends on what the network says."""
    x, guess, draw = case()
    losses = {}
    for prediction in ("x", "eps", "v", "velocity", "edm"):
        denoiser = Denoiser(Says(guess, process, prediction), process, prediction)
        losses[prediction] = Denoising(UniformTimes(), weight)(denoiser, x, None, draw).total.item()
    if weight == Simple():
        assert max(losses.values()) > 1.1 * min(losses.values())
        return
    squared = (guess - x).square().mean((1, 2, 3))
    expected = (weight("x", process, draw.u) * squared).mean().item()
    assert losses == pytest.approx(dict.fromkeys(losses, expected), rel=1e-3)


@each_weight
def test_the_loss_written_plainly(weight):
    """Ho et al. 2020, algorithm 1, with a weight: the mean over pixels first, then over pictures."""
    x, guess, draw = case()
    network, process, cond = Says(guess, Linear(), "eps"), Linear(), torch.arange(6)[:, None]
    loss = Denoising(LogisticNormalTimes(0.3, 0.7), weight)(Denoiser(network, process, "eps"), x, cond, draw)
    t = torch.sigmoid(0.3 + 0.7 * torch.special.ndtri(draw.u))
    ((x_t, asked_at, told),) = network.asked
    torch.testing.assert_close(asked_at, t)
    assert told is cond
    alpha, sigma = process.alpha(t)[:, None, None, None], process.sigma(t)[:, None, None, None]
    torch.testing.assert_close(x_t, alpha * x + sigma * draw.eps)
    errors = ((x_t - alpha * guess) / sigma - draw.eps).square().mean((1, 2, 3))
    torch.testing.assert_close(loss.parts["squared_error"], errors.mean())
    torch.testing.assert_close(loss.total, (weight("eps", process, t) * errors).mean())
    assert loss.total.dtype == torch.float32


@each_process
@each_prediction
@each_weight
def test_the_truth_costs_nothing(process, prediction, weight):
    x, _, draw = case()
    loss = Denoising(UniformTimes(), weight)(Denoiser(Says(x, process, prediction), process, prediction), x, None, draw)
    assert loss.total.item() < 1e-5


def test_a_picture_of_another_number_of_pixels_costs_the_same():
    """A mean over pixels and channels, not a sum."""
    x, guess, draw = case()
    big = [each.repeat(1, 3, 2, 2) for each in (x, guess, draw.eps)]
    losses = [
        Denoising()(Denoiser(Says(guess, Flow(), "velocity"), Flow(), "velocity"), x, None, Draw(eps, draw.u)).total
        for x, guess, eps in ((x, guess, draw.eps), big)
    ]
    torch.testing.assert_close(*losses)


def test_uniform_times_are_uniform():
    u = torch.linspace(0, 1, 101)
    t = UniformTimes()(u)
    torch.testing.assert_close(t, u, rtol=0, atol=1.1e-5)
    assert t.min() > 0 and t.max() < 1


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-1.2, 0.6), (0.5, 1.5)])
def test_the_logit_of_logistic_normal_times_is_normal(mean, std):
    """The share of times below t is that of a normal law below the logit of t; also its density, by equation 19."""
    u = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    t = LogisticNormalTimes(mean, std)(u)
    logit = (t / (1 - t)).log()
    torch.testing.assert_close(normal_cdf((logit - mean) / std), u)
    density = u.diff() / t.diff()
    middle, at = (logit[1:] + logit[:-1]) / 2, (t[1:] + t[:-1]) / 2
    theirs = (-((middle - mean) ** 2) / (2 * std**2)).exp() / (std * math.sqrt(2 * math.pi) * at * (1 - at))
    torch.testing.assert_close(density[50:-50], theirs[50:-50], rtol=1e-3, atol=0)


@pytest.mark.parametrize("times", [UniformTimes(), LogisticNormalTimes(), LogisticNormalTimes(4.0, 5.0)])
def test_times_stay_inside(times):
    """The ends of float32's uniform numbers included: at the very ends predictions divide by zero."""
    t = times(torch.tensor([0.0, 1e-7, 0.5, 1 - 2**-24]))
    assert t.dtype == torch.float32 and (t > 0).all() and (t < 1).all()
    for weight in WEIGHTS.values():
        for process in (Linear(), Cosine(), Flow()):
            for prediction in ("x", "eps", "v", "velocity", "edm"):
                assert weight(prediction, process, t).isfinite().all()
                output = target(prediction, process, torch.ones(4), torch.ones(4), t)
                assert clean(prediction, process, output, torch.ones(4), t).isfinite().all()


DRAWN = [  # a progressive student is trained at the sampler's own times (test_few_step.py)
    name
    for name, recipe in families.recipes().items()
    if name.startswith("diffusion.") and not isinstance(recipe().objective, Progressive)
]


@pytest.mark.parametrize("name", DRAWN)
def test_training_covers_every_time_the_sampler_visits(name):
    """Within half a step of each visited time, some of the run's pictures are trained on; uniform times get there too."""
    recipe = families.recipes()[name]()
    visited = even_times(recipe.sampling.steps, bend=recipe.sampling.bend)[:-1]  # the last is where it arrives
    u = (torch.arange(recipe.images, dtype=torch.float64) + 0.5) / recipe.images  # of a whole run, in order
    for times in (recipe.objective.times, UniformTimes()):
        trained = times(u)
        for t in visited:
            near = (trained - t).abs() < 0.5 / recipe.sampling.steps
            assert near.sum() >= 10, f"{times}: {near.sum()} pictures near {t}"
    assert (UniformTimes()(u).max() - 1).abs() < 1.1e-5


OPTIONS = [
    (Denoising(), Denoising(weight=MinSNR())),
    (Denoising(), Denoising(weight=EDMWeight())),
    (Denoising(weight=MinSNR()), Denoising(weight=MinSNR(1.0))),
    (Denoising(), Denoising(LogisticNormalTimes())),
    (Denoising(LogisticNormalTimes()), Denoising(LogisticNormalTimes(mean=0.5))),
    (Denoising(LogisticNormalTimes()), Denoising(LogisticNormalTimes(std=0.5))),
]


@pytest.mark.parametrize(("a", "b"), OPTIONS)
def test_every_option_changes_the_loss(a, b):
    x, guess, draw = case()
    network = Denoiser(Says(guess, Flow(), "velocity"), Flow(), "velocity")
    losses = [objective(network, x, None, draw).total.item() for objective in (a, b)]
    assert all(math.isfinite(loss) for loss in losses) and abs(losses[0] - losses[1]) > 1e-3


@pytest.mark.parametrize(
    ("make", "field"), [(lambda: LogisticNormalTimes(std=0.0), "std 0.0"), (lambda: MinSNR(0.0), "most 0.0")]
)
def test_what_is_no_objective_is_refused(make, field):
    with pytest.raises(InputError, match=field):
        make()
