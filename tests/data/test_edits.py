"""Instructions to edit scenes of shapes: their grammar, what they ask for, and whether a picture shows it."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest
import torch

from gencore.data.edits import (
    INSTRUCTION_LENGTH, KINDS, TOLERANCE, WORDS, Edit, Edits, EditScore, draw_edit, encode_edits, find, judge_edit,
    parse_edit, score_edits,
)
from gencore.data.shapes import (
    HELD_OUT_COMBINATIONS, PLACES, Description, Scene, SceneObject, place_of, render, render_all, sample_scene,
)
from gencore.errors import InputError

STAR = SceneObject("star", "green", "small", 0.25, 0.25)
CIRCLE = SceneObject("circle", "red", "large", 0.7, 0.7)
SCENE = Scene((STAR, CIRCLE))


@pytest.fixture(scope="module")
def train():
    return Edits(pairs=600).load_pairs("train")


@pytest.fixture(scope="module")
def heldout():
    return Edits(heldout_pairs=240).load_pairs("heldout")


@pytest.mark.parametrize(
    ("text", "edit"),
    [
        ("add a small red circle at the top left", Edit("add", Description("circle", "red", "small"), "at the top left")),
        ("add an orange ring in the centre", Edit("add", Description("ring", "orange"), "in the centre")),
        ("remove the blue square", Edit("remove", Description("square", "blue"))),
        ("make the red circle green", Edit("recolour", Description("circle", "red"), "green")),
        ("make the star large", Edit("resize", Description("star"), "large")),
        ("turn the cross into a ring", Edit("reshape", Description("cross"), "ring")),
        ("move the green ring to the bottom", Edit("move", Description("ring", "green"), "at the bottom")),
        ("move the ring to the centre", Edit("move", Description("ring"), "in the centre")),
    ],
)
def test_instructions_are_read_and_written(text, edit):
    assert parse_edit(text) == edit and edit.words() == text


def test_every_drawn_instruction_can_be_read_again(train, heldout):
    for pairs in (train, heldout):
        for edit, text in zip(pairs.after.meta["edit"], pairs.after.captions, strict=True):
            assert parse_edit(text) == edit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paint the star", "unknown word 'paint'; allowed are: add, remove"),
        ("remove a star", "has 'a' as word 2, where the grammar wants the"),
        ("remove the", "ends after 2 words, where the grammar wants circle"),
        ("remove the star at", "has 'at' as word 4, where the grammar wants the end"),
        ("add a red star in the top", "has 'top' as word 7, where the grammar wants centre"),
        ("add a red star at the centre", "grammar wants top or bottom"),
        ("make the star star", "wants red or"),
        ("move the star to the left top", "has 'top' as word 7, where the grammar wants the end"),
        ("", "ends after 0 words, where the grammar wants add"),
        ("remove the <end>", "unknown word"),
    ],
)
def test_what_is_no_instruction_is_one_clear_error(text, message):
    with pytest.raises(InputError, match=message):
        parse_edit(text)


def test_tokens_are_words_and_ends():
    ids = encode_edits(["remove the star", ""])
    assert ids.shape == (2, INSTRUCTION_LENGTH) and ids.dtype == torch.int64
    assert [WORDS[i] for i in ids[0]] == ["remove", "the", "star"] + ["<end>"] * (INSTRUCTION_LENGTH - 3)
    assert not ids[1].any() and len(set(WORDS)) == len(WORDS)
    with pytest.raises(InputError, match="has 10 words; there is room for 9"):
        encode_edits([" ".join(["the"] * 10)])


def test_the_longest_instruction_has_room():
    longest = Edit("add", Description("circle", "red", "small"), "at the bottom left")
    assert encode_edits([longest.words()])[0, -1] == 0
    assert len(longest.words().split()) == INSTRUCTION_LENGTH - 1


def changed(before, after):
    """The objects that are there before and not after, and the other way round."""
    a, b = set(before.objects), set(after.objects)
    return a - b, b - a


def test_drawn_edits_ask_for_one_change_that_is_clear(train):
    """The instruction names one object; the scene after differs in it alone, in the way asked for."""
    assert set(train.after.labels.tolist()) == set(range(len(KINDS)))
    fields = {"recolour": "colour", "resize": "size", "reshape": "shape"}
    for edit, before, after in zip(*(train.after.meta[key] for key in ("edit", "scene", "edited")), strict=True):
        gone, came = changed(before, after)
        if edit.kind == "add":
            assert not gone and len(came) == 1
            (new,) = came
            assert find([new], edit.what) == [0] and None not in (edit.what.colour, edit.what.size)
            assert place_of(new.x, new.y) == edit.to
            continue
        (named,) = find(before, edit.what)
        assert gone == {before.objects[named]}
        if edit.kind == "remove":
            assert not came
        else:
            (old,), (new,) = gone, came
            if edit.kind == "move":
                assert replace(old, x=new.x, y=new.y) == new and place_of(new.x, new.y) == edit.to
                assert place_of(old.x, old.y) != edit.to and max(abs(old.x - new.x), abs(old.y - new.y)) > 2 * TOLERANCE
            else:
                assert replace(old, **{fields[edit.kind]: edit.to}) == new and old != new


def test_both_splits_mix_kinds_names_and_places(heldout):
    kinds = Counter(KINDS[label] for label in heldout.after.labels.tolist())
    assert min(kinds.values()) > len(heldout.after) / len(KINDS) / 2 and set(kinds) == set(KINDS)
    names = {(edit.what.colour is None, edit.what.size is None) for edit in heldout.after.meta["edit"] if edit.kind != "add"}
    assert names == set(itertools.product((False, True), repeat=2))
    places = {edit.to for edit in heldout.after.meta["edit"] if edit.kind in ("add", "move")}
    assert places == set(itertools.chain(*PLACES))


def test_held_out_combinations_are_never_trained_on_and_half_of_what_is_asked(train, heldout):
    def combinations(scene):
        return {(thing.colour, thing.shape) for thing in scene.objects} & set(HELD_OUT_COMBINATIONS)

    for key in ("scene", "edited"):
        assert not any(combinations(scene) for scene in train.after.meta[key])
    unseen = heldout.after.meta["unseen"]
    assert sum(unseen) == len(unseen) / 2
    asked = set()
    for composed, before, after in zip(*(heldout.after.meta[key] for key in ("unseen", "scene", "edited")), strict=True):
        gone, came = changed(before, after)
        about = {(thing.colour, thing.shape) for thing in gone | came} & set(HELD_OUT_COMBINATIONS)
        assert bool(about) == composed
        asked |= about
        if not composed:
            assert not combinations(before) and not combinations(after)
    assert asked == set(HELD_OUT_COMBINATIONS)


def test_pictures_show_the_scenes(train):
    some = range(0, 600, 97)
    for i in some:
        assert torch.equal(train.after.images[i], render(train.after.meta["edited"][i]))
        assert torch.equal(train.before[train.place[i]], render(train.after.meta["scene"][i]))
    assert torch.equal(train.words[list(some)], encode_edits([train.after.captions[i] for i in some]))


def test_splits_repeat_and_differ(train):
    again = Edits(pairs=600).load_pairs("train")
    assert torch.equal(again.after.images, train.after.images) and again.after.captions == train.after.captions
    few = Edits(pairs=40).load_pairs("train")
    assert few.after.captions == train.after.captions[:40]
    other = Edits(heldout_pairs=40, held_out_combinations=False).load_pairs("heldout")
    assert other.after.captions != train.after.captions[:40] and not any(other.after.meta["unseen"])


def test_right_results_score_full_marks_and_untouched_pictures_do_not(heldout):
    meta = heldout.after.meta
    assert set(score_edits(heldout.after.images, meta["scene"], meta["edit"])) == {EditScore(True, True)}
    untouched = score_edits(heldout.before[heldout.place], meta["scene"], meta["edit"])
    assert not any(score.done for score in untouched) and all(score.kept for score in untouched)


def result(*objects):
    return score_edits(render_all([Scene(objects)]), [SCENE], [EDIT])[0]


EDIT = parse_edit("make the star blue")
BLUE = replace(STAR, colour="blue")


@pytest.mark.parametrize(
    ("objects", "score"),
    [
        ((BLUE, CIRCLE), (True, True)),
        ((replace(STAR, colour="red"), CIRCLE), (False, True)),  # another colour
        ((replace(BLUE, size="large"), CIRCLE), (False, True)),  # another size as well
        ((replace(BLUE, x=0.35), CIRCLE), (False, True)),  # somewhere else
        ((replace(BLUE, x=0.28), CIRCLE), (True, True)),  # within tolerance
        ((BLUE, replace(CIRCLE, colour="black")), (True, False)),
        ((BLUE, replace(CIRCLE, shape="ring")), (True, False)),
        ((BLUE, replace(CIRCLE, size="small")), (True, False)),
        ((BLUE, replace(CIRCLE, x=0.62)), (True, False)),
        ((BLUE,), (True, False)),
        ((CIRCLE,), (False, True)),
        ((BLUE, CIRCLE, SceneObject("cross", "black", "small", 0.2, 0.75)), (True, False)),  # one more
    ],
)
def test_a_score_sees_what_was_done_and_what_was_kept(objects, score):
    assert result(*objects) == EditScore(*score)


@pytest.mark.parametrize(
    ("text", "things", "score"),
    [
        ("remove the star", (CIRCLE,), (True, True)),
        ("remove the star", (STAR, CIRCLE), (False, True)),
        ("remove the star", (replace(STAR, colour="blue"), CIRCLE), (False, True)),
        ("remove the star", (replace(STAR, x=0.75), CIRCLE), (True, False)),  # it only moved away
        ("remove the star", (), (True, False)),
        ("add a small blue ring at the top right", (STAR, CIRCLE, SceneObject("ring", "blue", "small", 0.8, 0.2)), (True, True)),
        ("add a small blue ring at the top right", (STAR, CIRCLE, SceneObject("ring", "blue", "small", 0.2, 0.8)), (False, True)),
        ("add a small blue ring at the top right", (STAR, CIRCLE, SceneObject("ring", "blue", "large", 0.78, 0.22)), (False, True)),
        ("add a small blue ring at the top right", (CIRCLE, SceneObject("ring", "blue", "small", 0.8, 0.2)), (True, False)),
        ("add a small blue ring at the top right", (STAR, CIRCLE), (False, True)),
        ("add a small blue ring at the top right", (STAR, CIRCLE, SceneObject("ring", "blue", "small", 0.67, 0.2)), (None, True)),
        ("move the star to the top right", (replace(STAR, x=0.8), CIRCLE), (True, True)),
        ("move the star to the top right", (replace(STAR, x=0.8, colour="red"), CIRCLE), (False, True)),
        ("move the star to the top right", (STAR, replace(STAR, x=0.8), CIRCLE), (True, False)),  # copied, not moved
        ("make the star large", (replace(STAR, size="large"), CIRCLE), (True, True)),
        ("turn the star into a cross", (replace(STAR, shape="cross"), CIRCLE), (True, True)),
        ("turn the star into a cross", (replace(STAR, shape="cross", x=0.4), CIRCLE), (False, True)),
    ],
)
def test_each_kind_is_judged(text, things, score):
    assert judge_edit(things, SCENE, parse_edit(text)) == EditScore(*score)


def test_what_cannot_be_told_is_not_counted():
    """A faint mark, or a shape that may be two things, is neither right nor wrong."""
    from gencore.data.shapes_scorer import Detected

    mark = Detected(None, None, None, STAR.x, STAR.y, certain=False)
    vague = Detected("star", None, "small", STAR.x, STAR.y)
    for thing in (mark, vague):
        assert judge_edit((thing, CIRCLE), SCENE, EDIT) == EditScore(None, True)
    assert judge_edit((mark, CIRCLE), SCENE, parse_edit("remove the star")).done is None
    assert judge_edit((BLUE, Detected(None, "red", "large", 0.7, 0.7)), SCENE, EDIT) == EditScore(True, None)
    assert not judge_edit((vague, CIRCLE), SCENE, EDIT).right and judge_edit((BLUE, CIRCLE), SCENE, EDIT).right


def test_instructions_that_name_none_or_two_are_refused():
    twins = Scene((STAR, replace(STAR, x=0.75), CIRCLE))
    for scene in (Scene((CIRCLE,)), twins):
        with pytest.raises(InputError, match=r"names (0|2) objects of the scene; it must name one"):
            judge_edit(scene.objects, scene, EDIT)
    with pytest.raises(InputError, match="give as many of each"):
        score_edits(render_all([SCENE]), [SCENE], [])


def test_no_edit_where_none_is_possible():
    """The last object stays, twins have no name of their own, and a full picture takes no more."""
    draw = iter(torch.rand(10_000, generator=torch.Generator().manual_seed(0)).tolist())
    assert draw_edit(Scene((STAR,)), draw, "remove") is None
    twins = Scene((STAR, replace(STAR, x=0.75)))
    assert draw_edit(twins, draw, "recolour") is None and draw_edit(twins, draw)[0].kind == "add"
    four = sample_scene(torch.Generator().manual_seed(1), 4)
    while len(four.objects) < 4:
        four = sample_scene(torch.Generator().manual_seed(int(1e6 * next(draw))), 4)
    assert all(draw_edit(four, draw, "add") is None for _ in range(20))


@pytest.mark.parametrize("field", ["size", "objects", "pairs", "heldout_pairs"])
def test_a_data_set_of_nothing_is_refused(field):
    with pytest.raises(InputError, match=field):
        Edits(**{field: 0})
