"""Do pictures show what their captions say: counts by kind of fact, and which captions are asked for."""

from dataclasses import replace

import pytest
import torch

from gencore.data.shapes import HELD_OUT_COMBINATIONS, Scene, SceneObject, Shapes, parse, render_all
from gencore.data.shapes_scorer import score_all
from gencore.errors import InputError
from gencore.metrics import Share, adherence, measure_adherence, new_captions

DATA = Shapes(images=10, held_out_combinations=True, several_related=True)


def picture(*things):
    return render_all([Scene(tuple(SceneObject(*thing) for thing in things))], 32)


def test_real_pictures_show_everything_and_of_others_it_is_counted_what_they_lack():
    data = replace(DATA, heldout_images=60).load("heldout")
    for share in adherence(data.images, data.captions).values():
        assert share.value == 1 and share.error == 0 and share.open == 0
    others = data.captions[1:] + data.captions[:1]
    shares = adherence(data.images, others)
    scores = score_all(data.images, others)
    assert list(shares) == ["object", "colour", "size", "count", "position", "relation", "caption"]
    for kind in list(shares)[:-1]:
        answers = [fact.held for score in scores for fact in score.facts if fact.kind == kind]
        assert shares[kind] == Share(answers.count(True), answers.count(False), answers.count(None))
    assert shares["caption"].total == 60 and shares["caption"].value < 0.1 < shares["object"].value < 0.7


def test_one_picture_fact_by_fact():
    red = picture(("circle", "red", "small", 0.2, 0.2), ("square", "blue", "large", 0.7, 0.7))
    shares = adherence(red, ["a large red circle left of a blue square"])
    assert shares == {
        "object": Share(2, 0, 0), "colour": Share(2, 0, 0), "size": Share(0, 1, 0),
        "count": Share(2, 1, 0), "relation": Share(0, 1, 0), "caption": Share(0, 1, 0),
    }  # not large, and so there is not one large red circle, nor one that is left of the square
    assert adherence(red, ["a red circle above a blue square"])["caption"] == Share(1, 0, 0)


def test_what_is_left_open_is_neither_shown_nor_denied():
    faint = picture(("circle", "red", "small", 0.2, 0.2)).float()
    faint = (245 + 0.3 * (faint - 245)).to(torch.uint8)
    shares = adherence(faint, ["a red circle"])
    assert shares["colour"] == shares["caption"] == Share(0, 0, 1) and shares["caption"].value == 0


def test_a_caption_that_fails_somewhere_fails_whatever_is_left_open():
    faint = picture(("circle", "red", "small", 0.8, 0.8)).float() - 245
    stars = picture(("star", "red", "small", 0.2, 0.2), ("star", "red", "small", 0.2, 0.8)).float()
    shares = adherence((stars + 0.3 * faint).clamp(0, 255).to(torch.uint8), ["a red ring"])  # more than one object, surely
    assert shares["object"] == Share(0, 0, 1) and shares["count"] == Share(0, 1, 1) and shares["caption"] == Share(0, 1, 0)


def test_a_share_and_its_error():
    share = Share(held=6, failed=3, open=1)
    assert share.total == 10 and share.value == 0.6
    assert share.error == pytest.approx(torch.distributions.Binomial(10, torch.tensor(0.6)).stddev.item() / 10)


def test_captions_of_seen_and_of_never_seen_pairs_are_kept_apart():
    groups = new_captions(DATA, 40)
    assert list(groups) == ["seen pairs", "never seen pairs"]
    for name, captions in groups.items():
        assert len(captions) == 40
        for text in captions:
            pairs = {(what.colour, what.shape) for what, _ in parse(text).mentions()}
            assert bool(pairs & set(HELD_OUT_COMBINATIONS)) == (name == "never seen pairs")
    assert any(" and " in text for text in groups["seen pairs"])
    everything = new_captions(replace(DATA, held_out_combinations=False), 40)
    assert list(everything) == ["seen pairs"] and len(everything["seen pairs"]) == 40
    pairs = {(what.colour, what.shape) for text in everything["seen pairs"] for what, _ in parse(text).mentions()}
    assert pairs & set(HELD_OUT_COMBINATIONS)  # here they are pairs like others


def test_a_card_says_it_for_each_group():
    """A model that draws one red circle, whatever it is asked for."""
    asked = []

    def draw(captions):
        asked.append(captions)
        return picture(("circle", "red", "small", 0.5, 0.5)).expand(len(captions), -1, -1, -1)

    found = measure_adherence(DATA, draw, 30)
    assert asked == list(new_captions(DATA, 30).values())
    assert found[0]["name"] == "captions shown in full" and found[0]["on"] == "shapes/new captions of seen pairs"
    by = {(row["on"].removeprefix("shapes/new captions of "), row["name"]): row for row in found}
    assert len(by) == len(found) and all(set(row) == {"name", "on", "samples", "value"} for row in found)
    for group, captions in new_captions(DATA, 30).items():
        shares = adherence(draw(captions), captions)
        for kind, share in shares.items():
            name = "captions shown in full" if kind == "caption" else f"{kind} facts shown"
            assert by[group, name]["value"] == share.value and by[group, name]["samples"] == share.total
            assert by[group, f"standard error of: {name}"]["value"] == share.error
            assert by[group, f"{name}, left open"]["value"] == share.open / share.total


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="images: there are none to judge"):
        adherence(torch.zeros(0, 3, 32, 32, dtype=torch.uint8), [])
    with pytest.raises(InputError, match="1 images and 2 captions"):
        adherence(picture(("circle", "red", "small", 0.5, 0.5)), ["a red circle", "a red circle"])
