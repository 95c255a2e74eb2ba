"""Filling holes in pictures: by a model that was trained for it, by one that was not (RePaint), and pixel by pixel."""

from gencore.applications.inpainting.resampling import evaluations, jumps, repaint
from gencore.applications.inpainting.untrained import complete, is_prefix, repaint_pictures
from gencore.applications.inpainting.windows import check_hole, fill

__all__ = ["check_hole", "complete", "evaluations", "fill", "is_prefix", "jumps", "repaint", "repaint_pictures"]
