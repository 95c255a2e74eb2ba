"""Scenes, drawings and captions of `shapes`."""

import itertools
from dataclasses import replace

import pytest
import torch

from gencore.data import shapes
from gencore.data.shapes import (
    BACKGROUND,
    CAPTION_LENGTH,
    COLOURS,
    END,
    FACTORS,
    HELD_OUT_COMBINATIONS,
    RADIUS,
    RGB,
    SHAPES,
    SIZES,
    VOCABULARY,
    Clause,
    Description,
    Facts,
    Scene,
    SceneObject,
    Shapes,
    caption,
    decode,
    encode,
    factors,
    parse,
    render,
    render_all,
    sample_scene,
)
from gencore.data.shapes_scorer import judge
from gencore.errors import InputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def some_scenes(n, seed=0, objects=4):
    g = generator(seed)
    return [sample_scene(g, objects) for _ in range(n)]


# Scenes


def test_scenes_have_every_count_colour_shape_and_size_about_equally_often():
    scenes = some_scenes(2000)
    counts = torch.bincount(torch.tensor([len(scene.objects) for scene in scenes]), minlength=5)
    assert counts[0] == 0 and counts[1:].min() > 430
    first = [scene.objects[0] for scene in scenes]
    for field, values in (("colour", COLOURS), ("shape", SHAPES), ("size", ("small", "large"))):
        for value in values:
            share = sum(getattr(thing, field) == value for thing in first) / len(first)
            assert abs(share * len(values) - 1) < 0.25, (field, value, share)


def test_equal_objects_are_frequent_enough_to_learn_counting():
    texts = [caption(scene, generator(i)) for i, scene in enumerate(some_scenes(500))]
    assert sum("two " in text for text in texts) > 75 and sum("three " in text for text in texts) > 10


@pytest.mark.parametrize("size", [16, 24, 64])
def test_objects_never_share_or_touch_pixels(size):
    """Drawn alone, no two objects of a scene have paint in one pixel or, from 32 px on, in neighbouring ones."""
    scenes = [scene for scene in some_scenes(120, seed=1) if len(scene.objects) > 1]
    paper = torch.tensor(BACKGROUND, dtype=torch.uint8)[:, None, None]
    for scene in scenes:
        alone = render_all([Scene((thing,)) for thing in scene.objects], size)
        painted = (alone != paper).any(1).float()[:, None]  # (objects, 1, size, size)
        if size >= 32:
            painted = torch.nn.functional.max_pool2d(painted, 3, stride=1, padding=1)
        assert painted.sum(0).max() == 1


def test_a_scene_by_hand_is_checked():
    a = SceneObject("circle", "red", "large", 0.3, 0.3)
    with pytest.raises(InputError, match="pink.*choose one of red, orange"):
        replace(a, colour="pink")
    with pytest.raises(InputError, match="too near the picture's edge; keep x and y between 0.21 and 0.79"):
        replace(a, x=0.1)
    with pytest.raises(InputError, match="the red circle and the blue star are too close"):
        Scene((a, SceneObject("star", "blue", "large", 0.5, 0.7)))
    with pytest.raises(InputError, match="1 to 4 objects, this one has 0"):
        Scene(())
    assert Scene((a, SceneObject("star", "blue", "large", 0.3, 0.3 + 0.18 + 0.18 + shapes.GAP)))


def test_sample_scene_can_exclude_and_demand_pairs():
    g = generator()
    pairs = [("red", "circle"), ("blue", "star")]
    for _ in range(200):
        without = sample_scene(g, 4, without=pairs)
        assert not any((thing.colour, thing.shape) in pairs for thing in without.objects)
        including = sample_scene(g, 4, including=pairs)
        assert any((thing.colour, thing.shape) in pairs for thing in including.objects)
    with pytest.raises(InputError, match="leave some"):
        sample_scene(g, without=pairs, including=pairs)
    with pytest.raises(InputError, match="objects is 5"):
        sample_scene(g, 5)


# Drawing

AREA = {  # of a shape of radius 1
    "circle": torch.pi,
    "square": 1.76**2,
    "triangle": 1.9 * 2 / 2,
    "cross": 4 * 0.68 - 0.68**2,
    "ring": torch.pi * (1 - 0.55**2),
    "star": 5 * 0.45 * torch.sin(torch.tensor(torch.pi / 5)).item(),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [16, 33, 64])
