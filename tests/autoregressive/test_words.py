"""Captions in the sentence: what their words cost, what is hidden, and that pictures follow what they say."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from gencore import autoregressive, families
from gencore.autoregressive import Draw, Networks, NextSymbol, Sampling, WordsThenSymbols
from gencore.autoregressive.examples import Examples
from gencore.autoregressive.objectives import spoken
from gencore.autoregressive.sampling import build, draw_symbols
from gencore.data import wording
from gencore.data.shapes import CAPTIONED, END
from gencore.errors import InputError
from tests.autoregressive.tiny import CAPTIONED as TINY
from tests.autoregressive.tiny import CODED, first_stage, model

CAPTIONS = torch.tensor([[2, 1, END, END], [1, 1, 2, END], [END] * 4, [1, END, 2, 1]])  # the last has words after its end
COUNTED = [[1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]]


class Knowing(nn.Module):
    """Says the same of every place and of every word."""

    def __init__(self, symbols, words):
        super().__init__()
        self.symbols, self.words = (nn.Parameter(torch.tensor(each).log()) for each in (symbols, words))
        self.asked = []

    def forward(self, symbols, cond, u=None, words=False):
        self.asked.append((symbols, cond, u, words))
        picture = self.symbols[None, :, None, None].expand(len(symbols), -1, *symbols.shape[2:])
        return picture, self.words.expand(*cond.shape, -1)


def test_which_words_count():
    """Those up to the first end, that included; of the empty caption none, which stands for "not told"."""
    assert torch.equal(spoken(CAPTIONS), torch.tensor(COUNTED).bool())
    full = torch.tensor([[1, 2, 1, 2]])
    assert spoken(full).all()  # no end: all are words


@pytest.mark.parametrize("share", [0.125, 0.4])
def test_the_loss_of_hand_made_distributions(share):
    symbols = torch.tensor([0, 1, 1, 1]).view(1, 1, 2, 2).expand(4, -1, -1, -1)
    words = [0.2, 0.5, 0.3]
    network = Knowing([0.75, 0.25], words)
    u = torch.rand(4, 1)
    loss = WordsThenSymbols(share)(Networks(network), symbols, CAPTIONS, Draw(u))
    nats = -(math.log(0.75) + 3 * math.log(0.25))
    costs = []
    for caption, counted in zip(CAPTIONS.tolist(), COUNTED, strict=True):
        each = [-math.log(words[word]) for word, counts in zip(caption, counted, strict=True) if counts]
        costs.append(sum(each) / len(each) if each else 0.0)
    assert loss.parts["nats"].item() == pytest.approx(nats, rel=1e-6)
    assert loss.parts["words"].item() == pytest.approx(sum(costs) / 4, rel=1e-6)
    assert loss.total.item() == pytest.approx(share * sum(costs) / 4 + (1 - share) * nats / 4, rel=1e-6)
    assert network.asked[0][0] is symbols and network.asked[0][1] is CAPTIONS and network.asked[0][2] is u and network.asked[0][3]


def test_the_shares_are_those_of_the_paper():
    assert WordsThenSymbols().words == 1 / 8
    for share in (-0.1, 1.0):
        with pytest.raises(InputError, match="words"):
            WordsThenSymbols(share)


def test_a_share_of_captions_is_not_told():
    recipe = replace(TINY, data=replace(TINY.data, images=600), batch_size=600, drop=0.4)
    network = build(recipe).model
    network.adopt(first_stage(recipe)["first_stage"])
    data = recipe.data.load("train")
    examples = Examples(recipe, data, network, torch.device("cpu"))
    symbols, cond, draw = examples.at(0)
    empty = (cond == END).all(1)
    assert empty.float().mean().item() == pytest.approx(0.4, abs=0.08)
    told = {tuple(row) for row in wording.encode(recipe.data, data.captions, recipe.captions.length).tolist()}
    assert all(tuple(row) in told for row in cond[~empty].tolist())
    assert symbols.shape == (600, 1, 4, 4) and draw.dropped.shape == (600, *recipe.captions.noise_shape)


def test_pictures_follow_the_caption_and_guidance_follows_it_further():
    """Of a network of random weights, which hears a caption best if one word fills it."""
    drawing, length = model(TINY), TINY.captions.length
    cond = torch.tensor([8, 20] * 4)[:, None].expand(-1, length)
    (plain,) = draw_symbols(drawing, 8, 0, cond=cond, sampling=Sampling())
    (other,) = draw_symbols(drawing, 8, 0, cond=cond.flip(0), sampling=Sampling())
    assert not torch.equal(plain, other)
    (network,), likelihood = drawing[0], TINY.objective.likelihood
    fits = []
    for guidance in (0.0, 1.0, 4.0):
        (found,) = draw_symbols(drawing, 200, 0, cond=cond[:1].expand(200, -1), sampling=Sampling(guidance=guidance))
        told, nothing = (likelihood.log_prob(network(found, each.expand(200, -1)), found).sum() for each in (cond[:1], torch.zeros_like(cond[:1])))
        fits.append((told - nothing).item())
    assert fits[0] < fits[1] < fits[2]  # how much likelier the pictures are for having been told


def test_by_default_it_draws_what_training_captions_say():
    cond = autoregressive.sampling.asked_for(TINY, 5, 0, 0)
    captions = wording.encode(TINY.data, TINY.data.load("train").captions, TINY.captions.length)
    assert all((captions == row).all(1).any() for row in cond) and len(cond.unique(dim=0)) > 1


def test_the_probability_of_a_picture_is_that_given_its_caption():
    drawing = model(TINY)
    data = TINY.data.load("heldout").subset(torch.arange(6))
    (network,), _ = drawing
    symbols = autoregressive.to_symbols(drawing, data)
    captions = wording.encode(TINY.data, data.captions, TINY.captions.length)
    for told, cond in ((True, captions), (False, torch.zeros_like(captions))):
        found = autoregressive.log_likelihood(drawing, data, told=told)
        log_p = network(symbols, cond).log_softmax(1).gather(1, symbols).sum((1, 2, 3))
        torch.testing.assert_close(found.float(), log_p)


@pytest.mark.parametrize(
    ("recipe", "change", "message"),
    [
        (TINY, dict(objective=NextSymbol()), "WordsThenSymbols goes with CaptionTransformer"),
        (CODED, dict(objective=WordsThenSymbols()), "WordsThenSymbols goes with CaptionTransformer"),
        (TINY, dict(mirror=True), "captions say left and right"),
        (TINY, dict(told=()), "'caption' goes with a network that reads captions"),
        (TINY, dict(told=("caption", "class")), "must be 1 for told"),
    ],
)
def test_nonsense_is_refused(recipe, change, message):
    with pytest.raises(InputError, match=message):
        replace(recipe, **change)


def test_what_ships_is_small_and_fits_its_first_stage():
    recipe = autoregressive.recipes.words_shapes()
    assert sum(p.numel() for p in build(recipe).model.parameters()) <= 2_200_000
    first = families.recipes()["vae.recipes.vq_shapes"]()
    assert first.network == recipe.network.first and recipe.data == CAPTIONED
    assert first.data.held_out_combinations and CAPTIONED.held_out_combinations  # nor has the first stage seen them
