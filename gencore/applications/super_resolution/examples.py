"""Pairs to learn from: a square cut out of a photograph at any place, turned and mirrored, and the same reduced.

Which photograph, where, and how it is turned follows from the recipe's seed and the images seen, and from nothing else.
"""

import torch
from torch import Tensor

from gencore.data import to_float, to_uint8
from gencore.errors import InputError
from gencore.networks.bicubic import reduce
from gencore.training import distributed, rng


class Crops:
    """The endless stream of training pairs; photographs lie on the device as bytes, side by side.

    Parameters
    ----------
    photographs : list of Tensor
        uint8 ``(3, H, W)``, of any sizes.
    size : int
        Side of the squares that are cut out.
    times : int
        How many times smaller the first of a pair is; 1 leaves it as it is.
    batch_size : int
        Pairs in a batch over all processes.
    seed : int
        Decides all that is random.
    device : torch.device or str
        Where the photographs live.

    Raises
    ------
    InputError
        If there are none, one is smaller than the squares, or the squares cannot be reduced.
    """

    def __init__(
        self,
        photographs: list[Tensor],
        size: int,
        times: int,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        if not photographs:
            raise InputError("photographs: there are none to learn from")
        if size % times:
            raise InputError(f"squares of {size} pixels: must be a multiple of {times} on each side")
        small = [tuple(each.shape[1:]) for each in photographs if min(each.shape[1:]) < size]
        if small:
            raise InputError(f"a photograph of {small[0][0]}x{small[0][1]} pixels: smaller than the squares of {size}")
        self.size, self.times, self.batch_size, self.seed, self.device = size, times, batch_size, seed, torch.device(device)
        self._rank, self._world_size = distributed.rank(), distributed.world_size()
        pixels = [each.flatten(1).T for each in photographs]  # (H W, 3)
        self._pixels = torch.cat(pixels).contiguous().to(device)
        lengths = torch.tensor([len(each) for each in pixels])
        self._first = (lengths.cumsum(0) - lengths).to(device)  # where each photograph begins
        self._height, self._width = torch.tensor([each.shape[1:] for each in photographs]).to(device).unbind(1)
        self._side = torch.arange(size, device=device)

    def at(self, seen: int) -> tuple[Tensor, Tensor]:
        """Return this process's share of the batch that comes after ``seen`` images: small pictures and large ones.

        Returns
        -------
        low : Tensor
            float32 ``(B, 3, size/times, size/times)`` in [-1, 1], rounded to 256 levels as in a file.
        high : Tensor
            float32 ``(B, 3, size, size)`` in [-1, 1].
        """
        shape = (self.batch_size, 6)
        draw = rng.uniform(shape, self.seed, seen, "crop", self._rank, self._world_size, self.device)
        high = to_float(turn(self.cut(draw[:, :3]), draw[:, 3:]))  # (B, 3, S, S)
        if self.times == 1:
            return high, high
        return to_float(to_uint8(reduce(high, self.times))), high

    def cut(self, draw: Tensor) -> Tensor:
        """Return squares for uniform numbers ``(B, 3)``, by photograph, row and column: uint8 ``(B, 3, size, size)``."""
        which = (draw[:, 0] * len(self._first)).long().clamp(max=len(self._first) - 1)
        width = self._width[which]  # (B,)
        top = (draw[:, 1] * (self._height[which] - self.size + 1)).long().minimum(self._height[which] - self.size)
        left = (draw[:, 2] * (width - self.size + 1)).long().minimum(width - self.size)
        rows = (top[:, None] + self._side) * width[:, None] + left[:, None] + self._first[which, None]  # (B, S)
        return self._pixels[rows[:, :, None] + self._side].permute(0, 3, 1, 2)  # (B, 3, S, S)


def turn(x: Tensor, draw: Tensor) -> Tensor:
    """Mirror squares left to right, upside down and along the diagonal, each with probability one half.

    Parameters
    ----------
    x : Tensor
        ``(B, C, S, S)``.
    draw : Tensor
        Uniform numbers, ``(B, 3)``. The eight results, quarter turns among them, are equally likely.
    """
    across, down, diagonal = (draw < 0.5)[:, :, None, None, None].unbind(1)  # (B, 1, 1, 1) each
    x = torch.where(across, x.flip(3), x)
    x = torch.where(down, x.flip(2), x)
    return torch.where(diagonal, x.transpose(2, 3), x)
