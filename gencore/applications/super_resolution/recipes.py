"""Experiments. A recipe is a function; its dotted name is the experiment's name; its docstring says what it gave."""

from dataclasses import dataclass, replace

from gencore.applications.super_resolution.objectives import PixelError
from gencore.data import Photos
from gencore.errors import InputError
from gencore.networks.edsr import EDSR
from gencore.networks.patchgan import PatchGAN
from gencore.networks.srcnn import SRCNN
from gencore.training.device import Precision
from gencore.training.optimiser import AdamW
from gencore.vae.adversary import Adversary


@dataclass(frozen=True)
class SuperResolutionRecipe:
    """All that decides what a training of this package does; nothing that only decides how fast it runs.

    Attributes
    ----------
    data : Photos
        What to learn from; its size is that of the squares that are cut out of the training photographs, at any place.
    network : SRCNN or EDSR
        Kind and sizes of the network, and how many times larger it makes pictures.
    objective : PixelError
        What is minimised.
    perceptual : float
        Weight of the perceptual distance on SqueezeNet's features, beside the objective; 0 for none.
    adversary : Adversary, optional
        A discriminator of patches that plays against the network.
    begin : str, optional
        Name of the zoo's model with whose weights the training begins; `train` is given it as ``teacher``.
    optimiser : AdamW
        How the loss is minimised.
    images : int
        Training squares to see in all.
    batch_size : int
        Squares per step, over all processes.
    clip : float
        Largest norm of the gradient; longer ones are shortened to it.
    ema_half_life : int
        Half-life of the weights' moving average, in images.
    precision : {"fp32", "bf16"}
        Number format of the forward passes.
    seed : int
        Decides the first weights, and all squares.
    log_every, checkpoint_every : int
        Images between two rows of the curve, and between two checkpoints.
    """

    data: Photos
    network: SRCNN | EDSR
    objective: PixelError = PixelError()
    perceptual: float = 0.0
    adversary: Adversary | None = None
    begin: str | None = None
    optimiser: AdamW = AdamW(lr=5e-4, weight_decay=1e-4, beta2=0.99)
    images: int = 600_000
    batch_size: int = 64
    clip: float = 1.0
    ema_half_life: int = 10_000
    precision: Precision = "bf16"
    seed: int = 0
    log_every: int = 6_400
    checkpoint_every: int = 32_000

    def __post_init__(self) -> None:
        if self.network.channels != self.data.channels:
            raise InputError(f"network.channels is {self.network.channels}, but the data have {self.data.channels}")
        if self.data.size % self.network.times:
            raise InputError(f"data.size is {self.data.size}; it must be a multiple of network.times, {self.network.times}")
        for field in ("images", "batch_size", "ema_half_life", "log_every", "checkpoint_every"):
            if getattr(self, field) < 1:
                raise InputError(f"{field} is {getattr(self, field)}; it must be at least 1")
        if self.clip <= 0:
            raise InputError(f"clip is {self.clip}; it must be positive")
        if self.perceptual < 0:
            raise InputError(f"perceptual is {self.perceptual}; it must be 0 (none) or positive")


def srcnn_x4() -> SuperResolutionRecipe:
    """SRCNN, three convolutions after a bicubic enlargement, by squared error: where learning to enlarge began.

    ``gencore train super_resolution.recipes.srcnn_x4``. Not run yet.
    """
    return SuperResolutionRecipe(
        data=Photos(size=96),
        network=SRCNN(times=4),
        objective=PixelError("squared"),
        optimiser=AdamW(lr=1e-3, weight_decay=0.0, beta2=0.99),
    )


def residual_x4() -> SuperResolutionRecipe:
    """A small EDSR, four times larger on each side, by absolute error: the sharpest picture that still is an average.

    ``gencore train super_resolution.recipes.residual_x4``: 110 seconds on an H200 that thirteen other runs used too. On the
    ten held-out photographs: 26.01 dB on luminance (bicubic 25.31), structural similarity 0.744 (0.696), perceptual distance
    0.478 (0.546) on SqueezeNet and 0.526 (0.573) on EfficientNet-Lite0. Halved, its pictures are better than bicubic ones
    twice as large, too.
    """
    return SuperResolutionRecipe(data=Photos(size=96), network=EDSR(times=4), images=127_360)


def residual_x2() -> SuperResolutionRecipe:
    """A small EDSR, twice as large on each side, by absolute error.

    ``gencore train super_resolution.recipes.residual_x2``. Not run yet.
    """
    return replace(residual_x4(), data=Photos(size=64), network=EDSR(times=2))


def srgan_x4() -> SuperResolutionRecipe:
    """`residual_x4` taught on by a perceptual distance and by an adversary: one sharp picture in place of an average.

    ``gencore train super_resolution.recipes.srgan_x4``: 277 seconds on an H200 that thirteen other runs used too, after 110
    for `residual_x4`. On the ten held-out photographs: 24.65 dB on luminance (bicubic 25.31), structural similarity 0.685
    (0.696), perceptual distance 0.381 (0.546) on SqueezeNet, by which it learned, and 0.547 (0.573) on EfficientNet-Lite0.
    """
    return replace(
        residual_x4(),
        perceptual=0.5,
        adversary=Adversary(
            PatchGAN(width=32, strided=2), weight=0.8, optimiser=AdamW(lr=3e-4, weight_decay=0.0, beta1=0.5, beta2=0.99)
        ),
        begin="residual_x4",
        optimiser=AdamW(lr=2e-4, weight_decay=1e-4, beta2=0.99),
        images=84_672,
    )
