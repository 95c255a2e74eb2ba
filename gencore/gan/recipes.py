"""Experiments. A recipe is a function; its dotted name is the experiment's name; its docstring says what it gave."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from gencore.data import CelebA, Cifar10, Digits, Emoji, FashionMnist, ImageFolder, Mnist
from gencore.data.told import Labels
from gencore.errors import InputError
from gencore.gan.augmentation import Augmentation
from gencore.gan.objectives import NonSaturating
from gencore.gan.penalties import R1, Codes, PathLength
from gencore.gan.turns import Objective, Penalties
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.coded_stylegan2 import CodedStyleGAN2
from gencore.networks.conditional_dcgan import ConditionalDCGAN
from gencore.networks.dcgan import DCGAN
from gencore.networks.infogan import InfoGAN
from gencore.networks.progressive import Progressive
from gencore.networks.stylegan2 import StyleGAN2
from gencore.training.device import Precision


@dataclass(frozen=True)
class Adam:
    """Adam for two players (Kingma & Ba 2014; the values are those of the DCGAN paper, which has no ``decay``).

    Attributes
    ----------
    generator_lr : float
        Learning rate of the generator.
    discriminator_lr : float
        Learning rate of the discriminator.
    beta1 : float
        Decay of the mean gradient; small, because in a game yesterday's direction is soon wrong.
    beta2 : float
        Decay of the mean squared gradient.
    decay : float
        Share of the run, at its end, in which both learning rates fall in a line to zero. 0 keeps them constant.
    """

    generator_lr: float = 2e-4
    discriminator_lr: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    decay: float = 0.5

    def build(self, generator: nn.Module, discriminator: nn.Module) -> tuple[torch.optim.Adam, torch.optim.Adam]:
        """Return the optimisers of both players."""
        pairs = (generator, self.generator_lr), (discriminator, self.discriminator_lr)
        betas = self.beta1, self.beta2
        return tuple(torch.optim.Adam(network.parameters(), lr, betas, fused=True) for network, lr in pairs)

    def learning_rates(self, images_seen: int, images: int) -> tuple[float, float]:
        """Return both players' learning rates of the step after ``images_seen`` of a run's ``images``."""
        share = min(1.0, (1 - images_seen / images) / self.decay) if self.decay else 1.0
        return share * self.generator_lr, share * self.discriminator_lr


@dataclass(frozen=True)
class Growth:
    """When a growing pair of networks takes up its levels: each is faded in over a phase, then has a phase for itself.

    Attributes
    ----------
    phase : int
        Training images of a phase.
    """

    phase: int = 50_000

    def __post_init__(self) -> None:
        if self.phase < 1:
            raise InputError(f"growth.phase is {self.phase}; it must be at least 1 image")

    def level(self, images_seen: int, levels: int) -> float:
        """Return the level after so many images: k stands for the k-th resolution, k + 0.5 for the next one half faded in."""
        stage, into = divmod(images_seen, 2 * self.phase)  # a stage: one phase of rest, one of fading
        return float(min(levels, stage + max(0.0, into / self.phase - 1)))  # (SB.1)


@dataclass(frozen=True)
class GANRecipe:
    """All that decides what a GAN training does; nothing that only decides how fast it runs.

    Attributes
    ----------
    data : data spec
        What to learn from.
    network : DCGAN, ConditionalDCGAN, InfoGAN, Progressive, StyleGAN2 or CodedStyleGAN2
        Sizes of generator and discriminator; size and channels must be those of the data.
    objective : NonSaturating, Saturating, LeastSquares, Hinge, Wasserstein or Relativistic
        What the players minimise.
    penalties : tuple of GradientPenalty, R1, R2, PathLength or Codes
        What is added to that, at its times.
    augmentation : Augmentation, optional
        How pictures are changed before the discriminator sees them.
    told : tuple of "class" or "style"
        Of what both players are told of each picture.
    mirror : bool
        Whether half of the training pictures are shown mirrored. The networks are told which, by a last condition.
    generator_every : int
        The generator learns in one step of so many, the discriminator in all.
    growth : Growth, optional
        When a `Progressive` network grows.
    first_stage : str, optional
        Name of the zoo's autoencoder on whose codes a `CodedStyleGAN2` works.
    optimiser : Adam
        How they do it.
    images : int
        Training images to see in all, repeats counted.
    batch_size : int
        Images per step, over all processes.
    micro_batches : int
        Pieces in which a process shows its batch to the discriminator, to save memory; gradients are added up. The
        generator's pass over the batch stays whole, since both players use it.
    ema_half_life : int
        Half-life of the generator's moving average, in images.
    precision : {"fp32", "bf16"}
        Number format of the forward passes.
    seed : int
        Decides the first weights, the order of the data and all noise.
    log_every : int
        Images between two rows of the curve.
    checkpoint_every : int
        Images between two checkpoints.
    """

    data: Digits | Emoji | Mnist | FashionMnist | Cifar10 | CelebA | ImageFolder
    network: DCGAN | ConditionalDCGAN | InfoGAN | Progressive | StyleGAN2 | CodedStyleGAN2
    objective: Objective = NonSaturating()
    penalties: Penalties = ()
    augmentation: Augmentation | None = None
    told: Labels = ()
    mirror: bool = False
    generator_every: int = 1
    growth: Growth | None = None
    first_stage: str | None = None
    optimiser: Adam = Adam()
    images: int = 400_000
    batch_size: int = 64
    micro_batches: int = 1
    ema_half_life: int = 10_000
    precision: Precision = "fp32"
    seed: int = 0
    log_every: int = 6_400
    checkpoint_every: int = 32_000

    def __post_init__(self) -> None:
        for field in ("size", "channels"):
            ours, theirs = getattr(self.network, field), getattr(self.data, field)
            if ours != theirs:
                raise InputError(f"network.{field} is {ours}, but the data have {theirs}; make them equal")
        for field in ("images", "batch_size", "micro_batches", "generator_every", "log_every", "checkpoint_every"):
            if getattr(self, field) < 1:
                raise InputError(f"{field} is {getattr(self, field)}; it must be at least 1")
        if len(self.conditions) != len(self.told) + self.mirror:
            told = len(self.told) + self.mirror
            raise InputError(f"network.conditions: {len(self.conditions)} of them, but told and mirror give {told}")
        if (self.growth is not None) != isinstance(self.network, Progressive):
            raise InputError("growth: a Progressive network needs it, and no other can have it")
        if (self.first_stage is not None) != isinstance(self.network, CodedStyleGAN2):
            raise InputError("first_stage: a network that works on codes needs it, and no other can have it")
        for penalty in self.penalties:
            if isinstance(penalty, PathLength) and not isinstance(self.network, StyleGAN2 | CodedStyleGAN2):
                raise InputError("penalties: PathLength needs a network with styles; take StyleGAN2 or leave it out")
            if isinstance(penalty, Codes) and not isinstance(self.network, InfoGAN):
                raise InputError("penalties: Codes needs a network that reads them; take InfoGAN or leave it out")

    @property
    def conditions(self) -> tuple[int, ...]:
        """How many values each condition has for the networks; empty if they are told nothing."""
        return getattr(self.network, "conditions", ())


def dcgan_digits() -> GANRecipe:
    """DCGAN on the 9,000 training digits, 28x28.

    ``gencore train gan.recipes.dcgan_digits``: 13.0 core-minutes on an AMD EPYC, one thread; where the processor has no
    bf16, add ``--precision fp32``. On 10,000 samples in sets of 1,000: Fréchet distance 13.8 ± 0.6 on digit-classifier
    features (real against real 0.97 ± 0.24), rarest digit 4.9 %. One run with batch normalisation in the discriminator drew
    the rarest digit in 2.5 % of the samples, but after 400,000 images where this one saw 600,000: a hint, no comparison.
    """
    return GANRecipe(
        data=Digits(),
        network=DCGAN(size=28, channels=1, latent=64, width=64, discriminator_norm="none"),
        optimiser=Adam(generator_lr=3e-4, discriminator_lr=3e-4),
        images=600_000,
        precision="bf16",
    )


def dcgan_digits_gpu() -> GANRecipe:
    """DCGAN on MNIST's 60,000 training digits less the 1,000 held out, 28x28, for a GPU. Not run yet."""
    return replace(
        dcgan_digits(),
        data=Mnist(),
        network=DCGAN(size=28, channels=1, latent=64, width=128, discriminator_norm="none"),
        optimiser=Adam(),
        images=6_000_000,
        batch_size=128,
        precision="bf16",
        log_every=64_000,
        checkpoint_every=640_000,
    )


