"""Words to vectors: a transformer that reads a caption, as Nichol et al. 2022 put before their denoiser ("GLIDE").

https://arxiv.org/abs/2112.10741, section 3: the caption's tokens are embedded and pass through a transformer; its last
layer's vectors are what the denoiser attends to. Radford et al. 2021, "Learning transferable visual models from natural
language supervision" (https://arxiv.org/abs/2103.00020), read captions by the same kind of network.

Deviations: words are the tokens, not pieces of words; no token is hidden from another, and those that fill a row are tokens
like all others, so that the network learns for itself to pass over them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gencore.errors import InputError
from gencore.networks.transformer import Transformer, TransformerNetwork


@dataclass(frozen=True)
class TextEncoder:
    """Sizes of a network that reads captions.

    Attributes
    ----------
    words : int
        How many tokens there are; a caption is a row of their numbers, from 0 on.
    length : int
        Tokens in a row.
    transformer : Transformer
        The stack that reads; its width is the length of the vectors.
    """

    words: int = 44
    length: int = 36
    transformer: Transformer = Transformer(width=96, depth=2, heads=4)

    def __post_init__(self) -> None:
        for name in ("words", "length"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be 1 or more")
        if self.transformer.context or self.transformer.causal:
            raise InputError("transformer: a reader of captions sees the whole caption and nothing else; no context, not causal")


class TextEncoderNetwork(nn.Module):
    """Map captions to a vector for each token.

    Parameters
    ----------
    config : TextEncoder
        The sizes.
    """

    def __init__(self, config: TextEncoder) -> None:
        super().__init__()
        self.config = config
        width = config.transformer.width
        self.table = nn.Embedding(config.words, width)
        self.places = nn.Parameter(torch.randn(config.length, width))
        for vectors in (self.table.weight, self.places):
            nn.init.normal_(vectors, std=0.2)
        self.body = TransformerNetwork(config.transformer)

    def forward(self, ids: Tensor) -> Tensor:
        """Return ``(B, length, width)`` for rows of tokens, int64 ``(B, length)``.

        Raises
        ------
        InputError
            If rows are longer or shorter.
        IndexError
            On the CPU, if there is no such token; to look at them first would make a GPU wait.
        """
        if ids.shape[1:] != (self.config.length,):
            raise InputError(f"captions {tuple(ids.shape)}: this network reads rows of {self.config.length} tokens")
        return self.body(self.table(ids) + self.places)  # (B, length, width)
