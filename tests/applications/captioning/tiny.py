"""Small captioners and their recipes."""

from dataclasses import replace

from gencore.applications.captioning import CaptioningRecipe
from gencore.data import Emoji, Shapes
from gencore.data.shapes import CAPTION_LENGTH, VOCABULARY
from gencore.data.wording import EMOJI_LENGTH, vocabulary
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.captioner import Captioner
from gencore.networks.places import Places
from gencore.networks.transformer import Transformer
from gencore.training.optimiser import AdamW

LOOKING = Autoencoder(size=16, channels=3, latent=6, flat=False, width=8, multipliers=(1, 2), patch=2)
NETWORK = Captioner(
    Places(LOOKING), Transformer(8, 1, 2, context=6, causal=True), len(VOCABULARY), CAPTION_LENGTH, drop=0.2
)
TINY = CaptioningRecipe(
    data=Shapes(16, images=100, heldout_images=20, held_out_combinations=True, several_related=True),
    network=NETWORK,
    optimiser=AdamW(lr=1e-3, weight_decay=1e-3, warm_up=32, beta2=0.99),
    images=96,
    batch_size=16,
    ema_half_life=64,
    log_every=16,
    checkpoint_every=48,
)
NAMES = replace(
    TINY,
    data=Emoji(("noto", "twemoji"), size=16),
    network=replace(NETWORK, words=len(vocabulary(Emoji())), length=EMOJI_LENGTH, languages=2),
    languages=("en", "zh"),
    shift=2,
    mirror=True,
)
KINDS = {"shapes": TINY, "emoji": NAMES}
