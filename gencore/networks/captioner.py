"""Pictures to words: Xu et al. 2015, "Show, attend and tell", with the decoder of Vaswani et al. 2017.

https://arxiv.org/abs/1502.03044, sections 3.1 and 4.2 ("soft" attention): a caption is written word by word, and before
each word the network looks at the places of the picture, at all of them at once, with weights that sum to 1.
https://arxiv.org/abs/1706.03762, section 3: what remembers the words before is a causal transformer in place of the
paper's LSTM, and it looks at the picture by cross-attention in each of its blocks, with several heads.

Deviations: nothing asks that each place be looked at equally often over a caption (equation 14 of the paper); the
vectors that read words also write them (Press & Wolf 2017, https://arxiv.org/abs/1608.05859).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gencore.errors import InputError
from gencore.networks.places import Places, PlacesNetwork
from gencore.networks.transformer import KeyValues, Transformer, TransformerNetwork, dropout_factors


@dataclass(frozen=True)
class Captioner:
    """Sizes of a network that tells what it sees.

    Attributes
    ----------
    picture : Places
        What looks at pictures.
    transformer : Transformer
        The stack that writes: causal, its context the picture's vectors.
    words : int
        How many words there are; a caption is a row of their numbers, from 0 on.
    length : int
        Words in a row.
    languages : int
        In how many languages it is told to write: each has a beginning of its own.
    drop : float
        Share of channels that are left out in training.
    """

    picture: Places = Places()
    transformer: Transformer = Transformer(112, 3, 4, context=96, causal=True)
    words: int = 40
    length: int = 36
    languages: int = 1
    drop: float = 0.0

    def __post_init__(self) -> None:
        for name in ("words", "length", "languages"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be 1 or more")
        if not self.transformer.causal or self.transformer.context != self.picture.width:
            raise InputError(f"transformer: must be causal, with context {self.picture.width}, the width of a place")
        if not 0 <= self.drop < 1:
            raise InputError(f"drop {self.drop}: must be at least 0 and below 1")

    @property
    def size(self) -> int:
        """Height and width of the pictures."""
        return self.picture.size

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.picture.channels

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the uniform numbers that one caption's dropout takes."""
        return (self.transformer.depth, 2, self.transformer.width) if self.drop else ()


class CaptionerNetwork(nn.Module):
    """Map pictures and the words so far to what comes next.

    Parameters
    ----------
    config : Captioner
        The sizes.
    """

    def __init__(self, config: Captioner) -> None:
        super().__init__()
        width = config.transformer.width
        self.config = config
        self.picture = PlacesNetwork(config.picture)
        self.table = nn.Embedding(config.words, width)
        self.begin = nn.Embedding(config.languages, width)
        self.order = nn.Parameter(torch.randn(config.length, width))
        for vectors in (self.table.weight, self.begin.weight, self.order):
            nn.init.normal_(vectors, std=width**-0.5)  # so that the first logits, which they also make, are about 1
        self.body = TransformerNetwork(config.transformer)
        self.bias = nn.Parameter(torch.zeros(config.words))

    def forward(self, x: Tensor, captions: Tensor, language: Tensor, u: Tensor | None = None) -> Tensor:
        """Return logits of each word, given those before it, ``(B, length, words)``.

        Parameters
        ----------
        x : Tensor
            Pictures ``(B, channels, size, size)`` in [-1, 1].
        captions : Tensor
            Rows of word numbers, int64 ``(B, length)``.
        language : Tensor
            int64 ``(B,)``, from 0 on.
        u : Tensor, optional
            Uniform numbers ``(B, *config.noise_shape)`` that say what is left out in training.

        Raises
        ------
        InputError
            If pictures or captions do not fit the network.
        """
        keep = dropout_factors(u, self.config.drop) if u is not None and self.config.drop else None
        h = self.body(self._tokens(captions, language), self.picture(x), keep)
        return linear(h, self.table.weight, self.bias)

    def next(
        self, places: Tensor, caches: list[KeyValues], number: int, before: Tensor, language: Tensor
    ) -> Tensor:
        """Return logits of one word, ``(B, words)``, the words before it being remembered.

        Parameters
        ----------
        places : Tensor
            What ``picture`` gives, ``(B, N, width)``.
        caches : list of KeyValues
            From ``body.caches``.
        number : int
            Which word, from 0 on; words are asked for in turn.
        before : Tensor
            The word before, int64 ``(B,)``; not looked at for the first one.
        language : Tensor
            int64 ``(B,)``.
        """
        token = (self.table(before) if number else self.begin(language)) + self.order[number]  # (B, width)
        h = self.body(token[:, None], places, caches=caches)[:, 0]
        return linear(h, self.table.weight, self.bias)

    def looks(self, x: Tensor, captions: Tensor, language: Tensor) -> Tensor:
        """Return where the network looks before each word, ``(B, length, side, side)``; each map sums to 1.

        The mean over blocks and heads. Parameters as for `forward`.
        """
        h, places, maps = self._tokens(captions, language), self.picture(x), []
        for block in self.body.blocks:
            asking = block.norm_cross(h + block.attention(block.norm1(h)))  # what the block's cross-attention is given
            maps.append(block.cross.weights(asking, places).mean(1))  # (B, length, N)
            h = block(h, places)
        side = self.config.picture.side
        return torch.stack(maps).mean(0).unflatten(2, (side, side))

    def _tokens(self, captions: Tensor, language: Tensor) -> Tensor:
        """Return the tokens that are read, ``(B, length, width)``: a beginning, then each word but the last."""
        if captions.shape[1:] != (self.config.length,):
            given = tuple(captions.shape)
            raise InputError(f"captions {given}: this network writes rows of {self.config.length} words")
        before = torch.cat([self.begin(language)[:, None], self.table(captions[:, :-1])], 1)
        return before + self.order
