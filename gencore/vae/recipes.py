"""Experiments. A recipe is a function; its dotted name is the experiment's name; its docstring says what it gave."""

from dataclasses import dataclass, replace

from gencore.data import Binarise, BinarisedMnist, CelebA, Cifar10, Digits, Emoji, FashionMnist, ImageFolder, Mnist, Shapes
from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.hierarchical import Hierarchical
from gencore.networks.ladder import Ladder
from gencore.networks.multiscale import MultiScale
from gencore.networks.quantiser import Codebook
from gencore.networks.two_stage import TwoStage
from gencore.networks.vqvae import VQ
from gencore.training.device import Precision
from gencore.training.optimiser import AdamW
from gencore.vae.adversary import Adversary
from gencore.vae.likelihoods import Bernoulli, DiscretisedLogistic, Gaussian
from gencore.vae.objectives import ELBO, IWAE, VectorQuantised


@dataclass(frozen=True)
class VAERecipe:
    """All that decides what a training of this family does; nothing that only decides how fast it runs.

    Attributes
    ----------
    data : data spec
        What to learn from.
    network : Autoencoder, Ladder, Hierarchical, VQ or TwoStage
        Kind and sizes of the network; size and channels must be those of the data. An `Autoencoder` makes a plain VAE.
    objective : ELBO, IWAE or VectorQuantised
        What is minimised; VectorQuantised belongs to VQ networks, the others to the rest.
    perceptual : float
        Weight of the perceptual distance that joins the objective, in its units; 0 for none. For autoencoders and VQ.
    adversary : Adversary, optional
        A discriminator that joins the training. For autoencoders and VQ.
    first_stage : str, optional
        Name of the zoo's model whose codes a `TwoStage` network learns.
    augmentation : Binarise, optional
        How each training image is varied when it is seen.
    optimiser : AdamW
        How the loss is minimised.
    images : int
        Training images to see in all, repeats counted.
    batch_size : int
        Images per step, over all processes.
    micro_batches : int
        Pieces into which a process cuts its batch to save memory; gradients are added up.
    clip : float
        Largest norm of the gradient; longer ones are shortened to it.
    ema_half_life : int
        Half-life of the weights' moving average, in images.
    precision : {"fp32", "bf16"}
        Number format of the forward passes.
    seed : int
        Decides the first weights, the order of the data and all noise.
    log_every, checkpoint_every : int
        Images between two rows of the curve, and between two checkpoints.
    """

    data: Digits | Emoji | Shapes | Mnist | BinarisedMnist | FashionMnist | Cifar10 | CelebA | ImageFolder
    network: Autoencoder | Ladder | Hierarchical | VQ | TwoStage
    objective: ELBO | IWAE | VectorQuantised = ELBO()
    perceptual: float = 0.0
    adversary: Adversary | None = None
    first_stage: str | None = None
    augmentation: Binarise | None = None
    optimiser: AdamW = AdamW(lr=1e-3, weight_decay=1e-3, beta2=0.99)
    images: int = 400_000
    batch_size: int = 64
    micro_batches: int = 1
    clip: float = 100.0
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
        for field in ("images", "batch_size", "micro_batches", "clip", "log_every", "checkpoint_every"):
            if not getattr(self, field) >= 1:
                raise InputError(f"{field} is {getattr(self, field)}; it must be at least 1")
        if isinstance(self.network, VQ) != isinstance(self.objective, VectorQuantised):
            raise InputError("objective: VectorQuantised goes with a VQ network, and with no other")
        if isinstance(self.network, TwoStage) != (self.first_stage is not None):
            raise InputError("first_stage: a TwoStage network names the zoo's model it begins with, others name none")
        if isinstance(self.network, TwoStage):
            if not isinstance(self.objective, ELBO) or not isinstance(self.objective.likelihood, Gaussian):
                raise InputError("objective: a TwoStage network learns codes, by ELBO with a Gaussian likelihood")
            if self.augmentation is not None:
                raise InputError("augmentation: it varies pictures, but a TwoStage network learns codes")
        if self.perceptual < 0:
            raise InputError(f"perceptual is {self.perceptual}; it must be 0 or more")
        if self.perceptual or self.adversary is not None:
            if not isinstance(self.network, (Autoencoder, VQ)) or isinstance(self.objective, IWAE):
                raise InputError("perceptual, adversary: they join an Autoencoder with ELBO, or a VQ network")
        if self.adversary is not None and self.adversary.network.channels != self.data.channels:
            ours, theirs = self.adversary.network.channels, self.data.channels
            raise InputError(f"adversary.network.channels is {ours}, but the data have {theirs}; make them equal")
        if not isinstance(self.network, VQ):
            needed = self.data.channels * self.objective.likelihood.per_channel
            given = self.network.channels if self.network.out_channels is None else self.network.out_channels
            if given != needed:
                raise InputError(f"network.out_channels is {given}, but the likelihood needs {needed}; make them equal")