def dcgan_emoji() -> GANRecipe:
    """DCGAN on emoji, 32x32 in colour, three drawing styles.

    ``gencore train gan.recipes.dcgan_emoji``: 20 core-minutes on an AMD EPYC, one thread. On 10,000 samples: kernel
    distance 0.40 ± 0.04 on SqueezeNet features at 128 px (real against real 0.01 ± 0.01), precision 0.62, recall 0.18.
    The discriminator comes to know its 3,800 training images by heart: 450,000 images with half its learning rate were no
    better (0.44), and without its batch normalisation they were worse (0.80).
    """
    return GANRecipe(
        data=Emoji(),
        network=DCGAN(size=32, channels=3, latent=64, width=48),
        optimiser=Adam(decay=0.0),
        images=400_000,
    )


def dcgan_emoji_gpu() -> GANRecipe:
    """DCGAN on emoji, 64x64 in colour, three drawing styles, for a GPU. Not run yet.

    The pictures of 64 pixels do not ship: ``python tools/build_assets.py emoji64`` builds them.
    """
    return replace(
        dcgan_emoji(),
        data=Emoji(size=64),
        network=DCGAN(size=64, channels=3, latent=128, width=64),
        images=4_000_000,
        batch_size=128,
        precision="bf16",
        log_every=64_000,
        checkpoint_every=640_000,
    )


