"""Guidance: its two fixed points, its interval, and a classifier whose gradient is exactly what is missing."""

import pytest
import torch
from torch import nn

from gencore.analytic import GaussianMixture
from gencore.diffusion import Cosine, Denoiser, Flow, samplers
from gencore.diffusion.denoiser import noise_in
from gencore.diffusion.guidance import classifier_free, classifier_guided, conditional
from gencore.errors import InputError
from tests.diffusion.exact import each_process, number, rand


class Telling(nn.Module):
    """Paints each channel by the time and by what it is told: another number for each channel and each condition."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, x_t, t, cond):
        self.asked.append(len(x_t))
        told = 0 if cond is None else cond.sum(1).float()
        paint = told[:, None] * torch.tensor([1.0, -2.0, 3.0]) + t[:, None]
        return paint[:, :, None, None] + 0.1 * x_t


TOLD, UNTOLD = torch.tensor([[1], [2], [3]]), torch.full((3, 1), 4)


def ask(weight, t=0.5, interval=(0.0, 1.0), cond=TOLD, dtype=torch.float32):
    denoiser = Denoiser(Telling(), Flow(), "x")
    x_t = torch.randn(3, 3, 2, 2, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = classifier_free(denoiser, cond, UNTOLD, weight, interval)(x_t, torch.tensor(t, dtype=dtype))
    plain = [conditional(denoiser, each)(x_t, torch.tensor(t, dtype=dtype)) for each in (cond, UNTOLD)]
    return found, *plain, denoiser.network.asked


def test_the_fixed_points_of_the_weight():
    """1 is conditional, and asks once; 0 is unconditional; on every channel."""
    found, told, untold, asked = ask(1.0)
    assert torch.equal(found, told) and asked[0] == 3
    found, told, untold, asked = ask(0.0)
    assert torch.equal(found, untold) and asked[0] == 6
    assert ((told - untold).abs().flatten(2).amin((0, 2)) > 0.5).all()


@pytest.mark.parametrize("weight", [-0.5, 0.5, 1.0 + 1e-6, 3.0])
def test_between_and_beyond(weight):
    """(GU.4), and Ho & Salimans 2022, equation 6, whose weight is one less and whose outputs are noise."""
    found, told, untold, _ = ask(weight)
    torch.testing.assert_close(found, weight * told + (1 - weight) * untold)
    x_t, t = torch.randn(3, 3, 2, 2), torch.tensor(0.5)
    noises = [noise_in(Flow(), x_t, x, t) for x in (found, told, untold)]
    torch.testing.assert_close(noises[0], weight * noises[1] - (weight - 1) * noises[2])


def test_outside_the_interval_the_weight_is_one():
    for t, inside in ((0.1, False), (0.2, True), (0.5, True), (0.7, True), (0.8, False)):
        for dtype in (torch.float32, torch.float64):
            found, told, _, asked = ask(3.0, t, (0.2, 0.7), dtype=dtype)
            assert torch.equal(found, told) != inside and asked[0] == (6 if inside else 3)


@pytest.mark.parametrize("end", [0.1, 0.3, 0.35, 0.6, 0.7, 0.9, 0.95])
def test_the_ends_of_the_interval_belong_to_it(end):
    """Also when the time was rounded to the pictures' precision."""
    t = samplers.even_times(20)
    t = t[(t - end).abs().argmin()].float()
    for interval in ((0.0, end), (end, 1.0)):
        found, told, _, _ = ask(3.0, t.item(), interval)
        assert not torch.equal(found, told)


def test_data_of_any_shape_are_guided():
    """Points of the plane in the chapters' toys too."""
    denoiser = Denoiser(lambda x_t, t, cond: cond * x_t, Flow(), "x")
    x_t = torch.randn(3, 2)
    torch.testing.assert_close(classifier_free(denoiser, TOLD, UNTOLD, 2.0)(x_t, torch.tensor(0.5)), (2 * TOLD - 4) * x_t)


