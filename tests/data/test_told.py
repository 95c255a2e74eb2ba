"""What is told of each picture: captions and labels as columns, what hides them, and what is refused."""

from types import SimpleNamespace

import pytest
import torch

from gencore.data import Digits, Emoji, Shapes, wording
from gencore.data.shapes import CAPTION_LENGTH, VOCABULARY, encode
from gencore.data.told import (
    ASKED, ask, asked_for, caption_length, check_conditions, check_told, conditions, reword, untold, with_mirrored, wordings,
)
from gencore.errors import InputError

CAPTIONS = SimpleNamespace(words=len(VOCABULARY), length=CAPTION_LENGTH)
SHAPES = Shapes(size=16, images=30, heldout_images=10)


class Recipe(SimpleNamespace):
    """One that tells; it can be a key, as recipes can."""

    def __hash__(self):
        return id(self)


def recipe(told=("caption", "class"), conditions=(3,), captions=CAPTIONS, data=SHAPES, mirror=False):
    return Recipe(told=told, conditions=conditions, captions=captions, data=data, mirror=mirror)


def test_a_caption_is_the_first_columns_and_the_others_follow():
    data = SHAPES.load("train")
    cond = conditions(recipe(), data)
    assert cond.shape == (30, CAPTION_LENGTH + 1) and cond.dtype == torch.int64
    assert torch.equal(cond[:, :-1], encode(data.captions)) and torch.equal(cond[:, -1], data.labels)
    assert torch.equal(conditions(recipe(("class",), captions=None), data), data.labels[:, None])
    assert conditions(recipe((), (), None), data).shape == (30, 0)
    assert torch.equal(conditions(recipe(("caption",), ()), data), encode(data.captions))
    assert caption_length(recipe()) == CAPTION_LENGTH and caption_length(recipe(("class",))) == 0


def test_shapes_are_worded_once_and_nothing_is_worded_where_no_caption_is_told():
    data = SHAPES.load("train")
    assert torch.equal(wordings(recipe(), data)[:, 0], encode(data.captions)) and wordings(recipe(), data).shape[1] == 1
    assert wordings(recipe(("class",), captions=None), data).shape == (30, 0, 0)


