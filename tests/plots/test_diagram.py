"""Diagrams say what a network is: every box, arrow and shape stands in them, in its size, and can be read."""

from itertools import combinations

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Circle, FancyArrowPatch
from torch import nn

from gencore.errors import InputError
from gencore.networks.dcgan import DCGAN, Discriminator, Generator
from gencore.plots import PALETTE, diagram, output_shapes, style

O = None  # an empty place
UNET = dict(
    rows=[["y", "enter", O, O, O, O, "up2", "exit"], [O, O, "down1", O, O, "up1"], [O, O, O, "down2", "middle"]],
    shapes={
        "y": (3, 32, 32),
        "enter": (8, 32, 32),
        "down1": (16, 16, 16),
        "down2": (16, 8, 8),
        "middle": (16, 8, 8),
        "up1": (16, 16, 16),
        "up2": (8, 32, 32),
        "exit": (3, 32, 32),
    },
    paths=[("y", "enter", "down1", "down2", "middle", "up1", "up2", "exit")],
    skips=[("enter", "up2"), ("down1", "up1")],
)
BLOCK = dict(
    rows=[["h", "norm1", "attention", "sum1", "norm2", "mlp", "sum2", "out"], [O, O, "context"]],
    shapes=dict.fromkeys(("h", "norm1", "attention", "sum1", "norm2", "mlp", "sum2", "out"), (16, 64))
    | {"context": (9, 32)},
    paths=[("h", "norm1", "attention", "sum1", "norm2", "mlp", "sum2", "out")],
    skips=[("h", "sum1"), ("sum1", "sum2"), ("h", "sum2"), ("context", "attention")],
    labels={"sum1": "+", "sum2": "+", "mlp": "a wider\nnetwork"},
)
VAE = dict(
    rows=[["x", "encoder", "mu", "sum", "z", "decoder", "out"], [O, O, "sigma", "times"], [O, O, O, "eps"]],
    shapes={"x": (784,), "encoder": (256,), "decoder": (256,), "out": (784,)}
    | dict.fromkeys(("mu", "sigma", "eps", "times", "sum", "z"), (2,)),
    paths=[
        ("x", "encoder", "mu", "sum", "z", "decoder", "out"),
        ("encoder", "sigma", "times", "sum"),
        ("eps", "times"),
    ],
    labels={"mu": r"$\mu$", "sigma": r"$\sigma$", "eps": r"$\varepsilon$", "sum": "+", "times": "×"},
)
VQ = dict(
    rows=[["x", "encoder", "quantiser", "decoder"], [O, O, "codebook"]],
    shapes={
        "x": (3, 32, 32),
        "encoder": (64, 8, 8),
        "quantiser": (64, 8, 8),
        "decoder": (3, 32, 32),
        "codebook": (512, 64),
    },
    paths=[("x", "encoder", "quantiser", "decoder")],
    skips=[("codebook", "quantiser")],
)
LADDER = dict(
    rows=[["x", "e1", "e2", "e3"], ["out", "z1", "z2", "z3"]],
    shapes={"x": (1, 28, 28), "e1": (32, 14, 14), "e2": (64, 7, 7), "e3": (1000,), "z3": (1000,)}
    | {"z2": (8, 7, 7), "z1": (4, 14, 14), "out": (1, 28, 28)},
    paths=[("x", "e1", "e2", "e3", "z3", "z2", "z1", "out")],
    skips=[("e1", "z1"), ("e2", "z2")],
)
MLP = dict(rows=[["x", "one", "two", "y"]], shapes={"x": (2,), "one": (64,), "two": (64,), "y": (2,)})
AROUND = dict(  # arrows between rows that must not run through their neighbours
    rows=[["a", "b", "c", "d"], ["e", "f", O, "g"], ["h", O, O, "i"]],
    shapes=dict.fromkeys("abcdefghi", (123, 456, 789)),
    paths=[tuple("abcd"), tuple("efg")],
    skips=[tuple(pair) for pair in ("fd", "ai", "if")],
)
DRAWINGS = dict(unet=UNET, block=BLOCK, vae=VAE, vq=VQ, ladder=LADDER, mlp=MLP, around=AROUND)


@pytest.fixture(autouse=True)
def book_style():
    with plt.rc_context():
        style()
        yield
        plt.close("all")


def parts(figure):
    "Boxes by name, names' texts, arrows in data coordinates, and the texts at arrows."
    (ax,) = figure.axes
    figure.canvas.draw()
    patches = {patch.get_gid(): patch for patch in ax.patches if patch.get_gid()}
    names = {text.get_gid(): text for text in ax.texts if text.get_gid()}
    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    return patches, names, arrows, [text for text in ax.texts if not text.get_gid()]


