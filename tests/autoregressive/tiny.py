"""Small networks and recipes of the family; what is held of one is held of all. Another network needs a row in each table."""

from dataclasses import replace

import torch
from torch import nn

from gencore.autoregressive import AutoregressiveRecipe, LogisticMixture, NextSymbol, Pixels, Sampling, WordsThenSymbols
from gencore.autoregressive.masked import MaskedSymbols
from gencore.autoregressive.sampling import build
from gencore.data import Binarise, Digits, Emoji, Shapes, to_float
from gencore.data.shapes import CAPTION_LENGTH, VOCABULARY
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
from gencore.networks.vqvae import VQ, VQVAE
from gencore.training.optimiser import AdamW

WRITERS = {  # of a grid
    "pixelcnn": lambda grid: PixelCNN(grid, width=12, depth=1, kernel=3),
    "gated": lambda grid: GatedPixelCNN(grid, width=8, depth=2, kernel=3),
    "mixture network": lambda grid: PixelCNNPP(grid, width=8, blocks=1, resolutions=2 - grid.size % 2),
    "row lstm": lambda grid: PixelRNN(grid, RowLSTM(3), width=4, depth=2, kernel=3),
    "diagonal": lambda grid: PixelRNN(grid, DiagonalBiLSTM(), width=4, depth=2, kernel=3),
    "transformer": lambda grid: ImageTransformer(grid, Transformer(8, 2, 2, causal=True), near=1),
}
COLOURED = ("pixelcnn",)  # those that write several symbols at a place

FIRST = VQ(Autoencoder(size=8, channels=3, latent=4, flat=False, width=8, multipliers=(1, 2)), Codebook(16))
SQUARES = Grid(4, levels=16, named=True, conditions=(10, 2))
TOLD = AutoregressiveRecipe(
    data=Digits(8),
    network=WRITERS["gated"](SQUARES),
    pixels=Pixels(2, block=2),
    told=("class",),
    drop=0.3,
    mirror=True,
    augmentation=Binarise(),
    optimiser=AdamW(lr=1e-3, weight_decay=1e-3, warm_up=32, beta2=0.99),
    images=96,
    batch_size=16,
    ema_half_life=64,
    log_every=16,
    checkpoint_every=48,
)
PLAIN = replace(TOLD, network=WRITERS["gated"](Grid(8)), pixels=Pixels(2), told=(), drop=0.0, mirror=False)
COLOUR = replace(
    TOLD,
    data=Emoji(("noto",), size=8),
    network=WRITERS["pixelcnn"](Grid(8, channels=3, levels=4, conditions=(8, 2))),
    pixels=Pixels(4),
    augmentation=None,
)
CODED = replace(
    COLOUR,
    network=Coded(
        FIRST, ImageTransformer(Grid(4, levels=16, named=True, conditions=(8, 2)), Transformer(8, 1, 2, causal=True), 1, 0.3)
    ),
    pixels=Pixels(),
    first_stage="some_vqgan",
)
HIDDEN = replace(
    CODED,
    network=Coded(FIRST, MaskGIT(Grid(4, levels=16, named=True, conditions=(8, 2)), 8, 1, 2, drop=0.3)),
    objective=MaskedSymbols(),
    sampling=Sampling(steps=3),
)
SCALES = Coded(
    replace(FIRST, quantiser=MultiScale(Codebook(16), (1, 2, 4), blends=2)),
    VAR((1, 2, 4), 16, 4, Transformer(8, 1, 2), drop=0.3, conditions=(8, 2)),
)
CAPTIONED = replace(
    CODED,
    data=Shapes(16, images=100, held_out_combinations=True, several_related=True),
    network=Coded(
        VQ(Autoencoder(size=16, channels=3, latent=4, flat=False, width=8, multipliers=(1, 2, 2)), Codebook(16)),
        CaptionTransformer(
            ImageTransformer(Grid(4, levels=16, named=True), Transformer(8, 1, 2, causal=True), 1, 0.3),
            len(VOCABULARY),
            CAPTION_LENGTH,
        ),
    ),
    objective=WordsThenSymbols(),
    told=("caption",),
    mirror=False,
)
KINDS = {
    **{name: replace(TOLD, network=writer(SQUARES)) for name, writer in WRITERS.items()},
    "pixels": replace(PLAIN, network=WRITERS["pixelcnn"](Grid(8))),
    **{f"{name} in colour": replace(COLOUR, network=WRITERS[name](COLOUR.network.grid)) for name in COLOURED},
    "mixture of three colours": replace(
        COLOUR,
        network=PixelCNNPP(Grid(8, 3, 256, outputs=20, conditions=(8, 2)), width=8, blocks=1, resolutions=2),
        pixels=Pixels(256),
        objective=NextSymbol(LogisticMixture(2)),
    ),
    "coded": CODED,
    "captioned": CAPTIONED,
    "hidden": HIDDEN,
    "scales": replace(CODED, network=SCALES),
}
WRITING = {name: recipe for name, recipe in KINDS.items() if name not in ("hidden", "scales")}  # place by place


def first_stage(recipe):
    """The first stage that a recipe needs, as `train` and `load` take it: untrained, but its codewords are all in use."""
    if recipe.first_stage is None:
        return {}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = VQVAE(recipe.network.first).eval()
        z = network.encoder(to_float(recipe.data.load("train").images[:200])).detach().movedim(1, -1).flatten(0, 2)
        words = getattr(network.quantiser, "words", network.quantiser)  # of several scales, or of one
        words.codebook.copy_(z[torch.randperm(len(z))[: len(words.codebook)]])
    return {"first_stage": network}


def model(recipe):
    """What `load` would return of a training that left no weight small, so that everything matters to what is drawn."""
    networks = build(recipe)
    for first in first_stage(recipe).values():
        networks.model.adopt(first)
    return type(networks)(fill(networks.model, 0.4)), recipe


def fill(network, std):
    """Make every weight matter to what is said.

    A PixelCNN++, which adds up many maps, would soon be sure of all it says. What normalises its maps would soon say the same
    of all it sees, if its biases were large.
    """
    kind = type(getattr(network.config, "writer", network.config))
    normed = kind in (MaskGIT, VAR)
    weights = std * (3 if normed else 0.5 if kind is PixelCNNPP else 1)
    for number, (name, parameter) in enumerate(network.named_parameters()):
        small = normed and name.endswith("bias")
        generator = torch.Generator().manual_seed(number + 1000 * normed)
        nn.init.normal_(parameter, std=std / 4 if small else weights, generator=generator)
    return network.eval().requires_grad_(False)
