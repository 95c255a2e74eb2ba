"""Pairs to learn from: a square cut out of a photograph at any place, turned and mirrored, and the same reduced.

Which photograph, where, and how it is turned follows from the recipe's seed and the images seen, and from nothing else.
"""

import torch
from torch import Tensor

from gencore.data import to_float, to_uint8
from gencore.data.photos import Squares
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
        if size % times:
            raise InputError(f"squares of {size} pixels: must be a multiple of {times} on each side")
        self.times, self.batch_size, self.seed, self.device = times, batch_size, seed, torch.device(device)
        self._rank, self._world_size = distributed.rank(), distributed.world_size()
        self._squares = Squares(photographs, size, device)

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
        high = to_float(turn(self._squares.cut(draw[:, :3]), draw[:, 3:]))  # (B, 3, S, S)
        if self.times == 1:
            return high, high
        return to_float(to_uint8(reduce(high, self.times))), high


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
