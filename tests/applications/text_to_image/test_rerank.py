"""The best of several: who is chosen, and what is chosen by."""

import pytest
import torch

from gencore.applications.text_to_image.rerank import best_of, exact
from gencore.data import Shapes
from gencore.errors import InputError


def test_the_best_of_each_caption_is_kept():
    images = torch.arange(24.0).view(2, 3, 1, 2, 2)
    asked = []

    def scorer(pictures, captions):
        asked.append((pictures, captions))
        return torch.tensor([0.1, 0.9, 0.3, 0.8, 0.2, 0.8])

    best, scores = best_of(images, ["one", "two"], scorer)
    assert torch.equal(best, torch.stack([images[0, 1], images[1, 0]]))  # of two equally good ones the first
    assert torch.equal(scores, torch.tensor([[0.1, 0.9, 0.3], [0.8, 0.2, 0.8]]))
    ((pictures, captions),) = asked
    assert torch.equal(pictures, images.flatten(0, 1)) and captions == ["one"] * 3 + ["two"] * 3


def test_one_of_one_is_itself():
    images = torch.rand(3, 1, 1, 2, 2)
    best, _ = best_of(images, ["a", "b", "c"], lambda pictures, captions: torch.zeros(3))
    assert torch.equal(best, images[:, 0])


def test_the_exact_scorer_finds_the_right_picture():
    data = Shapes(images=12).load("train")
    right, wrong = data.images, data.images.roll(1, 0)
    best, scores = best_of(torch.stack([wrong, right], 1), data.captions, exact)
    assert torch.equal(best, right) and (scores[:, 1] == 1).all() and (scores[:, 0] < 1).all()


@pytest.mark.parametrize("shape", [(2, 3, 1, 2), (3, 3, 1, 2, 2), (2, 0, 1, 2, 2)])
def test_what_does_not_go_together_is_refused(shape):
    with pytest.raises(InputError, match="for 2 captions give"):
        best_of(torch.zeros(shape), ["a", "b"], lambda pictures, captions: torch.zeros(len(pictures)))