def ladder_binarised() -> VAERecipe:
    """Ladder VAE of three rungs on MNIST's own split, binarised anew whenever a digit is seen.

    For comparison with published bounds. ``gencore train vae.recipes.ladder_binarised`` needs MNIST's files: 17.4
    core-minutes on an AMD EPYC, one thread, 12,000,000 images; where the processor has no bf16, add ``--precision fp32``.
    On the 10,000 test digits, each binarised once: evidence lower bound -85.9 nats, bound from 5,000 draws -83.23 ±
    0.23 nats. Burda et al. 2016 report -86.35 (5,000 draws) for a
    VAE of one stochastic layer and -82.90 for their best IWAE. On 10,000 samples against the test digits: Fréchet
    distance 2.4 on digit-classifier features (real against real 0.09).
    """
    return VAERecipe(
        data=Mnist(held_out="test"),
        network=Ladder(latents=(10, 16, 24), width=256),
        objective=ELBO(Bernoulli(), warm_up=1_500_000),
        augmentation=Binarise(),
        optimiser=AdamW(lr=2e-3, weight_decay=1e-3, warm_up=20_000, beta2=0.99),
        images=12_000_000,
        precision="bf16",
        batch_size=200,
        ema_half_life=100_000,
        log_every=100_000,
        checkpoint_every=500_000,
    )


def ladder_fixed() -> VAERecipe:
    """`ladder_binarised` on digits that were binarised once and for all: figures for a column of their own.

    ``gencore train vae.recipes.ladder_fixed`` needs the files that `BinarisedMnist` names: 18.4 core-minutes on an AMD EPYC
    without bf16, one thread. On the 10,000 test digits: evidence lower bound -94.0 nats, bound from 500 draws -90.2 ± 0.3
    nats. Each training digit has one black and white only, so it is learned by heart: the bound on training digits is
    -86.4 nats, and 1,000 validation digits gain nothing after 3,000,000 images.

    Measured on a public copy of the set whose order is another one. Each of its digits was drawn from the grey levels of a
    digit of MNIST, test digits from test digits.
    """
    recipe = ladder_binarised()
    return replace(
        recipe,
        data=BinarisedMnist(),
        objective=replace(recipe.objective, warm_up=500_000),
        augmentation=None,
        optimiser=replace(recipe.optimiser, weight_decay=1e-2),
        images=4_000_000,
        precision="fp32",
    )


def vae_digits() -> VAERecipe:
    """Convolutional VAE on the 9,000 training digits, binarised anew whenever one is seen; a latent vector of 16.

    ``gencore train vae.recipes.vae_digits``: 11.0 core-minutes on an AMD EPYC, one thread; where the processor has no
    bf16, add ``--precision fp32``. On 10,000 samples in sets of 1,000: Fréchet distance 14.3 ± 0.7 on digit-classifier
    features (real against real 0.97 ± 0.24), rarest digit 4.4 %. Held-out digits, binarised once: evidence lower bound
    -96.6 nats, bound from 100 draws -91.2 ± 0.8 nats.
    """
    return VAERecipe(
        data=Digits(),
        network=Autoencoder(size=28, channels=1, latent=16, width=16, multipliers=(1, 2, 4)),
        objective=ELBO(Bernoulli()),
        augmentation=Binarise(),
        images=500_000,
        precision="bf16",
    )


def conditional_digits() -> VAERecipe:
    """`vae_digits` with networks that are told each digit's class.

    ``gencore train vae.recipes.conditional_digits``: 13.5 core-minutes on an AMD EPYC, one thread; where the processor
    has no bf16, add ``--precision fp32``. On 10,000 samples, all classes in turn: Fréchet distance 4.5 ± 0.6 on
    digit-classifier features, in sets of 1,000 (real against real 0.97 ± 0.24); the classifier sees the class asked for
    in 87 %. Held-out digits, binarised once, their classes given: evidence lower bound -91.6 nats, bound from 100 draws
    -86.7 ± 0.8 nats.
    """
    return replace(vae_digits(), network=replace(vae_digits().network, classes=10))


