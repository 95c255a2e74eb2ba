"""Find out what augmentation, R1, styles and codes buy a GAN that learns from 3,800 emoji.

    python tools/emoji_gan_study.py runs/emoji_gan

Writes ``gencore/zoo/studies/emoji_gan.csv``, a row for each training: the ``variant``'s number in `VARIANTS`; kernel distance
to the held-out emoji, its spread over subsets, precision and recall, as ``gencore evaluate`` finds them, on 2,000 samples;
``by_heart``, how often the discriminator prefers a training picture to a held-out one (0.5 if it knows none by heart), both
without augmentation; and ``core_minutes``. All are told category, style and whether the picture is mirrored, see as many
images, and are trained once; each kind of network has the learning rate of its recipe. Trainings are kept in the folder and
resumed. About four core-minutes each on an AMD EPYC.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

if __package__ in (None, ""):  # started as a script: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gencore import families, gan
from gencore.data import ImageSet, to_float, to_uint8
from gencore.data.told import conditions, with_mirrored
from gencore.gan import R1, Augmentation, GANRecipe
from gencore.gan.objectives import ask
from gencore.gan.recipes import dcgan_emoji, style_emoji
from gencore.metrics import SqueezeNetFeatures, evaluate
from gencore.networks.conditional_dcgan import ConditionalDCGAN
from gencore.networks.first_stage import CodeModel
from tools import studies

IMAGES, SAMPLES = 96_000, 2_000

CODES = replace(style_emoji(), images=IMAGES)
GAME = CODES.network.game
# The recipe of `dcgan_emoji`, but told, and with the same number format as the others.
DCGAN = replace(
    dcgan_emoji(),
    network=ConditionalDCGAN(dcgan_emoji().network, GAME.conditions),
    told=CODES.told,
    mirror=True,
    images=IMAGES,
    precision=CODES.precision,
)
AUGMENTED, FLAT = Augmentation(), (R1(gamma=1.0, every=16),)
VARIANTS: dict[str, GANRecipe] = {
    "styles on codes": CODES,
    "styles on codes, no augmentation": replace(CODES, augmentation=None),
    "DCGAN": DCGAN,
    "DCGAN, augmentation, R1": replace(DCGAN, augmentation=AUGMENTED, penalties=FLAT),
    "styles on codes, no R1": replace(CODES, penalties=()),
}


@torch.no_grad()
def verdicts(networks: gan.Networks, recipe: GANRecipe, data: ImageSet) -> Tensor:
    """Return the discriminator's verdicts on real pictures, ``(N,)``, in an order of no meaning."""
    told = conditions(recipe, data)
    told = with_mirrored(recipe, told, torch.zeros(len(data), dtype=torch.int64))
    order, found = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)), []
    for place in order.split(64):
        x = to_float(data.images[place])
        if isinstance(networks.generator, CodeModel):
            x = networks.generator.standardise(x)
        found.append(ask(networks.discriminator, x, told[place]))
    return torch.cat(found)


def outcome(recipe: GANRecipe, folder: Path, features: SqueezeNetFeatures) -> Tensor:
    """Train, and return the columns of a row but for the first, float64 ``(6,)``."""
    for run in gan.train(recipe, folder, "cpu", **families.passed_in_training(gan, recipe)):
        pass
    train, heldout = (recipe.data.load(split) for split in ("train", "heldout"))
    networks = run.averaged._replace(discriminator=run.networks.discriminator.eval())
    drawn = to_uint8(gan.sample((networks, recipe), SAMPLES, seed=1))
    report = evaluate(drawn, train, heldout, features)
    known, new = verdicts(networks, recipe, train), verdicts(networks, recipe, heldout)
    by_heart = (known[:, None] > new).double().mean()
    figures = report.kernel.value, report.kernel.sd, report.precision.value, report.recall.value
    return torch.tensor([*figures, by_heart, run.core_seconds / 60], dtype=torch.float64)


def main(folder: Path) -> None:
    """Fill the table, training by training, so that a look is possible at any time."""
    folder.mkdir(parents=True, exist_ok=True)
    features, rows = SqueezeNetFeatures(), []

    def judge(number: int, recipe: GANRecipe) -> None:
        """Add a training's row to the table."""
        path = folder / f"{number}.pt"
        found = studies.kept(path, lambda: outcome(recipe, folder / str(number), features)).tolist()
        names = "kernel", "kernel_sd", "precision", "recall", "by_heart", "core_minutes"
        rows.append({"variant": number} | dict(zip(names, found, strict=True)))
        studies.write("emoji_gan", rows)

    for number, recipe in enumerate(VARIANTS.values()):
        judge(number, recipe)


if __name__ == "__main__":
    studies.start(main, __doc__)
