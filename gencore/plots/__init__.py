"""Grids of images and labelled curves, as the book draws them.

Importing this package loads no plotting library and changes no setting.
"""

from gencore.plots.curves import PALETTE, curves, style
from gencore.plots.grids import image_grid, labelled_rows, save_grid, tile

__all__ = ["PALETTE", "curves", "image_grid", "labelled_rows", "save_grid", "style", "tile"]
