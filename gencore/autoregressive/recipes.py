"""Experiments. A recipe is a function; its dotted name is the experiment's name; its docstring says what it gave."""

from dataclasses import dataclass, replace

from gencore.autoregressive.likelihoods import LogisticMixture
from gencore.autoregressive.masked import MaskedSymbols
from gencore.autoregressive.objectives import NextSymbol, WordsThenSymbols
from gencore.autoregressive.symbols import Pixels
from gencore.data import Binarise, BinarisedMnist, CelebA, Cifar10, Digits, Emoji, FashionMnist, ImageFolder, Mnist, Shapes
from gencore.data.shapes import CAPTION_LENGTH, CAPTIONED, VOCABULARY
from gencore.data.told import Captions, Told, check_told
from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.caption_transformer import CaptionTransformer
from gencore.networks.coded import Coded
from gencore.networks.gated_pixelcnn import GatedPixelCNN
from gencore.networks.image_transformer import ImageTransformer
from gencore.networks.maskgit import MaskGIT
from gencore.networks.multiscale import MultiScale
from gencore.networks.pixel_rnn import DiagonalBiLSTM, PixelRNN, RowLSTM
from gencore.networks.pixelcnn import PixelCNN
from gencore.networks.pixelcnn_pp import PixelCNNPP
from gencore.networks.quantiser import Codebook
from gencore.networks.symbols import Grid
from gencore.networks.transformer import Transformer
from gencore.networks.var import VAR
from gencore.networks.vqvae import VQ
from gencore.training.device import Precision
from gencore.training.optimiser import AdamW


