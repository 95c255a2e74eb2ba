"""Curves bear their names, readably and without collisions."""

import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from gencore.errors import InputError
from gencore.plots import PALETTE, curves, style
from gencore.plots.curves import _readable, spread


@pytest.fixture
def ax():
    with plt.rc_context():
        style()
        figure, ax = plt.subplots()
        yield ax
        plt.close(figure)


def boxes(ax):
    ax.figure.canvas.draw()
    return {label.get_text(): matplotlib.text.Text.get_window_extent(label) for label in ax.texts}


def ends(ax):
    return {t.get_text(): ax.transData.transform(line.get_xydata()[-1]) for t, line in zip(ax.texts, ax.lines)}


def test_names_stand_at_the_ends_of_their_curves(ax):
    x = np.linspace(0, 1, 50)
    curves(ax, x, {"rises": x, "falls": torch.from_numpy(1 - x)})
    assert ax.get_legend() is None
    found = boxes(ax)
    for name, end in ends(ax).items():
        box = found[name]
        assert end[0] < box.x0 < end[0] + 15
        assert box.y0 < end[1] < box.y1
    assert [line.get_color() for line in ax.lines] == list(PALETTE[:2])
    assert all(text.arrow_patch is None for text in ax.texts)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_names_that_would_collide_are_moved_apart(ax, scale):
    ax.set_yscale(scale)
    x = np.linspace(0, 1, 50)
    ys = {"far": 1 + 9 * x, "b": 1 + 0.03 * x, "a": 1 + 0.02 * x, "c": 1 + 0.04 * x, "same": 1 + 0.04 * x}
    curves(ax, x, {name: 1000 * y for name, y in ys.items()})
    found = boxes(ax)
    ordered = sorted(found, key=lambda name: found[name].y0)
    for lower, upper in zip(ordered, ordered[1:]):
        assert found[lower].y1 <= found[upper].y0 + 0.5
    assert ordered[:3] == ["a", "b", "c"] and ordered[-1] == "far"  # the order of the curves
    leaders = {text.get_text() for text in ax.texts if text.arrow_patch is not None}
    assert "far" not in leaders and {"a", "same"} <= leaders


def test_names_do_not_collide_after_the_layout_is_settled():
    with plt.rc_context():
        style()
        figure, axes = plt.subplots(2, 2)
        x = np.linspace(0, 1, 9)
        curves(axes[0, 0], x, {"a long name": x, "another long name": x})
        axes[0, 0].set_title("two\nlines")
        one, two = boxes(axes[0, 0]).values()
        assert not one.overlaps(two)
        plt.close(figure)


def test_spread_moves_least():
    assert spread([3, 1, 2], 1).tolist() == [3, 1, 2]
    assert spread([0, 0], 1).tolist() == [-0.5, 0.5]
    assert spread([5, 0, 0.5, 9], 2) == pytest.approx([5, -0.75, 1.25, 9])
    assert spread([0, 0, 0.2], 1) == pytest.approx([-2.8 / 3, 0.2 / 3, 3.2 / 3])  # the centre stays
    assert spread([], 1).tolist() == []
    positions = np.random.default_rng(0).random(6) * 4
    moved = spread(positions, 1)
    assert (np.argsort(moved) == np.argsort(positions)).all()
    assert np.diff(np.sort(moved)).min() > 1 - 1e-9
    for other in np.random.default_rng(1).normal(moved, 0.3, (4000, 6)):  # no admissible layout moves less
        if np.diff(np.sort(other)).min() >= 1 and (np.argsort(other) == np.argsort(positions)).all():
            assert ((other - positions) ** 2).sum() >= ((moved - positions) ** 2).sum()


def test_a_curve_ends_at_its_last_value_that_can_be_drawn(ax):
    ax.set_yscale("log")
    curves(ax, [0, 1, 2, 3], {"loss": [4, 3, np.nan, 0], "other": [4, 3, 2, np.inf]})
    assert [list(text.xy) for text in ax.texts] == [[1, 3], [2, 2]]


def test_each_curve_may_have_its_own_abscissae(ax):
    curves(ax, {"short": [0, 1], "long": [0, 1, 2]}, {"short": [0, 1], "long": [0, 1, 4]})
    assert [list(text.xy) for text in ax.texts] == [[1, 1], [2, 4]]


def test_wrong_input(ax):
    with pytest.raises(InputError, match="9 curves but 8 colours"):
        curves(ax, [0, 1], {str(i): [0, i] for i in range(9)})
    with pytest.raises(InputError, match="'a': 3 abscissae but 2 ordinates"):
        curves(ax, [0, 1, 2], {"a": [0, 1]})
    with pytest.raises(InputError, match="'a': has no point"):
        curves(ax, [0, 1], {"a": [np.nan, np.nan]})
    with pytest.raises(InputError, match="'a': expected one-dimensional"):
        curves(ax, [0, 1], {"a": [[0, 1], [1, 2]]})


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_names_can_be_read_on_white(ax):
    curves(ax, [0, 1], {str(i): [0, i] for i in range(8)})
    assert [line.get_color() for line in ax.lines] == list(PALETTE)
    for text in ax.texts:
        assert 1.05 / (luminance(text.get_color()) + 0.05) >= 4.49


def test_colours_that_can_be_read_stay_as_they_are():
    assert _readable("#0072B2") == pytest.approx(to_rgb("#0072B2"))


@pytest.mark.parametrize("missing", ["red", "green"])
def test_the_first_colours_differ_for_colour_blind_readers(missing):
    # Vienot, Brettel, Mollon 1999: what dichromats see, by projection in linear RGB
    project = {
        "red": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "green": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    }[missing]
    seen = [np.array(project) @ np.array(to_rgb(colour)) ** 2.2 for colour in PALETTE]
    seen = [np.clip(colour, 0, 1) ** (1 / 2.2) for colour in seen]
    assert min(np.abs(a - b).max() for i, a in enumerate(seen) for b in seen[:i]) > 0.1


def test_importing_changes_no_setting_and_style_does():
    code = """
import matplotlib
before = dict(matplotlib.rcParams)
import gencore.plots
assert dict(matplotlib.rcParams) == before
gencore.plots.style()
assert dict(matplotlib.rcParams) != before
assert matplotlib.rcParams["figure.facecolor"] == "white"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_saving_grids_loads_no_plotting_library():
    code = "import sys; import gencore.plots.grids; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
