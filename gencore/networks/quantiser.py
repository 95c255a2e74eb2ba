"""From vectors to a finite alphabet: a learned codebook, or a fixed grid.

van den Oord et al. 2017, "Neural discrete representation learning", https://arxiv.org/abs/1711.00937, section 3 and
appendix A.1 (the codebook follows moving averages); Mentzer et al. 2024, "Finite scalar quantization: VQ-VAE made
simple", https://arxiv.org/abs/2309.15505, section 3.1.

Neither moves anything in ``forward``. The codebook's averages move when the training loop hands back what the batch
added up to. Equation numbers (VQ.n) are those of the chapter "Discrete codes".

Deviations: codewords that hardly anything chooses are put onto vectors of the batch (the paper's codebook starts at
random and has no cure; Dhariwal et al. 2020, https://arxiv.org/abs/2005.00341, section 3.1, restart it like this); the
averages start empty, so that a codeword is the exact decay-weighted mean of what chose it; FSQ's shift is the inverse
hyperbolic tangent, which the paper's listing gives as a tangent.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gencore.errors import InputError


class Quantised(NamedTuple):
    """What a quantiser makes of a grid of vectors.

    Attributes
    ----------
    z : Tensor
        ``(B, D, H, W)``: the nearest codewords, through which gradients pass as if nothing had happened.
    codes : Tensor
        int64 ``(B, H, W)``, numbers of the codewords; ``(B, N)`` where there are several grids.
    distance : Tensor
        Scalar: mean squared difference between the vectors' coordinates and those of their codewords, which are held
        fixed: the commitment term. 0 where there is nothing to commit to.
    counts : Tensor
        float32 ``(K,)``: how often each codeword was chosen.
    sums : Tensor or None
        ``(K, D)``: sum of the vectors that chose each codeword, for `VectorQuantiser.move`; None where nothing moves.
    vectors : Tensor or None
        ``(n, D)``: the vectors that chose, in the order of the codes.
    fit : Tensor or None
        Scalar: what the quantiser's own weights are to minimise, where it has some. Gradients reach nothing else.
    """

    z: Tensor
    codes: Tensor
    distance: Tensor
    counts: Tensor
    sums: Tensor | None = None
    vectors: Tensor | None = None
    fit: Tensor | None = None


def perplexity(counts: Tensor) -> Tensor:
    """Return exp of the entropy of codes that occur ``counts`` ``(K,)`` times: how many codewords are in use, in effect."""
    return torch.special.entr(counts / counts.sum()).sum().exp()  # (VQ.7)


@dataclass(frozen=True)
class Codebook:
    """A learned codebook.

    Attributes
    ----------
    size : int
        K: number of codewords.
    decay : float
        Share of the old averages that one step keeps.
    restart_below : float
        A codeword whose moving count is below this share of the mean count is put onto a vector of the batch. 0 never
        does.
    """

    size: int = 512
    decay: float = 0.99
    restart_below: float = 0.01

    def __post_init__(self) -> None:
        if self.size < 2:
            raise InputError(f"size {self.size}: a codebook has at least 2 codewords")
        if not 0 <= self.decay < 1:
            raise InputError(f"decay {self.decay}: must be at least 0 and below 1")
        if not 0 <= self.restart_below < 1:
            raise InputError(f"restart_below {self.restart_below}: must be at least 0 and below 1")

    def build(self, dimension: int) -> "VectorQuantiser":
        """Return the quantiser of vectors of this length."""
        return VectorQuantiser(self, dimension)


@dataclass(frozen=True)
class FSQ:
    """A fixed grid: each coordinate is squashed and rounded to one of a few levels.

    Attributes
    ----------
    levels : tuple of int
        How many values each coordinate takes, 3 or more (of two values none is zero); their product is the alphabet's
        size.
    """

    levels: tuple[int, ...] = (8, 8, 8)

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 3:
            raise InputError(f"levels {self.levels}: give at least one, each 3 or more")

    @property
    def size(self) -> int:
        """Number of codewords."""
        return math.prod(self.levels)

    def build(self, dimension: int) -> "FiniteScalarQuantiser":
        """Return the quantiser; ``dimension`` must be the number of levels."""
        if dimension != len(self.levels):
            raise InputError(f"levels {self.levels}: there are {len(self.levels)}, but the latent has {dimension} channels")
        return FiniteScalarQuantiser(self)


class VectorQuantiser(nn.Module):
    """Replace each vector of a grid by the nearest of K codewords.

    Parameters
    ----------
    config : Codebook
        Size and averages.
    dimension : int
        D: length of a codeword.
    """

    def __init__(self, config: Codebook, dimension: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("codebook", torch.randn(config.size, dimension))  # e, (K, D)
        self.register_buffer("counts", torch.zeros(config.size))  # N, moving
        self.register_buffer("sums", torch.zeros(config.size, dimension))  # m, moving

    def forward(self, z: Tensor) -> Quantised:
        """Quantise ``(B, D, H, W)``."""
        rows = z.float().movedim(1, -1)  # (B, H, W, D)
        flat = rows.detach().flatten(0, 2)  # (BHW, D)
        codes = torch.cdist(flat, self.codebook).argmin(1)  # (BHW,), (VQ.1)
        nearest = self.codebook[codes].view_as(rows)
        distance = (rows - nearest).square().mean()  # (VQ.4), last term
        straight = rows + (nearest - rows).detach()  # (VQ.2): forward the codeword, backward the identity
        counts = _count(codes, self.config.size)
        sums = torch.zeros_like(self.codebook).index_add_(0, codes, flat)
        return Quantised(straight.movedim(-1, 1), codes.view(rows.shape[:-1]), distance, counts, sums, flat)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the codewords ``(B, D, H, W)`` of codes ``(B, H, W)``."""
        return self.codebook[codes].movedim(-1, 1)

    @torch.no_grad()
    def move(self, counts: Tensor, sums: Tensor, spare: Tensor) -> None:
        """Move codewords to the average of the vectors that chose them, and restart those that hardly anything chooses.

        Parameters
        ----------
        counts, sums : Tensor
            ``(K,)`` and ``(K, D)``: those of `Quantised`, added up over the batch.
        spare : Tensor
            ``(K, D)``: vectors of the batch, in random order; restarted codewords are put there.
        """
        self.counts.lerp_(counts, 1 - self.config.decay)  # (VQ.5)
        self.sums.lerp_(sums, 1 - self.config.decay)
        average = self.counts.mean()
        idle = (self.counts < self.config.restart_below * average)[:, None]  # (K, 1)
        self.sums.copy_(torch.where(idle, spare * average, self.sums))
        self.counts.copy_(torch.where(idle[:, 0], average, self.counts))
        chosen = (self.counts > 0)[:, None]  # until then, a codeword stays where it began
        self.codebook.copy_(torch.where(chosen, self.sums / self.counts[:, None], self.codebook))


