"""Experiments. A recipe is a function; its dotted name is the experiment's name; its docstring says what it gave."""

from dataclasses import dataclass, replace

from gencore.applications.translation.pairs import Colour, Dress, Restyle, Task
from gencore.data import Emoji
from gencore.data.figures import Figures
from gencore.errors import InputError
from gencore.gan.augmentation import Augmentation
from gencore.gan.objectives import LeastSquares, NonSaturating
from gencore.gan.penalties import R1
from gencore.gan.recipes import Adam
from gencore.gan.turns import Objective
from gencore.networks.patchgan import PatchGAN
from gencore.networks.translator import Translator
from gencore.networks.unet import UNet
from gencore.training.device import Precision


@dataclass(frozen=True)
class TranslationRecipe:
    """All that decides what training on pairs does (pix2pix); nothing that only decides how fast it runs.

    Attributes
    ----------
    data : Emoji or Figures
        What the pairs are made of.
    task : Restyle, Colour or Dress
        What is to be translated into what.
    network : Translator
        Sizes of the generator.
    judge : PatchGAN
        Sizes of the discriminator; its channels are those of target and source and one for each value of each condition.
    objective : objective of `gencore.gan.objectives`
        The game.
    adversarial, l1 : float
        Weights of the game and of the mean absolute difference. Without the game, no discriminator learns.
    penalty : R1, optional
        What the discriminator is held to. It is a slope of the sum of all patches' logits, so the more patches a picture has,
        the smaller its weight has to be.
    augmentation : Augmentation, optional
        How pairs are changed before the discriminator sees them; colours stay.
    mirror : bool
        Whether half of the training pairs are shown mirrored.
    shift : float
        Largest shift of a training pair, as a share of the side.
    optimiser : Adam
        How both learn.
    images, batch_size, ema_half_life, precision, seed, log_every, checkpoint_every
        As in every recipe: training pairs in all and per step, half-life of the generator's moving average in pairs,
        number format of the forward passes, what decides all chance, pairs between two rows of the curve, and between two
        checkpoints.
    """

    data: Emoji | Figures
    task: Restyle | Colour | Dress
    network: Translator
    judge: PatchGAN
    objective: Objective = NonSaturating()
    adversarial: float = 1.0
    l1: float = 10.0
    penalty: R1 | None = R1(gamma=0.002, every=8)
    augmentation: Augmentation | None = Augmentation(colour=0.0, shift=0.125, hole=0.25)
    mirror: bool = True
    shift: float = 0.0625
    optimiser: Adam = Adam(generator_lr=1e-3, discriminator_lr=5e-4)
    images: int = 600_000
    batch_size: int = 128
    ema_half_life: int = 20_000
    precision: Precision = "bf16"
    seed: int = 0
    log_every: int = 12_800
    checkpoint_every: int = 51_200

    def __post_init__(self) -> None:
        _check(self, ("adversarial", "l1"))
        if not self.adversarial and not self.l1:
            raise InputError("adversarial 0, l1 0: one of them must weigh something")
        if not 0 <= self.shift <= 0.5:
            raise InputError(f"shift {self.shift}: must be between 0 and a half of the side")
        if self.mirror and isinstance(self.task, Dress):
            raise InputError("mirror: a mirrored figure has another arm in front; set it to False")
        if self.augmentation is not None and self.augmentation.colour:
            raise InputError("augmentation.colour: would tell the judge of other colours than asked for; set it to 0")
        conditions, source = self.task.conditions(self.data), self.task.channels(self.data)
        if self.network.conditions != conditions:
            raise InputError(f"network.conditions {self.network.conditions}: the task tells {conditions}")
        _check_channels("network", self.network, source, self.data.channels)
        if self.judge.channels != (wanted := self.data.channels + source + sum(conditions)):
            raise InputError(f"judge.channels {self.judge.channels}: target, source and what is told have {wanted}")
        _check_size(self.network, self.data.size)