def test_paint_covers_the_shapes_area_around_its_centre(shape, size):
    thing = SceneObject(shape, "black", "large", 0.4137, 0.5612)
    paint = (BACKGROUND[0] - render(Scene((thing,)), size)[0].float()) / (BACKGROUND[0] - RGB["black"][0])
    # An edge along the rows falls between two of a pixel's eight samples: up to 1/16 pixel off on each side.
    assert paint.sum().item() / size**2 == pytest.approx(AREA[shape] * RADIUS["large"] ** 2, rel=0.005 + 0.7 / size)
    at = (torch.arange(size) + 0.5) / size
    assert (paint.sum(0) @ at / paint.sum()).item() == pytest.approx(thing.x, abs=0.005)  # all are symmetric in x
    if shape == "triangle":  # points up
        assert paint[at < thing.y].sum() < 0.5 * paint.sum()
    rows = at[paint.sum(1) > 0.1]
    low, high = {"square": (0.88, 0.88), "triangle": (1, 0.9), "star": (1, 0.81)}.get(shape, (1, 1))
    assert rows.min().item() == pytest.approx(thing.y - low * thing.radius, abs=1.2 / size)
    assert rows.max().item() == pytest.approx(thing.y + high * thing.radius, abs=1.2 / size)


def test_colours_are_those_of_the_table():
    for colour in COLOURS:
        image = render(Scene((SceneObject("square", colour, "small", 0.5, 0.5),)), 32)
        assert tuple(image[:, 16, 16].tolist()) == RGB[colour]
        assert tuple(image[:, 0, 0].tolist()) == BACKGROUND


def test_drawing_does_not_depend_on_the_batch_and_hardly_on_the_size():
    scenes = some_scenes(50)
    images = render_all(scenes, 32)
    assert images.shape == (50, 3, 32, 32) and images.dtype == torch.uint8
    assert torch.equal(images[7], render(scenes[7], 32))
    reduced = torch.nn.functional.avg_pool2d(render_all(scenes, 64).float(), 2)
    assert (reduced - images).abs().max() <= 225 / 8 and (reduced - images).abs().mean() < 0.4


def test_colour_blind_readers_can_tell_all_colours_apart():
    """CIE76 differences under the simulations of Machado et al. (2009) at full severity, in linear RGB."""
    simulations = {
        "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    xyz = torch.tensor(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    rgb = torch.tensor([*RGB.values(), BACKGROUND]) / 255
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for name, simulate in simulations.items():
        seen = (linear @ torch.tensor(simulate, dtype=torch.float32).T).clamp(0, 1)
        f = seen @ xyz.T / torch.tensor([0.95047, 1.0, 1.08883])
        f = torch.where(f > 0.008856, f.clamp(min=1e-9) ** (1 / 3), 7.787 * f + 16 / 116)
        lab = torch.stack((116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])), 1)
        assert torch.pdist(lab).min() > (45 if name == "none" else 21), name


# Captions


def test_captions_are_true_and_parse_back():
    g = generator(3)
    scenes = some_scenes(1000, seed=3)
    kinds = set()
    for scene in scenes:
        text = caption(scene, g)
        facts = parse(text)
        assert facts.words() == text
        assert facts.total() == len(scene.objects)
        result = judge(facts, scene.objects)
        assert result.fraction == 1, (text, scene, result)
        kinds |= {fact.kind for fact in result.facts}
    assert kinds == {"object", "colour", "size", "count", "position", "relation"}


def test_captions_use_every_word_of_the_vocabulary_and_fit_the_length():
    g = generator(4)
    texts = [caption(scene, g) for scene in some_scenes(3000, seed=4)]
    assert set(" ".join(texts).split()) == set(VOCABULARY[1:])
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert max(len(text.split()) for text in texts) < CAPTION_LENGTH


def test_parse_reads_every_clause_of_the_grammar():
    text = (
        "two small red crosses and an orange ring at the top right "
        "and a star above a large square and a circle in the centre"
    )
    assert parse(text) == Facts(
        (
            Clause(2, Description("cross", "red", "small")),
            Clause(1, Description("ring", "orange"), place="at the top right"),
            Clause(1, Description("star"), relation="above", other=Description("square", None, "large")),
            Clause(1, Description("circle"), place="in the centre"),
        )
    )
    for place in itertools.chain(*shapes.PLACES):
        assert parse(f"a star {place}") == Facts((Clause(1, Description("star"), place=place),))
    for relation in shapes.RELATIONS:
        assert parse(f"a star {relation} a ring").clauses[0].relation == relation


