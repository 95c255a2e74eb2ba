"""Codes from coarse to fine: Tian et al. 2024, "Visual autoregressive modeling", https://arxiv.org/abs/2404.02905.

Algorithms 1 and 2 of the paper. A grid of vectors is written as a sum. Its first part is one codeword
for all of it, the next are 2x2 codewords for what is missing then, and so on to a codeword for each place. All scales share
one codebook.

Two things learn beside the encoder. The codebook follows moving averages, as that of `gencore.networks.quantiser`. The
convolutions that smooth what each scale adds take gradients from ``fit`` alone: what comes back from the decoder goes straight
to the encoder and passes them by, as in the authors' code.

Deviations: the codebook follows averages of the vectors that chose its words, and restarts those that nothing chooses (the
authors train it by gradients of ``fit``); the convolutions are the identity at first; a few are shared by neighbouring scales,
as in the authors' code (the paper has one for each), cut in equal parts, where theirs takes the nearest of evenly spaced marks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gencore.errors import InputError
from gencore.networks.quantiser import Codebook, Quantised


@dataclass(frozen=True)
class MultiScale:
    """One learned codebook for all scales of a grid.

    Attributes
    ----------
    codebook : Codebook
        Size and averages.
    scales : tuple of int
        Sides of the grids of codes, rising; the last is the side of the grid that is quantised.
    blends : int
        How many convolutions there are; neighbouring scales share them.
    """

    codebook: Codebook = Codebook()
    scales: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    blends: int = 4

    def __post_init__(self) -> None:
        check_scales(self.scales)
        if not 1 <= self.blends <= len(self.scales):
            raise InputError(f"blends {self.blends}: must be at least 1, and at most one for each of the scales")

    @property
    def size(self) -> int:
        """Number of codewords."""
        return self.codebook.size

    def build(self, dimension: int) -> "MultiScaleQuantiser":
        """Return the quantiser of vectors of this length."""
        return MultiScaleQuantiser(self, dimension)


def check_scales(scales: tuple[int, ...]) -> None:
    """Raise `InputError` unless scales are whole numbers that rise from 1 or more."""
    if not scales or scales[0] < 1 or any(b <= a for a, b in zip(scales, scales[1:], strict=False)):
        raise InputError(f"scales {scales}: give at least one, rising, from 1 or more")


class MultiScaleQuantiser(nn.Module):
    """Write a grid of vectors as codes of several scales, int64 ``(B, N)``: scale after scale, each row by row.

    Parameters
    ----------
    config : MultiScale
        Codebook and scales.
    dimension : int
        D: length of a codeword.
    """

    def __init__(self, config: MultiScale, dimension: int) -> None:
        super().__init__()
        self.config = config
        self.words = config.codebook.build(dimension)
        self.blends = nn.ModuleList([nn.Conv2d(dimension, dimension, 3, padding=1) for _ in range(config.blends)])
        for blend in self.blends:
            nn.init.dirac_(blend.weight)
            nn.init.zeros_(blend.bias)

    def forward(self, z: Tensor) -> Quantised:
        """Quantise ``(B, D, side, side)`` (algorithm 1)."""
        z = z.float()
        target, total = z.detach(), torch.zeros_like(z)
        found, errors, commitments = [], [], []
        for number in range(len(self.config.scales)):
            rest = target - total.detach()  # (B, D, side, side)
            found.append(self.words(self.fall(rest, number)))
            total = total + self.rise(found[-1].codes.flatten(1), number)
            errors.append((target - total).square().mean())  # moves the convolutions
            commitments.append((z - total.detach()).square().mean())  # moves the encoder
        return Quantised(
            z=z + (total - z).detach(),  # forward the sum, backward the identity
            codes=torch.cat([each.codes.flatten(1) for each in found], 1),
            distance=torch.stack(commitments).mean(),
            counts=sum(each.counts for each in found),
            sums=sum(each.sums for each in found),
            vectors=torch.cat([each.vectors.unflatten(0, (len(z), -1)) for each in found], 1).flatten(0, 1),  # (B * N, D)
            fit=torch.stack(errors).mean(),
        )

    def decode(self, codes: Tensor) -> Tensor:
        """Return the grids ``(B, D, side, side)`` of codes ``(B, N)`` (algorithm 2)."""
        return self.partial(codes, len(self.config.scales))

    def partial(self, codes: Tensor, count: int) -> Tensor:
        """Return what the first `count` scales add up to, ``(B, D, side, side)``, of codes ``(B, N)``."""
        side, dimension = self.config.scales[-1], self.words.codebook.shape[1]
        total = self.words.codebook.new_zeros(len(codes), dimension, side, side)
        for number, part in self._parts(codes, count):
            total = total + self.rise(part, number)
        return total

    def inputs(self, codes: Tensor) -> Tensor:
        """Return what is known before each scale but the first, at that scale: ``(B, N - scales[0] ** 2, D)``.

        From these a network is to say the codes of the scale. They hang on codes of earlier scales only.
        """
        last = len(self.config.scales) - 1
        total, known = self.partial(codes, 0), []
        for number, part in self._parts(codes, last):
            total = total + self.rise(part, number)
            known.append(self.fall(total, number + 1).flatten(2).transpose(1, 2))  # (B, k * k, D)
        return torch.cat(known, 1) if known else total.new_zeros(len(codes), 0, total.shape[1])

    def rise(self, codes: Tensor, number: int) -> Tensor:
        """Return what the codes ``(B, k * k)`` of one scale add to the sum, ``(B, D, side, side)``."""
        scale, side = self.config.scales[number], self.config.scales[-1]
        words = self.words.decode(codes.unflatten(1, (scale, scale)))  # (B, D, k, k)
        if scale < side:
            words = interpolate(words, (side, side), mode="bicubic")
        blend = self.blends[number * len(self.blends) // len(self.config.scales)]
        with torch.autocast(words.device.type, enabled=False):  # what is written here must be read alike elsewhere
            return 0.5 * words + 0.5 * blend(words)

    def fall(self, z: Tensor, number: int) -> Tensor:
        """Return grids ``(B, D, side, side)`` at one scale: means over areas, ``(B, D, k, k)``."""
        scale = self.config.scales[number]
        return z if scale == z.shape[-1] else interpolate(z, (scale, scale), mode="area")

    def move(self, counts: Tensor, sums: Tensor, spare: Tensor) -> None:
        """Move the codewords, as `gencore.networks.quantiser.VectorQuantiser.move` does."""
        self.words.move(counts, sums, spare)

    def _parts(self, codes: Tensor, count: int) -> Iterator[tuple[int, Tensor]]:
        """Yield number and codes ``(B, k * k)`` of the first scales."""
        parts = codes.split([scale**2 for scale in self.config.scales], 1)
        yield from enumerate(parts[:count])
