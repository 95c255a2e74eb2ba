"""From a folder to networks, from photographs to paintings, and how good those are."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from gencore.applications.style_transfer.examples import mixture, painting_grams
from gencore.applications.style_transfer.features import StyleFeatures
from gencore.applications.style_transfer.objectives import (
    Networks, blended, content_distance, grams, style_distance,
)
from gencore.applications.style_transfer.recipes import StyleRecipe
from gencore.applications.style_transfer.styles import fit_side
from gencore.data import to_float, to_uint8
from gencore.data.photos import photos_of
from gencore.errors import InputError
from gencore.networks.adain import AdaIN, AdaINDecoder
from gencore.networks.image_transform import ImageTransform, ImageTransformNetwork
from gencore.training import checkpoint

REPLAY_SIDE, PAIRS_SIDE = 128, 192  # of patches that are painted to be shown, at half the size
DIVISOR = 16  # sides of photographs are brought to multiples of it, which all networks here take
LEAST_SIDE = 32  # smaller pictures are mirrored at their borders up to it
# Inside its network, SqueezeNet puts zeros around maps. Where these are seen, AdaIN makes a frame of them, which the decoder
# would paint: it falls into a margin, which is cut off.
MARGIN = 32
_LOOKING: dict[tuple, StyleFeatures] = {}


def build(recipe: StyleRecipe) -> Networks:
    """Build the network with the weights that the recipe's seed draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        if isinstance(recipe.network, ImageTransform):
            network = ImageTransformNetwork(recipe.network)
            with torch.no_grad():  # colours begin as those of the paintings
                for row, picture in enumerate(recipe.styles.whole()):
                    network.colour_scale[row] = picture.std((0, 2, 3))
                    network.colour_shift[row] = picture.mean((0, 2, 3))
            return Networks(network)
        decoder = AdaINDecoder(recipe.network)
    decoder.unit.copy_(torch.tensor(typical_size(recipe)))
    return Networks(decoder)


def looking(recipe: StyleRecipe) -> StyleFeatures:
    """Return the fixed network that a recipe looks with."""
    layers = recipe.objective.layers
    return StyleFeatures(recipe.looked_at, layers.enlarge, layers.pool)


@torch.no_grad()
def typical_size(recipe: StyleRecipe) -> list[float]:
    """Return the root mean square of each map that AdaIN decodes, on the recipe's paintings."""
    features = looking(recipe)
    found = [features(picture) for picture in recipe.styles.whole()]
    return [
        torch.stack([maps[layer].square().mean() for maps in found]).mean().sqrt().item() for layer in recipe.network.layers
    ]


def load(folder: Path | str) -> tuple[Networks, StyleRecipe]:
    """Load a trained model from a zoo folder or from the newest checkpoint of a run.

    Parameters
    ----------
    folder : Path or str
        ``gencore.zoo.folder(name)``, or a run's folder.

    Returns
    -------
    networks : Networks
        The averaged (EMA) network in evaluation mode, float32, without gradients.
    recipe : StyleRecipe
        The recipe it was trained by.

    Raises
    ------
    InputError
        If a file is missing, damaged, or does not fit the recipe.
    """
    networks, recipe = checkpoint.load_model(folder, StyleRecipe, build)
    networks.model.to(memory_format=torch.channels_last)
    return networks, recipe