def steady_digits() -> GANRecipe:
    """The DCGAN of digits again, with a flat discriminator (R1), smaller batches and faster steps.

    ``gencore train gan.recipes.steady_digits``: 11.1 core-minutes on an AMD EPYC with bf16, one thread. On 10,000 samples
    in sets of 1,000: Fréchet distance 7.74 ± 0.52 on digit-classifier features (real against real 0.97 ± 0.24), where
    `dcgan_digits`, which saw as many images in 13.0 core-minutes, has 13.8; rarest digit 8.5 %, precision 0.67, recall 0.91.
    """
    return replace(
        dcgan_digits(),
        network=DCGAN(size=28, channels=1, latent=64, width=48, discriminator_norm="none"),
        penalties=(R1(gamma=1.0, every=8),),
        optimiser=Adam(generator_lr=5e-4, discriminator_lr=5e-4, beta2=0.99),
        batch_size=32,
    )


def told_digits() -> GANRecipe:
    """A DCGAN that is told the digit; its discriminator compares by projection, and is flat where the data are (R1).

    ``gencore train gan.recipes.told_digits``: 4.9 core-minutes on an Intel Xeon, one thread. On 10,000 samples in sets of
    1,000: Fréchet distance 1.97 ± 0.43 on digit-classifier features (real against real 0.97 ± 0.24), precision 0.80, recall
    0.86. Of 2,000 digits asked for, 94 to 95 % are read as what was asked for, of twos 87 %. The features are those of a
    classifier, so that being told counts for much: `steady_digits`, which is told nothing, has 7.7.
    """
    recipe = steady_digits()
    network = ConditionalDCGAN(recipe.network, (10,))
    return replace(recipe, network=network, told=("class",), images=200_000, precision="fp32")


def joined_digits() -> GANRecipe:
    """`told_digits` with a discriminator that sees the digit as maps beside the picture.

    ``gencore train gan.recipes.joined_digits``: 7.2 core-minutes on an AMD EPYC, one thread. On 10,000 samples in sets of
    1,000: Fréchet distance 2.03 ± 0.42 on digit-classifier features, precision 0.78, recall 0.87. Of 2,000 digits asked
    for, 95 to 96 % are read as what was asked for. One run; by these figures neither way of telling is the better one.
    """
    recipe = told_digits()
    return replace(recipe, network=replace(recipe.network, judge="concat"))


