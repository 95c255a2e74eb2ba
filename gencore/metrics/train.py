"""The training loop of the judge of digits: plain supervised learning of a classifier.

What judges must not be learnt from: a model that had been trained, selected or guided by this classifier would be
rewarded for pleasing it. So the classifier sees the train split only, and no gencore model uses it in training or
sampling.
"""

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencore.data import Batches, ImageSet, to_float
from gencore.errors import InputError
from gencore.metrics.recipes import Augmentation, ClassifierRecipe
from gencore.networks.classifier import ImageClassifier
from gencore.training import checkpoint, recipe_io, rng
from gencore.training import device as devices
from gencore.training.ema import EMA
from gencore.training.log import Curve, Extra
from gencore.training.loss import Loss, LossWindow


@dataclass
class ClassifierState:
    """Where a training run is; `train` yields it at each row of the curve.

    Attributes
    ----------
    recipe : ClassifierRecipe
        What is being trained.
    classifier : ImageClassifier
        The network as it is now.
    ema : EMA
        Its moving average; ``ema.network`` is the judge.
    images_seen : int
        Training images so far.
    losses : dict of str to float
        ``cross_entropy`` in nats and ``accuracy`` in [0, 1] on augmented training batches, means since the last report.
    seconds : float
        Wall clock spent so far, earlier parts of a resumed run included.
    core_seconds : float
        Processor time spent so far, over all cores.
    """

    recipe: ClassifierRecipe
    classifier: ImageClassifier
    ema: EMA
    images_seen: int
    losses: dict[str, float]
    seconds: float
    core_seconds: float


def train(
    recipe: ClassifierRecipe,
    folder: Path | str | None = None,
    device: str = "auto",
    log: Extra = "none",
    compile: bool = False,
) -> Iterator[ClassifierState]:
    """Train a classifier, yielding its state at every ``recipe.log_every`` images and at the end.

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
    ClassifierState
        The same object each time.

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
    folder = Path(folder) if folder else None
    batches = Batches(recipe.data.load("train"), recipe.batch_size, recipe.seed, device)
    classifier = build(recipe).to(device)
    ema = EMA(classifier, recipe.ema_half_life)
    adam = torch.optim.AdamW(classifier.parameters(), weight_decay=recipe.optimiser.weight_decay, fused=True)
    state = ClassifierState(recipe, classifier, ema, 0, {}, 0.0, 0.0)

    if folder:
        checkpoint.open_run(folder, recipe)
        if saved := checkpoint.list_checkpoints(folder):
            _resume(saved[-1], state, adam)
    curve = Curve(folder, state.images_seen, log)
    if compile:
        classifier.compile()
    window = LossWindow()
    started, core_started = time.perf_counter() - state.seconds, time.process_time() - state.core_seconds

    while state.images_seen < recipe.images:
        batch = batches.at(state.images_seen)
        draw = rng.generator(recipe.seed, state.images_seen, "augmentation")
        x = augment(batch.x, recipe.augmentation, draw)  # (B, C, H, W)
        adam.param_groups[0]["lr"] = learning_rate(recipe, state.images_seen)
        with devices.autocast(device, recipe.precision):
            loss = cross_entropy(classifier, x, batch.labels)
        loss.total.backward()
        adam.step()
        adam.zero_grad()

        state.images_seen = seen = state.images_seen + recipe.batch_size
        ema.update(classifier, seen, recipe.batch_size)
        window.add(seen // recipe.batch_size, loss.parts)

        done = seen >= recipe.images
        log_due = done or seen % recipe.log_every < recipe.batch_size
        save_due = done or seen % recipe.checkpoint_every < recipe.batch_size
        if log_due or save_due:
            state.losses = window.report()  # raises when a loss is not finite: such weights are never saved
            state.seconds, state.core_seconds = time.perf_counter() - started, time.process_time() - core_started
            curve.append({"images_seen": seen, **state.losses, "seconds": state.seconds})
        if folder and save_due:
            training = {"seconds": state.seconds, "core_seconds": state.core_seconds, "adam": adam.state_dict()}
            checkpoint.save(folder, seen, {"classifier": classifier}, {"classifier": ema.network}, training)
        if log_due or save_due:
            yield state


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
        Source of the randomness, on the CPU.

    Returns
    -------
    Tensor
        Shape and range of ``x``.
    """
    uniform = (torch.rand(len(x), 6, generator=draw) * 2 - 1).unbind(1)  # six times (B,), in [-1, 1)
    angle, scale = uniform[0] * math.radians(settings.rotation), 1 + uniform[1] * settings.scale
    shear = uniform[2] * settings.shear
    # grid_sample's coordinates run from -1 to 1, hence two units are a whole side.
    shift_x, shift_y = uniform[3] * settings.shift * 2 / x.shape[3], uniform[4] * settings.shift * 2 / x.shape[2]
    first_row = torch.stack([scale * angle.cos(), shear - scale * angle.sin(), shift_x], 1)  # (B, 3)
    second_row = torch.stack([scale * angle.sin(), scale * angle.cos(), shift_y], 1)  # (B, 3)
    maps = torch.stack([first_row, second_row], 1).to(x.device)  # (B, 2, 3)
    grid = F.affine_grid(maps, list(x.shape), align_corners=False)  # (B, H, W, 2)
    moved = F.grid_sample(x + 1, grid, align_corners=False) - 1  # beyond the border grid_sample puts 0
    # Squared, so that most images stay nearly clean: that is what will be judged.
    sd = settings.noise * uniform[5].square()[:, None, None, None]  # (B, 1, 1, 1)
    return (moved + (sd * torch.randn(x.shape, generator=draw)).to(x.device)).clamp(-1, 1)