@torch.inference_mode()
def paint(model: tuple[Networks, StyleRecipe], x: Tensor, painting: int | Tensor, strength: float = 1.0) -> Tensor:
    """Paint photographs like a painting that the network has a row for.

    Parameters
    ----------
    model : tuple of Networks and StyleRecipe
        What `load` returns for a recipe with an `ImageTransform`.
    x : Tensor
        Photographs ``(B, 3, H, W)`` in [-1, 1], of any size.
    painting : int or Tensor
        Number of the painting (`gencore.data.photos.paintings`); or shares of the network's styles, ``(styles,)``, the last
        that of the photograph.
    strength : float
        How much of it, in [0, 1]; 0 leaves the photograph as it is, as far as the network can.

    Returns
    -------
    Tensor
        float32 ``(B, 3, H, W)`` in [-1, 1], on the device of the network.

    Raises
    ------
    InputError
        If the model needs a picture of the style, or has no such painting, or the strength is not in [0, 1].
    """
    (network,), recipe = model
    check_strength(strength)
    if not isinstance(recipe.network, ImageTransform):
        raise InputError("this model has no paintings of its own: give a picture to `paint_like`")
    device = next(network.parameters()).device
    if isinstance(painting, Tensor):
        rest = torch.zeros_like(painting)
        rest[-1] = 1.0
        mix = (strength * painting + (1 - strength) * rest).to(device).expand(len(x), -1)
    else:
        number = torch.full((len(x),), row_of(recipe, painting), device=device)
        mix = mixture(number, torch.full((len(x),), strength, device=device), recipe.network.styles)
    return cropped(network(padded(x.to(device)), mix), x)


@torch.inference_mode()
def paint_like(model: tuple[Networks, StyleRecipe], x: Tensor, style: Tensor, strength: float = 1.0) -> Tensor:
    """Paint photographs in the style of any picture.

    Parameters
    ----------
    model : tuple of Networks and StyleRecipe
        What `load` returns for a recipe with an `AdaIN`.
    x : Tensor
        Photographs ``(B, 3, H, W)`` in [-1, 1], of any size.
    style : Tensor
        A picture for all, ``(1, 3, h, w)``, or one for each, of any size; how broad its strokes are, they will be.
    strength : float
        How much of it, in [0, 1].

    Returns
    -------
    Tensor
        float32 ``(B, 3, H, W)`` in [-1, 1], on the device of the network.

    Raises
    ------
    InputError
        If the model knows only paintings of its own, or the strength is not in [0, 1].
    """
    (network,), recipe = model
    check_strength(strength)
    if not isinstance(recipe.network, AdaIN):
        raise InputError("this model paints like paintings of its own only: use `paint`")
    device, layers = next(network.parameters()).device, recipe.network.layers
    features = _looking_once(recipe, device)
    shown, given = features(padded(x.to(device), MARGIN)), features(padded(style.to(device), MARGIN))
    maps = blended(shown, given, layers, torch.full((len(x),), strength, device=device))
    return cropped(network(maps), x, MARGIN)


def row_of(recipe: StyleRecipe, painting: int) -> int:
    """Return which row of scales and shifts belongs to a painting; `InputError` if none does."""
    if painting not in recipe.styles.numbers:
        raise InputError(f"painting {painting}: this model knows {', '.join(map(str, recipe.styles.numbers))}")
    return recipe.styles.numbers.index(painting)


def check_strength(strength: float) -> None:
    """Raise `InputError` unless a strength is in [0, 1]."""
    if not 0 <= strength <= 1:
        raise InputError(f"strength {strength}: must be in [0, 1]")


def padded(x: Tensor, margin: int = 0) -> Tensor:
    """Mirror pictures ``(B, C, H, W)`` at all four sides by a margin, and then on until sides are multiples of 16, from 32 on.

    A picture that is smaller than what is asked for is mirrored again and again.
    """
    rows, columns = (_mirrored(side, margin).to(x.device) for side in x.shape[2:])
    return x[:, :, rows][:, :, :, columns]


