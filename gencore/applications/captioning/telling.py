"""From pictures to words by greedy or beam search, where the network looks, and from a folder to networks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.applications.captioning.objectives import Networks, written
from gencore.applications.captioning.recipes import CaptioningRecipe, Language
from gencore.data import Shapes, to_float, wording
from gencore.data.wording import END, UNKNOWN
from gencore.errors import InputError
from gencore.networks.captioner import CaptionerNetwork
from gencore.training import checkpoint

Model = tuple[Networks, CaptioningRecipe]


def build(recipe: CaptioningRecipe) -> Networks:
    """Build the network with the weights that the recipe's seed draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return Networks(CaptionerNetwork(recipe.network))


def load(folder: Path | str) -> Model:
    """Load a trained model from a zoo folder or from the newest checkpoint of a run.

    Returns
    -------
    networks : Networks
        The averaged (EMA) network in evaluation mode, float32, without gradients.
    recipe : CaptioningRecipe
        The recipe it was trained by.

    Raises
    ------
    InputError
        If a file is missing, damaged, or does not fit the recipe.
    """
    return checkpoint.load_model(folder, CaptioningRecipe, build)


@dataclass(frozen=True)
class Search:
    """How words are chosen.

    Attributes
    ----------
    beams : int
        How many beginnings are kept while a caption is written; with 1, the likeliest word is taken each time.
    longer : float
        Captions are compared by their log-probability over their number of words to this power (Wu et al. 2016,
        https://arxiv.org/abs/1609.08144, section 7, without the constant 5); with 0, short ones are preferred, for each
        word costs.
    """

    beams: int = 1
    longer: float = 0.7

    def __post_init__(self) -> None:
        if self.beams < 1:
            raise InputError(f"beams {self.beams}: must be 1 or more")
        if not 0 <= self.longer <= 1:
            raise InputError(f"longer {self.longer}: must be from 0 to 1")


class Told(NamedTuple):
    """What a model says of pictures.

    Attributes
    ----------
    texts : list of str
        The captions.
    ids : Tensor
        The same as rows of word numbers, int64 ``(N, L)``.
    log_p : Tensor
        Their log-probabilities in nats, ends included, float32 ``(N,)``.
    """

    texts: list[str]
    ids: Tensor
    log_p: Tensor


@torch.inference_mode()
def tell(
    model: Model, images: Tensor, language: Language = "en", search: Search = Search(), batch_size: int = 100
) -> Told:
    """Say what pictures show.

    Parameters
    ----------
    model : tuple of Networks and CaptioningRecipe
        What `load` returns.
    images : Tensor
        ``(N, C, H, W)``: uint8, or float in [-1, 1].
    language : {"en", "zh"}
        In which language.
    search : Search
        How words are chosen. Nothing is random.
    batch_size : int
        Pictures computed at once.

    Returns
    -------
    Told
        Captions, as text and as numbers, and their log-probabilities.

    Raises
    ------
    InputError
        If the model does not write that language.
    """
    (network,), recipe = model
    number, device = number_of(recipe, language), next(network.parameters()).device
    forbidden = [] if isinstance(recipe.data, Shapes) else [UNKNOWN]  # "<unknown>" says nothing
    rows, log_p = [], []
    for piece in images.split(batch_size) if len(images) else ():
        x = (piece if piece.is_floating_point() else to_float(piece)).to(device)
        found = _search(network, x, torch.full((len(x),), number, device=device), search, forbidden)
        rows.append(found[0].cpu()), log_p.append(found[1].cpu())
    ids = torch.cat(rows) if rows else torch.empty(0, recipe.network.length, dtype=torch.int64)
    return Told([text_of(recipe, row, language) for row in ids], ids, torch.cat(log_p) if log_p else torch.empty(0))


def number_of(recipe: CaptioningRecipe, language: Language) -> int:
    """Return the number of a language; `InputError` if the model does not write it."""
    if language not in recipe.languages:
        raise InputError(f"language {language!r}: this model writes {', '.join(recipe.languages)}")
    return recipe.languages.index(language)


def text_of(recipe: CaptioningRecipe, ids: Tensor, language: Language = "en") -> str:
    """Return the words of a row of numbers: with spaces between them, but none in Chinese."""
    return ("" if language == "zh" else " ").join(wording.decode(recipe.data, ids))


