"""Experiments. A recipe is a function; its dotted name is the experiment's name; its docstring says what it gave."""

from dataclasses import dataclass, replace

from gencore.applications.palette.objectives import Mending
from gencore.applications.palette.tasks import Damage, Holes, Instruct, Upscale
from gencore.data import Emoji, Photos
from gencore.data.edits import INSTRUCTION_LENGTH, WORDS, Edits
from gencore.diffusion.denoiser import Prediction
from gencore.diffusion.objectives import LogisticNormalTimes
from gencore.diffusion.process import EDM, Cosine, Flow, Linear
from gencore.diffusion.recipes import Sampling, latent_shapes
from gencore.errors import InputError
from gencore.networks.latent_palette import LatentPalette
from gencore.networks.palette import Palette
from gencore.networks.text import TextEncoder
from gencore.networks.transformer import Transformer
from gencore.networks.unet import UNet
from gencore.training.device import Precision
from gencore.training.optimiser import AdamW


@dataclass(frozen=True)
class PaletteRecipe:
    """All that decides what a training of this application does; nothing that only decides how fast it runs.

    Attributes
    ----------
    data : Emoji, Photos or Edits
        What is spoiled and mended. Patches of `Photos` are cut anew each time, anywhere; `Edits` go with `Instruct`.
    task : Upscale, Holes, Damage or Instruct
        How pictures are spoiled.
    network : Palette or LatentPalette
        Sizes of the network; the second works on codes, and goes with `Instruct`.
    process : Linear, Cosine, Flow or EDM
        How what is to be drawn turns into noise.
    prediction : {"x", "eps", "v", "velocity", "edm"}
        What the network's output stands for.
    objective : Mending
        What is minimised.
    scales : tuple of float
        At which scales photographs are cut, all equally often: at 0.5, a patch shows four times as much.
    mirror : bool
        Whether half of the pictures are mirrored.
    drop : float
        For `Instruct`: share of pictures that the network sees without the words, as large a one without the picture, and
        as large a one without both, for guidance.
    first_stage : str, optional
        For a `LatentPalette`: the zoo's model whose codes it denoises.
    sampling : Sampling
        How pictures are drawn if nothing else is said; its guidance is that of the words.
    picture_guidance : float
        For `Instruct`: weight of the guidance by the picture; 1 is plainly conditional.
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
        Decides the first weights, the order of the data and all randomness.
    log_every, checkpoint_every : int
        Images between two rows of the curve, and between two checkpoints.
    """

    data: Emoji | Photos | Edits
    task: Upscale | Holes | Damage | Instruct
    network: Palette | LatentPalette
    process: Linear | Cosine | Flow | EDM = Flow()
    prediction: Prediction = "velocity"
    objective: Mending = Mending(LogisticNormalTimes())
    scales: tuple[float, ...] = (1.0,)
    mirror: bool = False
    drop: float = 0.0
    first_stage: str | None = None
    sampling: Sampling = Sampling("ancestral", steps=20)
    picture_guidance: float = 1.0
    optimiser: AdamW = AdamW(lr=1.5e-3, weight_decay=1e-2, warm_up=25_600, beta2=0.99)
    images: int = 1_000_000
    batch_size: int = 256
    clip: float = 1.0
    ema_half_life: int = 50_000
    precision: Precision = "bf16"
    seed: int = 0
    log_every: int = 25_600
    checkpoint_every: int = 256_000

    def __post_init__(self) -> None:
        latent, told = isinstance(self.network, LatentPalette), isinstance(self.task, Instruct)
        if latent != (self.first_stage is not None):
            raise InputError("first_stage: a LatentPalette names the zoo's model whose codes it denoises, others name none")
        if latent and (not told or self.data.size != self.network.size):
            raise InputError(f"network: works on codes; it goes with Instruct, and with pictures of {self.network.size} pixels")
        if not latent and self.data.size % self.network.unet.divisor:
            raise InputError(f"data.size {self.data.size}: this U-Net takes multiples of {self.network.unet.divisor}")
        for field, ours, theirs in (
            ("channels", self.network.channels, self.data.channels),
            ("seen", self.network.seen, self.task.seen(self.data.channels)),
        ):
            if ours != theirs:
                raise InputError(f"network.{field} is {ours}, but task and data have {theirs}; make them equal")
        if told != isinstance(self.data, Edits) or told != (self.network.text is not None):
            raise InputError("task: Instruct goes with Edits and with a network that reads (network.text), and only with them")
        if told and (self.network.text.words, self.network.text.length) != (len(WORDS), INSTRUCTION_LENGTH):
            raise InputError(f"network.text: instructions have {len(WORDS)} words, and {INSTRUCTION_LENGTH} tokens in a row")
        if not told and (self.drop or self.picture_guidance != 1 or self.sampling.guidance != 1):
            raise InputError("drop and guidance: must be 0 and 1; only Instruct has words, and may hide the picture")
        if not 0 <= self.drop < 1 / 3:
            raise InputError(f"drop is {self.drop}; it must be in [0, 1/3), since three such shares are hidden")
        if told and self.mirror:
            raise InputError("mirror: instructions speak of left and right")
        if not self.scales or not all(0.25 <= scale <= 1 for scale in self.scales):
            raise InputError(f"scales {self.scales}: name at least one, each from 0.25 to 1")
        if self.scales != (1.0,) and not isinstance(self.data, Photos):
            raise InputError("scales: only photographs are cut at several")
        if isinstance(self.data, Photos) and 256 * min(self.scales) < self.data.size:
            raise InputError(f"scales {self.scales}: a photograph then is smaller than a patch of {self.data.size}")
        for field in ("images", "batch_size", "log_every", "checkpoint_every", "ema_half_life"):
            if getattr(self, field) < 1:
                raise InputError(f"{field} is {getattr(self, field)}; it must be at least 1")
        if self.clip <= 0:
            raise InputError(f"clip is {self.clip}; it must be positive")


