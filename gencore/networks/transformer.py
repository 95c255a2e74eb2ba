"""Transformer: Vaswani et al. 2017, "Attention is all you need".

https://arxiv.org/abs/1706.03762, section 3: scaled dot-product attention (equation 1), several heads (section 3.2.2),
and blocks in which each token first gathers from other tokens and is then transformed by itself (figure 1).

Deviations: normalisation stands before each part of a block and the sum stays free of it (Xiong et al. 2020,
https://arxiv.org/abs/2002.04745), with one more at the end; GELU instead of ReLU; no embeddings and no
output layer, which belong to the data. One stack serves as encoder (no context, not causal), decoder (causal), or as a
network that reads a context, such as a caption, by cross-attention. Keys and values of earlier tokens can be kept
(`KeyValues`), and whole channels of what a block adds can be left out at random (`keep`): dropout (Srivastava et al. 2014)
that is the same for all tokens of a picture, and whose randomness is passed in.
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


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Return what queries ``(B, heads, N, d)`` gather from ``(B, heads, M, d)``; in float32 where a processor trains in bf16.

    There PyTorch's gradients of attention in bf16 take five times as long as in float32, half of a whole step.
    """
    if q.dtype == torch.bfloat16 and q.device.type == "cpu":
        with torch.autocast("cpu", enabled=False):
            gathered = scaled_dot_product_attention(q.float(), k.float(), v.float(), mask, is_causal=causal)
        return gathered.to(q.dtype)
    return scaled_dot_product_attention(q, k, v, mask, is_causal=causal)


class KeyValues:
    """Keys and values of the tokens that one attention has seen, so that later ones can look back at them.

    Parameters
    ----------
    attention : Attention
        Whose they are.
    batch, length : int
        How many sequences, and how many tokens each will have at most.
    """

    def __init__(self, attention: "Attention", batch: int, length: int) -> None:
        width = attention.query.out_features
        shape = 2, batch, attention.heads, length, width // attention.heads
        self.memory = attention.query.weight.new_empty(shape)
        self.seen = 0

    def extend(self, k: Tensor, v: Tensor) -> Tensor:
        """Append keys and values ``(B, heads, N, d)``, and return all of both, ``(2, B, heads, seen, d)``."""
        before, self.seen = self.seen, self.seen + k.shape[2]
        self.memory[:, :, :, before : self.seen] = torch.stack([k, v])
        return self.memory[:, :, :, : self.seen]


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
        cache: KeyValues | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return ``(B, N, width)`` for tokens ``(B, N, width)``, which may look at others, ``(B, M, context)``.

        With a cache, the tokens look at all that were given before, and at each other; they are remembered too. A mask, bool
        ``(N, M)``, is True where a token may look.
        """
        q, k, v = self._project(h, context)
        if cache is not None:
            k, v = cache.extend(k, v)  # (B, heads, seen, width / heads) each
        # (B, heads, N, width / heads), equation 1
        gathered = attend(q, k, v, mask, self.causal and cache is None)
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
        keep: Tensor | None = None,
        cache: KeyValues | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return tokens ``(B, N, width)`` for tokens ``(B, N, width)`` and, if used, a context ``(B, M, context)``.

        ``keep`` are factors of what attention and the layers after it add, ``(B, 2, width)``; ``cache`` and ``mask`` as
        in `Attention`.
        """
        gathered, passed = (1, 1) if keep is None else keep[:, :, None].unbind(1)  # (B, 1, width) each
        h = h + gathered * self.attention(self.norm1(h), cache=cache, mask=mask)
        if self.cross is not None:
            h = h + self.cross(self.norm_cross(h), context)
        return h + passed * self.mlp(self.norm2(h))  # (B, N, width)


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

    def forward(
        self,
        h: Tensor,
        context: Tensor | None = None,
        keep: Tensor | None = None,
        caches: list[KeyValues] | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return ``(B, N, width)`` for tokens ``(B, N, width)``.

        Parameters
        ----------
        h : Tensor
            The tokens, their positions included.
        context : Tensor, optional
            ``(B, M, config.context)``; must be there if, and only if, the network was built for it.
        keep : Tensor, optional
            Factors ``(B, depth, 2, width)`` of what each part of each block adds; see `dropout_factors`.
        caches : list of KeyValues, optional
            One for each block, from `caches`: the tokens follow those that were given before.
        mask : Tensor, optional
            bool ``(N, N)``, True where a token may look at another, for a network that is not causal.

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
        for number, block in enumerate(self.blocks):
            factors = None if keep is None else keep[:, number]
            h = block(h, context, factors, None if caches is None else caches[number], mask)
        return self.norm(h)  # (B, N, width)

    def caches(self, batch: int, length: int) -> list[KeyValues]:
        """Return an empty memory for each block, for as many sequences of at most this length."""
        return [KeyValues(block.attention, batch, length) for block in self.blocks]


def dropout_factors(u: Tensor, drop: float) -> Tensor:
    """Return factors of the same shape for uniform numbers: 0 for a share ``drop``, else ``1 / (1 - drop)``."""
    return (u >= drop).to(u) / (1 - drop)
