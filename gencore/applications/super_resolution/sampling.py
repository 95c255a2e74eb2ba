"""From a folder to a network, from a small picture to a large one, and how near that comes to the original.

`judge` and `judge_each` take any function from small pictures to large ones, so that whatever enlarges, however it was
trained, is measured alike.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from gencore.applications.super_resolution.objectives import Networks
from gencore.applications.super_resolution.recipes import SuperResolutionRecipe
from gencore.data import Picture, to_float, to_uint8
from gencore.data.photos import cut_patches, photos_of
from gencore.errors import InputError
from gencore.metrics import PerceptualDistance, psnr, second_features, ssim
from gencore.networks.bicubic import enlarge, reduce
from gencore.networks.edsr import EDSR, EDSRNetwork
from gencore.networks.patchgan import PatchDiscriminator
from gencore.networks.srcnn import SRCNN, SRCNNNetwork
from gencore.training import checkpoint

TILE = 192  # side, in pixels of the small picture, of what is enlarged at once
TO_LUMINANCE = (65.481 / 255, 128.553 / 255, 24.966 / 255)  # of red, green and blue: ITU-R BT.601, as papers use it


def build(recipe: SuperResolutionRecipe) -> Networks:
    """Build the network with the weights that the recipe's seed draws."""
    kinds = {SRCNN: SRCNNNetwork, EDSR: EDSRNetwork}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return Networks(kinds[type(recipe.network)](recipe.network))


def build_discriminator(recipe: SuperResolutionRecipe) -> PatchDiscriminator:
    """Build the recipe's adversary with the weights that the recipe's seed draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return PatchDiscriminator(recipe.adversary.network)


def last_weights(network: nn.Module) -> nn.Parameter:
    """Return the weights of a network's last layer, where the gradients of its losses are compared."""
    return network.head.weight


def load(folder: Path | str) -> tuple[Networks, SuperResolutionRecipe]:
    """Load a trained model from a zoo folder or from the newest checkpoint of a run.

    Parameters
    ----------
    folder : Path or str
        ``gencore.zoo.folder(name)``, or a run's folder.

    Returns
    -------
    networks : Networks
        The averaged (EMA) network in evaluation mode, float32, without gradients.
    recipe : SuperResolutionRecipe
        The recipe it was trained by.

    Raises
    ------
    InputError
        If a file is missing, damaged, or does not fit the recipe.
    """
    return checkpoint.load_model(folder, SuperResolutionRecipe, build)


def teacher(recipe: SuperResolutionRecipe) -> str | None:
    """Name of the zoo's model that `train` is to be given as ``teacher``, since it begins from there, or None."""
    return recipe.begin


@torch.inference_mode()
def upscale(
    model: tuple[Networks, SuperResolutionRecipe],
    image: Tensor,
    tile: int = TILE,
    watch: Callable[[list], Iterable] = iter,
) -> Tensor:
    """Enlarge a picture of any size.

    A large picture is cut into tiles, so that memory does not grow with it. Each is enlarged with as much around it as the
    network looks at, so that no seam can be seen: but for rounding, the result is that of the whole picture at once.

    Parameters
    ----------
    model : tuple of Networks and SuperResolutionRecipe
        What `load` returns.
    image : Tensor
        uint8 ``(3, H, W)``.
    tile : int
        Side of a tile in pixels of the small picture.
    watch : callable
        Is given the list of tiles and passes them on one by one, such as a progress bar.

    Returns
    -------
    Tensor
        uint8 ``(3, times H, times W)``, on the CPU.

    Raises
    ------
    InputError
        If it is no such picture, or ``tile`` is less than 1.
    """
    (network,), recipe = model
    if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] != recipe.network.channels or not image.numel():
        kind = f"{image.dtype} {tuple(image.shape)}"
        raise InputError(f"image: must be uint8 ({recipe.network.channels}, H, W) with at least one pixel, but is {kind}")
    if tile < 1:
        raise InputError(f"tile is {tile}; it must be at least 1")
    times, reach, device = recipe.network.times, recipe.network.reach, next(network.parameters()).device
    height, width = image.shape[1:]
    large = torch.empty(len(image), times * height, times * width, dtype=torch.uint8)
    for top, left in watch([(y, x) for y in range(0, height, tile) for x in range(0, width, tile)]):
        bottom, right = min(top + tile, height), min(left + tile, width)
        above, before = min(top, reach), min(left, reach)  # what is there to look at
        seen = image[:, top - above : bottom + reach, left - before : right + reach]
        made = to_uint8(network(to_float(seen[None].to(device))))[0].cpu()  # (3, times h, times w)
        inner = made[:, times * above :, times * before :][:, : times * (bottom - top), : times * (right - left)]
        large[:, times * top : times * bottom, times * left : times * right] = inner
    return large


def measure(model: tuple[Networks, SuperResolutionRecipe]) -> list[dict]:
    """Measure what a card says: the enlarged held-out photographs beside the originals, and bicubic enlargement likewise.

    See `judge_each` for what is measured. A model that was trained by SqueezeNet's features pleases SqueezeNet: read the second
    judge's distance, which no model of this book was trained by, beside it.
    """
    times = model[1].network.times
    ours = judge(lambda low: upscale(model, low), times)
    bicubic = judge(lambda low: to_uint8(enlarge(to_float(low[None]), times))[0], times)
    count = len(photos_of("heldout"))
    return [
        {"name": f"{name}{by}", "on": "photos/heldout", "samples": count, "value": value}
        for name in ours
        for by, value in (("", ours[name]), (" (bicubic)", bicubic[name]))
    ]


