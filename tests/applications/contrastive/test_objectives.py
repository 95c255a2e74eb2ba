"""Who belongs to whom: the loss of hand-made vectors, worked out pair by pair."""

import math

import pytest
import torch
from torch import nn

from gencore.applications.contrastive import Draw, InfoNCE, Networks
from gencore.errors import InputError

CAPTIONS = torch.tensor([[1, 0], [2, 0], [3, 0]])
NONE = Draw(torch.empty(3, 0, 2, dtype=torch.int64), torch.empty(3, 0, dtype=torch.bool))


class Knowing(nn.Module):
    """Says what it was told to: vectors of pictures, and of captions by their first word."""

    def __init__(self, pictures, words, scale=2.0):
        super().__init__()
        self.pictures, self.words = nn.Parameter(torch.tensor(pictures)), nn.Parameter(torch.tensor(words))
        self.scale = scale

    def forward(self, x, captions):
        return self.pictures, self.words[captions[:, 0]]


def knowing(scale=2.0):
    torch.manual_seed(0)
    return Knowing(torch.randn(3, 4).tolist(), torch.randn(9, 4).tolist(), scale)


def surprise(values, answer):
    return math.log(sum(math.exp(v) for v in values)) - values[answer]


def fits(network, captions):
    return [[network.scale * (p @ network.words[c]).item() for c in captions] for p in network.pictures]


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_without_wrong_captions(share):
    network = knowing()
    loss = InfoNCE(share)(Networks(network), torch.zeros(3, 1, 2, 2), CAPTIONS, NONE)
    fit = fits(network, [1, 2, 3])
    captions = sum(surprise(row, i) for i, row in enumerate(fit)) / 3
    pictures = sum(surprise([row[i] for row in fit], i) for i in range(3)) / 3
    assert loss.parts["captions"].item() == pytest.approx(captions, rel=1e-5)
    assert loss.parts["pictures"].item() == pytest.approx(pictures, rel=1e-5)
    assert loss.total.item() == pytest.approx((1 - share) * captions + share * pictures, rel=1e-5)
    right = sum(max(range(3), key=row.__getitem__) == i for i, row in enumerate(fit)) / 3
    assert loss.parts["right"].item() == pytest.approx(right) and loss.parts["scale"] == 2


def test_wrong_captions_join_their_own_picture_and_no_other():
    network = knowing()
    wrong = torch.tensor([[[4, 0], [5, 0]], [[6, 0], [7, 0]], [[8, 0], [1, 0]]])
    usable = torch.tensor([[True, True], [False, True], [False, False]])
    loss = InfoNCE()(Networks(network), torch.zeros(3, 1, 2, 2), CAPTIONS, Draw(wrong, usable))
    fit = fits(network, range(9))
    rows = [[*fit[0][1:4], fit[0][4], fit[0][5]], [*fit[1][1:4], fit[1][7]], fit[2][1:4]]
    captions = sum(surprise(row, i) for i, row in enumerate(rows)) / 3
    pictures = sum(surprise([row[i + 1] for row in fit], i) for i in range(3)) / 3
    assert loss.parts["captions"].item() == pytest.approx(captions, rel=1e-5)
    assert loss.parts["pictures"].item() == pytest.approx(pictures, rel=1e-5)


def test_the_same_caption_twice_is_no_wrong_answer():
    network = knowing()
    captions = torch.tensor([[1, 0], [2, 0], [1, 0]])
    loss = InfoNCE()(Networks(network), torch.zeros(3, 1, 2, 2), captions, NONE)
    fit = fits(network, [1, 2])
    expected = (surprise(fit[0], 0) + surprise([fit[1][0], fit[1][1], fit[1][0]], 1) + surprise(fit[2], 0)) / 3
    assert loss.parts["captions"].item() == pytest.approx(expected, rel=1e-5)
    columns = [[fit[0][0], fit[1][0]], [fit[0][1], fit[1][1], fit[2][1]], [fit[1][0], fit[2][0]]]
    expected = (surprise(columns[0], 0) + surprise(columns[1], 1) + surprise(columns[2], 1)) / 3
    assert loss.parts["pictures"].item() == pytest.approx(expected, rel=1e-5)


def test_chance_is_the_logarithm_of_the_number():
    loss = InfoNCE()(Networks(knowing(0.0)), torch.zeros(3, 1, 2, 2), CAPTIONS, NONE)
    assert loss.total.item() == pytest.approx(math.log(3), rel=1e-6)


def test_its_gradient_draws_pairs_together_and_others_apart():
    network = Knowing([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
    InfoNCE()(Networks(network), torch.zeros(3, 1, 2, 2), CAPTIONS, NONE).total.backward()
    assert (network.pictures.grad[0] @ network.words[1]).item() < 0 < (network.pictures.grad[0] @ network.words[2]).item()


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_nonsense_is_refused(share):
    with pytest.raises(InputError, match="pictures"):
        InfoNCE(share)
