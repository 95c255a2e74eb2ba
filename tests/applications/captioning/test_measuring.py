"""What captions are worth: facts by the scenes, names by their words, and the way there and back."""

from dataclasses import replace

import pytest
import torch

from gencore.applications import captioning
from gencore.applications.captioning import measuring, names, there_and_back, truth
from gencore.applications.captioning.telling import Told
from gencore.data import Shapes
from gencore.data.shapes import HELD_OUT_COMBINATIONS
from gencore.errors import InputError
from tests.applications.captioning.tiny import NAMES, TINY


def test_captions_of_the_scenes_themselves_are_true():
    data = Shapes(16, images=30, several_related=True).load("train")
    found = truth(data.captions, data.meta["scene"])
    assert found.facts == found.captions == 1 and all(share == 1 for share, _ in found.by_kind.values())
    assert {"object", "colour", "size", "count"} <= found.by_kind.keys()


def test_what_is_not_so_is_counted_by_kind():
    """A circle that is blue, not red: an object holds, a colour and two counts do not... of one caption in three."""
    data = Shapes(16, objects=1, images=200).load("train")
    index = next(i for i, scene in enumerate(data.meta["scene"]) if scene.objects[0].colour == "blue")
    scene = data.meta["scene"][index]
    shape = scene.objects[0].shape
    article = "an" if shape[0] in "aeiou" else "a"
    captions = [f"a blue {shape}", f"a red {shape}", f"{article} {shape} {shape}"]
    found = truth(captions, [scene] * 3)
    # True: object, colour, exactly one, exactly one in all. False: colour, exactly one of that colour; and no grammar.
    assert found.by_kind == {"object": (1.0, 2), "colour": (0.5, 2), "count": (0.75, 4), "grammar": (0.0, 1)}
    assert found.captions == pytest.approx(1 / 3) and found.facts == pytest.approx(6 / 9)


def test_what_is_left_out_makes_a_caption_false():
    data = Shapes(16, objects=2, images=50).load("train")
    scene = next(scene for scene in data.meta["scene"] if len({(t.colour, t.shape) for t in scene.objects}) == 2)
    first = scene.objects[0]
    assert truth([f"a {first.colour} {first.shape}".replace("a orange", "an orange")], [scene]).captions == 0


def test_as_many_captions_as_scenes():
    for captions, scenes in ((["a circle"], []), ([], [])):
        with pytest.raises(InputError, match="give each scene one"):
            truth(captions, scenes)


def test_there_and_back():
    """The same objects, whatever else is said; nonsense is not the same."""
    captions = ["a small red circle above a blue star", "two red circles", "a ring", "a ring", "a red ring"]
    back = ["a blue star and a red circle at the top", "a red circle and a red circle", "a ring ring", "a star", "a blue ring"]
    drawn = []

    def draw(asked):
        drawn.append(asked)
        return torch.zeros(5, 3, 16, 16)

    found = there_and_back(captions, draw, lambda pictures: back)
    assert found.same == [True, True, False, False, False] and found.texts == back and found.pictures.shape == (5, 3, 16, 16)
    assert drawn == [captions]
    with pytest.raises(InputError):
        there_and_back(["a ring ring"], draw, lambda pictures: back)


def says(monkeypatch, texts):
    monkeypatch.setattr(measuring, "tell", lambda model, images, *rest: Told(texts[: len(images)], torch.empty(0), torch.empty(0)))


def test_names_word_by_word(monkeypatch):
    data = NAMES.data.load("train").subset(torch.arange(3))
    data = replace(data, captions=("red apple", "green apple", "cat"), meta={**data.meta, "zh": ("红苹果", "青苹果", "猫")})
    says(monkeypatch, ["red apple", "red apple", "dog"])
    found = names((None, NAMES), data)
    assert found == {"name": pytest.approx(1 / 3), "word": pytest.approx(3 / 5), "BLEU-1": pytest.approx(3 / 5)}
    says(monkeypatch, ["红苹果", "红苹果", "猫"])
    found = names((None, NAMES), data, "zh")
    assert found == {"name": pytest.approx(2 / 3), "word": pytest.approx(6 / 7), "BLEU-1": pytest.approx(6 / 7)}


def test_what_cards_say_of_shapes(monkeypatch):
    """Held-out pictures of combinations that are seen and of others, and no others."""
    asked = []

    def right(model, images, *rest):
        asked.append(images)
        for data in measuring._held_out(TINY.data).values():
            if torch.equal(data.images, images):
                return Told(list(data.captions), torch.empty(0), torch.empty(0))

    monkeypatch.setattr(measuring, "tell", right)
    rows = captioning.measure((None, TINY))
    assert {row["on"] for row in rows} == {"shapes/heldout, combinations seen", "shapes/heldout, combinations never seen"}
    assert all(row["value"] == pytest.approx(1) for row in rows) and {"captions that hold", "BLEU-4"} <= {row["name"] for row in rows}
    for name, data in measuring._held_out(TINY.data).items():
        with_pair = [any((t.colour, t.shape) in HELD_OUT_COMBINATIONS for t in scene.objects) for scene in data.meta["scene"]]
        assert len(data) == 20 and set(with_pair) == {name.endswith("never seen")}
    assert measuring._held_out(replace(TINY.data, held_out_combinations=False)).keys() == {"shapes/heldout"}


def test_what_cards_say_of_emoji(monkeypatch):
    heldout, train = NAMES.data.load("heldout"), NAMES.data.load("train")
    shown = []

    def right(model, images, language, *rest):
        shown.append(images)
        data = heldout if len(images) == len(heldout) else train
        return Told(list(data.captions if language == "en" else data.meta["zh"]), torch.empty(0), torch.empty(0))

    monkeypatch.setattr(measuring, "tell", right)
    rows = captioning.measure((None, NAMES))
    assert {(row["on"], row["samples"]) for row in rows} == {("emoji/heldout", len(heldout)), ("emoji/train, moved", len(train))}
    assert all(row["value"] == pytest.approx(1) for row in rows) and len(rows) == 12
    assert torch.equal(shown[0], heldout.images) and not torch.equal(shown[-1], train.images)
    assert torch.equal(shown[-1][:, :, 2:, 2:], train.images[:, :, :-2, :-2])
    assert (shown[-1][:, :, :2] == 255).all() and (shown[-1][:, :, :, :2] == 255).all()  # nothing comes round