@pytest.mark.parametrize("interval", [(0.5, 0.2), (-0.1, 0.5), (0.5, 1.1)])
def test_an_interval_that_is_none_is_refused(interval):
    with pytest.raises(InputError, match="interval"):
        classifier_free(None, TOLD, UNTOLD, 2.0, interval)


MIXTURE = GaussianMixture(number([0.3, 0.7]), number([[-1.0, 0.5], [1.0, 0.0]]),
                          number([[[0.2, 0.1], [0.1, 0.3]], [[0.3, -0.1], [-0.1, 0.1]]]))
ONE = GaussianMixture(number([1.0]), MIXTURE.means[:1], MIXTURE.covariances[:1])


def mean_of(data, process):
    """The exact mean clean picture of data, by Tweedie's formula from the exact score."""

    def denoise(x_t, t):
        alpha, sigma = process.alpha(t), process.sigma(t)
        return (x_t + sigma**2 * data.noised(alpha, sigma).score(x_t)) / alpha

    return denoise


def log_prob(process):
    """The exact classifier: log p(first component | x_t)."""
    return lambda x_t, t: MIXTURE.noised(process.alpha(t), process.sigma(t)).posterior(x_t)[:, 0].log()


@each_process
@pytest.mark.parametrize("t", [0.05, 0.3, 0.6, 0.95])
def test_the_exact_classifier_makes_the_exact_conditional_denoiser(process, t):
    """(GU.2) with weight 1: Bayes' rule for scores; 0 leaves the denoiser as it was."""
    x_t, t = rand(20, 2), number(t)
    guided = classifier_guided(mean_of(MIXTURE, process), process, log_prob(process), 1.0)
    torch.testing.assert_close(guided(x_t, t), mean_of(ONE, process)(x_t, t), rtol=1e-6, atol=1e-8)
    unguided = classifier_guided(mean_of(MIXTURE, process), process, log_prob(process), 0.0)
    assert torch.equal(unguided(x_t, t), mean_of(MIXTURE, process)(x_t, t))
    assert (guided(x_t, t) - unguided(x_t, t)).abs().max() > 1e-4


@pytest.mark.parametrize("process", [Cosine(), Flow()])
def test_where_nothing_is_seen_nothing_guides(process):
    """At t = 1 no classifier knows anything, and the factor before its gradient has no value."""
    guided = classifier_guided(lambda x_t, t: torch.zeros_like(x_t), process, log_prob(process), 5.0)
    x_t = rand(4, 2)
    assert (guided(x_t, number(1.0)) == 0).all()
    assert not (guided(x_t, number(0.9)) == 0).any()


def test_guided_samples_are_of_the_class_asked_for():
    """Along the whole way, as `sample` does it: without gradients, and from noise alone."""
    process, start = Flow(), rand(2000, 2)

    def unconditional(x_t, t):
        return mean_of(MIXTURE, process)(x_t, t) if t < 1 else (MIXTURE.weights @ MIXTURE.means).expand_as(x_t)

    with torch.inference_mode():
        guided = classifier_guided(unconditional, process, log_prob(process), 1.0)
        found = samplers.euler(guided, process, samplers.even_times(200), start)
    assert found.isfinite().all()
    torch.testing.assert_close(found.mean(0), ONE.means[0], rtol=0, atol=0.05)
    torch.testing.assert_close(found.T.cov(), ONE.covariances[0], rtol=0, atol=0.05)


def test_a_classifier_that_uses_the_time_is_differentiated_without_gradients_around_it():
    def classifier(x_t, t):
        return -((x_t * t) ** 2).sum(1) / 2

    with torch.inference_mode():
        x_t, t = rand(4, 2), number(0.5)
        guided = classifier_guided(lambda x_t, t: torch.zeros_like(x_t), Flow(), classifier, 1.0)
        found = guided(x_t, t)
    torch.testing.assert_close(found, -0.25 / 0.5 * 0.25 * x_t)