class FiniteScalarQuantiser(nn.Module):
    """Round each coordinate of a squashed vector.

    Parameters
    ----------
    config : FSQ
        The levels.
    """

    def __init__(self, config: FSQ) -> None:
        super().__init__()
        self.config = config
        levels = torch.tensor(config.levels)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("basis", torch.cat([levels.new_ones(1), levels[:-1]]).cumprod(0), persistent=False)

    def forward(self, z: Tensor) -> Quantised:
        """Quantise ``(B, D, H, W)``; the codewords lie in [-1, 1]."""
        rows = z.float().movedim(1, -1)  # (B, H, W, D)
        # The paper's bound for L levels: tanh scaled to (L - 1) / 2, lowered by a half if L is even, so that rounding
        # gives exactly L whole numbers, and shifted so that 0 stays 0.
        half = (self.levels - 1) * (1 - 1e-3) / 2
        offset = torch.where(self.levels % 2 == 1, 0.0, 0.5)
        bounded = torch.tanh(rows + torch.atanh(offset / half)) * half - offset  # (B, H, W, D), (VQ.8)
        whole = bounded + (bounded.round() - bounded).detach()  # (VQ.2)
        codes = ((whole.detach().round().long() + self.levels // 2) * self.basis).sum(-1)  # (B, H, W)
        counts = _count(codes.flatten(), self.config.size)
        return Quantised((whole / (self.levels // 2)).movedim(-1, 1), codes, rows.new_zeros(()), counts)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the codewords ``(B, D, H, W)`` of codes ``(B, H, W)``."""
        whole = codes[..., None] // self.basis % self.levels - self.levels // 2  # (B, H, W, D)
        return (whole / (self.levels // 2)).movedim(-1, 1)


def _count(codes: Tensor, size: int) -> Tensor:
    """Return how often each of ``size`` codes occurs, float32 ``(size,)``, without making a GPU wait."""
    return torch.zeros(size, device=codes.device).index_add_(0, codes, torch.ones_like(codes, dtype=torch.float32))