def upscale_photos() -> PaletteRecipe:
    """Enlarge photographs four times in each direction; the network takes pictures of any size.

    ``gencore train palette.recipes.upscale_photos``: 402 seconds on an H200 that thirteen other runs used too. On 16
    held-out patches, by the recipe's ten steps: 27.5 dB, perceptual distance 0.285; bicubic interpolation 28.1 dB and 0.399.
    Twenty steps draw more detail and err more: 27.2 dB and 0.275. Ten steps of DPM-Solver++, which draws no noise on the way,
    lost 2.1 dB to bicubic interpolation on 32 patches, where these ten lose 0.6 on their 16.
    """
    unet = UNet(6, out_channels=3, width=32, multipliers=(1, 2, 2), embedding=32, patch=2, finish=16)
    return PaletteRecipe(
        data=Photos(64),
        task=Upscale(4),
        network=Palette(unet),
        scales=(1.0, 0.75, 0.5),
        mirror=True,
        sampling=Sampling("ancestral", steps=10),
        batch_size=256,
        images=623_616,
    )


def repair_photos() -> PaletteRecipe:
    """Undo blur, noise, compression and scratches in photographs; the network takes pictures of any size.

    Not run yet.
    """
    unet = UNet(6, out_channels=3, width=24, multipliers=(1, 2, 2), embedding=64, patch=2, finish=24)
    return replace(
        upscale_photos(), task=Damage(), network=Palette(unet), sampling=Sampling("ancestral", steps=20), images=600_000
    )