def edges(drawing):
    paths = drawing.get("paths", drawing["rows"])
    return [pair for path in [*drawing.get("skips", ()), *paths] for pair in zip(path, path[1:])]


def way(arrow):
    return [tuple(point) for point in arrow._path_original.vertices]


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_name_shape_and_arrow_stands_in_the_figure(name):
    drawing = DRAWINGS[name]
    patches, names, arrows, texts = parts(diagram(**drawing))
    boxes = [box for row in drawing["rows"] for box in row if box]
    labels = drawing.get("labels", {})
    assert set(patches) == set(names) == set(boxes)
    sources = {source for source, _ in edges(drawing)}
    for box in boxes:
        shape = "×".join(map(str, drawing["shapes"][box]))
        label = labels.get(box, box)
        assert names[box].get_text() == (label if box in sources or label == "+" else f"{label}\n{shape}")
    expected = ["×".join(map(str, drawing["shapes"][source])) for source, _ in edges(drawing)]
    assert sorted(text.get_text() for text in texts) == sorted(expected)
    colours = [to_hex(arrow.get_edgecolor()) for arrow in arrows]
    assert colours.count(PALETTE[1].lower()) == len(drawing.get("skips", ()))
    assert len(arrows) == len(edges(drawing))


@pytest.mark.parametrize("name", DRAWINGS)
def test_arrows_lead_from_box_to_box_around_all_others(name):
    drawing = DRAWINGS[name]
    figure = diagram(**drawing)
    patches, names, arrows, texts = parts(figure)
    transform = figure.axes[0].transData.inverted()
    boxes = {box: transform.transform_bbox(patch.get_window_extent()) for box, patch in patches.items()}
    for (source, target), arrow, text in zip(edges(drawing), arrows, texts):
        points = way(arrow)
        for point, box in ((points[0], source), (points[-1], target)):
            name_of = transform.transform_bbox(names[box].get_window_extent())  # an arrow may pass below the name
            reach = type(boxes[box]).union([boxes[box], name_of]).padded(0.08)
            assert reach.contains(*point), f"{source} → {target} does not touch {box}"
        for (x0, y0), (x1, y1) in zip(points, points[1:]):
            assert x0 == x1 or y0 == y1
            for other in set(boxes) - {source, target}:
                box = boxes[other]
                beside = max(x0, x1) <= box.x0 or min(x0, x1) >= box.x1
                over_or_under = max(y0, y1) <= box.y0 or min(y0, y1) >= box.y1
                assert beside or over_or_under, f"{source} → {target} runs through {other}"
        near = transform.transform_bbox(text.get_window_extent()).padded(0.08)
        on_it = [
            near.contains(x0 + t * (x1 - x0), y0 + t * (y1 - y0))
            for (x0, y0), (x1, y1) in zip(points, points[1:])
            for t in [i / 100 for i in range(101)]
        ]
        assert any(on_it), f"the shape of {source} → {target} stands elsewhere"


@pytest.mark.parametrize("name", DRAWINGS)
def test_texts_overlap_neither_boxes_nor_texts_nor_the_edge(name):
    figure = diagram(**DRAWINGS[name])
    patches, names, _, texts = parts(figure)
    boxes = {box: patch.get_window_extent() for box, patch in patches.items()}
    for text in [*names.values(), *texts]:
        extent = text.get_window_extent()
        assert figure.bbox.padded(0.5).containsx(extent.x0) and figure.bbox.padded(0.5).containsx(extent.x1)
        assert figure.bbox.padded(0.5).containsy(extent.y0) and figure.bbox.padded(0.5).containsy(extent.y1)
        for box, area in boxes.items():
            inside_circle = isinstance(patches[box], Circle) and text.get_gid() == box
            assert inside_circle or not extent.overlaps(area), f"{text.get_text()!r} over {box}"
    for one, other in combinations([*names.values(), *texts], 2):
        assert not one.get_window_extent().overlaps(other.get_window_extent()), (one.get_text(), other.get_text())


def test_arrows_above_a_row_run_in_lanes_of_their_own():
    arrows = dict(zip(edges(BLOCK), parts(diagram(**BLOCK))[2]))
    level = {pair: max(y for _, y in way(arrow)) for pair, arrow in arrows.items()}
    assert level["h", "sum1"] == level["sum1", "sum2"] < level["h", "sum2"]  # side by side, and one above both