def test_several_may_stand_in_one_relation_to_a_single_one():
    text = "two small red circles above a blue square and three stars left of a ring"
    several = Clause(2, Description("circle", "red", "small"), relation="above", other=Description("square", "blue"))
    facts = parse(text)
    assert facts == Facts((several, Clause(3, Description("star"), relation="left of", other=Description("ring"))))
    assert facts.words() == text and facts.total() == 7
    assert dict(facts.mentions()) == {several.what: 2, several.other: 1, Description("star"): 3, Description("ring"): 1}
    assert parse("two circles") == Facts((Clause(2, Description("circle")),))


def test_captions_of_several_related_things_are_true_and_leave_everything_else_as_it_was():
    plain = Shapes(images=400, objects=4, held_out_combinations=True)
    before, after = plain.load("train"), replace(plain, several_related=True).load("train")
    assert before.meta["scene"] == after.meta["scene"] and torch.equal(before.images, after.images)
    related = 0
    for scene, old, new in zip(before.meta["scene"], before.captions, after.captions, strict=True):
        facts = parse(new)
        assert facts.words() == new and judge(facts, scene.objects).fraction == 1
        for clause in facts.clauses:
            if clause.count > 1 and clause.relation:
                related += 1
                apart = [shapes.lead(clause.relation, thing, other) - thing.radius - other.radius
                         for thing in scene.objects if clause.what.covers(Description(thing.shape, thing.colour, thing.size))
                         for other in scene.objects if clause.other.covers(Description(other.shape, other.colour, other.size))]
                assert len(apart) == clause.count and min(apart) >= 0  # their boxes do not overlap in that axis
        assert all(clause.count == 1 or clause.relation is None for clause in parse(old).clauses)
    assert 10 < related < 60


def test_an_unknown_word_is_named_with_the_allowed_ones():
    with pytest.raises(InputError, match="'crimson'; allowed are: a, an, two, three, four, small, large, red"):
        parse("a crimson circle")
    with pytest.raises(InputError, match="'<end>'"):
        parse("a red circle <end>")


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "ends after 0 words, where the grammar wants a or an or two"),
        ("red circle", "has 'red' as word 1"),
        ("two red circle", "has 'circle' as word 3, where the grammar wants circles or squares"),
        ("a red circles", "has 'circles' as word 3, where the grammar wants circle or square"),
        ("a red small circle", "has 'small' as word 3"),
        ("a circle and", "ends after 3 words, where the grammar wants a"),
        ("a circle a square", "has 'a' as word 3, where the grammar wants and"),
        ("a circle at the", "wants top or bottom or left or right"),
        ("a circle left a square", "has 'a' as word 4, where the grammar wants of"),
        ("a circle above two squares", "has 'two' as word 4, where the grammar wants a or an"),
        ("two circles at the top", "has 'at' as word 3, where the grammar wants and"),
        ("two circles in the centre", "has 'in' as word 3, where the grammar wants and"),
        ("two circles above two squares", "has 'two' as word 4, where the grammar wants a or an"),
    ],
)
def test_a_sentence_outside_the_grammar_is_refused_with_the_place(text, message):
    with pytest.raises(InputError, match=message):
        parse(text)


def test_captions_become_tokens_and_back():
    texts = [caption(scene, generator(i)) for i, scene in enumerate(some_scenes(50))]
    ids = encode([*texts, ""])
    assert ids.shape == (51, CAPTION_LENGTH) and ids.dtype == torch.int64
    assert [decode(row) for row in ids] == [*texts, ""]
    assert (ids[:, -1] == END).all() and (ids[-1] == END).all()
    assert encode(["a red circle"], length=4).shape == (1, 4)
    with pytest.raises(InputError, match="has 3 words; length=3 allows 2"):
        encode(["a red circle"], length=3)
    with pytest.raises(InputError, match="unknown word 'pink'"):
        encode(["a pink circle"])


# The data set