@dataclass(frozen=True)
class CycleRecipe:
    """All that decides what training without pairs does (CycleGAN); nothing that only decides how fast it runs.

    Kind a (domain A) are the sources of every second pair of the task, kind b (domain B) the targets of the others, so that no
    symbol is seen in both.

    Attributes
    ----------
    data : Emoji
        What the pictures are made of.
    task : Restyle or Colour
        Which kinds: of one source and one target.
    there, back : Translator
        Sizes of the generators from a to b, and from b to a.
    judge_a, judge_b : PatchGAN
        Sizes of the discriminators of both kinds.
    objective : objective of `gencore.gan.objectives`
        The games.
    adversarial, cycle, identity : float
        Weights of the games, of coming back (cycle consistency), and of leaving alone what is of the right kind already. With
        `LeastSquares`, the paper's lambda is ``2 * cycle / adversarial``.
    veil : float
        Standard deviation of the noise put on a translation before it is translated back; 0 for none.
    penalty : R1, optional
        What the discriminators are held to.
    augmentation : Augmentation, optional
        How pictures are changed before the discriminators see them.
    history : int
        Translations of earlier steps that are kept to be shown to the discriminators (the image buffer); 0 for none.
    mirror, shift, optimiser, images, batch_size, ema_half_life, precision, seed, log_every, checkpoint_every
        As in `TranslationRecipe`; images count one of each kind.
    """

    data: Emoji
    task: Restyle | Colour
    there: Translator
    back: Translator
    judge_a: PatchGAN
    judge_b: PatchGAN
    objective: Objective = LeastSquares()
    adversarial: float = 1.0
    cycle: float = 10.0
    identity: float = 1.0
    veil: float = 0.0
    penalty: R1 | None = R1(gamma=0.002, every=8)
    augmentation: Augmentation | None = Augmentation(colour=0.0, shift=0.125, hole=0.25)
    history: int = 512
    mirror: bool = True
    shift: float = 0.0625
    optimiser: Adam = Adam(generator_lr=5e-4, discriminator_lr=5e-4)
    images: int = 400_000
    batch_size: int = 128
    ema_half_life: int = 20_000
    precision: Precision = "bf16"
    seed: int = 0
    log_every: int = 12_800
    checkpoint_every: int = 51_200

    def __post_init__(self) -> None:
        _check(self, ("adversarial", "cycle", "identity", "veil"))
        if not 0 <= self.shift <= 0.5:
            raise InputError(f"shift {self.shift}: must be between 0 and a half of the side")
        if self.history and self.history < self.batch_size:
            raise InputError(f"history {self.history}: must be 0 (none) or at least the batch of {self.batch_size}")
        one = isinstance(self.task, Restyle) and len(self.task.directions()) == 1 or len(self.data.styles) == 1
        if self.task.conditions(self.data) or not one:
            raise InputError("task: two kinds of pictures are needed, one source and one target")
        a, b = self.task.channels(self.data), self.data.channels
        for name, network, source, target in (("there", self.there, a, b), ("back", self.back, b, a)):
            _check_channels(name, network, source, target)
            _check_size(network, self.data.size)
            if network.conditions or network.dropout:
                raise InputError(f"{name}: translators of a cycle are told nothing and drop nothing")
        for name, judge, channels in (("judge_a", self.judge_a, a), ("judge_b", self.judge_b, b)):
            if judge.channels != channels:
                raise InputError(f"{name}.channels {judge.channels}: pictures of this kind have {channels}")
        if self.identity and a != b:
            raise InputError(f"identity {self.identity}: the kinds have {a} and {b} channels; set it to 0")


def _check(recipe: TranslationRecipe | CycleRecipe, weights: tuple[str, ...]) -> None:
    for field in ("images", "batch_size", "log_every", "checkpoint_every"):
        if getattr(recipe, field) < 1:
            raise InputError(f"{field} is {getattr(recipe, field)}; it must be at least 1")
    for field in weights:
        if getattr(recipe, field) < 0:
            raise InputError(f"{field} {getattr(recipe, field)}: must be 0 or more")


def _check_channels(name: str, network: Translator, source: int, target: int) -> None:
    if (network.unet.channels, network.out_channels) != (source, target):
        have = network.unet.channels, network.out_channels
        raise InputError(f"{name}: its U-Net has {have} channels in and out, but source and target have {(source, target)}")


def _check_size(network: Translator, size: int) -> None:
    if size % network.unet.divisor:
        raise InputError(f"data.size {size}: this U-Net takes multiples of {network.unet.divisor}")


