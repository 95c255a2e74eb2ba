"""How well pictures and captions fit, who finds whom, and from a folder to networks."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gencore.applications.contrastive import changes
from gencore.applications.contrastive.objectives import Networks
from gencore.applications.contrastive.recipes import ContrastiveRecipe
from gencore.data import ImageSet, to_float, wording
from gencore.data.shapes_scorer import judge
from gencore.errors import InputError
from gencore.networks.contrastive import ContrastiveNetwork
from gencore.training import checkpoint, rng

Model = tuple[Networks, ContrastiveRecipe]


def build(recipe: ContrastiveRecipe) -> Networks:
    """Build the networks with the weights that the recipe's seed draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return Networks(ContrastiveNetwork(recipe.network))


def load(folder: Path | str) -> Model:
    """Load a trained model from a zoo folder or from the newest checkpoint of a run.

    Returns
    -------
    networks : Networks
        The averaged (EMA) network in evaluation mode, float32, without gradients.
    recipe : ContrastiveRecipe
        The recipe it was trained by.

    Raises
    ------
    InputError
        If a file is missing, damaged, or does not fit the recipe.
    """
    return checkpoint.load_model(folder, ContrastiveRecipe, build)


@torch.inference_mode()
def look(model: Model, images: Tensor, batch_size: int = 250) -> Tensor:
    """Return the unit vectors of pictures, ``(N, width)``, on the CPU.

    Parameters
    ----------
    model : tuple of Networks and ContrastiveRecipe
        What `load` returns.
    images : Tensor
        ``(N, C, H, W)``: uint8, or float in [-1, 1].
    batch_size : int
        Pictures computed at once.
    """
    (network,), device = model[0], next(model[0].model.parameters()).device
    pieces = (piece if piece.is_floating_point() else to_float(piece) for piece in images.split(batch_size))
    found = [network.look(piece.to(device)).cpu() for piece in pieces if len(piece)]
    return torch.cat(found) if found else torch.empty(0, model[1].network.width)


@torch.inference_mode()
def read(model: Model, captions: Sequence[str] | Tensor, batch_size: int = 250) -> Tensor:
    """Return the unit vectors of captions, words or rows of word numbers ``(M, L)``: ``(M, width)``, on the CPU.

    Raises
    ------
    InputError
        If a caption has a word that the model does not know, or too many.
    """
    (network,), recipe = model
    device = next(network.parameters()).device
    if not isinstance(captions, Tensor):
        captions = wording.encode(recipe.data, captions, recipe.network.text.length)
    found = [network.read(piece.to(device)).cpu() for piece in captions.split(batch_size) if len(piece)]
    return torch.cat(found) if found else torch.empty(0, recipe.network.width)


def score(model: Model, images: Tensor, captions: Sequence[str]) -> Tensor:
    """Return how well each picture fits its caption: the cosine, from -1 to 1, float32 ``(N,)``.

    Parameters
    ----------
    model : tuple of Networks and ContrastiveRecipe
        What `load` returns.
    images : Tensor
        ``(N, C, H, W)``: uint8, or float in [-1, 1].
    captions : sequence of str
        As many.

    Raises
    ------
    InputError
        If the numbers differ, or a caption has a word that the model does not know.
    """
    if len(images) != len(captions):
        raise InputError(f"there are {len(images)} images and {len(captions)} captions; give each image one")
    return (look(model, images) * read(model, captions)).sum(1)


def scorer(model: Model) -> Callable[[Tensor, Sequence[str]], Tensor]:
    """Return ``scorer(images, captions) -> (N,)``, for `gencore.applications.text_to_image.rerank.best_of`."""
    return lambda images, captions: score(model, images, captions)


def retrieval(model: Model, data: ImageSet) -> dict[str, float]:
    """Return how often the right one is found among all of a data set with scenes.

    Returns
    -------
    dict of str to float
        Shares from 0 to 1. ``caption`` and ``picture``: the very caption (or one of the same words), the very picture,
        fits best. ``true caption``: that which fits best is true of the picture, every fact of it, for several may be.
    """
    fit = look(model, data.images) @ read(model, data.captions).T  # (N, N): rows are pictures
    best, best_picture = fit.argmax(1).tolist(), fit.argmax(0).tolist()
    same = [data.captions[i] == data.captions[j] for i, j in enumerate(best)]
    same_picture = [data.captions[i] == data.captions[j] for i, j in enumerate(best_picture)]
    fitting = zip(data.meta["scene"], best, strict=True)
    true = [judge(data.captions[j], scene.objects).fraction == 1 for scene, j in fitting]
    found = {"caption": same, "picture": same_picture, "true caption": true}
    return {name: sum(hits) / len(hits) for name, hits in found.items()}


def choice(model: Model, data: ImageSet, seed: int = 0, versions: int = 4) -> dict[changes.Kind, tuple[float, int]]:
    """Return how often a picture fits its caption better than one with a single change, by kind of change.

    Parameters
    ----------
    model : tuple of Networks and ContrastiveRecipe
        What `load` returns.
    data : ImageSet
        Pictures of shapes with captions.
    seed : int
        Which changes.
    versions : int
        How many changes of each kind are tried on each caption.

    Returns
    -------
    dict of str to tuple of float and int
        The share from 0 to 1 (one half is chance), and of how many choices.
    """
    ids = wording.encode(model[1].data, data.captions, model[1].network.text.length)  # (N, L)
    pictures, captions, found = look(model, data.images), read(model, ids), {}
    right = (pictures * captions).sum(1)  # (N,)
    for kind in changes.KINDS:
        hits, tried = 0, 0
        for version in range(versions):
            u = torch.rand(len(ids), ids.shape[1] + 1, generator=rng.generator(seed, version, kind))
            if kind == "exchange":
                wrong, usable = changes.exchange_colours(ids, u[:, :-1])
            else:
                wrong, usable = changes.change_word(ids, u, (kind,))
            better = right > (pictures * read(model, wrong)).sum(1)
            hits, tried = hits + int(better[usable].sum()), tried + int(usable.sum())
        found[kind] = hits / max(1, tried), tried
    return found


def measure(model: Model) -> list[dict]:
    """Measure what a card says: retrieval among held-out pictures, and choices between a caption and a wrong one."""
    data = model[1].data.load("heldout")
    rows = [(f"retrieval, {name}", len(data), value) for name, value in retrieval(model, data).items()]
    rows += [(f"right against a changed {kind}", count, value) for kind, (value, count) in choice(model, data).items()]
    return [{"name": name, "on": data.name, "samples": count, "value": value} for name, count, value in rows]
