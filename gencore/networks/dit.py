"""Diffusion transformer (DiT): Peebles & Xie 2023, "Scalable diffusion models with transformers".

https://arxiv.org/abs/2212.09748, section 3.2 and figure 3: a noised picture is cut into patches, which become tokens; a
stack of transformer blocks works on them; a last layer turns each token into a patch again. Time and conditions are added
up to one vector, which reaches every block through its normalisations alone (adaptive layer norm, "adaLN-Zero"): it says
how far to shift and to scale what a part of the block is given, and by which gate to multiply what the part returns. The
gates start at zero, so that each new block is the identity; so does the last layer.

Deviations: attention without biases of queries, keys and values, and exact GELU, as everywhere in this library; other
first weights are PyTorch's own; no variance is predicted.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import silu

from gencore.errors import InputError
from gencore.networks.blocks import zero_init
from gencore.networks.denoising import Teller
from gencore.networks.embeddings import patchify, sinusoidal_grid, unpatchify
from gencore.networks.transformer import Attention

NORM_EPS = 1e-6  # of each layer norm, as in the paper's code


@dataclass(frozen=True)
class DiT:
    """Sizes of a diffusion transformer.

    Attributes
    ----------
    size : int
        Height and width of the images in pixels, a multiple of `patch`.
    channels : int
        Channels of the images.
    patch : int
        Side of the square of pixels that becomes one token; the cost of attention falls with its fourth power.
    width : int
        Length of the tokens and of the vector that tells, a multiple of `heads` and of 4.
    depth : int
        Number of blocks.
    heads : int
        Heads of each attention.
    mlp_ratio : int
        Width of the hidden layer between attentions, in units of `width`.
    conditions : tuple of int
        For each condition, how many values it has: ``(10,)`` for the classes of digits. Empty: nothing is told but the time.
    """

    size: int = 28
    channels: int = 1
    patch: int = 4
    width: int = 128
    depth: int = 6
    heads: int = 4
    mlp_ratio: int = 4
    conditions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("size", "channels", "patch", "width", "depth", "heads", "mlp_ratio"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be 1 or more")
        if self.size % self.patch:
            raise InputError(f"size {self.size}: must be a multiple of the patches' side, {self.patch}")
        if self.width % self.heads or self.width % 4:
            raise InputError(f"width {self.width}: must be a multiple of the {self.heads} heads, and of 4 for positions")
        if any(count < 1 for count in self.conditions):
            raise InputError(f"conditions {self.conditions}: each has at least one value")

    @property
    def side(self) -> int:
        """How many patches stand beside each other."""
        return self.size // self.patch

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image."""
        return self.channels, self.size, self.size


class DiTBlock(nn.Module):
    """Gather from other tokens, then transform each token by itself; a vector steers both (figure 3, "adaLN-Zero").

    Parameters
    ----------
    config : DiT
        The sizes.
    """

    def __init__(self, config: DiT) -> None:
        super().__init__()
        width, hidden = config.width, config.mlp_ratio * config.width
        self.steer = zero_init(nn.Linear(width, 6 * width))
        self.norm = nn.LayerNorm(width, NORM_EPS, elementwise_affine=False)  # it learns nothing, and serves both parts
        self.attention = Attention(width, config.heads)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, h: Tensor, told: Tensor) -> Tensor:
        """Return tokens ``(B, N, width)`` for tokens ``(B, N, width)`` and a vector for each picture, ``(B, width)``."""
        # (B, 1, width) each
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.steer(silu(told))[:, None].chunk(6, dim=2)
        h = h + gate * self.attention((1 + scale) * self.norm(h) + shift)
        return h + gate_mlp * self.mlp((1 + scale_mlp) * self.norm(h) + shift_mlp)  # (B, N, width)


class DiTNetwork(nn.Module):
    """Map a noised picture, its time and its conditions to a prediction of the same shape: of picture, noise or a mix.

    Parameters
    ----------
    config : DiT
        The sizes.
    """

    def __init__(self, config: DiT) -> None:
        super().__init__()
        self.config = config
        pixels = config.channels * config.patch**2
        self.teller = Teller(config.conditions, config.width)
        self.stem = nn.Linear(pixels, config.width)
        # Follows from the sizes, and so is not saved.
        self.register_buffer("places", sinusoidal_grid(config.side, config.side, config.width), persistent=False)
        self.blocks = nn.ModuleList([DiTBlock(config) for _ in range(config.depth)])
        self.steer = zero_init(nn.Linear(config.width, 2 * config.width))
        self.norm = nn.LayerNorm(config.width, NORM_EPS, elementwise_affine=False)
        self.head = zero_init(nn.Linear(config.width, pixels))

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return ``(B, C, H, W)`` for noised images ``(B, C, H, W)``, times ``(B,)`` in [0, 1], int64 conditions ``(B, K)``.

        Raises
        ------
        InputError
            If images or conditions do not fit the network.
        """
        side = self.config.side
        if x_t.shape[1:] != self.config.shape:
            raise InputError(f"images of shape {tuple(x_t.shape[1:])}: this transformer takes {self.config.shape}")
        told = self.teller(t, cond)  # (B, width)
        h = self.stem(patchify(x_t, self.config.patch)) + self.places  # (B, N, width)
        for block in self.blocks:
            h = block(h, told)
        shift, scale = self.steer(silu(told))[:, None].chunk(2, dim=2)  # (B, 1, width) each
        h = self.head((1 + scale) * self.norm(h) + shift)  # (B, N, C * patch^2)
        return unpatchify(h, self.config.patch, side, side)  # (B, C, H, W)
