"""Experiments. A recipe is a function; its dotted name is the experiment's name; its docstring says what it gave."""

from dataclasses import dataclass, replace
from typing import Literal

from gencore.data import CelebA, Cifar10, Digits, Emoji, FashionMnist, ImageFolder, Mnist, Shapes
from gencore.data import wording
from gencore.data.shapes import CAPTION_LENGTH, CAPTIONED, VOCABULARY
from gencore.data.told import Told, check_told
from gencore.diffusion.denoiser import Prediction
from gencore.diffusion.few_step import Consistency, Progressive
from gencore.diffusion.objectives import Denoising, LogisticNormalTimes
from gencore.diffusion.process import EDM, Cosine, Flow, Linear
from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.denoising import DenoisingUNet
from gencore.networks.dit import DiT
from gencore.networks.latent import Latent
from gencore.networks.quantiser import Codebook
from gencore.networks.text import TextEncoder
from gencore.networks.text_unet import TextUNet
from gencore.networks.transformer import Transformer
from gencore.networks.unet import UNet
from gencore.networks.vqvae import VQ
from gencore.training.device import Precision
from gencore.training.optimiser import AdamW


@dataclass(frozen=True)
class Sampling:
    """How to walk from noise to data.

    Attributes
    ----------
    sampler : {"ancestral", "ddim", "euler", "heun", "dpm_solver", "consistency"}
        The function of `gencore.diffusion.samplers`; the last is for networks trained by `Consistency`.
    steps : int
        Steps; Heun's sampler asks the network twice in each but the last.
    guidance : float
        Weight of classifier-free guidance; 1 is plainly conditional.
    interval : tuple of float
        First and last time at which guidance counts.
    bend : float
        Above 1, steps become smaller towards the data.
    eta : float
        Share of fresh noise in DDIM.
    clip : bool
        Whether clean pictures are held to [-1, 1] on the way.
    """

    sampler: Literal["ancestral", "ddim", "euler", "heun", "dpm_solver", "consistency"] = "heun"
    steps: int = 20
    guidance: float = 1.0
    interval: tuple[float, ...] = (0.0, 1.0)
    bend: float = 1.0
    eta: float = 0.0
    clip: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.bend <= 0 or not 0 <= self.eta <= 1:
            raise InputError(f"steps {self.steps}, bend {self.bend}, eta {self.eta}: at least 1, positive, in [0, 1]")
        if len(self.interval) != 2 or not 0 <= self.interval[0] <= self.interval[1] <= 1:
            raise InputError(f"interval {self.interval}: must be two times in [0, 1], the smaller one first")

    @property
    def random(self) -> bool:
        """Whether steps draw noise of their own."""
        return self.sampler in ("ancestral", "consistency") or self.sampler == "ddim" and self.eta > 0