def test_the_style_is_told_beside_the_words():
    data = Emoji(("twemoji", "noto"), size=8)
    captions = SimpleNamespace(words=len(wording.vocabulary(data)), length=wording.EMOJI_LENGTH)
    loaded = data.load("heldout")
    cond = conditions(recipe(("caption", "style"), (2,), captions, data), loaded)
    assert cond[:, -1].tolist() == [0] * (len(loaded) // 2) + [1] * (len(loaded) // 2)
    assert torch.equal(cond[:, :-1], wordings(recipe(("caption", "style"), (2,), captions, data), loaded)[:, 0])


def test_one_wording_is_chosen_by_a_uniform_number():
    table = torch.arange(2 * 4 * 3).view(2, 4, 3)  # two pictures, four wordings of three words
    cond = torch.tensor([[0, 1, 2, 70], [12, 13, 14, 71]])
    chosen = reword(cond, table, torch.tensor([0.0, 0.999]))
    assert chosen.tolist() == [[0, 1, 2, 70], [21, 22, 23, 71]]
    assert reword(cond, table, torch.tensor([0.26, 0.5])).tolist() == [[3, 4, 5, 70], [18, 19, 20, 71]]
    assert reword(cond, table[:, :1], torch.tensor([0.9, 0.9])) is cond


def test_hidden_is_the_empty_caption_and_the_number_of_values():
    told = recipe(("caption", "class"), (3, 2), SimpleNamespace(words=9, length=4), mirror=True)
    cond = torch.tensor([[5, 6, 0, 0, 1, 1], [7, 8, 5, 0, 2, 0]])
    assert untold(told, cond).tolist() == [[0, 0, 0, 0, 3, 1], [0, 0, 0, 0, 3, 0]]
    assert cond[0, 0] == 5  # what was given stays
    assert with_mirrored(told, cond[:, :5], torch.tensor([1, 0])).tolist() == cond.tolist()
    plain = recipe(("class", "style"), (3, 2, 2), None, mirror=True)
    assert untold(plain, torch.tensor([[1, 1, 1]])).tolist() == [[3, 2, 1]]


def test_captions_alone_can_be_asked_for():
    told = recipe(("caption", "class"), (3,))
    cond = ask(told, ["a red circle", "two stars"])
    assert torch.equal(cond[:, :-1], encode(["a red circle", "two stars"])) and cond[:, -1].tolist() == [3, 3]
    check_conditions(told, cond, 2)
    assert torch.equal(untold(told, cond)[:, -1], cond[:, -1])
    with pytest.raises(InputError, match="captions: this model is told .'class',."):
        ask(recipe(("class",), captions=None), ["a red circle"])


def test_what_training_pictures_show_is_asked_for_without_drawing_all_of_them(monkeypatch):
    """The first thousand scenes are those of any number of them."""
    loaded, load = [], Shapes.load
    monkeypatch.setattr(Shapes, "load", lambda self, split: loaded.append(self) or load(self, split))
    many = recipe(data=Shapes(images=50_000))
    cond = asked_for(many, 5, seed=1, first=0)
    assert [(each.images, each.size) for each in loaded] == [(ASKED, 16)]
    assert torch.equal(asked_for(many, 2, seed=1, first=3), cond[3:]) and len(loaded) == 1
    known = {tuple(row.tolist()) for row in conditions(many, Shapes(size=16, images=ASKED).load("train"))}
    assert {tuple(row.tolist()) for row in cond} <= known
    check_conditions(many, cond, 5)
    labels = recipe(("class",), (3,), None, data=Shapes(size=16, images=ASKED + 1))
    asked_for(labels, 1, 0, 0)
    assert loaded[-1].images == ASKED + 1  # as it was before there were captions


@pytest.mark.parametrize(
    ("cond", "message"),
    [
        (torch.zeros(2, 4, dtype=torch.int64), r"cond \(2, 4\): this model is told \(2, 5\): .*of which a caption takes 4"),
        (torch.zeros(1, 5, dtype=torch.int64), r"cond \(1, 5\): this model is told \(2, 5\)"),
        (torch.tensor([[9, 0, 0, 0, 0]] * 2), "a caption's words are numbered from 0 to 8"),
        (torch.tensor([[-1, 0, 0, 0, 0]] * 2), "a caption's words are numbered"),
        (torch.tensor([[8, 0, 0, 0, 4]] * 2), "have .3,. values, from 0 on; that number is not told"),
        (torch.tensor([[8, 0, 0, 0, -1]] * 2), "have .3,. values"),
    ],
)
def test_conditions_that_the_network_does_not_know_are_refused(cond, message):
    told = recipe(("caption", "class"), (3,), SimpleNamespace(words=9, length=4))
    with pytest.raises(InputError, match=message):
        check_conditions(told, cond, 2)
    check_conditions(told, torch.tensor([[8, 8, 8, 8, 3], [0, 0, 0, 0, 0]]), 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(captions=None), "'caption' goes with a network that reads captions"),
        (dict(told=("class",)), "'caption' goes with a network that reads captions"),
        (dict(told=("class", "caption")), "'caption' comes first"),
        (dict(conditions=(3, 2)), r"network.conditions \(3, 2\): must be 1 for told$"),
        (dict(conditions=()), r"network.conditions \(\): must be 1 for told$"),
        (dict(mirror=True), r"network.conditions \(3,\): must be 1 for told, and 2"),
        (dict(mirror=True, conditions=(3, 3)), "must be 1 for told, and 2"),
    ],
)
def test_a_recipe_that_tells_what_its_network_cannot_hear_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        check_told(recipe(**fields))
    check_told(recipe())
    check_told(recipe(mirror=True, conditions=(3, 2)))


def test_other_words_and_data_without_captions_are_refused():
    with pytest.raises(InputError, match="reads 7 words, but captions of shapes/train have 40"):
        conditions(recipe(captions=SimpleNamespace(words=7, length=36)), SHAPES.load("train"))
    with pytest.raises(InputError, match="Digits has no captions; Emoji and Shapes have"):
        wordings(recipe(data=Digits()), Digits().load("heldout"))
    with pytest.raises(InputError, match="network.conditions: class has 3 values or more, the network 2"):
        conditions(recipe(conditions=(2,)), SHAPES.load("train"))