def learning_rate(recipe: ClassifierRecipe, images_seen: int) -> float:
    """Return the learning rate of the step after ``images_seen`` images: a linear rise, then half a cosine."""
    warm = min(1.0, (images_seen + recipe.batch_size) / max(1, recipe.optimiser.warm_up))
    return recipe.optimiser.lr * warm * 0.5 * (1 + math.cos(math.pi * images_seen / recipe.images))


def build(recipe: ClassifierRecipe) -> ImageClassifier:
    """Build the network with the weights that the recipe's seed draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return ImageClassifier(recipe.network)


def load(folder: Path | str) -> tuple[ImageClassifier, ClassifierRecipe]:
    """Load a trained classifier from a zoo folder or from the newest checkpoint of a run.

    Parameters
    ----------
    folder : Path or str
        ``gencore.zoo.folder("digit_classifier")``, or a run's folder.

    Returns
    -------
    classifier : ImageClassifier
        The averaged (EMA) network in evaluation mode, float32, without gradients.
    recipe : ClassifierRecipe
        The recipe it was trained by.

    Raises
    ------
    InputError
        If a file is missing, damaged, or does not fit the recipe.
    """
    folder = Path(folder)
    recipe = recipe_io.read(ClassifierRecipe, folder / "recipe.json")
    classifier = build(recipe)
    path = (checkpoint.list_checkpoints(folder) or [folder])[-1] / "ema.safetensors"
    checkpoint.fill({"classifier": classifier}, checkpoint.read_tensors(path), path)
    return classifier.eval().requires_grad_(False), recipe


@torch.inference_mode()
def accuracy(classifier: nn.Module, data: ImageSet, batch_size: int = 500) -> float:
    """Return the share of images, in [0, 1], whose most probable class is the right one."""
    device = next(classifier.parameters()).device
    pieces = zip(data.images.split(batch_size), data.labels.split(batch_size), strict=True)
    hits = sum((classifier(to_float(x.to(device))).argmax(1).cpu() == labels).sum().item() for x, labels in pieces)
    return hits / len(data)


def _resume(saved: Path, state: ClassifierState, adam: torch.optim.Optimizer) -> None:
    """Put everything back to where the checkpoint was written."""
    for name, network in (("weights", state.classifier), ("ema", state.ema.network)):
        path = saved / f"{name}.safetensors"
        checkpoint.fill({"classifier": network}, checkpoint.read_tensors(path), path)
    training = checkpoint.read_state(saved / "train_state.pt")
    adam.load_state_dict(training["adam"])
    state.images_seen = int(saved.name)
    state.seconds, state.core_seconds = training["seconds"], training["core_seconds"]
