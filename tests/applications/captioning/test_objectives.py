"""What words cost: hand-made distributions, worked out word by word."""

import math

import pytest
import torch
from torch import nn

from gencore.applications.captioning import Draw, Networks, NextWord
from gencore.applications.captioning.objectives import written
from gencore.data.wording import END
from gencore.errors import InputError

CAPTIONS = torch.tensor([[2, 1, END, END], [1, 1, 2, END], [END, 2, 1, END]])
COUNTED = [[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
WORDS = [0.2, 0.5, 0.3]


class Knowing(nn.Module):
    """Says the same of every word."""

    def __init__(self):
        super().__init__()
        self.logits, self.asked = nn.Parameter(torch.tensor(WORDS).log()), []

    def forward(self, x, captions, language, u):
        self.asked.append((x, captions, language, u))
        return self.logits.expand(*captions.shape, -1)


def test_which_words_count():
    assert torch.equal(written(CAPTIONS), torch.tensor(COUNTED).bool())
    assert written(torch.tensor([[1, 2, 1]])).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_hand_made_distribution(smoothing):
    network, x, draw = Knowing(), torch.zeros(3, 1, 2, 2), Draw(torch.tensor([0, 1, 0]), torch.rand(3, 2))
    loss = NextWord(smoothing)(Networks(network), x, CAPTIONS, draw)
    said = [word for row, counts in zip(CAPTIONS.tolist(), COUNTED, strict=True) for word, c in zip(row, counts, strict=True) if c]
    nats = -sum(math.log(WORDS[word]) for word in said) / len(said)
    spread = -sum(map(math.log, WORDS)) / 3
    assert loss.parts["nats"].item() == pytest.approx(nats, rel=1e-6)
    assert loss.total.item() == pytest.approx((1 - smoothing) * nats + smoothing * spread, rel=1e-6)
    assert loss.parts["right"].item() == pytest.approx(said.count(1) / len(said))
    ((given_x, captions, language, u),) = network.asked
    assert given_x is x and captions is CAPTIONS and language is draw.language and u is draw.dropped


def test_its_gradient_goes_down_to_the_frequencies():
    network = Knowing()
    NextWord()(Networks(network), torch.zeros(3, 1, 2, 2), CAPTIONS, Draw(torch.zeros(3).long())).total.backward()
    torch.testing.assert_close(network.logits.grad, torch.tensor([0.2 - 3 / 8, 0.5 - 3 / 8, 0.3 - 2 / 8]))


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_nonsense_is_refused(smoothing):
    with pytest.raises(InputError, match="smoothing"):
        NextWord(smoothing)