def inpaint_photos() -> PaletteRecipe:
    """Fill holes in patches of photographs.

    ``gencore train palette.recipes.inpaint_photos``: 402 seconds on an H200 that thirteen other runs used too. On 32
    held-out patches, ten steps: 19.5 dB in the holes, perceptual distance 0.258; holes filled smoothly from their borders
    22.1 dB and 0.306, with the mean colour 18.1 dB and 0.462. Ten steps of DPM-Solver++: 17.4 dB and 0.301.
    """
    unet = UNet(7, out_channels=3, width=32, multipliers=(1, 2, 2), embedding=96, patch=2, heads=4, finish=16)
    return replace(
        upscale_photos(),
        task=Holes(),
        network=Palette(unet),
        scales=(1.0, 0.75, 0.5, 0.25),
        sampling=Sampling("ancestral", steps=20),
        images=491_520,
    )


def inpaint_emoji() -> PaletteRecipe:
    """Fill holes in emoji.

    ``gencore train palette.recipes.inpaint_emoji``: 404 seconds on an H200 that thirteen other runs used too. On 48 held-out
    emoji, twenty steps: 15.9 dB in the holes, perceptual distance 0.226; holes filled smoothly from their borders 15.7 dB and
    0.257, with the mean colour 11.7 dB and 0.372. Twenty steps of DPM-Solver++: 14.8 dB and 0.245.
    """
    unet = UNet(
        7, out_channels=3, width=32, multipliers=(1, 2), blocks_per_level=2, embedding=64, patch=2, heads=4, finish=16
    )
    return replace(inpaint_photos(), data=Emoji(), network=Palette(unet), scales=(1.0,), batch_size=512, images=912_384)


def edit_shapes() -> PaletteRecipe:
    """Change pictures of shapes as an instruction says: add, remove, recolour, resize, reshape, move.

    ``gencore train palette.recipes.edit_shapes``: 373 seconds on an H200 that thirteen other runs used too. Of the first 80
    held-out instructions, twenty steps without guidance did 62 % as asked and left all else as it was (as many of those about
    combinations that training never showed); ten of DPM-Solver++ with guidance 2 did 65 %, and 68 % of such combinations.
    The zoo has its record only.
    """
    text = TextEncoder(len(WORDS), INSTRUCTION_LENGTH, Transformer(width=48, depth=2, heads=4))
    unet = UNet(6, out_channels=3, width=40, multipliers=(1, 2), embedding=64, patch=2, heads=4, finish=12, context=48)
    return PaletteRecipe(
        data=Edits(pairs=80_000),
        task=Instruct(),
        network=Palette(unet, text=text),
        drop=0.05,
        sampling=Sampling("ancestral", steps=20, guidance=2.0),
        images=806_912,
        batch_size=512,
    )


def edit_codes() -> PaletteRecipe:
    """`edit_shapes` in the codes of `vae.recipes.vq_shapes`, 8x8x8, told where each lies: every block attends to the words.

    ``gencore train palette.recipes.edit_codes``: 58 minutes on one thread of an Intel Xeon that two other runs used too, 41
    core-minutes. Of 200 held-out instructions about combinations that training shows it did 99 % as asked and left all else as
    it was, of 200 about others 90 % (`edit_shapes`: 66 % and 69 %); moves 100 % and 74 % (23 % and 26 %).

    It learns as long, as fast and at the times of `diffusion.recipes.latent_shapes`.
    """
    told = latent_shapes()
    unet = UNet(18, out_channels=8, width=64, multipliers=(1,), blocks_per_level=2, embedding=128, heads=4, context=64)
    text = TextEncoder(len(WORDS), INSTRUCTION_LENGTH, Transformer(width=64, depth=2, heads=4))
    return replace(
        edit_shapes(),
        network=LatentPalette(told.network.first, Palette(unet, channels=8, text=text, coordinates=True)),
        first_stage=told.first_stage,
        objective=Mending(told.objective.times),
        sampling=Sampling("dpm_solver", steps=20, guidance=2.0),
        optimiser=told.optimiser,
        images=told.images,
        batch_size=told.batch_size,
        ema_half_life=told.ema_half_life,
        precision=told.precision,
        log_every=told.log_every,
        checkpoint_every=told.checkpoint_every,
    )