@dataclass(frozen=True)
class DiffusionRecipe:
    """All that decides what a training of this family does; nothing that only decides how fast it runs.

    Attributes
    ----------
    data : data spec
        What to learn from.
    network : DenoisingUNet, DiT, TextUNet or Latent
        Kind and sizes of the network; size and channels must be those of the data. `TextUNet` reads captions, `Latent`
        denoises a first stage's codes.
    process : Linear, Cosine, Flow or EDM
        How data turn into noise.
    prediction : {"x", "eps", "v", "velocity", "edm"}
        What the network's output stands for.
    objective : Denoising
        What is minimised.
    told : tuple of {"caption", "class", "style"}
        What the network is told of each picture. A caption comes first, and its size is ``network.text``; the sizes of the
        others are the first of ``network.conditions``.
    drop : float
        Share of pictures of which it is told nothing, for guidance.
    mirror : bool
        Whether half of the pictures are shown mirrored. The network is told which, by a last condition of two values, and
        draws none that are: variety is gained, and no mirrored writing.
    first_stage : str, optional
        Name of the zoo's model whose codes a `Latent` network denoises.
    start : str, optional
        Name of the zoo's model whose weights the network begins with, wherever it has such a part.
    sampling : Sampling
        How pictures are drawn if nothing else is said.
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

    data: Digits | Emoji | Shapes | Mnist | FashionMnist | Cifar10 | CelebA | ImageFolder
    network: DenoisingUNet | DiT | TextUNet | Latent
    process: Linear | Cosine | Flow | EDM = Flow()
    prediction: Prediction = "velocity"
    objective: Denoising = Denoising(LogisticNormalTimes())
    told: Told = ()
    drop: float = 0.1
    mirror: bool = False
    first_stage: str | None = None
    start: str | None = None
    sampling: Sampling = Sampling()
    optimiser: AdamW = AdamW(lr=1e-3, weight_decay=1e-2, beta2=0.99)
    images: int = 400_000
    batch_size: int = 64
    micro_batches: int = 1
    clip: float = 1.0
    ema_half_life: int = 20_000
    precision: Precision = "fp32"
    seed: int = 0
    log_every: int = 6_400
    checkpoint_every: int = 32_000

    @property
    def conditions(self) -> tuple[int, ...]:
        """How many values each condition has."""
        return self.network.conditions

    @property
    def captions(self) -> TextEncoder | None:
        """How large captions are, if the network reads any."""
        return self.network.captions if isinstance(self.network, TextUNet | Latent) else None

    def __post_init__(self) -> None:
        for field in ("size", "channels"):
            ours, theirs = getattr(self.network, field), getattr(self.data, field)
            if ours != theirs:
                raise InputError(f"network.{field} is {ours}, but the data have {theirs}; make them equal")
        for field in ("images", "batch_size", "micro_batches", "log_every", "checkpoint_every"):
            if getattr(self, field) < 1:
                raise InputError(f"{field} is {getattr(self, field)}; it must be at least 1")
        if self.clip <= 0:
            raise InputError(f"clip is {self.clip}; it must be positive")
        if not 0 <= self.drop < 1:
            raise InputError(f"drop is {self.drop}; it must be in [0, 1)")
        if "style" in self.told and not isinstance(self.data, Emoji):
            raise InputError("told: only emoji have styles")
        if isinstance(self.network, Latent) != (self.first_stage is not None):
            raise InputError("first_stage: a Latent network names the zoo's model it begins with, others name none")
        if self.first_stage is not None and self.sampling.clip:
            raise InputError("sampling.clip: it holds to the range of pixels, but a Latent network draws codes")
        check_told(self)


@dataclass(frozen=True)
class DistillRecipe(DiffusionRecipe):
    """A training of a network that draws in one step or in a few, by a teacher or without one.

    What it shares with `DiffusionRecipe` means the same; a student has its teacher's data, network and conditions.

    Attributes
    ----------
    objective : Consistency or Progressive
        What is minimised.
    drop : float
        Share of pictures of which the student is told nothing; a student that is guided by its teacher needs none.
    sampling : Sampling
        How pictures are drawn if nothing else is said: by ``"consistency"``, or by ``"ddim"`` in the steps learned.
    teacher : str, optional
        Name of the zoo's model that is passed in as ``teacher``; None for consistency training, which has none.
    guidance : float
        Weight of the teacher's classifier-free guidance, which the student takes over for good; 1 is conditional.
    """

    objective: Consistency | Progressive = Consistency()
    drop: float = 0.0
    sampling: Sampling = Sampling("consistency", steps=2)
    teacher: str | None = None
    guidance: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start is not None:
            raise InputError("start: a student begins with its teacher's weights, or with new ones")
        objective, how = self.objective, self.sampling
        alone = isinstance(objective, Consistency) and objective.solver is None
        if alone != (self.teacher is None):
            raise InputError("teacher: Consistency without a solver has none, all others name the zoo's model that teaches")
        if self.guidance != 1 and (alone or not self.told):
            raise InputError(f"guidance {self.guidance}: needs a teacher, and conditions to be told")
        possible = ("v", "velocity", "edm") if isinstance(objective, Consistency) else ("x", "v", "velocity", "edm")
        if self.prediction not in possible:
            raise InputError(f"prediction {self.prediction!r}: this objective needs one of {', '.join(possible)}")
        if isinstance(objective, Consistency) and self.prediction == "velocity" and isinstance(self.process, Linear):
            raise InputError("prediction 'velocity': that of Linear is infinite at t = 0, where ends meet; take 'v'")
        if isinstance(objective, Consistency) != (how.sampler == "consistency"):
            raise InputError(f"sampling.sampler {how.sampler!r}: 'consistency' goes with Consistency, and only with it")
        if isinstance(objective, Progressive):
            if (how.sampler, how.steps, how.eta, how.bend) != ("ddim", objective.last, 0, 1):
                raise InputError(f"sampling: Progressive learns 'ddim' in {objective.last} even steps, eta 0 and bend 1")


def flow_digits() -> DiffusionRecipe:
    """Flow matching on the 9,000 training digits.

    ``gencore train diffusion.recipes.flow_digits``: 20.5 core-minutes on an AMD EPYC without bf16, one thread. On 10,000
    samples in sets of 1,000, twenty steps each: Fréchet distance 6.5 ± 0.3 on digit-classifier features (real against real
    0.97 ± 0.24), rarest digit 9.0 %, most frequent 12.6 %, recall 0.88 (0.89). By the ancestral sampler in fifty steps:
    4.9 ± 0.6, rarest digit 8.4 %, most frequent 11.9 %; as many steps of the recipe's own sampler 6.6 ± 0.4, of DDIM with
    ``eta`` 0.5 5.9 ± 0.3. The same images in batches of 32, with a mean logit of times of 0.4, were tried on an H200:
    4.9 ± 0.3 in twenty steps of the recipe's own sampler, rarest digit 8.9 %, most frequent 11.4 %.
    """
    unet = UNet(1, width=24, multipliers=(1, 2), embedding=64, patch=2, heads=4, finish=8)
    return DiffusionRecipe(
        data=Digits(),
        network=DenoisingUNet(size=28, unet=unet),
        sampling=Sampling("dpm_solver", steps=20),
        optimiser=AdamW(lr=2e-3, weight_decay=1e-2, beta2=0.99),
        images=200_000,
    )


def guided_digits() -> DiffusionRecipe:
    """`flow_digits` with a network that is told each digit's class.

    ``gencore train diffusion.recipes.guided_digits``: 20.0 core-minutes on an AMD EPYC without bf16, one thread. On 10,000
    samples in sets of 1,000: Fréchet distance 1.2 ± 0.3 on digit-classifier features (real against real 0.97 ± 0.24),
    rarest digit 8.5 %, most frequent 11.4 %, recall 0.83 (0.89). The classifier sees the digit that was asked for in 99.5 %
    of 1,000, and in 94.4 % without guidance.
    """
    recipe = flow_digits()
    return replace(
        recipe,
        network=replace(recipe.network, conditions=(10,)),
        told=("class",),
        sampling=replace(recipe.sampling, steps=10, guidance=1.5),
    )


def dit_digits() -> DiffusionRecipe:
    """`flow_digits` with a transformer instead of the U-Net.

    ``gencore train diffusion.recipes.dit_digits``: 52 seconds on an H200 that five other runs used too; one thread of an AMD
    EPYC without bf16 was timed at 200 images a second, which would make 21 minutes. On 10,000 samples in sets of 1,000:
    Fréchet distance 27.1 ± 0.9 on digit-classifier features (real against real 0.97 ± 0.24), rarest digit 4.8 %, recall
    0.77 (0.89).
    """
    recipe = flow_digits()
    network = DiT(size=28, patch=4, width=96, depth=5, heads=4)
    return replace(recipe, network=network, optimiser=replace(recipe.optimiser, lr=1e-3), images=250_000)


def flow_digits_gpu() -> DiffusionRecipe:
    """Flow matching on the 59,000 digits of MNIST that are not held out, without patches; for a GPU.

    ``gencore train diffusion.recipes.flow_digits_gpu``: 342 seconds on an H200 that ten other runs used too. On 10,000
    samples in sets of 1,000, twenty steps each: Fréchet distance 1.4 ± 0.3 on digit-classifier features (real against real
    0.95 ± 0.27), rarest digit 9.3 %, most frequent 10.8 %.
    """
    unet = UNet(1, width=64, multipliers=(1, 2, 2), embedding=128, heads=4)
    return replace(
        flow_digits(),
        data=Mnist(),
        network=DenoisingUNet(size=28, unet=unet),
        optimiser=AdamW(lr=1e-3, weight_decay=1e-2, beta2=0.99),
        images=2_000_000,
        batch_size=256,
        ema_half_life=50_000,
        precision="bf16",
        log_every=25_600,
        checkpoint_every=256_000,
    )


def flow_emoji() -> DiffusionRecipe:
    """Flow matching on emoji in three styles, told style and category, pixel by pixel; for a GPU.

    ``gencore train diffusion.recipes.flow_emoji``: 190 seconds on an H200 that five other runs used too. On 10,000 samples:
    kernel distance 0.48 ± 0.04 on SqueezeNet features (real against real 0.01), precision 0.53, recall 0.31, coverage 0.57.
    """
    unet = UNet(3, width=32, multipliers=(1, 2, 4), embedding=128, patch=2, heads=4, finish=16)
    return DiffusionRecipe(
        data=Emoji(),
        network=DenoisingUNet(size=32, unet=unet, conditions=(8, 3, 2)),
        told=("class", "style"),
        mirror=True,
        sampling=Sampling("dpm_solver", steps=20, guidance=2.0),
        optimiser=AdamW(lr=2e-3, weight_decay=1e-2, beta2=0.99),
        images=1_500_000,
        batch_size=256,
        ema_half_life=50_000,
        log_every=25_600,
        checkpoint_every=256_000,
    )


def latent_emoji() -> DiffusionRecipe:
    """Flow matching on the codes of `kl_emoji`, told style and category.

    ``gencore train diffusion.recipes.latent_emoji``: 20.5 core-minutes on an AMD EPYC without bf16, one thread, after 12.6
    for the first stage. On 2,000 samples: kernel distance 0.245 ± 0.026 on SqueezeNet features (real against real 0.01),
    precision 0.69, recall 0.27, coverage 0.74.
    """
    first = Autoencoder(size=32, channels=3, latent=4, flat=False, width=64, multipliers=(1, 2), patch=2)
    unet = UNet(4, width=48, multipliers=(1, 2), embedding=128, heads=4)
    return replace(
        flow_emoji(),
        network=Latent(first, DenoisingUNet(8, unet, conditions=(8, 3, 2))),
        first_stage="kl_emoji",
        sampling=Sampling("dpm_solver", steps=20, guidance=3.0, interval=(0.0, 0.85), bend=0.7),
        images=200_000,
        batch_size=64,
        ema_half_life=20_000,
        log_every=6_400,
        checkpoint_every=32_000,
    )


def latent_emoji_long() -> DiffusionRecipe:
    """`latent_emoji` with seven and a half times the images: the showpiece of this family.

    ``gencore train diffusion.recipes.latent_emoji_long``: 313 seconds on an H200 that ten other runs used too; at the speed
    of `latent_emoji`, 154 core-minutes. On 2,000 samples: kernel distance 0.150 ± 0.025 on SqueezeNet features (real
    against real 0.01), precision 0.65, recall 0.45, coverage 0.85. Its way of guiding is the best of some thirty that were
    tried on it; guided at all times, with even steps, 10,000 samples gave 0.173 ± 0.035, recall 0.42.
    """
    return replace(
        latent_emoji(),
        images=1_500_000,
        batch_size=128,
        ema_half_life=50_000,
        log_every=25_600,
        checkpoint_every=256_000,
    )


def latent_emoji64() -> DiffusionRecipe:
    """Flow matching on the codes of `vae.recipes.kl_emoji64`, 16x16x4, told style and category; for a GPU.

    ``gencore train diffusion.recipes.latent_emoji64``: 169 seconds on an H200 that three other jobs used too, after 96 for
    the first stage. On 2,000 samples, against held-out emoji of 64 pixels: kernel distance 0.076 ± 0.025 on SqueezeNet
    features (real against real 0.01), precision 0.64, recall 0.53, coverage 0.82. Sparing guidance at the noisiest tenth of
    the times lowers the distance to 0.06, and lets more pictures fall apart. Its record ships, its weights do not.

    The pictures of 64 pixels do not ship: ``python tools/build_assets.py emoji64`` builds them.
    """
    first = Autoencoder(size=64, channels=3, latent=4, flat=False, width=64, multipliers=(1, 2), patch=2)
    unet = UNet(4, width=64, multipliers=(1, 2), embedding=128, heads=4)
    return replace(
        latent_emoji_long(),
        data=Emoji(size=64),
        network=Latent(first, DenoisingUNet(16, unet, conditions=(8, 3, 2))),
        first_stage="kl_emoji64",
        sampling=Sampling("dpm_solver", steps=20, guidance=3.0),
        images=1_200_000,
    )


def text_shapes() -> DiffusionRecipe:
    """Flow matching on scenes of coloured shapes, told their captions word by word; for a GPU.

    ``gencore train diffusion.recipes.text_shapes``: 353 seconds on an H200 that thirteen other runs used too, 1,664 steps. Of
    500 new captions of pairs that training shows, 39.4 ± 2.2 % are drawn in full, of 500 with another pair 37.0 ± 2.2 %:
    0.88 and 0.87 of the objects, 0.72 and 0.61 of the colours, 0.06 and 0.07 of the positions, which is chance; places are all
    alike to it. On 1,000 samples: kernel distance 0.192 ± 0.006 on SqueezeNet features (real against real 0.05).

    Training shows none of six pairs of colour and shape, such as a red star, so that they can be asked for as a test.
    """
    unet = UNet(3, width=32, multipliers=(1, 2), embedding=128, patch=2, heads=4, finish=16, context=96)
    text = TextEncoder(len(VOCABULARY), CAPTION_LENGTH, Transformer(width=96, depth=2, heads=4))
    return DiffusionRecipe(
        data=CAPTIONED,
        network=TextUNet(32, unet, text),
        told=("caption",),
        sampling=Sampling("dpm_solver", steps=10, guidance=2.0),
        optimiser=AdamW(lr=1.5e-3, weight_decay=1e-2, warm_up=51_200, beta2=0.99),
        images=851_968,
        batch_size=512,
        ema_half_life=25_000,
        precision="bf16",
        log_every=25_600,
        checkpoint_every=256_000,
    )


def latent_shapes() -> DiffusionRecipe:
    """`text_shapes` in the codes of `vae.recipes.vq_shapes`, 8x8x8: every block of the U-Net attends to the words.

    ``gencore train diffusion.recipes.latent_shapes``: 51 minutes on one thread of an Intel Xeon, 47 core-minutes. Of 500
    captions of seen pairs 85 % were shown in full, of 500 with a pair that training never showed 74 % (`text_shapes`: 39 % and
    37 %); positions 93 % and 86 % (6 % and 7 %), relations 76 % and 69 % (7 % and 7 %).

    It learns mostly at much noise: a few bright codes on an even ground show through all but the last of it, so that at t = 0.9
    noised codes tell for themselves where the objects lie, and only beyond that does the caption decide. Trained with a mean of
    1.2 in place of 2.2 and a deviation of 1, it knew after 134,400 images what to draw, and not where. Small errors of a code are
    forgiven by the alphabet.
    """
    first = VQ(Autoencoder(size=32, channels=3, latent=8, flat=False, width=40, multipliers=(1, 2), patch=2), Codebook(256))
    unet = UNet(10, out_channels=8, width=64, multipliers=(1,), blocks_per_level=2, embedding=128, heads=4, context=96)
    text = TextEncoder(len(VOCABULARY), CAPTION_LENGTH, Transformer(width=96, depth=2, heads=4))
    return DiffusionRecipe(
        data=CAPTIONED,
        network=Latent(first, TextUNet(8, unet, text, coordinates=True)),
        told=("caption",),
        first_stage="vq_shapes",
        objective=Denoising(LogisticNormalTimes(mean=2.2, std=1.5)),
        sampling=Sampling("dpm_solver", steps=20, guidance=2.0),
        optimiser=AdamW(lr=1.5e-3, weight_decay=1e-2, warm_up=12_800, beta2=0.99),
        images=512_000,
        batch_size=64,
        ema_half_life=10_000,
        precision="fp32",
        log_every=6_400,
        checkpoint_every=12_800,
    )


def text_emoji() -> DiffusionRecipe:
    """`latent_emoji_long` learns to read: told names or tags in English or Chinese, and the style.

    ``gencore train diffusion.recipes.text_emoji``: 32 minutes on one thread of an AMD EPYC that other runs used too, 3,000
    steps, too few to read: it drew faces for "green heart" and clocks for "月亮", the moon. So it does not ship.

    It begins with the weights of that model, and takes the categories away; attention to words is new.
    """
    first = Autoencoder(size=32, channels=3, latent=4, flat=False, width=64, multipliers=(1, 2), patch=2)
    unet = UNet(4, width=48, multipliers=(1, 2), embedding=128, heads=4, context=64)
    return replace(
        latent_emoji(),
        network=Latent(first, TextUNet(8, unet, _emoji_text(64), conditions=(3, 2))),
        told=("caption", "style"),
        start="latent_emoji_long",
        sampling=Sampling("dpm_solver", steps=20, guidance=3.0),
        optimiser=AdamW(lr=1e-3, weight_decay=1e-2, beta2=0.99),
        images=96_000,
        batch_size=32,
        ema_half_life=10_000,
        log_every=3_200,
        checkpoint_every=16_000,
    )


def text_emoji64() -> DiffusionRecipe:
    """`text_emoji` with four times the pixels and new weights; for a GPU.

    ``gencore train diffusion.recipes.text_emoji64``: 399 seconds on an H200 that thirteen other runs used too, 1,737 steps, too
    few for rare words. On 400 samples: kernel distance 0.154 ± 0.019 on SqueezeNet features (real against real 0.01),
    precision 0.55, recall 0.44, coverage 0.71.

    Its codes are 16x16x4, from the same first stage: that of 32 pixels is made of convolutions, and reconstructs held-out
    emoji of 64 pixels at 30.4 dB, SSIM 0.920, where `vae.recipes.kl_emoji64` reaches 33.1 dB. The pictures of 64 pixels do
    not ship: ``python tools/build_assets.py emoji64`` builds them.
    """
    first = Autoencoder(size=64, channels=3, latent=4, flat=False, width=64, multipliers=(1, 2), patch=2)
    unet = UNet(4, width=56, multipliers=(1, 2), embedding=128, heads=4, context=80)
    return replace(
        text_emoji(),
        data=Emoji(size=64),
        start=None,
        sampling=Sampling("dpm_solver", steps=12, guidance=3.0),
        network=Latent(first, TextUNet(16, unet, _emoji_text(80), conditions=(3, 2))),
        optimiser=AdamW(lr=1.5e-3, weight_decay=1e-2, warm_up=51_200, beta2=0.99),
        images=889_344,
        batch_size=512,
        ema_half_life=50_000,
        precision="bf16",
        log_every=25_600,
        checkpoint_every=256_000,
    )


def _emoji_text(width: int) -> TextEncoder:
    """Return the network that reads names and tags of emoji."""
    words = len(wording.vocabulary(Emoji()))
    return TextEncoder(words, wording.EMOJI_LENGTH, Transformer(width, depth=2, heads=4))


def consistency_digits() -> DistillRecipe:
    """Consistency training on digits, without a teacher.

    ``gencore train diffusion.recipes.consistency_digits``: stopped after 1,408,000 images and 183 seconds on an H200 that
    five other runs used too. On 10,000 samples in sets of 1,000, two steps each: Fréchet distance 11.3 ± 0.5 on
    digit-classifier features (real against real 0.97 ± 0.24), rarest digit 6.9 %, recall 0.81 (0.89).
    """
    return DistillRecipe(
        data=Digits(),
        network=flow_digits().network,
        objective=Consistency(times=LogisticNormalTimes(0.0, 1.5)),
        optimiser=AdamW(lr=5e-4, beta2=0.99),
        images=1_536_000,
        batch_size=256,
        ema_half_life=50_000,
        log_every=25_600,
        checkpoint_every=128_000,
    )


def distilled_digits() -> DistillRecipe:
    """`flow_digits` distilled to draw in one step or two: consistency, each neighbour by a Heun step.

    ``gencore train diffusion.recipes.distilled_digits``: stopped after 1,024,000 images and 184 seconds on an H200 that
    five other runs used too. On 10,000 samples in sets of 1,000, two steps each: Fréchet distance 11.3 ± 0.6 on
    digit-classifier features (real against real 0.97 ± 0.24), rarest digit 9.0 %, recall 0.85 (0.89).
    """
    return replace(
        consistency_digits(),
        objective=Consistency("heun", times=LogisticNormalTimes(0.0, 1.5), first=10, last=40),
        teacher="flow_digits",
    )


def progressive_digits() -> DistillRecipe:
    """`flow_digits` distilled to draw in eight steps, halved from 64 by three students in turn.

    ``gencore train diffusion.recipes.progressive_digits``: 178 seconds on an H200 that five other runs used too. On 10,000
    samples in sets of 1,000: Fréchet distance 7.2 ± 0.3 on digit-classifier features (real against real 0.97 ± 0.24),
    rarest digit 9.0 %, recall 0.88 (0.89).
    """
    return replace(
        consistency_digits(),
        objective=Progressive(32, 8),
        sampling=Sampling("ddim", steps=8),
        teacher="flow_digits",
        images=1_152_000,
    )


def four_step_digits() -> DistillRecipe:
    """`progressive_digits` halved once more.

    ``gencore train diffusion.recipes.four_step_digits``: 99 seconds on an H200 that ten other runs used too. On 10,000 samples
    in sets of 1,000: Fréchet distance 8.2 ± 0.3 on digit-classifier features (real against real 0.97 ± 0.24), rarest digit
    8.9 %, recall 0.88 (0.89).
    """
    return replace(
        progressive_digits(),
        objective=Progressive(4, 4),
        sampling=Sampling("ddim", steps=4),
        teacher="progressive_digits",
        images=384_000,
    )


def two_step_digits() -> DistillRecipe:
    """`four_step_digits` halved once more.

    ``gencore train diffusion.recipes.two_step_digits``: 67 seconds on an H200 that ten other runs used too. On 10,000 samples
    in sets of 1,000: Fréchet distance 10.2 ± 0.4 on digit-classifier features (real against real 0.97 ± 0.24), rarest digit
    8.7 %, recall 0.87 (0.89).
    """
    return replace(
        four_step_digits(),
        objective=Progressive(2, 2),
        sampling=Sampling("ddim", steps=2),
        teacher="four_step_digits",
    )


def one_step_digits() -> DistillRecipe:
    """`two_step_digits` halved once more: a picture in one step.

    ``gencore train diffusion.recipes.one_step_digits``: 61 seconds on an H200 that ten other runs used too. On 10,000 samples
    in sets of 1,000: Fréchet distance 12.4 ± 0.6 on digit-classifier features (real against real 0.97 ± 0.24), rarest digit
    8.4 %, recall 0.86 (0.89).
    """
    return replace(
        two_step_digits(),
        objective=Progressive(1, 1),
        sampling=Sampling("ddim", steps=1),
        teacher="two_step_digits",
    )