@pytest.mark.parametrize("name", ["unet", "around"])
def test_skips_and_paths_do_not_hide_each_other(name):
    drawing = DRAWINGS[name]
    arrows = dict(zip(edges(drawing), parts(diagram(**drawing))[2]))
    skips = {pair: way(arrows[pair]) for pair in map(tuple, drawing["skips"])}
    for skip, points in skips.items():
        for pair in set(arrows) - set(skips):
            if pair[1] == skip[1]:
                assert abs(points[-1][1] - way(arrows[pair])[-1][1]) > 0.04


def test_sizes_follow_resolution_and_channels():
    shapes = {"map": (16, 32, 32), "half": (64, 16, 16), "tokens": (256, 16), "vector": (1024,)}
    patches, *_ = parts(diagram([list(shapes)], shapes))
    height = {name: patch.get_height() for name, patch in patches.items()}
    width = {name: patch.get_width() for name, patch in patches.items()}
    assert height["map"] == pytest.approx(2 * height["half"]) == pytest.approx(height["vector"])
    assert height["tokens"] == pytest.approx(height["half"])  # 256 places, like 16x16 pixels
    assert width["half"] == pytest.approx(2 * width["map"]) == pytest.approx(2 * width["tokens"])
    assert width["vector"] < width["map"]


@pytest.mark.parametrize("name", DRAWINGS)
def test_pictures_are_a_whole_number_of_pixels_large(name):
    figure = diagram(**DRAWINGS[name])
    assert all(side == pytest.approx(round(side), abs=1e-6) for side in figure.bbox.size)


def test_ends_are_grey_and_operators_round():
    patches, *_ = parts(diagram(**BLOCK))
    blue = {name for name, patch in patches.items() if to_hex(patch.get_facecolor()) == PALETTE[0].lower()}
    assert blue == {"norm1", "attention", "norm2", "mlp"}
    assert {name for name, patch in patches.items() if isinstance(patch, Circle)} == {"sum1", "sum2"}


def test_shapes_are_measured():
    config = DCGAN(width=16)
    generator, discriminator = Generator(config), Discriminator(config)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    generator.layers[1].eval()
    shapes = output_shapes(generator, torch.zeros(2, 64))
    assert shapes["layers.0"] == (32, 7, 7) and shapes["layers.3"] == (16, 14, 14)
    assert shapes["layers.6"] == shapes[""] == (1, 28, 28)
    assert output_shapes(discriminator, torch.zeros(2, 1, 28, 28))[""] == ()
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    assert generator.training and not generator.layers[1].training  # as they were
    assert not any(part._forward_hooks for part in generator.modules())


def test_measuring_leaves_no_trace_when_it_fails():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(4, 5))
    with pytest.raises(RuntimeError):
        output_shapes(network, torch.zeros(1, 2))
    assert network.training and not any(part._forward_hooks for part in network.modules())


@pytest.mark.parametrize(
    "rows, shapes, options, message",
    [
        ([], {}, {}, "nothing to draw"),
        ([[None]], {}, {}, "nothing to draw"),
        ([["a", "a"]], {"a": (1,)}, {}, "'a' stands twice"),
        ([["a", "b"]], {"a": (1,)}, {}, "none for 'b'"),
        ([["a"]], {"a": (1, 2, 3, 4)}, {}, "'a' must have one to three"),
        ([["a"]], {"a": ()}, {}, "'a' must have one to three"),
        ([["a"]], {"a": (3, 0)}, {}, "'a' must have one to three"),
        ([["a", "b"]], {"a": (1,), "b": (1,)}, {"paths": [("a", "c")]}, "no box is named 'c'"),
        ([["a", "b"]], {"a": (1,), "b": (1,)}, {"skips": [("c", "a")]}, "no box is named 'c'"),
        ([["a", "b"]], {"a": (1,), "b": (1,)}, {"paths": ["ab"]}, "give a sequence of names"),
        ([["a", "b"]], {"a": (1,), "b": (1,)}, {"paths": [("a", "a")]}, "from a box to itself"),
        ([["a", "b", "c"], ["d", "e"]], dict.fromkeys("abcde", (1,)), {"paths": [("d", "c")]}, "in the way in both"),
        ([["a", "b"]], {"a": (1,), "b": (1,)}, {"labels": {"c": "x"}}, "labels: no box is named 'c'"),
    ],
)
def test_wrong_input(rows, shapes, options, message):
    with pytest.raises(InputError, match=message):
        diagram(rows, shapes, **options)
