"""Augmentation that gradients pass through: Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN training".

https://arxiv.org/abs/2006.10738, section 3 and appendix A: real and generated pictures are both changed at random before
the discriminator sees them, so that few real pictures cannot be known by heart, and the generator, which is told through
the change, has no reason to paint changed pictures. Changes: brightness, saturation and contrast; a shift; a hole.

Deviations: what a shift brings in is the picture's edge repeated, not grey; each change has a size of its own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gencore.errors import InputError

NUMBERS = 7  # uniform numbers that one picture takes


@dataclass(frozen=True)
class Augmentation:
    """Change colours, place and a part of pictures at random.

    Attributes
    ----------
    colour : float
        1 changes brightness by up to a quarter of the range, saturation by a factor of 0 to 2 and contrast by a
        factor of 0.5 to 1.5, as in the paper; 0 not at all.
    shift : float
        Largest shift, as a share of the side; 1/8 in the paper.
    hole : float
        Side of the square that is painted grey, as a share of the side; 1/2 in the paper.
    """

    colour: float = 1.0
    shift: float = 0.125
    hole: float = 0.5

    def __post_init__(self) -> None:
        for name in ("colour", "shift", "hole"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"augmentation.{name} is {getattr(self, name)}; it lies between 0 and 1")

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        """Return changed pictures.

        Parameters
        ----------
        x : Tensor
            Pictures ``(B, C, H, W)`` in [-1, 1].
        u : Tensor
            Uniform numbers in [0, 1), ``(B, 7)``.

        Returns
        -------
        Tensor
            ``(B, C, H, W)``, of the type of ``x``; values may leave [-1, 1].
        """
        brightness, saturation, contrast = u[:, :3, None, None].to(x).unbind(1)  # (B, 1, 1) each
        if self.colour:
            x = x + self.colour * (brightness[:, None] - 0.5)
            grey = x.mean(1, keepdim=True)
            x = grey + (1 + self.colour * (2 * saturation[:, None] - 1)) * (x - grey)
            level = x.mean((1, 2, 3), keepdim=True)
            x = level + (1 + self.colour * (contrast[:, None] - 0.5)) * (x - level)
        if self.shift:
            x = _shift(x, u[:, 3:5], self.shift)
        if self.hole:
            x = x * _outside(u[:, 5:7], x.shape[2], x.shape[3], self.hole).to(x)
        return x


def _shift(x: Tensor, u: Tensor, share: float) -> Tensor:
    """Shift pictures by whole pixels, down and right; ``u (B, 2)`` says how far."""
    height, width = x.shape[2:]
    rows, columns = (_moved(side, u[:, axis : axis + 1], share) for axis, side in enumerate((height, width)))
    x = x.gather(2, rows[:, None, :, None].expand_as(x))
    return x.gather(3, columns[:, None, None, :].expand_as(x))


def _moved(side: int, u: Tensor, share: float) -> Tensor:
    """Return which row or column is shown in each place, int64 ``(B, side)``, after a shift that ``u (B, 1)`` chooses."""
    reach = round(share * side)  # the largest shift; on the processor, since sending it over would make a GPU wait
    by = (u * (2 * reach + 1)).floor() - reach  # (B, 1), whole numbers from -reach to reach
    return (torch.arange(side, device=u.device) - by.long()).clamp(0, side - 1)


def _outside(u: Tensor, height: int, width: int, share: float) -> Tensor:
    """Return masks ``(B, 1, H, W)``: 0 in a square whose middle ``u (B, 2)`` chooses, 1 elsewhere."""
    inside = []
    for number, side in enumerate((height, width)):
        hole = round(share * side)
        start = (u[:, number : number + 1] * side).floor() - hole // 2  # (B, 1)
        place = torch.arange(side, device=u.device)
        inside.append((start <= place) & (place < start + hole))  # (B, side)
    return ~(inside[0][:, None, :, None] & inside[1][:, None, None, :])
