"""The judge of digits as a model: from a folder to the classifier, and what it reaches."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from gencore.data import ImageSet, to_float
from gencore.metrics.recipes import ClassifierRecipe
from gencore.networks.classifier import ImageClassifier
from gencore.training import checkpoint


class Networks(NamedTuple):
    """The networks of this folder: one, which maps images to logits."""

    classifier: ImageClassifier


def build(recipe: ClassifierRecipe) -> Networks:
    """Build the network with the weights that the recipe's seed draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return Networks(ImageClassifier(recipe.network))


def load(folder: Path | str) -> tuple[Networks, ClassifierRecipe]:
    """Load a trained classifier from a zoo folder or from the newest checkpoint of a run.

    Parameters
    ----------
    folder : Path or str
        ``gencore.zoo.folder("digit_classifier")``, or a run's folder.

    Returns
    -------
    networks : Networks
        The averaged (EMA) classifier in evaluation mode, float32, without gradients.
    recipe : ClassifierRecipe
        The recipe it was trained by.

    Raises
    ------
    InputError
        If a file is missing, damaged, or does not fit the recipe.
    """
    return checkpoint.load_model(folder, ClassifierRecipe, build)


@torch.inference_mode()
def accuracy(classifier: nn.Module, data: ImageSet, batch_size: int = 500) -> float:
    """Return the share of images, in [0, 1], whose most probable class is the right one."""
    device = next(classifier.parameters()).device
    pieces = zip(data.images.split(batch_size), data.labels.split(batch_size), strict=True)
    hits = sum((classifier(to_float(x.to(device))).argmax(1).cpu() == labels).sum().item() for x, labels in pieces)
    return hits / len(data)


def measure(model: tuple[Networks, ClassifierRecipe]) -> list[dict[str, str | int | float]]:
    """Return what a card says of this family: the accuracy on held-out digits."""
    (classifier,), recipe = model
    heldout = recipe.data.load("heldout")
    return [{"name": "accuracy", "on": heldout.name, "samples": len(heldout), "value": accuracy(classifier, heldout)}]