def test_the_data_set_is_fixed_and_its_beginning_and_scenes_do_not_depend_on_its_size():
    data = Shapes(images=60).load("train")
    assert data.name == "shapes/train" and len(data) == 60 and data.images.shape == (60, 3, 32, 32)
    again = Shapes(images=80, heldout_images=3, size=48).load("train")
    assert again.meta["scene"][:60] == data.meta["scene"] and again.captions[:60] == data.captions
    assert torch.equal(Shapes(images=60).load("train").images, data.images)
    # Changing these lines changes everybody's data, and the scores of every model trained on it.
    assert data.captions[:2] == CAPTIONS
    assert torch.equal(data.images[0], render(data.meta["scene"][0], 32))
    counts = torch.tensor([len(scene.objects) for scene in data.meta["scene"]])
    assert torch.equal(data.labels, counts - 1) and data.labels.dtype == torch.int64
    assert data.classes == ("one", "two", "three") and data.labels.unique().tolist() == [0, 1, 2]
    assert (Shapes.channels, Shapes().size) == (3, 32)


CAPTIONS = (
    "a small green circle below a small red cross and a large cyan square",
    "a small orange circle at the bottom",
)


def test_the_splits_share_no_scene():
    train, heldout = (Shapes(images=1500, heldout_images=500, size=16).load(split) for split in ("train", "heldout"))
    assert (len(train), len(heldout)) == (1500, 500)
    assert not set(train.meta["scene"]) & set(heldout.meta["scene"])
    pictures = [{image.numpy().tobytes() for image in data.images} for data in (train, heldout)]
    assert not pictures[0] & pictures[1]


def test_held_out_combinations_appear_only_in_the_heldout_split():
    spec = Shapes(images=1000, heldout_images=300, size=16, held_out_combinations=True)
    train, heldout = (
        [{(thing.colour, thing.shape) for thing in scene.objects} for scene in spec.load(split).meta["scene"]]
        for split in ("train", "heldout")
    )
    held_out = set(HELD_OUT_COMBINATIONS)
    assert all(not pairs & held_out for pairs in train) and all(pairs & held_out for pairs in heldout)
    assert {pair for pairs in heldout for pair in pairs} >= held_out
    seen = {pair for pairs in train for pair in pairs}
    assert {colour for colour, _ in seen} == set(COLOURS) and {shape for _, shape in seen} == set(SHAPES)
    assert len(seen) == len(COLOURS) * len(SHAPES) - len(held_out)


def test_colours_and_shapes_can_be_chosen():
    spec = Shapes(images=200, size=16, objects=2, colours=("orange", "blue"), shapes=("star", "circle"))
    things = {(thing.colour, thing.shape) for scene in spec.load("train").meta["scene"] for thing in scene.objects}
    assert things == {(colour, shape) for colour in ("orange", "blue") for shape in ("star", "circle")}
    tested = replace(spec, held_out_combinations=True, heldout_images=50).load("heldout").meta["scene"]
    assert all(any((t.colour, t.shape) == ("blue", "circle") for t in scene.objects) for scene in tested)


def test_factors_are_those_of_the_scene():
    scenes = Shapes(images=300, size=16, objects=1).load("train").meta["scene"]
    values = factors(scenes, bins=4)
    assert values.shape == (300, len(FACTORS)) and values.dtype == torch.int64
    assert values[:, :2].unique(return_counts=True)[1].tolist() == [150] * 4, "bins are equally full"
    for scene, row in zip(scenes[:40], values.tolist(), strict=False):
        (thing,) = scene.objects
        kinds = [SIZES.index(thing.size), COLOURS.index(thing.colour), SHAPES.index(thing.shape)]
        rank = [sum(getattr(other.objects[0], axis) < getattr(thing, axis) for other in scenes) for axis in ("x", "y")]
        assert row == [rank[0] // 75, rank[1] // 75, *kinds]
    with pytest.raises(InputError, match="each must have one object"):
        factors(Shapes(images=20, size=16).load("train").meta["scene"])


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"size": 15}, "size is 15; .* at least 16"),
        ({"objects": 0}, "objects is 0"),
        ({"objects": 5}, "1 to 4"),
        ({"images": 0}, "images is 0"),
        ({"heldout_images": 0}, "heldout_images is 0"),
        ({"colours": ("red", "pink")}, "colours is .*pink.* choose among red, orange"),
        ({"shapes": ()}, r"shapes is \(\); choose among circle"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Shapes(**fields)


def test_a_bad_split_is_refused():
    with pytest.raises(InputError, match="split is 'test'; choose 'train' or 'heldout'"):
        Shapes(images=1).load("test")
