"""A caption and its picture as one sentence: Ramesh et al. 2021, "Zero-shot text-to-image generation" (DALL-E).

https://arxiv.org/abs/2102.12092, section 2.2: the caption's tokens come first, the picture's codes follow, and one
causal transformer learns what comes next, words and codes alike. A code sees the whole caption and all codes before it.

Deviations: words are the tokens, not pieces of words; all attention is full, where the paper's looks along rows and
columns; what follows a caption's end is the same token in every place, and the loss leaves it out; codes know those
around them by a small convolution, as in `gencore.networks.image_transformer`, whose tokens, stack and head this
network takes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gencore.errors import InputError
from gencore.networks.image_transformer import ImageTransformer, ImageTransformerNetwork
from gencore.networks.symbols import At, Grid, check_symbols
from gencore.networks.transformer import Transformer


@dataclass(frozen=True)
class CaptionTransformer:
    """Sizes of a transformer that writes a caption, then its picture.

    Attributes
    ----------
    picture : ImageTransformer
        The stack, the grid of codes and how they are seen; nothing else is told.
    words : int
        How many tokens a caption is made of; a caption is a row of their numbers, from 0 on.
    length : int
        Tokens in a row.
    """

    picture: ImageTransformer = ImageTransformer(Grid(8, levels=256, named=True), Transformer(causal=True))
    words: int = 44
    length: int = 36

    def __post_init__(self) -> None:
        for name in ("words", "length"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be 1 or more")
        if self.picture.grid.conditions:
            given = self.picture.grid.conditions
            raise InputError(f"picture.grid.conditions {given}: a caption is all that is told; leave them out")

    @property
    def grid(self) -> Grid:
        """What is written after the caption."""
        return self.picture.grid

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the uniform numbers that one picture's dropout takes."""
        return self.picture.noise_shape


class CaptionTransformerNetwork(nn.Module):
    """Map a caption and a grid of symbols to what each place says of itself, given the places before it.

    Parameters
    ----------
    config : CaptionTransformer
        The sizes.
    """

    def __init__(self, config: CaptionTransformer) -> None:
        super().__init__()
        width = config.picture.transformer.width
        self.config = config
        self.picture = ImageTransformerNetwork(config.picture)
        self.words = nn.Embedding(config.words, width)
        self.start = nn.Parameter(torch.randn(1, 1, width))
        self.places = nn.Parameter(torch.randn(config.length, width))
        for vectors in (self.words.weight, self.start, self.places):
            nn.init.normal_(vectors, std=0.2)
        self.head = nn.Linear(width, config.words)

    def forward(
        self, symbols: Tensor, cond: Tensor, u: Tensor | None = None, words: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return what is said of each symbol, ``(B, levels, H, W)``, and on request of words, ``(B, length, words)``.

        Parameters
        ----------
        symbols : Tensor
            int64 ``(B, 1, H, W)``.
        cond : Tensor
            Captions, int64 ``(B, length)``.
        u : Tensor, optional
            Uniform numbers ``(B, *config.noise_shape)`` that say what is left out in training.
        words : bool
            Whether to return logits of words too, as the second of a pair.

        Raises
        ------
        InputError
            If symbols or captions do not fit the network.
        IndexError
            On the CPU, if there is no such word; to look at them first would make a GPU wait.
        """
        check_symbols(self.config.grid, symbols)
        caption, picture = self._caption(cond), self.picture.tokens(self.picture.table(symbols[:, 0]))
        length, tokens = caption.shape[1], torch.cat([caption, picture.flatten(1, 2)], 1)  # (B, 1 + length + N, width)
        h = self.picture.body(tokens, keep=self.picture.keep(u))
        logits = self.picture.head(h[:, length:]).unflatten(1, symbols.shape[2:]).movedim(3, 1)  # (B, levels, H, W)
        return (logits, self.head(h[:, : length - 1])) if words else logits

    def incremental(self, symbols: Tensor, cond: Tensor) -> At:
        """Return ``at(row, column) -> (B, levels)``; see `gencore.networks.symbols`. The caption is read before."""
        check_symbols(self.config.grid, symbols)
        caption = self._caption(cond)
        batch, length, body = len(caption), caption.shape[1], self.picture.body
        caches = body.caches(batch, length + symbols[0].numel())
        body(caption, caches=caches, mask=torch.ones(length, length, dtype=torch.bool, device=caption.device).tril())
        token_at = self.picture.incremental_tokens(symbols)
        return lambda row, column: self.picture.head(body(token_at(row, column)[:, None], caches=caches)[:, 0])

    def _caption(self, cond: Tensor) -> Tensor:
        """Return the tokens of captions ``(B, 1 + length, width)``: a start, then the words."""
        if cond is None or cond.shape[1:] != (self.config.length,):
            given = None if cond is None else tuple(cond.shape)
            raise InputError(f"captions {given}: this network reads rows of {self.config.length} tokens")
        return torch.cat([self.start.expand(len(cond), 1, -1), self.words(cond) + self.places], 1)