def beta_shapes() -> VAERecipe:
    """Fully connected VAE of one disc in a square of 16x16: place, size and colour are its factors.

    ``gencore train vae.recipes.beta_shapes``: 16 core-seconds on an AMD EPYC, one thread. Mutual information gap on
    5,000 held-out pictures 0.24, from 0.11 to 0.35 over five seeds (``tools/disentanglement.py``, which varies the price
    as well); three of six causes carry anything. A price of 64 at a standard deviation of 0.1 is a price of 1 at 0.8: as
    a generator of discs it is poor, and was not meant to be one.
    """
    return VAERecipe(
        data=Shapes(size=16, objects=1, heldout_images=5_000, colours=("orange", "blue"), shapes=("circle",)),
        network=Ladder(size=16, channels=3, latents=(6,), width=128),
        objective=ELBO(Gaussian(0.1), beta=64.0),
        optimiser=AdamW(lr=2e-3, weight_decay=1e-3, beta2=0.99),
        images=256_000,
    )


def kl_emoji() -> VAERecipe:
    """Autoencoder of emoji with a Gaussian code of 8x8x4, the first stage of latent diffusion.

    ``gencore train vae.recipes.kl_emoji``: 12.6 core-minutes on an AMD EPYC, one thread; where the processor has no bf16,
    add ``--precision fp32``. Held-out emoji: 1,230 bits a code (mean divergence); reconstructed from the posterior's mean,
    27.2 dB, SSIM 0.885. What it draws from the prior are scraps: kernel distance 3.44 (real against real 0.01).

    The loss is in nats, where a mean squared error of 1 counts 3 * 32**2 / (2 * 0.05**2) = 614,400; hence the weight of
    the perceptual distance.
    """
    return VAERecipe(
        data=Emoji(),
        network=_emoji_autoencoder(latent=4),
        objective=ELBO(Gaussian(0.05)),
        perceptual=30_000.0,
        adversary=Adversary(weight=0.4, start=40_000),
        images=160_000,
        precision="bf16",
    )


def kl_emoji64() -> VAERecipe:
    """`kl_emoji` at 64 pixels, codes of 16x16x4; for a GPU.

    ``gencore train vae.recipes.kl_emoji64``: 96 seconds on an H200 that ten other runs used too. Held-out emoji of 64
    pixels, reconstructed from the posterior's mean: 33.1 dB, SSIM 0.951. Its record ships, its weights do not.

    The pictures do not ship: ``python tools/build_assets.py emoji64`` builds them. Four times the pixels make four times
    the nats, and the weight of the perceptual distance follows.
    """
    recipe = kl_emoji()
    return replace(
        recipe, data=Emoji(size=64), network=replace(recipe.network, size=64), perceptual=120_000.0, precision="fp32"
    )


def vq_emoji() -> VAERecipe:
    """VQ-VAE of emoji: 8x8 codes out of 512, squared error alone.

    ``gencore train vae.recipes.vq_emoji``: 7.0 core-minutes on an AMD EPYC, one thread; where the processor has no bf16,
    add ``--precision fp32``. Held-out emoji: 24.6 dB, SSIM 0.817, at 576 bits a picture. 300,000 images instead, 12.7
    core-minutes, lower the training error by a quarter and reach 24.8 dB.
    """
    return VAERecipe(
        data=Emoji(),
        network=VQ(_emoji_autoencoder(latent=16), Codebook(512)),
        objective=VectorQuantised(),
        images=160_000,
        precision="bf16",
    )


def vqgan_emoji() -> VAERecipe:
    """VQ-GAN of emoji: the codes of `vq_emoji`, a perceptual distance and an adversary.

    ``gencore train vae.recipes.vqgan_emoji``: 13.3 core-minutes on an AMD EPYC, one thread; where the processor has no
    bf16, add ``--precision fp32``. Held-out emoji: 24.4 dB, SSIM 0.811, at 576 bits a picture. In the features of
    EfficientNet-Lite0, which took no part, the mean cosine distance from the originals is 0.294 (`vq_emoji` 0.308).
    """
    return replace(
        vq_emoji(),
        perceptual=0.08,
        adversary=Adversary(weight=0.4, start=40_000),
    )


def scales_emoji() -> VAERecipe:
    """VQ-GAN of emoji whose codes go from coarse to fine: six scales, 130 codes out of 512, the first stage of next-scale prediction.

    ``gencore train vae.recipes.scales_emoji``: 24.6 core-minutes on an AMD EPYC, one thread; where the processor has no bf16,
    add ``--precision fp32``. Held-out emoji: 25.2 dB, SSIM 0.837, at 1,170 bits a picture (`vqgan_emoji`: 24.4 dB at 576).
    """
    return replace(vqgan_emoji(), network=VQ(_emoji_autoencoder(latent=16), MultiScale(Codebook(512))))


