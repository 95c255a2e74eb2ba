"""Grids of images, labelled curves and diagrams of networks, as the book draws them.

Importing this package loads no plotting library and changes no setting.
"""

from gencore.plots.curves import PALETTE, curves, style
from gencore.plots.diagram import diagram, output_shapes
from gencore.plots.grids import image_grid, labelled_rows, save_grid, tile

__all__ = ["PALETTE", "curves", "diagram", "image_grid", "labelled_rows", "output_shapes", "save_grid", "style", "tile"]