def _search(
    network: CaptionerNetwork, x: Tensor, language: Tensor, search: Search, forbidden: list[int]
) -> tuple[Tensor, Tensor]:
    """Return the captions found, int64 ``(B, L)``, and their log-probabilities, ``(B,)``; forbidden words are not used.

    The beams of a picture are rows that stand together. One that has ended goes on as it is, at no cost, and competes
    with those that are still written by what it would count at the end.
    """
    batch, beams, length = len(x), search.beams, network.config.length
    places = network.picture(x).repeat_interleave(beams, 0)  # (B * k, N, width)
    language, rows = language.repeat_interleave(beams), torch.arange(batch, device=x.device)[:, None]
    caches = network.body.caches(batch * beams, length)
    ids = torch.full((batch, beams, length), END, device=x.device)
    log_p = torch.full((batch, beams), float("-inf"), device=x.device)
    log_p[:, 0] = 0  # all beams begin alike: one of them is enough
    count, ended = torch.zeros_like(log_p), torch.zeros_like(log_p, dtype=torch.bool)
    before = ids[:, :, 0].flatten()
    for number in range(length):
        step = network.next(places, caches, number, before, language).log_softmax(1).view(batch, beams, -1)
        step[:, :, forbidden] = float("-inf")
        if number == length - 1:  # no room for another word
            step[:, :, END + 1 :] = float("-inf")
        step = step.masked_fill(ended[:, :, None], float("-inf"))
        step[:, :, END] = torch.where(ended, 0, step[:, :, END])
        sums, words_in = log_p[:, :, None] + step, (count + ~ended)[:, :, None]  # (B, k, words), (B, k, 1)
        value = sums / words_in**search.longer
        best = value.flatten(1).topk(beams, 1).indices  # (B, k)
        parent, word = best // step.shape[2], best % step.shape[2]
        log_p, count = sums.flatten(1).gather(1, best), words_in[:, :, 0].gather(1, parent)
        ids, ended = ids[rows, parent], ended.gather(1, parent)
        ids[:, :, number] = word
        ended = ended | (word == END)
        before, kept = word.flatten(), (rows * beams + parent).flatten()
        for cache in caches:
            cache.memory = cache.memory[:, kept]
        if ended.all():
            break
    best = (log_p / count**search.longer).argmax(1, keepdim=True)  # (B, 1)
    return ids[rows, best][:, 0], log_p.gather(1, best)[:, 0]


@torch.inference_mode()
def log_probability(model: Model, images: Tensor, ids: Tensor, language: Language = "en") -> Tensor:
    """Return the log-probability of captions, in nats, ends included, float32 ``(N,)``.

    Parameters
    ----------
    model : tuple of Networks and CaptioningRecipe
        What `load` returns.
    images : Tensor
        ``(N, C, H, W)``: uint8, or float in [-1, 1].
    ids : Tensor
        Captions, int64 ``(N, L)``.
    language : {"en", "zh"}
        Their language.
    """
    (network,), recipe = model
    x, device = images if images.is_floating_point() else to_float(images), next(network.parameters()).device
    ids, number = ids.to(device), number_of(recipe, language)
    log_p = network(x.to(device), ids, torch.full((len(x),), number, device=device)).log_softmax(2)
    return (log_p.gather(2, ids[:, :, None])[:, :, 0] * written(ids)).sum(1).cpu()


def scorer(model: Model, batch_size: int = 250) -> Callable[[Tensor, Sequence[str]], Tensor]:
    """Return ``scorer(images, captions) -> (N,)``: how probable each caption is, its picture given, in nats.

    For `gencore.applications.text_to_image.rerank.best_of`: of several pictures drawn for a caption, which is most
    likely to be told in these words? Captions are in English.
    """

    def score(images: Tensor, captions: Sequence[str]) -> Tensor:
        ids = wording.encode(model[1].data, captions, model[1].network.length)
        pieces = zip(images.split(batch_size), ids.split(batch_size), strict=True)
        return torch.cat([log_probability(model, *piece) for piece in pieces])

    return score


@torch.inference_mode()
def looks(model: Model, image: Tensor, ids: Tensor, language: Language = "en") -> tuple[list[str], Tensor]:
    """Return the words of a caption, and where in a picture the network looks before each of them.

    Parameters
    ----------
    model : tuple of Networks and CaptioningRecipe
        What `load` returns.
    image : Tensor
        ``(C, H, W)``: uint8, or float in [-1, 1].
    ids : Tensor
        Its caption, int64 ``(L,)``, such as `tell` found.
    language : {"en", "zh"}
        Its language.

    Returns
    -------
    words : list of str
        ``M`` words.
    maps : Tensor
        ``(M, side, side)``; each sums to 1.
    """
    (network,), recipe = model
    x, device = image if image.is_floating_point() else to_float(image), next(network.parameters()).device
    number, words = number_of(recipe, language), wording.decode(recipe.data, ids)
    maps = network.looks(x[None].to(device), ids[None].to(device), torch.tensor([number], device=device))
    return words, maps[0, : len(words)].cpu()
