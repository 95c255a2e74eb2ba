"""Experiments. A recipe is a function; its dotted name is the experiment's name; its docstring says what it gave."""

from dataclasses import dataclass, replace

from gencore.applications.style_transfer.features import Layers
from gencore.applications.style_transfer.objectives import Painted
from gencore.applications.style_transfer.styles import Styles
from gencore.data import Photos
from gencore.errors import InputError
from gencore.networks.adain import AdaIN
from gencore.networks.image_transform import ImageTransform
from gencore.training.device import Precision
from gencore.training.optimiser import AdamW


@dataclass(frozen=True)
class StyleRecipe:
    """All that decides what a training of this application does; nothing that only decides how fast it runs.

    Attributes
    ----------
    data : Photos
        What to paint; windows of its patches are shown.
    network : ImageTransform or AdaIN
        Kind and sizes of the network that paints.
    styles : Styles
        What to paint like.
    objective : Painted
        What is minimised.
    window : int
        Side of the pictures that are trained on, in pixels: cut out of the patches, at a size and a place drawn by chance.
    optimiser : AdamW
        How the loss is minimised.
    images : int
        Training images to see in all, repeats counted.
    batch_size : int
        Images per step, over all processes.
    clip : float
        Largest norm of the gradient; longer ones are shortened to it.
    ema_half_life : int
        Half-life of the weights' moving average, in images.
    precision : {"fp32", "bf16"}
        Number format of the forward passes.
    seed : int
        Decides the first weights, the order of the data and all that is drawn.
    log_every, checkpoint_every : int
        Images between two rows of the curve, and between two checkpoints.
    """

    data: Photos = Photos(256)
    network: ImageTransform | AdaIN = ImageTransform(styles=9)
    styles: Styles = Styles()
    objective: Painted = Painted()
    window: int = 192
    optimiser: AdamW = AdamW(lr=2e-3, weight_decay=0.0, warm_up=800, beta2=0.99)
    images: int = 40_000
    batch_size: int = 8
    clip: float = 10.0
    ema_half_life: int = 1_000
    precision: Precision = "fp32"
    seed: int = 0
    log_every: int = 800
    checkpoint_every: int = 4_000

    def __post_init__(self) -> None:
        for field in ("window", "images", "batch_size", "ema_half_life", "log_every", "checkpoint_every"):
            if getattr(self, field) < 1:
                raise InputError(f"{field} is {getattr(self, field)}; it must be at least 1")
        if self.window > self.data.size or self.window % 16 or self.window < 32:
            raise InputError(f"window {self.window}: a multiple of 16 from 32 to the patches' size, {self.data.size}")
        if self.clip <= 0:
            raise InputError(f"clip is {self.clip}; it must be positive")
        if isinstance(self.network, ImageTransform):
            if self.styles.others:
                raise InputError("styles.others: a network with a row for each painting knows paintings only")
            if self.network.styles != self.styles.count + 1:
                raise InputError(f"network.styles {self.network.styles}: one for each of {self.styles.count} paintings, and 1")

    @property
    def looked_at(self) -> tuple[int, ...]:
        """Every layer of the fixed network that training looks at."""
        also = self.network.layers if isinstance(self.network, AdaIN) else ()
        return tuple(sorted({*self.objective.layers.all, *also}))


def van_gogh() -> StyleRecipe:
    """One network that paints photographs like any of eight paintings by Van Gogh, at any strength.

    ``gencore train style_transfer.recipes.van_gogh``: 142 seconds on an H200 that four other runs used too. On held-out
    photographs of 192 pixels, each like the eight paintings: style distance 0.075 (of the photographs themselves 1.23),
    content distance 1.39. At full strength strokes cover much, and most pictures have a bright spot; half is its best.
    """
    return StyleRecipe(objective=Painted(style=20.0), batch_size=16, precision="bf16", images=29_520)


def van_gogh_batch() -> StyleRecipe:
    """`van_gogh` with batch instead of instance normalisation, to see what is wrong with it.

    ``gencore train style_transfer.recipes.van_gogh_batch``. Not run yet.
    """
    return replace(van_gogh(), network=ImageTransform(styles=9, norm="batch"))


def any_style() -> StyleRecipe:
    """A decoder of maps with the means and deviations of any style, trained on seven paintings and much else.

    ``gencore train style_transfer.recipes.any_style``: 139 seconds on an H200 that four other runs used too. On held-out
    photographs of 192 pixels, each like the seven paintings: style distance 0.17 (of the photographs themselves 1.28),
    content distance 1.18. The painting "Café Terrace at Night" is never seen.
    """
    network = AdaIN(layers=(1, 4, 7, 10), channels=(64, 128, 256, 384), strides=(1, 2, 4, 8), widths=(32, 40, 64, 96))
    return replace(
        van_gogh(),
        network=network,
        styles=Styles(left_out=(1,), others=True),
        objective=Painted(Layers(), style=60.0, pixels=100.0, variation=1.0),
        images=41_600,
    )