def style_to_style() -> TranslationRecipe:
    """Emoji of one drawing style into another, all six directions by one network that is told the style, 32x32.

    ``gencore train translation.recipes.style_to_style``: 143 seconds on an H200 that four other runs used too. On the 816
    held-out pairs: mean absolute difference 0.268, structural similarity 0.278, perceptual distance on SqueezeNet 0.625. The
    mean picture of a category has 0.368, 0.167 and 0.985, the best linear map of patches 0.330, 0.251 and 0.750, and the
    source unchanged 0.331, 0.232 and 0.584: for a network that names things, a crisp drawing in the wrong style is nearer
    than a blurred one in the right style. Its 1,365 steps are few: colours and outlines come over, faces blur.
    """
    return TranslationRecipe(
        data=Emoji(),
        task=Restyle(),
        network=Translator(
            UNet(channels=3, width=24, multipliers=(1, 2, 3, 2), embedding=48, heads=4), (3,), dropout=0.25, residual=True
        ),
        judge=PatchGAN(channels=9, width=32, strided=2),
        batch_size=256,
        images=349_440,
    )


def style_to_style_l1() -> TranslationRecipe:
    """`style_to_style` without a discriminator: what the mean absolute difference alone gives.

    ``gencore train translation.recipes.style_to_style_l1``: Not run yet.
    """
    return replace(style_to_style(), adversarial=0.0)


def style_to_style64() -> TranslationRecipe:
    """Emoji of one drawing style into another, 64x64; for a GPU.

    ``gencore train translation.recipes.style_to_style64``: Not run yet. The pictures of 64 pixels do not ship:
    ``python tools/build_assets.py emoji64`` builds them.
    """
    return replace(
        style_to_style(),
        data=Emoji(size=64),
        network=Translator(
            UNet(channels=3, width=32, multipliers=(1, 2, 2), embedding=48, patch=2, heads=4, finish=16),
            (3,),
            dropout=0.1,
            residual=True,
        ),
        penalty=R1(gamma=0.0002, every=16),
    )


def edges_to_emoji() -> TranslationRecipe:
    """Line drawings into emoji, in the style that is told, 32x32.

    ``gencore train translation.recipes.edges_to_emoji``: 130 seconds on an H200 that four other runs used too. On the 408
    held-out pairs: mean absolute difference 0.234, structural similarity 0.448, perceptual distance on SqueezeNet 0.487; the
    mean picture of a category has 0.368, 0.167 and 0.985, the best linear map of patches 0.429, 0.203 and 0.850.
    """
    return TranslationRecipe(
        data=Emoji(),
        task=Colour(),
        network=Translator(
            UNet(channels=1, out_channels=3, width=24, multipliers=(1, 2, 3, 2), embedding=48, heads=4), (3,), dropout=0.25
        ),
        judge=PatchGAN(channels=7, width=32, strided=2),
        batch_size=256,
        images=277_760,
    )


def pose_to_figure() -> TranslationRecipe:
    """Stick figures into people dressed as told, 64x64.

    ``gencore train translation.recipes.pose_to_figure``: Not run yet.
    """
    data = Figures(size=64, images=3_500)
    return TranslationRecipe(
        data=data,
        task=Dress(),
        network=Translator(
            UNet(channels=3, width=24, multipliers=(1, 2, 2), embedding=64, patch=2, heads=4, finish=16), data.conditions
        ),
        judge=PatchGAN(channels=6 + sum(data.conditions), width=32, strided=2),
        penalty=R1(gamma=0.0005, every=16),
        l1=50.0,
        optimiser=Adam(generator_lr=2e-3, discriminator_lr=5e-4),
        mirror=False,
    )


def pose_to_figure32() -> TranslationRecipe:
    """Stick figures into people dressed as told, 32x32, without a judge: pose and clothes leave nothing open.

    ``gencore train translation.recipes.pose_to_figure32``: 5.3 core-minutes, 23 minutes on a busy core. On 500 held-out
    pairs: mean absolute difference 0.020, structural similarity 0.979; the best linear map of patches has 0.121 and 0.691.
    Poses read off 100 of them: joints are off by 0.05 pixels in the median, none by 5 % of the side; all colours are as told.
    Three levels and 2,000 steps of 32 pairs, half as many core-minutes, gave 0.033, and 71 % of the hair in the right colour.
    """
    data = Figures(size=32)
    sizes = UNet(channels=3, width=16, multipliers=(1, 2), embedding=32, patch=2, finish=16)
    return replace(
        pose_to_figure(),
        data=data,
        network=Translator(sizes, data.conditions),
        adversarial=0.0,
        l1=1.0,
        optimiser=Adam(generator_lr=3e-3, discriminator_lr=5e-4, beta1=0.9),
        images=96_000,
        batch_size=16,
        ema_half_life=2_000,
        precision="fp32",
        log_every=6_400,
        checkpoint_every=12_800,
    )


