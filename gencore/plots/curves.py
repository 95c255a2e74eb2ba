"""Curves with their names at the end of the line, in colours that everybody can tell apart."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from gencore.errors import InputError

if TYPE_CHECKING:  # training saves grids without loading Matplotlib
    from matplotlib.axes import Axes

# M. Okabe and K. Ito, "Color Universal Design", 2002; the strongest on white first
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Eight colours that readers with any kind of colour vision can tell apart."""

CONTRAST = 4.5  # least contrast of text on white, WCAG 2.1, success criterion 1.4.3


def style() -> None:
    """Let figures look like the book's from now on.

    Changes Matplotlib's settings; ``with plt.rc_context(): style()`` changes them for a while. Figures are white, so
    that they can be read on a dark page too, and of a resolution that keeps notebooks small.
    """
    import matplotlib
    from cycler import cycler

    look = {
        "figure.figsize": (6.0, 3.5),
        "figure.dpi": 100,
        "savefig.dpi": "figure",
        "figure.facecolor": "white",
        "axes.facecolor": "white",
        "savefig.facecolor": "white",
        "savefig.transparent": False,
        "figure.constrained_layout.use": True,
        "font.family": "DejaVu Sans",  # comes with Matplotlib, so figures are the same everywhere
        "mathtext.fontset": "cm",
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.labelsize": 10,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "axes.prop_cycle": cycler(color=PALETTE),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": False,
        "axes.xmargin": 0.01,
        "lines.linewidth": 1.8,
        "legend.frameon": False,
        "image.cmap": "viridis",
    }
    matplotlib.rcParams.update(look)


def curves(
    ax: "Axes",
    x: ArrayLike | Mapping[str, ArrayLike],
    ys: Mapping[str, ArrayLike],
    *,
    colours: Sequence[str] = PALETTE,
) -> None:
    """Draw curves and write each one's name at its end.

    Names that would overlap are moved apart, by as little as possible, and then joined to their curve by a thin line.
    Set the scale of the axes (logarithmic, limits) before the call.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    x : array, or mapping of str to array
        Abscissae ``(N,)`` of all curves, or those of each curve under its name.
    ys : mapping of str to array
        Names and ordinates ``(N,)``; a curve's name stands at its last value that can be drawn.
    colours : sequence of str
        Colours of the curves in their order; at least as many as curves.

    Raises
    ------
    InputError
        If there are more curves than colours, lengths differ, or a curve has no point that can be drawn.
    """
    if len(ys) > len(colours):
        raise InputError(f"curves: {len(ys)} curves but {len(colours)} colours; draw fewer, or give more colours")
    points, lines = [], {}
    for (name, y), colour in zip(ys.items(), colours):
        across, up = _values(x[name] if isinstance(x, Mapping) else x, name), _values(y, name)
        if len(across) != len(up):
            raise InputError(f"curve {name!r}: {len(across)} abscissae but {len(up)} ordinates")
        points.append(np.stack([across, up], axis=1))  # (N, 2)
        lines[name] = ax.plot(across, up, color=colour)[0]
    ax.figure.draw_without_rendering()  # settles limits and layout, so that distances in pixels are final
    ends = []
    linear = [ax.get_xscale() != "log", ax.get_yscale() != "log"]
    for name, curve in zip(ys, points):
        drawn = (np.isfinite(curve) & ((curve > 0) | linear)).all(axis=1)
        if not drawn.any():
            raise InputError(f"curve {name!r}: has no point that can be drawn")
        ends.append(curve[drawn][-1])
    size = ax.yaxis.label.get_fontsize()
    heights = ax.transData.transform(np.array(ends))[:, 1] * 72 / ax.figure.dpi  # in points
    shifts = spread(heights, 1.25 * size) - heights
    moved = np.abs(shifts) > size / 2
    for (name, line), end, shift, needs_leader in zip(lines.items(), ends, shifts, moved):
        colour = _readable(line.get_color())
        leader = dict(arrowstyle="-", color=colour, linewidth=0.6, shrinkA=0, shrinkB=1)
        ax.annotate(
            name,
            end,
            xytext=(14 if moved.any() else 5, shift),  # leaders need room
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=size,
            annotation_clip=False,
            arrowprops=leader if needs_leader else None,
        )


def spread(positions: ArrayLike, distance: float) -> np.ndarray:
    """Move positions apart until neighbours are a distance apart, with the least sum of squared moves.

    Parameters
    ----------
    positions : array
        ``(N,)``, in any order; their order is kept.
    distance : float
        Least distance afterwards.

    Returns
    -------
    ndarray
        The new positions ``(N,)``.
    """
    positions = np.asarray(positions, float)
    order = np.argsort(positions, kind="stable")
    # With y_i = u_i + i * distance, "at least a distance apart" says that u does not decrease: isotonic regression,
    # solved by pooling neighbours that violate it (Barlow et al., 1972).
    pools = []
    for u in positions[order] - distance * np.arange(len(positions)):
        pools.append((u, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, m), (b, n) = pools[-2:]
            pools[-2:] = [((a * m + b * n) / (m + n), m + n)]
    moved = np.empty_like(positions)
    moved[order] = np.concatenate([np.full(n, u) for u, n in pools] or [[]]) + distance * np.arange(len(positions))
    return moved


def _values(array: ArrayLike, name: str) -> np.ndarray:
    values = np.asarray(array, float)
    if values.ndim != 1:
        raise InputError(f"curve {name!r}: expected one-dimensional values, got shape {values.shape}")
    return values


def _readable(colour: str) -> tuple[float, ...]:
    """Darken a colour until text in it can be read on white."""
    from matplotlib.colors import to_rgb

    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)  # sRGB, IEC 61966-2-1
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    linear = linear * min(1, (1.05 / CONTRAST - 0.05) / max(luminance, 1e-9))
    return tuple(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))