def _mirrored(side: int, margin: int) -> Tensor:
    """Return which rows of ``side`` stand where, once mirrored by `padded`."""
    wanted = max(LEAST_SIDE, -(-(side + 2 * margin) // DIVISOR) * DIVISOR)
    there_and_back = max(1, 2 * (side - 1))  # a single row stays where it is
    place = (torch.arange(wanted) - margin) % there_and_back
    return torch.where(place < side, place, there_and_back - place)


def cropped(painted: Tensor, x: Tensor, margin: int = 0) -> Tensor:
    """Cut from what became of `padded` pictures what belongs to the pictures themselves."""
    return painted[:, :, margin : margin + x.shape[2], margin : margin + x.shape[3]]


def _looking_once(recipe: StyleRecipe, device: torch.device) -> StyleFeatures:
    """Return a recipe's fixed network, read from disk only once."""
    key = recipe.looked_at, recipe.objective.layers, device
    if key not in _LOOKING:
        _LOOKING[key] = looking(recipe).to(device)
    return _LOOKING[key]


def heldout_photographs(side: int) -> list[Tensor]:
    """Return the held-out photographs, ``(1, 3, H, W)`` in [-1, 1] each, with this shorter side."""
    return [fit_side(to_float(picture.image)[None], side) for picture in photos_of("heldout")]


def _painted(model: tuple[Networks, StyleRecipe], x: Tensor, painting: int, styles: list[Tensor]) -> Tensor:
    """Paint photographs like one of the recipe's paintings, whatever the kind of the network."""
    if isinstance(model[1].network, AdaIN):
        return paint_like(model, x, styles[row_of(model[1], painting)])
    return paint(model, x, painting)


def to_show(recipe: StyleRecipe, count: int, side: int) -> tuple[Tensor, list[Tensor]]:
    """Return patches of held-out photographs, ``(count, 3, side, side)`` in [-1, 1], and the recipe's paintings."""
    data = recipe.data.load("heldout").images
    x = fit_side(to_float(data[torch.linspace(0, len(data) - 1, count).long()]), side)
    return x, recipe.styles.whole()


def replay(model: tuple[Networks, StyleRecipe], x: Tensor, styles: list[Tensor]) -> Tensor:
    """Return what a model makes of patches, painting after painting, at half the size: uint8, on the CPU."""
    numbers = model[1].styles.numbers
    made = [_painted(model, x[i : i + 1], numbers[i % len(numbers)], styles).cpu() for i in range(len(x))]
    return to_uint8(avg_pool2d(torch.cat(made), 2))


def heldout_pairs(model: tuple[Networks, StyleRecipe], count: int) -> tuple[Tensor, Tensor]:
    """Return patches of held-out photographs, uint8 ``(count, 3, 96, 96)``, and their paintings, painting after painting.

    They are painted at twice that size, at which strokes are those of training.
    """
    x, styles = to_show(model[1], count, PAIRS_SIDE)
    return to_uint8(avg_pool2d(x, 2)), replay(model, x, styles)


def measure(model: tuple[Networks, StyleRecipe], side: int = 192) -> list[dict[str, str | int | float]]:
    """Return what a card says of this application: how far paintings of held-out photographs are in style and in content.

    Each photograph is painted like each painting that the recipe knows. The distances are those that are minimised, and so
    flatter: 0 is the painting's style, or the photograph's content; a photograph left as it is has a style distance too,
    which is given beside.
    """
    (network,), recipe = model
    device = next(network.parameters()).device
    features, styles = _looking_once(recipe, device), recipe.styles.whole()
    layers = recipe.objective.layers
    wanted = painting_grams(recipe, features, device)
    found: dict[str, list[Tensor]] = {"style distance": [], "content distance": [], "style distance of photographs": []}
    with torch.inference_mode():
        for photograph in heldout_photographs(side):
            plain = features(photograph.to(device))
            for row, painting in enumerate(recipe.styles.numbers):
                aim = {layer: matrices[row : row + 1] for layer, matrices in wanted.items()}
                maps = features(_painted(model, photograph, painting, styles))
                found["style distance"].append(style_distance(grams(maps, layers), aim))
                found["content distance"].append(content_distance(maps[layers.content], plain[layers.content]))
                found["style distance of photographs"].append(style_distance(grams(plain, layers), aim))
    on = f"photos/heldout at {side} px, each like {recipe.styles.count} paintings"
    return [
        {"name": name, "on": on, "samples": len(values), "value": torch.cat(values).mean().item()}
        for name, values in found.items()
    ]