@dataclass(frozen=True)
class Sampling:
    """How symbols are drawn.

    Attributes
    ----------
    temperature : float
        Divides logits; below 1 the likely becomes likelier.
    top_p : float
        Only the likeliest values are drawn that together reach this probability.
    guidance : float
        How far to go from the logits without conditions to those with them; 1 is plainly conditional.
    steps : int
        For networks that learned from hidden symbols: in how many steps all are drawn.
    disturb : float
        For these too: how much the confidence by which they are kept is disturbed at the beginning.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    guidance: float = 1.0
    steps: int = 12
    disturb: float = 4.5

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise InputError(f"temperature {self.temperature}: must be 0 or more")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p {self.top_p}: must be above 0 and at most 1")
        if self.steps < 1 or self.disturb < 0:
            raise InputError(f"steps {self.steps}, disturb {self.disturb}: at least 1, and 0 or more")


@dataclass(frozen=True)
class AutoregressiveRecipe:
    """All that decides what a training of this family does; nothing that only decides how fast it runs.

    Attributes
    ----------
    data : data spec
        What to learn from.
    network : PixelRNN, PixelCNN, GatedPixelCNN, PixelCNNPP, ImageTransformer or Coded
        Kind and sizes of the network. `Coded` writes the codes of a first stage, the others write pixels.
    pixels : Pixels
        How pixels become symbols; for networks that write pixels.
    objective : NextSymbol, WordsThenSymbols or MaskedSymbols
        What is minimised; MaskedSymbols belongs to MaskGIT, WordsThenSymbols to CaptionTransformer, NextSymbol to the others.
    told : tuple of {"caption", "class", "style"}
        What the network is told of each picture. A caption comes first, and its size is ``captions``; the sizes of the others
        are the first of ``network.grid.conditions``.
    drop : float
        Share of pictures of which it is told nothing, for guidance.
    mirror : bool
        Whether half of the pictures are shown mirrored. The network is told which, by a last condition of two values, and
        draws none that are.
    jitter : int
        Training pictures are shifted by up to so many pixels in each direction before a first stage encodes them: the same
        picture in other codes. For `Coded`.
    first_stage : str, optional
        Name of the zoo's model whose codes a `Coded` network writes.
    augmentation : Binarise, optional
        How each training image is varied when it is seen.
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

    data: Digits | Emoji | Shapes | Mnist | BinarisedMnist | FashionMnist | Cifar10 | CelebA | ImageFolder
    network: PixelRNN | PixelCNN | GatedPixelCNN | PixelCNNPP | ImageTransformer | Coded
    pixels: Pixels = Pixels()
    objective: NextSymbol | WordsThenSymbols | MaskedSymbols = NextSymbol()
    told: Told = ()
    drop: float = 0.0
    mirror: bool = False
    jitter: int = 0
    first_stage: str | None = None
    augmentation: Binarise | None = None
    sampling: Sampling = Sampling()
    optimiser: AdamW = AdamW(lr=3e-3, weight_decay=1e-2, beta2=0.99)
    images: int = 200_000
    batch_size: int = 32
    micro_batches: int = 1
    clip: float = 1.0
    ema_half_life: int = 10_000
    precision: Precision = "fp32"
    seed: int = 0
    log_every: int = 6_400
    checkpoint_every: int = 32_000

    @property
    def conditions(self) -> tuple[int, ...]:
        """How many values each condition has."""
        return self.network.grid.conditions

    @property
    def captions(self) -> Captions | None:
        """How large captions are, if the network reads any."""
        return self.network.captions if isinstance(self.network, Coded) else None

    def __post_init__(self) -> None:
        for field in ("images", "batch_size", "micro_batches", "log_every", "checkpoint_every"):
            if getattr(self, field) < 1:
                raise InputError(f"{field} is {getattr(self, field)}; it must be at least 1")
        if self.clip <= 0:
            raise InputError(f"clip is {self.clip}; it must be positive")
        if not 0 <= self.drop < 1:
            raise InputError(f"drop is {self.drop}; it must be in [0, 1)")
        if self.jitter < 0:
            raise InputError(f"jitter is {self.jitter}; it must be 0 or more")
        if "style" in self.told and not isinstance(self.data, Emoji):
            raise InputError("told: only emoji have styles")
        coded, grid = isinstance(self.network, Coded), self.network.grid
        if coded != (self.first_stage is not None):
            raise InputError("first_stage: a Coded network names the zoo's model it begins with, others name none")
        if coded:
            for field in ("size", "channels"):
                ours, theirs = getattr(self.network, field), getattr(self.data, field)
                if ours != theirs:
                    raise InputError(f"network.{field} is {ours}, but the data have {theirs}; make them equal")
            if self.augmentation is not None:
                raise InputError("augmentation: it varies pixels, but a Coded network writes codes")
        else:
            if self.jitter:
                raise InputError("jitter: it is for Coded networks, whose codes it changes")
            wanted = (self.data.channels, self.data.size // self.pixels.block, self.pixels.values)
            if self.data.size % self.pixels.block or (grid.channels, grid.size, grid.levels) != wanted:
                raise InputError(f"network.grid: its channels, size and levels must be {wanted}, as data and pixels say")
        masked = coded and isinstance(self.network.writer, MaskGIT)
        if masked != isinstance(self.objective, MaskedSymbols):
            raise InputError("objective: MaskedSymbols goes with MaskGIT, and with no other network")
        if (self.captions is not None) != isinstance(self.objective, WordsThenSymbols):
            raise InputError("objective: WordsThenSymbols goes with CaptionTransformer, and with no other network")
        if self.captions is not None and self.mirror:
            raise InputError("mirror: captions say left and right; leave it out")
        if isinstance(self.augmentation, Binarise) and self.pixels.levels != 2:
            raise InputError("pixels.levels: binarised pictures have 2")
        if grid.numbers != (needed := self.objective.needs(grid)):
            raise InputError(f"network.grid.outputs is {grid.numbers}, but the likelihood needs {needed}; make them equal")
        check_told(self, "network.grid.conditions")


def gated_binarised() -> AutoregressiveRecipe:
    """Gated PixelCNN on MNIST's own split, binarised anew whenever a digit is seen, four pixels at a time.

    For comparison with published figures. ``gencore train autoregressive.recipes.gated_binarised`` needs MNIST's files: 20.4
    core-minutes on an AMD EPYC, one thread; where the processor has no bf16, add ``--precision fp32``. On the 10,000 test
    digits, each binarised once: 82.98 ± 0.21 nats. Published, on digits binarised once and for all: PixelCNN 81.30, Row LSTM
    80.54, Diagonal BiLSTM 79.20 (van den Oord et al. 2016, table 4).
    """
    return AutoregressiveRecipe(
        data=Mnist(held_out="test"),
        network=GatedPixelCNN(Grid(14, levels=16, named=True), width=64, depth=8, kernel=3),
        pixels=Pixels(2, block=2),
        augmentation=Binarise(),
        images=150_000,
        precision="bf16",
        log_every=3_200,
        checkpoint_every=16_000,
    )


def transformer_binarised() -> AutoregressiveRecipe:
    """Image transformer on the symbols of `gated_binarised`: 196 of them, each sees all before.

    ``gencore train autoregressive.recipes.transformer_binarised``: 17.7 core-minutes on an AMD EPYC, one thread. On
    the 10,000 test digits, each binarised once: 82.40 ± 0.20 nats.
    """
    return replace(
        gated_binarised(),
        network=ImageTransformer(Grid(14, levels=16, named=True), Transformer(96, 6, 4, causal=True), near=2),
        optimiser=AdamW(lr=2e-3, weight_decay=1e-2, beta2=0.99),
        images=56_000,
    )


def row_lstm_binarised() -> AutoregressiveRecipe:
    """Row LSTM on the symbols of `gated_binarised`.

    ``gencore train autoregressive.recipes.row_lstm_binarised``: 10.9 core-minutes on an AMD EPYC, one thread. On the 10,000
    test digits, each binarised once: 82.81 ± 0.21 nats.
    """
    return replace(
        gated_binarised(),
        network=PixelRNN(Grid(14, levels=16, named=True), RowLSTM(3), width=48, depth=4, kernel=5),
        images=160_000,
    )


def diagonal_binarised() -> AutoregressiveRecipe:
    """Diagonal BiLSTM on the symbols of `gated_binarised`.

    ``gencore train autoregressive.recipes.diagonal_binarised``: 13.0 core-minutes on an AMD EPYC, one thread. On the 10,000
    test digits, each binarised once: 81.27 ± 0.20 nats.
    """
    return replace(
        row_lstm_binarised(),
        network=PixelRNN(Grid(14, levels=16, named=True), DiagonalBiLSTM(), width=48, depth=4, kernel=5),
        images=130_000,
    )


def pixelcnn_digits() -> AutoregressiveRecipe:
    """PixelCNN of 2016 on the 9,000 training digits, black and white, pixel by pixel: the one with the blind spot.

    ``gencore train autoregressive.recipes.pixelcnn_digits``: 3.8 core-minutes on an AMD EPYC, one thread; where the processor
    has no bf16, add ``--precision fp32``. Held-out digits, binarised once: 93.9 ± 0.7 nats.
    """
    return AutoregressiveRecipe(
        data=Digits(),
        network=PixelCNN(Grid(28), width=64, depth=5),
        pixels=Pixels(2),
        augmentation=Binarise(),
        images=60_000,
        precision="bf16",
    )


def mixture_digits() -> AutoregressiveRecipe:
    """PixelCNN++ on the 9,000 training digits, 256 grey levels, told each digit's class.

    ``gencore train autoregressive.recipes.mixture_digits``: 12.4 core-minutes on an AMD EPYC, one thread; where the processor
    has no bf16, add ``--precision fp32``. Held-out digits: 624 ± 5 nats, 1.15 bits per dimension; 627 if nothing is told. What
    it draws are strokes rather than digits: on 2,000 samples, Fréchet distance 29.3 on digit-classifier features, in sets of
    1,000 (real against real 0.97).
    """
    likelihood = LogisticMixture(5)
    return AutoregressiveRecipe(
        data=Digits(),
        network=PixelCNNPP(Grid(28, levels=256, outputs=15, conditions=(10,)), width=32, blocks=1, resolutions=2),
        objective=NextSymbol(likelihood),
        told=("class",),
        drop=0.1,
        images=60_000,
        optimiser=AdamW(lr=2e-3, weight_decay=1e-2, beta2=0.99),
        precision="bf16",
    )


def tokens_emoji() -> AutoregressiveRecipe:
    """Transformer over the codes of `vae.recipes.vqgan_emoji`, told style and category.

    ``gencore train autoregressive.recipes.tokens_emoji``: 18.7 core-minutes on an Intel Xeon, one thread; where the processor
    has no bf16, add ``--precision fp32``. Held-out emoji: 228 ± 3 nats for 64 codes, 234 if nothing is told. On 2,000 samples:
    kernel distance 0.218 ± 0.028 on SqueezeNet features, in sets of 204 (real against real 0.013). 180,000 images gave 0.232.
    """
    first = VQ(
        Autoencoder(size=32, channels=3, latent=16, flat=False, width=64, multipliers=(1, 2), patch=2), Codebook(512)
    )
    grid = Grid(8, levels=512, named=True, conditions=(8, 3, 2))
    return AutoregressiveRecipe(
        data=Emoji(),
        network=Coded(first, ImageTransformer(grid, Transformer(128, 6, 4, causal=True), near=1, drop=0.2)),
        first_stage="vqgan_emoji",
        told=("class", "style"),
        drop=0.1,
        mirror=True,
        jitter=1,
        sampling=Sampling(top_p=0.95, guidance=2.0),
        optimiser=AdamW(lr=1e-3, weight_decay=5e-2, beta2=0.99),
        images=270_000,
        batch_size=64,
        precision="bf16",
    )


def tokens_emoji_long() -> AutoregressiveRecipe:
    """`tokens_emoji` with five times its images: what more compute buys.

    ``gencore train autoregressive.recipes.tokens_emoji_long``: 75.8 core-minutes on an AMD EPYC with bf16, one thread. Held-out
    emoji: 217 ± 3 nats, 224 if nothing is told. On 2,000 samples: kernel distance 0.155 ± 0.023, in sets of 204.
    """
    return replace(tokens_emoji(), images=1_350_000)


def tokens_digits() -> AutoregressiveRecipe:
    """Transformer over the codes of `vae.recipes.vq_digits`, told each digit's class.

    ``gencore train autoregressive.recipes.tokens_digits``: 6.1 core-minutes on an Intel Xeon, one thread, after 3.9 for
    `vq_digits`; where the processor has no bf16, add ``--precision fp32``. Held-out digits: 117.9 ± 0.7 nats for 49 codes. On
    10,000 samples: Fréchet distance 1.29 ± 0.36 on digit-classifier features, in sets of 1,000 (real against real 0.97). Of
    1,000 draws, 96 % are read as the digit asked for; without guidance 85 %, and the distance is 2.86.
    """
    autoencoder = Autoencoder(size=28, channels=1, latent=8, flat=False, width=48, multipliers=(1, 2), patch=2)
    grid = Grid(7, levels=256, named=True, conditions=(10,))
    return AutoregressiveRecipe(
        data=Digits(),
        network=Coded(
            VQ(autoencoder, Codebook(256)), ImageTransformer(grid, Transformer(96, 6, 4, causal=True), near=1, drop=0.1)
        ),
        first_stage="vq_digits",
        told=("class",),
        drop=0.1,
        sampling=Sampling(guidance=1.5),
        optimiser=AdamW(lr=2e-3, weight_decay=5e-2, beta2=0.99),
        images=150_000,
        batch_size=64,
        precision="bf16",
    )


def masked_emoji() -> AutoregressiveRecipe:
    """MaskGIT over the codes of `tokens_emoji`: all at once in a few steps.

    ``gencore train autoregressive.recipes.masked_emoji``: 16.5 core-minutes on an AMD EPYC with bf16, one thread; where the
    processor has none, add ``--precision fp32``. Held-out emoji: 4.23 ± 0.05 nats a hidden code, about 256 for a page that is
    written in random order. On 2,000 samples: kernel distance 0.371 ± 0.044, in sets of 204. Half of this rate and twice this
    dropout gave 266 such nats, and 0.466 on 408 samples; that without ``near`` and with 180,000 images, 281 and 0.487.
    """
    recipe = tokens_emoji()
    writer = MaskGIT(recipe.network.grid, width=128, depth=6, near=1, drop=0.1)
    return replace(
        recipe,
        network=replace(recipe.network, writer=writer),
        objective=MaskedSymbols(),
        sampling=Sampling(guidance=2.0, steps=12, disturb=4.5),
        optimiser=replace(recipe.optimiser, lr=2e-3),
        images=270_000,
    )


def next_scale_emoji() -> AutoregressiveRecipe:
    """VAR over the codes of `vae.recipes.scales_emoji`: from coarse to fine, a scale at a time.

    ``gencore train autoregressive.recipes.next_scale_emoji``: 16.2 core-minutes on an AMD EPYC with bf16, one thread; where the
    processor has none, add ``--precision fp32``. Held-out emoji: 542 ± 4 nats for 130 codes. On 2,000 samples: kernel distance
    0.358 ± 0.028, in sets of 204. With half of this rate, twice this dropout and no ``near`` it was 0.486, and 591 nats.
    """
    recipe = tokens_emoji()
    first = replace(recipe.network.first, quantiser=MultiScale(Codebook(512)))
    writer = VAR(transformer=Transformer(128, 6, 4), near=1, drop=0.1, conditions=(8, 3, 2))
    return replace(
        recipe,
        network=Coded(first, writer),
        first_stage="scales_emoji",
        optimiser=replace(recipe.optimiser, lr=2e-3),
        images=120_000,
    )


def words_shapes() -> AutoregressiveRecipe:
    """Pictures of shapes from captions, as DALL-E draws: a caption's words, then the codes of `vae.recipes.vq_shapes`.

    ``gencore train autoregressive.recipes.words_shapes``: 235 seconds on an H200 that thirteen other runs used too, after 113 for
    `vq_shapes`. Of 500 new captions whose pairs of colour and shape training shows, 63.6 ± 2.2 % are shown in full; of 500 with
    a pair that it never shows, 48.2 ± 2.2 %. Without guidance, and at a temperature of 1, it is 54.0 % and 32.8 %. Of 16 draws for
    each of 150 captions of pairs seen, the one that `contrastive_shapes` likes best shows 87 % in full, the one that
    `caption_shapes` finds likeliest to be told in these words 91 %, and there is one that does for 98 %. Held-out pictures of
    pairs never seen: 88.9 nats for 64 codes, 108.8 if nothing is told.
    """
    first = VQ(
        Autoencoder(size=32, channels=3, latent=8, flat=False, width=40, multipliers=(1, 2), patch=2), Codebook(256)
    )
    writer = ImageTransformer(Grid(8, levels=256, named=True), Transformer(160, 6, 5, causal=True), near=1)
    return AutoregressiveRecipe(
        data=CAPTIONED,
        network=Coded(first, CaptionTransformer(writer, len(VOCABULARY), CAPTION_LENGTH)),
        objective=WordsThenSymbols(),
        first_stage="vq_shapes",
        told=("caption",),
        drop=0.1,
        sampling=Sampling(temperature=0.7, guidance=2.0),
        optimiser=AdamW(lr=1.5e-3, weight_decay=1e-2, warm_up=25_600, beta2=0.99),
        images=668_928,
        batch_size=256,
        precision="bf16",
        log_every=12_800,
        checkpoint_every=128_000,
    )
