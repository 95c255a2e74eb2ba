"""Captions made wrong: each is wrong, in one way, and in the grammar; judged by the scenes themselves."""

import itertools
from collections import Counter

import pytest
import torch

from gencore.applications.contrastive.changes import (
    KINDS,
    change_word,
    exchange_colours,
    made_wrong,
    speaks_of_held_out,
)
from gencore.data import Shapes
from gencore.data.shapes import CAPTION_LENGTH, HELD_OUT_COMBINATIONS, decode, encode
from gencore.data.shapes_scorer import judge

COUNT = 400


@pytest.fixture(scope="module")
def data():
    return Shapes(16, objects=4, images=COUNT, held_out_combinations=True, several_related=True).load("train")


def uniform(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3))


def differences(before, after):
    return [(a, b) for a, b in zip(before.split(), after.split(), strict=True) if a != b and {a, b} != {"a", "an"}]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "exchange"])
def test_one_word_becomes_another_of_its_kind_and_what_is_said_is_false(data, kind):
    captions = encode(data.captions)
    changed, found = change_word(captions, uniform(COUNT, CAPTION_LENGTH + 1), (kind,))
    seen = Counter()
    assert found.float().mean() > 0.1
    for scene, before, row, usable in zip(data.meta["scene"], data.captions, changed, found.tolist(), strict=True):
        if not usable:
            assert decode(row) == before
            continue
        ((old, new),) = differences(before, decode(row))
        seen[old, new] += 1
        assert any(fact.held is False for fact in judge(decode(row), scene.objects).facts), (before, decode(row))
    words = {"colour": 8, "shape": 6, "size": 2, "number": 3, "direction": 2}[kind]
    for old in {old for old, _ in seen}:
        others = {new for first, new in seen if first == old}
        assert old not in others and len(others) <= words - 1
        if sum(count for (first, _), count in seen.items() if first == old) > 60:
            assert len(others) == words - 1  # each other word of the kind comes
    if kind == "direction":
        pairs = {frozenset(pair) for pair in seen}
        assert pairs == {frozenset(pair) for pair in (("left", "right"), ("top", "bottom"), ("above", "below"))}


def test_any_word_may_be_the_one():
    """Of "two small red circles above a blue square", six words can be changed, each as often as another."""
    caption = "two small red circles above a blue square"
    changed, found = change_word(encode([caption]).expand(3000, -1), uniform(3000, CAPTION_LENGTH + 1))
    assert found.all()
    places = Counter(caption.split().index(differences(caption, decode(row))[0][0]) for row in changed)
    assert places.keys() == {0, 1, 2, 3, 4, 6, 7}
    assert max(places.values()) - min(places.values()) < 6 * (3000 / 7) ** 0.5


def test_articles_follow():
    changed, _ = change_word(encode(["a red circle"]).expand(500, -1), uniform(500, CAPTION_LENGTH + 1), ("colour",))
    said = {decode(row) for row in changed}
    assert "an orange circle" in said and "a orange circle" not in said and len(said) == 7
    changed, _ = change_word(encode(["an orange circle"]).expand(500, -1), uniform(500, CAPTION_LENGTH + 1), ("colour",))
    assert {decode(row).split()[0] for row in changed} == {"a"}


def test_what_cannot_be_changed_stays():
    captions = encode(["a circle", ""])
    changed, found = change_word(captions, uniform(2, CAPTION_LENGTH + 1), ("colour", "size"))
    assert torch.equal(changed, captions) and not found.any()


def test_exchanged_colours_are_the_same_words_and_another_scene(data):
    captions = encode(data.captions)
    changed, found = exchange_colours(captions, uniform(COUNT, CAPTION_LENGTH))
    assert 0.2 < found.float().mean() < 0.8
    for scene, before, row, usable in zip(data.meta["scene"], data.captions, changed, found.tolist(), strict=True):
        if not usable:
            assert decode(row) == before
            continue
        plain = [Counter(word.replace("an", "a") for word in text.split()) for text in (before, decode(row))]
        assert plain[0] == plain[1] and len(differences(before, decode(row))) == 2
        assert any(fact.held is False for fact in judge(decode(row), scene.objects).facts), (before, decode(row))


def test_every_pair_that_differs_may_be_exchanged_and_no_other():
    caption = "a red circle and a blue square and a green circle and a red ring"
    changed, found = exchange_colours(encode([caption]).expand(600, -1), uniform(600, CAPTION_LENGTH))
    phrases = [("red", "circle"), ("blue", "square"), ("green", "circle"), ("red", "ring")]
    expected = set()
    for i, j in itertools.combinations(range(4), 2):
        if phrases[i][0] != phrases[j][0] and phrases[i][1] != phrases[j][1]:
            colours = [colour for colour, _ in phrases]
            colours[i], colours[j] = colours[j], colours[i]
            expected.add(" and ".join(f"a {colour} {shape}" for colour, (_, shape) in zip(colours, phrases, strict=True)))
    assert found.all() and {decode(row) for row in changed} == expected and len(expected) == 4
    unlike = encode(["a red circle and a blue circle", "a red circle and a red ring", "a red circle"])
    same, found = exchange_colours(unlike, uniform(3, CAPTION_LENGTH))
    assert torch.equal(same, unlike) and not found.any()


def test_no_version_speaks_of_what_training_never_shows(data):
    captions = encode(data.captions)
    wrong, usable = made_wrong(captions, uniform(COUNT, 5, CAPTION_LENGTH + 1))
    assert wrong.shape == (COUNT, 5, CAPTION_LENGTH) and usable.shape == (COUNT, 5)
    pairs = [f"{colour} {shape}" for colour, shape in HELD_OUT_COMBINATIONS]
    spoken = torch.tensor([[any(pair in decode(row) for pair in pairs) for row in rows] for rows in wrong])
    assert torch.equal(speaks_of_held_out(wrong), spoken) and not speaks_of_held_out(captions).any()
    same = (wrong == captions[:, None]).all(2)
    assert torch.equal(usable, ~spoken & ~same) and 0 < (spoken & ~same).sum()
    exchanged = exchange_colours(captions, uniform(COUNT, 5, CAPTION_LENGTH + 1)[:, -1, :-1])[0]
    assert torch.equal(wrong[:, -1], exchanged)
    assert not torch.equal(wrong[:, 0], wrong[:, 1])


def test_none_are_made_if_none_are_asked_for():
    wrong, usable = made_wrong(encode(["a red circle"]), torch.empty(1, 0, CAPTION_LENGTH + 1))
    assert wrong.shape == (1, 0, CAPTION_LENGTH) and usable.shape == (1, 0)
