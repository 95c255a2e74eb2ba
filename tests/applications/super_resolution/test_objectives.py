"""What is minimised, against sums done by hand, and what its minimum is."""

import pytest
import torch
from torch import nn

from gencore.applications.super_resolution import Networks, PixelError
from gencore.errors import InputError


class Constant(nn.Module):
    """Predicts one number everywhere."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(value)))

    def forward(self, given):
        return self.value.expand(given.shape)


WANTED = torch.tensor([-1.0, 0.0, 0.1, 0.5]).view(1, 1, 2, 2)
BY_HAND = {"absolute": (1.3 + 0.3 + 0.2 + 0.2) / 4, "squared": (1.69 + 0.09 + 0.04 + 0.04) / 4}  # of predicting 0.3


@pytest.mark.parametrize("measure", BY_HAND)
def test_the_error_is_a_mean_over_all_numbers(measure):
    loss = PixelError(measure, weight=3.0)(Networks(Constant(0.3)), WANTED, WANTED)
    assert loss.total.item() == pytest.approx(3 * BY_HAND[measure])
    assert {name: value.item() for name, value in loss.parts.items()} == {f"{measure}_error": pytest.approx(BY_HAND[measure])}
    assert torch.equal(loss.picture, torch.full_like(WANTED, 0.3)) and loss.picture.requires_grad


@pytest.mark.parametrize(("measure", "best"), [("absolute", 0.05), ("squared", -0.1)])
def test_the_best_single_guess_is_a_median_or_the_mean(measure, best):
    def gradient(value):
        network = Constant(value)
        PixelError(measure)(Networks(network), WANTED, WANTED).total.backward()
        return network.value.grad.item()

    assert gradient(best) == pytest.approx(0, abs=1e-6)
    assert gradient(best + 0.2) > 0 > gradient(best - 0.2)


def test_a_low_precision_prediction_is_compared_in_full():
    """And what others then look at is in full precision too."""
    network, wanted = nn.Identity(), torch.full((1, 1, 2, 2), 0.001)
    given = torch.ones(1, 1, 2, 2, dtype=torch.bfloat16)
    loss = PixelError()(Networks(network), given, wanted)
    assert loss.total.item() == pytest.approx(0.999, abs=1e-6) and loss.picture.dtype == torch.float32


def test_a_weight_that_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="weight 0"):
        PixelError(weight=0)