def judge(enlarged: Callable[[Tensor], Tensor], times: int, pictures: Sequence[Picture] | None = None) -> dict[str, float]:
    """Reduce photographs, have them enlarged, and compare with the originals: means of what `judge_each` finds."""
    return {name: sum(values) / len(values) for name, values in judge_each(enlarged, times, pictures).items()}


@torch.inference_mode()
def judge_each(
    enlarged: Callable[[Tensor], Tensor], times: int, pictures: Sequence[Picture] | None = None
) -> dict[str, list[float]]:
    """Reduce photographs, have them enlarged, and compare each with its original.

    Parameters
    ----------
    enlarged : callable
        From a picture uint8 ``(3, h, w)`` to one uint8 ``(3, times h, times w)``.
    times : int
        How many times each side is reduced: bicubic, antialiased, rounded to 256 levels.
    pictures : sequence of Picture, optional
        By default the held-out photographs. Each is cut at the right and below to multiples of ``times``.

    Returns
    -------
    dict of str to list of float
        A number for each photograph: peak signal-to-noise ratio in decibels and structural similarity, both on luminance
        and without a border of ``times`` pixels, as is usual in papers, though their windows for the latter are Gaussian;
        and perceptual distances of whole photographs in features of SqueezeNet and, where it is installed, of
        EfficientNet-Lite0 (`gencore.metrics.second_features`).

    Raises
    ------
    InputError
        If what is made has not the original's size.
    """
    distances = {"perceptual distance on SqueezeNet": PerceptualDistance()}
    if second_features.installed():
        distances["perceptual distance on EfficientNet-Lite0"] = second_features.SecondDistance()
    found: dict[str, list[float]] = {}
    for picture in photos_of("heldout") if pictures is None else pictures:
        original = cut_to_multiple(picture.image, times)
        made = enlarged(lower(original, times))
        if made.shape != original.shape:
            raise InputError(f"{picture.title}: enlarged to {tuple(made.shape)}, but the original is {tuple(original.shape)}")
        x, y = to_float(made[None]), to_float(original[None])  # (1, 3, H, W)
        inner_x, inner_y = (luminance(each)[..., times:-times, times:-times] for each in (x, y))
        values = {"peak signal-to-noise ratio, dB": psnr(inner_x, inner_y)}
        values["structural similarity"] = ssim(inner_x + 1, inner_y + 1)  # it compares means, in papers counted from black
        for name, value in (values | {name: distance(x, y) for name, distance in distances.items()}).items():
            found.setdefault(name, []).append(value.item())
    return found


@torch.inference_mode()
def heldout_pairs(model: tuple[Networks, SuperResolutionRecipe], count: int) -> tuple[Tensor, Tensor]:
    """Return held-out squares, and what the model makes of them when they have been reduced.

    Returns
    -------
    images : Tensor
        uint8 ``(count, 3, S, S)``: squares spread over the held-out photographs.
    made : Tensor
        float32, likewise, in [-1, 1] but for overshoots.
    """
    (network,), recipe = model
    times = recipe.network.times
    size = recipe.data.size // 2 // times * times  # half as large as in training: they lie on cards and in replays
    squares = torch.cat([cut_patches(picture.image, size, size) for picture in photos_of("heldout")])
    squares = squares[torch.linspace(0, len(squares) - 1, count).long()]
    device, low = next(network.parameters()).device, lower(squares, times)
    made = [network(to_float(piece.to(device))).cpu() for piece in low.split(16)]
    return squares, torch.cat(made)


def cut_to_multiple(image: Tensor, times: int) -> Tensor:
    """Cut a picture ``(..., H, W)`` at the right and below, so that both sides are multiples of ``times``."""
    height, width = image.shape[-2:]
    return image[..., : height - height % times, : width - width % times]


def lower(images: Tensor, times: int) -> Tensor:
    """Reduce pictures, uint8 ``(3, H, W)`` or ``(N, 3, H, W)``, as for training: bicubic, antialiased, rounded to uint8."""
    batch = images if images.dim() == 4 else images[None]
    return to_uint8(reduce(to_float(batch), times)).view(*images.shape[:-2], *(side // times for side in images.shape[-2:]))


def luminance(x: Tensor) -> Tensor:
    """Return the brightness of colours, ``(B, 3, H, W)`` to ``(B, 1, H, W)``: ITU-R BT.601, from 16/255 to 235/255 of the range.

    It is what papers measure on. White and black are 219 levels apart there, not 255, so the ratio comes out 1.3 decibels
    higher than it would on grey pictures.
    """
    weights = x.new_tensor(TO_LUMINANCE)[:, None, None]
    offset = 2 * 16 / 255 + sum(TO_LUMINANCE) - 1  # where black, -1, comes to lie
    return (weights * x).sum(1, keepdim=True) + offset
