"""The training loop of the judge of digits: plain supervised learning of a classifier.

What judges must not be learnt from: a model that had been trained, selected or guided by this classifier would be
rewarded for pleasing it. So the classifier sees the train split only, and no gencore model uses it in training or
sampling.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencore.data import Batches
from gencore.errors import InputError
from gencore.metrics.judge import Networks, build
from gencore.metrics.recipes import Augmentation, ClassifierRecipe
from gencore.training import device as devices, rng
from gencore.training.ema import EMA
from gencore.training.log import Extra
from gencore.training.loss import Loss
from gencore.training.optimiser import set_learning_rate
from gencore.training.run import Run


def train(
    recipe: ClassifierRecipe,
    folder: Path | str | None = None,
    device: str = "auto",
    log: Extra = "none",
    compile: bool = False,
) -> Iterator[Run]:
    """Train a classifier, yielding the run at every ``recipe.log_every`` images and at the end.

    Parameters
    ----------
    recipe : ClassifierRecipe
        What to train.
    folder : Path or str, optional
        Where to keep checkpoints and the curve. A run found there is resumed; on one CPU thread the result is then
        bitwise that of a run never stopped. None keeps nothing.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    log : {"none", "tensorboard", "wandb"}
        A further place for the curve.
    compile : bool
        Compile the network (pays on GPUs).

    Yields
    ------
    Run
        The same object each time; ``run.averaged.classifier`` is the judge. Losses are ``cross_entropy`` in nats and
        ``accuracy`` in [0, 1], on augmented training batches.

    Raises
    ------
    InputError
        If the folder holds another run, or ``torchrun`` started several processes: so small a network needs one only.
    NonFiniteLoss
        If a loss is no longer a number; the last checkpoint stays.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError("the classifier trains in a single process; start it without torchrun")
    device = devices.pick_device(device)
    batches = Batches(recipe.data.load("train"), recipe.batch_size, recipe.seed, device)
    networks = Networks(*(network.to(device) for network in build(recipe)))
    ema = EMA(networks.classifier, recipe.ema_half_life)
    adam = recipe.optimiser.build(networks.classifier.parameters())
    run = Run(recipe, folder, networks, Networks(ema.network), {"adam": adam}, log)
    if compile:
        networks.classifier.compile()

    while not run.done:
        seen = run.images_seen
        batch = batches.at(seen)
        draw = rng.generator(recipe.seed, seen, "augmentation", device)
        x = augment(batch.x, recipe.augmentation, draw)  # (B, C, H, W)
        set_learning_rate(adam, recipe.optimiser.learning_rate(seen, recipe.batch_size, recipe.images))
        with devices.autocast(device, recipe.precision):
            loss = cross_entropy(networks.classifier, x, batch.labels)
        loss.total.backward()
        adam.step()
        adam.zero_grad()

        run.count(loss.parts)
        ema.update(networks.classifier, run.images_seen, recipe.batch_size)
        if run.report_due():
            yield run.report()


def cross_entropy(classifier: nn.Module, x: Tensor, labels: Tensor) -> Loss:
    """Return the mean of -log p(label | x), in nats; parts are ``cross_entropy`` and ``accuracy``."""
    logits = classifier(x).float()  # (B, classes)
    total = F.cross_entropy(logits, labels)
    hits = (logits.argmax(1) == labels).float().mean()
    return Loss(total, {"cross_entropy": total.detach(), "accuracy": hits})


def augment(x: Tensor, settings: Augmentation, draw: torch.Generator) -> Tensor:
    """Return each image moved by its own random affine map (black, -1, beyond the border) and made noisy.

    Parameters
    ----------
    x : Tensor
        float ``(B, C, H, W)`` in [-1, 1].
    settings : Augmentation
        The largest shift, rotation, change of size, shear and noise.
    draw : torch.Generator
        Source of the randomness, on the device of ``x``.

    Returns
    -------
    Tensor
        Shape and range of ``x``.
    """
    uniform = (torch.rand(len(x), 6, generator=draw, device=x.device) * 2 - 1).unbind(1)  # six times (B,), in [-1, 1)
    angle, scale = uniform[0] * math.radians(settings.rotation), 1 + uniform[1] * settings.scale
    shear = uniform[2] * settings.shear
    # grid_sample's coordinates run from -1 to 1, hence two units are a whole side.
    shift_x, shift_y = uniform[3] * settings.shift * 2 / x.shape[3], uniform[4] * settings.shift * 2 / x.shape[2]
    first_row = torch.stack([scale * angle.cos(), shear - scale * angle.sin(), shift_x], 1)  # (B, 3)
    second_row = torch.stack([scale * angle.sin(), scale * angle.cos(), shift_y], 1)  # (B, 3)
    maps = torch.stack([first_row, second_row], 1)  # (B, 2, 3)
    grid = F.affine_grid(maps, list(x.shape), align_corners=False)  # (B, H, W, 2)
    moved = F.grid_sample(x + 1, grid, align_corners=False) - 1  # beyond the border grid_sample puts 0
    # Squared, so that most images stay nearly clean: that is what will be judged.
    sd = settings.noise * uniform[5].square()[:, None, None, None]  # (B, 1, 1, 1)
    return (moved + sd * torch.randn(x.shape, generator=draw, device=x.device)).clamp(-1, 1)