def cycle_emoji() -> CycleRecipe:
    """Emoji of two drawing styles, Noto and Fluent 3D, translated both ways without ever seeing a pair, 32x32.

    ``gencore train translation.recipes.cycle_emoji``: 144 seconds on an H200 that four other runs used too. It has found the
    palette of Fluent 3D and keeps the drawing. On the 136 held-out symbols, beside what Fluent drew: mean absolute difference
    0.293, structural similarity 0.244, perceptual distance on SqueezeNet 0.549; Noto's own pictures have 0.308, 0.232 and
    0.565. With a cycle weight of 10, which is a lambda of 20 in the paper, and an identity weight of 1 hardly anything moved in
    78,000 images: generators that begin as the identity come back already, and the discriminators must be able to pull them
    away. The weight of 5 used here is the paper's lambda of 10.

    Nothing faint is read: noise of 8 grey levels between both ways adds 0.037 to the error of the cycle from Noto and 0.036
    to that from Fluent, and changes the translations themselves by 0.039 and 0.040. But 21 % of the values of translations
    into Fluent, and 2 % of those into Noto, lie more than a grey level beyond black and white, and they are read: held to
    [-1, 1] as in a picture, the cycle's error is 0.0068 from Noto, without 0.0016; from Fluent 0.0021 and 0.0011.
    """
    network = Translator(UNet(channels=3, width=16, multipliers=(1, 2, 2, 2)), residual=True)
    judge = PatchGAN(channels=3, width=32, strided=2)
    return CycleRecipe(
        data=Emoji(styles=("noto", "fluent3d")),
        task=Restyle(sources=("noto",), targets=("fluent3d",)),
        there=network,
        back=network,
        judge_a=judge,
        judge_b=judge,
        cycle=5.0,
        identity=0.1,
        images=67_584,
    )


def cycle_edges() -> CycleRecipe:
    """Line drawings and emoji, translated both ways without pairs: the colours have to be hidden in the lines, 16x16.

    ``gencore train translation.recipes.cycle_edges``: 256 seconds on one busy core. Its lines fill areas with hatching that
    stands for colours: the mean colours of the 136 held-out emoji come back correlated by 0.94 with the true ones (by 0.92
    if the lines are made black and white), and by -0.06 if it is shown the true lines. Some of what comes back is in no
    picture: 42 % of the values of its lines lie more than a grey level beyond black and white, and the error of the cycle from
    emoji is 0.104 if they are left there, and 0.128 if they are held to [-1, 1] (from lines 23 %, 0.042 and 0.055).
    """
    sizes = UNet(channels=1, out_channels=3, width=16, multipliers=(1, 2), patch=2, finish=8)
    return CycleRecipe(
        data=Emoji(styles=("fluent3d",), size=16),
        task=Colour(),
        there=Translator(sizes),
        back=Translator(replace(sizes, channels=3, out_channels=1)),
        judge_a=PatchGAN(channels=1, width=16, strided=2),
        judge_b=PatchGAN(channels=3, width=16, strided=2),
        identity=0.0,
        history=64,
        optimiser=Adam(generator_lr=2e-3, discriminator_lr=5e-4),
        images=16_000,
        batch_size=16,
        ema_half_life=2_000,
        precision="fp32",
        log_every=800,
        checkpoint_every=1_600,
    )


def cycle_edges_veiled() -> CycleRecipe:
    """`cycle_edges` with noise on every translation before it is translated back, which drowns what is faint.

    ``gencore train translation.recipes.cycle_edges_veiled``: 13 minutes on a busy core that it had a fraction of. The noise
    does not keep the colours out, since hatching is not faint: they come back correlated by 0.90 (by -0.04 from true lines).
    Nor are values beyond black and white faint, and it has more of them than `cycle_edges`: 53 % of the values of its lines
    and 34 % of its emoji's. With the noise of training in between, the error of the cycle from emoji is 0.118 if they are left
    there, and 0.152 if they are held to [-1, 1] (from lines 0.052 and 0.099).
    """
    return replace(cycle_edges(), veil=0.2)