def vq_digits() -> VAERecipe:
    """VQ-VAE of digits: 7x7 codes out of 256, squared error alone.

    ``gencore train vae.recipes.vq_digits``: 3.9 core-minutes on an Intel Xeon, one thread; where the processor has no bf16, add
    ``--precision fp32``. Held-out digits: 27.3 dB, SSIM 0.959, at 392 bits a picture. Their Fréchet distance from the originals,
    on digit-classifier features, is 0.04.
    """
    autoencoder = Autoencoder(size=28, channels=1, latent=8, flat=False, width=48, multipliers=(1, 2), patch=2)
    return replace(vq_emoji(), data=Digits(), network=VQ(autoencoder, Codebook(256)), images=120_000)


def vq_shapes() -> VAERecipe:
    """VQ-VAE of scenes of up to four shapes: 8x8 codes out of 256, the picture's words in `words_shapes`.

    ``gencore train vae.recipes.vq_shapes``: 113 seconds on an H200 that thirteen other runs used too. Held-out scenes, each with
    a combination of colour and shape that training never shows: 33.6 dB, SSIM 0.954, at 512 bits a picture; of 7,480 facts of
    their captions 2.2 % are no longer shown (0.7 % denied, 1.4 % left open). Of scenes with usual combinations 0.5 % of 7,469
    are lost: what draws from these codes cannot do better.
    """
    autoencoder = Autoencoder(size=32, channels=3, latent=8, flat=False, width=40, multipliers=(1, 2), patch=2)
    return replace(
        vq_emoji(),
        data=Shapes(images=20_000, objects=4, held_out_combinations=True),
        network=VQ(autoencoder, Codebook(256)),
        optimiser=AdamW(lr=2e-3, weight_decay=1e-3, beta2=0.99),
        images=150_016,
        precision="fp32",
    )


def _emoji_autoencoder(latent: int) -> Autoencoder:
    """Squares of 2x2 pixels become channels at once: half the time of a network that begins at full resolution."""
    return Autoencoder(
        size=32, channels=3, latent=latent, flat=False, width=64, multipliers=(1, 2), patch=2
    )


def hierarchical_digits() -> VAERecipe:
    """Hierarchical VAE on the 9,000 training digits, 256 grey levels: a vector, three groups of 7x7, two of 14x14.

    ``gencore train vae.recipes.hierarchical_digits``: 17.7 core-minutes on an AMD EPYC, one thread; where the processor has
    no bf16, add ``--precision fp32``. Held-out digits: evidence lower bound -682 nats (1.26 bits a pixel), bound from 100
    draws -664 ± 5. On 10,000 samples in sets of 1,000: Fréchet distance 15.3 ± 0.5 on digit-classifier features (real
    against real 0.97 ± 0.24), rarest digit 3.9 %.
    """
    return VAERecipe(
        data=Digits(),
        network=Hierarchical(
            size=28, channels=1, out_channels=2, latent=4, width=32, multipliers=(1, 2), blocks=(2, 3), patch=2, top=(32,)
        ),
        objective=ELBO(DiscretisedLogistic(), free_bits=0.75),
        optimiser=AdamW(lr=1e-3, weight_decay=1e-2, beta2=0.99),
        images=400_000,
        precision="bf16",
    )


def two_stage_emoji() -> VAERecipe:
    """Ladder VAE on the codes of `kl_emoji`, the showpiece of this family.

    ``gencore train vae.recipes.two_stage_emoji``: 22.2 core-minutes on an AMD EPYC, one thread, after 12.6 for the first
    stage; where the processor has no bf16, add ``--precision fp32``. On 10,000 samples: kernel distance 0.53 ± 0.04 on
    SqueezeNet features (real against real 0.01), precision 0.77, recall 0.12, coverage 0.63.
    """
    return VAERecipe(
        data=Emoji(),
        network=TwoStage(_emoji_autoencoder(latent=4), Ladder(size=8, channels=4, latents=(8, 16, 24, 32), width=192)),
        first_stage="kl_emoji",
        objective=ELBO(Gaussian(0.8), warm_up=200_000),
        optimiser=AdamW(lr=1e-3, weight_decay=1e-2, warm_up=20_000, beta2=0.99),
        images=12_000_000,
        batch_size=128,
        precision="bf16",
        ema_half_life=20_000,
        log_every=64_000,
        checkpoint_every=256_000,
    )
