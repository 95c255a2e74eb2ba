"""PatchGAN: Isola et al. 2017, "Image-to-image translation with conditional adversarial networks".

https://arxiv.org/abs/1611.07004, section 3.2.2 and appendix 6.1.2: 4x4 convolutions, C64-C128-C256-C512, normalised but
for the first, LeakyReLU(0.2), one more convolution to one channel; weights from N(0, 0.02²), appendix 6.2. It gives a logit
for each patch of the picture, so where patches are small beside it, it judges texture and edges and leaves the composition
to others.

Deviations: group normalisation in place of batch normalisation, so that the logits of a picture do not depend on the rest of
its batch (the paper's batches hold 1 to 10 pictures; with one, theirs do not either); no sigmoid; the number of layers is
free. Two strided layers, which the recipes for small pictures have, still see 34x34 pixels, more than a whole picture of 32:
they judge composition too.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from gencore.errors import InputError
from gencore.networks.blocks import GROUPS


@dataclass(frozen=True)
class PatchGAN:
    """Sizes of a discriminator of patches.

    Attributes
    ----------
    channels : int
        1 for grey, 3 for colour.
    width : int
        Channels of the first layer, a multiple of 8; each further layer has twice as many, up to eight times.
    strided : int
        Convolutions that halve the resolution; of the two that follow, each makes the map one pixel narrower. The paper's
        70x70 patches need 3.
    """

    channels: int = 3
    width: int = 64
    strided: int = 3

    def __post_init__(self) -> None:
        if self.width < 1 or self.width % GROUPS:
            raise InputError(f"width {self.width}: must be a positive multiple of {GROUPS}")
        for name in ("channels", "strided"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be 1 or more")

    @property
    def widths(self) -> list[int]:
        """Channels after each layer but the last."""
        return [self.width * min(8, 1 << level) for level in range(self.strided + 1)]

    @property
    def patch(self) -> int:
        """Side of the square of pixels that one logit sees, apart from the normalisation, which sees the whole picture."""
        side = 1
        for stride in (1, 1, *[2] * self.strided):  # from the logit back to the picture
            side = side * stride + 4 - stride
        return side


class PatchDiscriminator(nn.Module):
    """Map an image to a grid of logits: large where a patch looks real, small where it looks made.

    Parameters
    ----------
    config : PatchGAN
        The sizes.
    """

    def __init__(self, config: PatchGAN) -> None:
        super().__init__()
        self.config = config
        width, layers = config.channels, []
        for level, next_width in enumerate(config.widths):
            layers += [nn.Conv2d(width, next_width, 4, 2 if level < config.strided else 1, 1)]
            layers += [nn.GroupNorm(GROUPS, next_width)] if level else []
            layers += [nn.LeakyReLU(0.2)]
            width = next_width
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 4, 1, 1))
        self.apply(_init)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B, 1, h, w)``, one for each patch, for images ``(B, channels, H, W)`` in [-1, 1]."""
        return self.layers(x)


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        nn.init.zeros_(module.bias)
