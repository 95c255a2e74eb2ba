"""A small contrastive model and its recipe."""

from gencore.applications.contrastive import ContrastiveRecipe
from gencore.data import Shapes
from gencore.data.shapes import CAPTION_LENGTH, VOCABULARY
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.contrastive import Contrastive
from gencore.networks.places import Places
from gencore.networks.text import TextEncoder
from gencore.networks.transformer import Transformer
from gencore.training.optimiser import AdamW

STACK = Transformer(8, 1, 2)
TINY = ContrastiveRecipe(
    data=Shapes(16, images=100, heldout_images=40, held_out_combinations=True, several_related=True),
    network=Contrastive(
        Places(Autoencoder(size=16, channels=3, latent=8, flat=False, width=8, multipliers=(1, 2), patch=2), STACK),
        TextEncoder(len(VOCABULARY), CAPTION_LENGTH, STACK),
        width=6,
    ),
    wrong=2,
    optimiser=AdamW(lr=1e-3, weight_decay=1e-3, warm_up=32, beta2=0.99),
    images=96,
    batch_size=16,
    ema_half_life=64,
    log_every=16,
    checkpoint_every=48,
)
