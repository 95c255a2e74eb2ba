"""Transformer: Vaswani et al. 2017, "Attention is all you need".

https://arxiv.org/abs/1706.03762, section 3: scaled dot-product attention (equation 1), several heads (section 3.2.2),
and blocks in which each token first gathers from other tokens and is then transformed by itself (figure 1).

Deviations: normalisation stands before each part of a block and the sum stays free of it (Xiong et al. 2020,
https://arxiv.org/abs/2002.04745), with one more at the end; GELU instead of ReLU; no dropout; no embeddings and no
output layer, which belong to the data. One stack serves as encoder (no context, not causal), decoder (causal), or as a
network that reads a context, such as a caption, by cross-attention.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from gencore.errors import InputError


@dataclass(frozen=True)
class Transformer:
    """Sizes of a stack of transformer blocks.

    Attributes
    ----------
    width : int
        Length of the tokens, a multiple of `heads`.
    depth : int
        Number of blocks.
    heads : int
        Heads of each attention.
    context : int
        Length of the context's tokens, to which each block attends; 0 for no cross-attention.
    causal : bool
        Whether a token attends only to itself and to those before it. The context is always seen whole.
    mlp_ratio : int
        Width of the hidden layer between attentions, in units of `width`.
    """

    width: int = 128
    depth: int = 4
    heads: int = 4
    context: int = 0
    causal: bool = False
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "mlp_ratio"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be 1 or more")
        if self.width % self.heads:
            raise InputError(f"width {self.width} is not a multiple of the {self.heads} heads")
        if self.context < 0:
            raise InputError(f"context {self.context}: must be 0 (none) or the length of the context's tokens")


class Attention(nn.Module):
    """Let each token gather from others what it asks for.

    Parameters
    ----------
    width, heads : int
        Length of the tokens, and number of heads, which share it.
    context : int, optional
        Length of the tokens that are looked at, if those are others (cross-attention).
    causal : bool
        Whether a token sees only itself and those before it.
    """

    def __init__(self, width: int, heads: int, context: int | None = None, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(context or width, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        h: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        cache: list[Tensor] | None = None,
    ) -> Tensor:
        """Return ``(B, N, width)`` for tokens ``(B, N, width)``, which may look at others, ``(B, M, context)``.

        A mask, bool ``(N, M)``, is True where a token may look. A cache, an empty list at first, keeps keys and values: tokens
        also look at all those of earlier calls.
        """
        q, k, v = self._project(h, context)
        if cache is not None:
            if cache:
                k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
            cache[:] = [k, v]
        # (B, heads, N, width / heads), equation 1
        gathered = scaled_dot_product_attention(q, k, v, mask, is_causal=self.causal)
        return self.out(gathered.transpose(1, 2).flatten(2))  # (B, N, width)

    def weights(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Return how much each token looks at each other, ``(B, heads, N, M)``: rows sum to 1. Slow, made for maps."""
        q, k, _ = self._project(h, context)
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5  # (B, heads, N, M)
        if self.causal:
            future = scores.new_ones(scores.shape[2:]).triu(1).bool()
            scores = scores.masked_fill(future, float("-inf"))
        return scores.softmax(dim=3)

    def _project(self, h: Tensor, context: Tensor | None) -> list[Tensor]:
        k, v = self.key_value(h if context is None else context).chunk(2, dim=2)  # (B, M, width) each
        # (B, heads, N or M, width / heads) each
        return [part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query(h), k, v)]


class Block(nn.Module):
    """Gather from other tokens, from the context if there is one, then transform each token by itself.

    Parameters
    ----------
    config : Transformer
        The sizes.
    """

    def __init__(self, config: Transformer) -> None:
        super().__init__()
        width, hidden = config.width, config.mlp_ratio * config.width
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, config.heads, causal=config.causal)
        self.norm_cross = nn.LayerNorm(width) if config.context else None
        self.cross = Attention(width, config.heads, config.context) if config.context else None
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(
        self,
        h: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        cache: list[Tensor] | None = None,
    ) -> Tensor:
        """Return tokens ``(B, N, width)`` for tokens ``(B, N, width)`` and, if used, a context ``(B, M, context)``.

        `mask` and `cache` are those of the tokens' attention to each other, as in `Attention.forward`.
        """
        h = h + self.attention(self.norm1(h), mask=mask, cache=cache)
        if self.cross is not None:
            h = h + self.cross(self.norm_cross(h), context)
        return h + self.mlp(self.norm2(h))  # (B, N, width)


class TransformerNetwork(nn.Module):
    """Map tokens to as many tokens. It knows nothing of their places: add `gencore.networks.embeddings` before.

    Parameters
    ----------
    config : Transformer
        The sizes.
    """

    def __init__(self, config: Transformer) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.width)

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Return ``(B, N, width)`` for tokens ``(B, N, width)``.

        Parameters
        ----------
        h : Tensor
            The tokens, their positions included.
        context : Tensor, optional
            ``(B, M, config.context)``; must be there if, and only if, the network was built for it.

        Raises
        ------
        InputError
            If tokens or context do not fit the network.
        """
        if h.shape[-1] != self.config.width:
            raise InputError(f"tokens of length {h.shape[-1]}: this transformer takes {self.config.width}")
        given = 0 if context is None else context.shape[-1]
        if given != self.config.context:
            raise InputError(f"context of length {given}: this transformer takes {self.config.context} (0: none)")
        for block in self.blocks:
            h = block(h, context)
        return self.norm(h)  # (B, N, width)
