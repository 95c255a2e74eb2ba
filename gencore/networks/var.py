"""VAR: Tian et al. 2024, "Visual autoregressive modeling: scalable image generation via next-scale prediction".

https://arxiv.org/abs/2404.02905, section 3.2 and figure 4. A transformer that says all codes of a scale at once, from what the
scales before add up to. Its codes and inputs are those of `gencore.networks.multiscale`.

Deviations: what is told is the first token and nothing more, where the authors also steer every block and the last
normalisation by it (the blocks are those of `gencore.networks.transformer`); places are sines and cosines, in units of the
finest grid, so that a token of a coarse grid stands in the middle of what it covers (the authors learn a vector for each);
a token may know the neighbours of its input by a small convolution within its scale (`near`), which theirs leaves to attention;
queries and keys are not normalised; dropout takes whole channels, where theirs takes whole branches of blocks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from gencore.errors import InputError
from gencore.networks.embeddings import Conditions, sinusoidal
from gencore.networks.multiscale import check_scales
from gencore.networks.transformer import Transformer, TransformerNetwork, dropout_factors

AtScale = Callable[[Tensor | None], Tensor]  # what `incremental` returns


@dataclass(frozen=True)
class VAR:
    """Sizes of a transformer over scales.

    Attributes
    ----------
    scales : tuple of int
        Sides of the grids of codes, rising.
    levels : int
        How many codewords there are.
    dimension : int
        D: length of a codeword.
    transformer : Transformer
        The stack; neither causal nor with a context. Its width is a multiple of 4.
    near : int
        How far each token sees by convolution in its own scale's input, in every direction. 0: only its own place.
    drop : float
        Share of channels that are left out in training.
    conditions : tuple of int
        For each condition, how many values it has. Empty: nothing is told.
    """

    scales: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    levels: int = 512
    dimension: int = 16
    transformer: Transformer = Transformer()
    near: int = 0
    drop: float = 0.0
    conditions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_scales(self.scales)
        if self.levels < 2:
            raise InputError(f"levels {self.levels}: a code takes at least 2 values")
        if self.dimension < 1:
            raise InputError(f"dimension {self.dimension}: must be 1 or more")
        if self.transformer.causal or self.transformer.context:
            raise InputError("transformer: must not be causal, nor have a context; what a token sees is a matter of scales")
        if self.transformer.width % 4:
            raise InputError(f"transformer.width {self.transformer.width}: rows and columns need a multiple of 4")
        if self.near < 0:
            raise InputError(f"near {self.near}: must be 0 or more")
        if not 0 <= self.drop < 1:
            raise InputError(f"drop {self.drop}: must be at least 0 and below 1")
        if any(count < 1 for count in self.conditions):
            raise InputError(f"conditions {self.conditions}: each has at least one value")

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the uniform numbers that one picture's dropout takes."""
        return (self.transformer.depth, 2, self.transformer.width) if self.drop else ()

    @property
    def spans(self) -> list[slice]:
        """Where each scale's codes stand among all."""
        ends = list(accumulate(scale**2 for scale in self.scales))
        return [slice(first, end) for first, end in zip([0, *ends], ends, strict=False)]


class VARNetwork(nn.Module):
    """Say the codes of each scale from those of the scales before.

    Parameters
    ----------
    config : VAR
        The sizes.
    """

    def __init__(self, config: VAR) -> None:
        super().__init__()
        self.config = config
        width = config.transformer.width
        self.told = Conditions(config.conditions, width)
        self.start = nn.Parameter(torch.zeros(width))
        self.word = nn.Linear(config.dimension, width)
        near = config.near
        self.around = nn.Conv2d(config.dimension, width, 2 * near + 1, padding=near) if near else None
        self.level = nn.Embedding(len(config.scales), width)
        self.body = TransformerNetwork(config.transformer)
        self.head = nn.Linear(width, config.levels)
        counts = torch.tensor([side**2 for side in config.scales])
        scale = torch.arange(len(counts)).repeat_interleave(counts)  # (N,), of each token
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("places", _places(config.scales, width), persistent=False)  # (N, width)
        self.register_buffer("mask", scale[:, None] >= scale, persistent=False)  # (N, N), True where a token may look

    def forward(self, inputs: Tensor, cond: Tensor | None = None, u: Tensor | None = None) -> Tensor:
        """Return the logits of all codes, ``(B, N, levels)``.

        Parameters
        ----------
        inputs : Tensor
            ``(B, N - scales[0] ** 2, dimension)``, of `gencore.networks.multiscale.MultiScaleQuantiser.inputs`.
        cond : Tensor, optional
            int64 ``(B, K)``, as in `gencore.networks.embeddings.Conditions`.
        u : Tensor, optional
            Uniform numbers ``(B, *config.noise_shape)``: what is left out in training; without them nothing is.

        Raises
        ------
        InputError
            If inputs or conditions do not fit the network.
        """
        expected = (len(self.scale) - self.config.scales[0] ** 2, self.config.dimension)
        if tuple(inputs.shape[1:]) != expected:
            raise InputError(f"inputs of shape {tuple(inputs.shape[1:])}: this network takes {expected}")
        parts = inputs.split([side**2 for side in self.config.scales[1:]], dim=1)
        h = torch.cat([self._first(cond, len(inputs)), *map(self._read, parts)], 1)  # (B, N, width)
        h = h + self.level(self.scale) + self.places
        keep = dropout_factors(u, self.config.drop) if u is not None and self.config.drop else None
        return self.head(self.body(h, keep=keep, mask=self.mask))  # (B, N, levels)

    def incremental(self, cond: Tensor | None, batch: int) -> AtScale:
        """Return a function that says the same scale by scale, and keeps the keys and values of scales before.

        It must be called for the scales in turn: with None for the first, then with the scale's own inputs,
        ``(B, k * k, dimension)``. It returns ``(B, k * k, levels)``.
        """
        caches, spans = self.body.caches(batch, len(self.scale)), iter(self.config.spans)

        def at(inputs: Tensor | None) -> Tensor:
            span = next(spans)
            h = self._first(cond, batch) if inputs is None else self._read(inputs)
            h = h + self.level(self.scale[span]) + self.places[span]
            return self.head(self.body(h, caches=caches))  # a token sees its scale and all before: no mask is needed

        return at

    def _first(self, cond: Tensor | None, batch: int) -> Tensor:
        """Return the tokens of the first scale, ``(batch, scales[0] ** 2, width)``: all that is told."""
        return (self.told(cond, batch) + self.start)[:, None].expand(-1, self.config.scales[0] ** 2, -1)

    def _read(self, inputs: Tensor) -> Tensor:
        """Return the tokens of one scale, ``(B, k * k, width)``, for its inputs ``(B, k * k, dimension)``."""
        if self.around is None:
            return self.word(inputs)
        side = math.isqrt(inputs.shape[1])
        grid = inputs.transpose(1, 2).unflatten(2, (side, side))  # (B, dimension, k, k)
        return self.word(inputs) + self.around(grid).flatten(2).transpose(1, 2)


def _places(scales: tuple[int, ...], width: int) -> Tensor:
    """Embed the middle of each cell of each grid, in cells of the last, ``(N, width)``: half by its row, half by its column."""
    grids = []
    for scale in scales:
        middle = (torch.arange(scale) + 0.5) * scales[-1] / scale - 0.5
        row, column = torch.meshgrid(middle, middle, indexing="ij")
        grids.append(torch.cat([sinusoidal(place.flatten(), width // 2) for place in (row, column)], 1))
    return torch.cat(grids)