def info_digits() -> GANRecipe:
    """InfoGAN of digits: one code of ten classes and two numbers, found without labels.

    ``gencore train gan.recipes.info_digits``: 1.6 core-minutes on an AMD EPYC with bf16, one thread. On 10,000 samples in
    sets of 1,000: Fréchet distance 17.3 ± 0.3 on digit-classifier features. Over five seeds (``tools/info_study.py``)
    35 to 46 % of the digits are what their code stands for, if each code is matched with a digit; some 13 % would be by
    chance. No number is the slant with every seed. With R1, rates of 5e-4 for both players and numbers that weighed as much
    as the class, codes were read as well, and meant nothing: 18 and 19 %.
    """
    dcgan = DCGAN(size=28, channels=1, latent=64, width=32)
    return replace(
        dcgan_digits(),
        network=InfoGAN(dcgan, classes=10, continuous=2),
        penalties=(Codes(),),
        # The generator is the faster player, as in the paper: it is to find what can be read before the verdict is all it hears.
        optimiser=Adam(generator_lr=1e-3, discriminator_lr=2e-4),
        images=120_000,
    )


def growing_digits() -> GANRecipe:
    """Progressive growing of digits: 7, 14, then 28 pixels.

    ``gencore train gan.recipes.growing_digits``: 12.9 core-minutes on an AMD EPYC with bf16, one thread. On 10,000
    samples in sets of 1,000: Fréchet distance 3.38 ± 0.71 on digit-classifier features (real against real 0.97 ±
    0.24), precision 0.78, recall 0.90, with 275,539 parameters.
    """
    return replace(
        steady_digits(),
        network=Progressive(size=28, channels=1, latent=64, width=16, max_width=64),
        growth=Growth(phase=40_000),
        optimiser=Adam(generator_lr=5e-3, discriminator_lr=5e-3, beta1=0.0, beta2=0.99, decay=0.3),
        images=300_000,
    )


def style_emoji() -> GANRecipe:
    """StyleGAN2 on the codes of `kl_emoji`, told category, style and mirrored.

    ``gencore train gan.recipes.style_emoji``: 13.7 core-minutes on an AMD EPYC with bf16, one thread. On 10,000 samples:
    kernel distance 0.47 ± 0.05 on SqueezeNet features at 128 px (real against real 0.01 ± 0.01), precision 0.69, recall
    0.07. One can name faces, signs and houses, which in those of `dcgan_emoji` one cannot; its kernel distance is 0.40.
    """
    first = Autoencoder(size=32, channels=3, latent=4, flat=False, width=64, multipliers=(1, 2), patch=2)
    game = StyleGAN2(8, 4, width=192, max_width=192, judge_width=128, convolutions=1, conditions=(8, 3, 2))
    return GANRecipe(
        data=Emoji(),
        network=CodedStyleGAN2(first, game),
        penalties=(R1(gamma=1.0, every=16),),
        # No change of colours: those of codes are none.
        augmentation=Augmentation(colour=0.0),
        told=("class", "style"),
        mirror=True,
        first_stage="kl_emoji",
        # Weights are about 1 in size, not 0.02: a step of a given size moves them less.
        optimiser=Adam(generator_lr=1e-2, discriminator_lr=1e-2, beta1=0.0, beta2=0.99, decay=0.4),
        images=400_000,
        batch_size=32,
        precision="bf16",
    )


def style_emoji_long() -> GANRecipe:
    """`style_emoji` with three times its images: what more compute buys. The showpiece of this family.

    ``gencore train gan.recipes.style_emoji_long``: 39.4 core-minutes on an AMD EPYC with bf16, one thread. On 10,000
    samples: kernel distance 0.38 ± 0.06 on SqueezeNet features at 128 px, precision 0.66, recall 0.12. Its discriminator
    prefers a training picture to a held-out one in 67 % of all pairs; that of `style_emoji` in 59 %. A run with a flatter one
    (R1 with gamma 2) and shifts of a quarter learned too slowly, and was stopped: 0.68 on 1,000 samples after 325,000
    images, 54 % of the pairs.
    """
    recipe = style_emoji()
    return replace(recipe, optimiser=replace(recipe.optimiser, decay=0.5), images=1_200_000, ema_half_life=20_000)
