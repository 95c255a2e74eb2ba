"""How near are translations to their targets, on pairs that no training has seen, and beside what needs no network?"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gencore.applications.translation import baselines
from gencore.applications.translation.hidden import cycle_errors
from gencore.applications.translation.pairs import Dress, Pairs
from gencore.applications.translation.recipes import CycleRecipe
from gencore.applications.translation.sampling import Model, translate
from gencore.data import to_float, to_uint8
from gencore.data.figures_reader import SIZE as READ_AT, joint_errors, read_figures
from gencore.metrics import PerceptualDistance, second_features, ssim

READ = 100  # figures of which the pose is read off, which takes a sixth of a second each
AT_ONCE = 64


def compare(made: Tensor, target: Tensor) -> dict[str, float]:
    """Return mean measures of how near pictures are to others.

    Parameters
    ----------
    made, target : Tensor
        ``(N, C, H, W)``, float in [-1, 1] and uint8.

    Returns
    -------
    dict of str to float
        ``"mean absolute difference"`` in units of half the range of grey levels, ``"structural similarity"``, and
        ``"perceptual distance on SqueezeNet"``; where it is installed, also ``"perceptual distance on EfficientNet-Lite0"``
        (`gencore.metrics.second_features`).
    """
    y, judges = to_float(target), {"SqueezeNet": PerceptualDistance()}
    if second_features.installed():
        judges["EfficientNet-Lite0"] = second_features.SecondDistance()
    found = {"mean absolute difference": (made - y).abs(), "structural similarity": ssim(made, y)}
    with torch.inference_mode():
        for name, judge in judges.items():
            pieces = zip(made.split(AT_ONCE), y.split(AT_ONCE), strict=True)
            found[f"perceptual distance on {name}"] = torch.cat([judge(ours, theirs) for ours, theirs in pieces])
    return {name: each.mean().item() for name, each in found.items()}



def beside_baselines(model: Model) -> dict[str, dict[str, float]]:
    """Return what `compare` says of a model and of the baselines, on held-out pairs.

    Returns
    -------
    dict of str to dict
        Keys ``"translated"``, ``"source unchanged"`` where there are as many channels, ``"mean of its category"`` (of figures,
        the mean of those in the same clothes, or else of all) and ``"linear map of patches"``. The last two are fitted to true
        training pairs, also beside a cycle, which never saw a pair.
    """
    recipe = model[1]
    train, heldout = (recipe.task.pairs(recipe.data, split) for split in ("train", "heldout"))
    made = {
        "translated": translate(model, heldout.source, heldout.cond),
        "source unchanged": baselines.unchanged(heldout),
        "mean of its category": baselines.mean_targets(train, heldout),
        "linear map of patches": baselines.linear_patches(train, heldout),
    }
    return {name: compare(pictures, heldout.target) for name, pictures in made.items() if pictures is not None}


def measure(model: Model) -> list[dict]:
    """Measure a translator on held-out pairs: distances from the targets, beside those of what needs no network.

    Of figures also whether the pose is kept and the clothes are as told; of a cycle, whose generators saw no pair, both ways,
    and how well it comes back with and without a disturbance between the two. "Nothing" in between still holds translations
    to [-1, 1].
    """
    recipe = model[1]
    heldout = recipe.task.pairs(recipe.data, "heldout")
    name, found = f"{type(recipe.data).__name__.lower()}/heldout", []
    for what, values in beside_baselines(model).items():
        found += [(f"{measure}, {what}", len(heldout.source), value) for measure, value in values.items()]
    if isinstance(recipe, CycleRecipe):
        values = compare(translate(model, heldout.target, back=True), heldout.source)
        found += [(f"{measure}, translated back", len(heldout.source), value) for measure, value in values.items()]
        for kind, images in (("a", heldout.source), ("b", heldout.target)):
            for disturbance, errors in cycle_errors(model, images, from_b=kind == "b").items():
                label = f"difference after a cycle from kind {kind}, {disturbance} in between"
                found.append((label, len(images), errors.mean().item()))
    if isinstance(recipe.task, Dress):
        found += [(label, READ, value) for label, value in _measure_figures(model, heldout).items()]
    return [{"name": label, "on": name, "samples": count, "value": value} for label, count, value in found]


def _measure_figures(model: Model, heldout: Pairs) -> dict[str, float]:
    """Read poses and colours off translations and, beside them, off the true pictures.

    Each reading begins at the pose and in the clothes that were told. A limb that is hidden or missing stays near its place,
    so the distances of joints are lower bounds, and the true pictures' do not say how well a pose is found from elsewhere.
    """
    recipe, found = model[1], {}
    poses, outfits = (each[:READ] for each in recipe.data.people("heldout"))
    made = translate(model, heldout.source[:READ], heldout.cond[:READ])
    for what, images in (("translations", to_uint8(made)), ("true pictures", heldout.target[:READ])):
        reading = read_figures(_large_enough(images), outfits, poses)
        errors = recipe.data.size * joint_errors(reading.pose, poses)  # (READ, 15), in pixels
        found[f"median distance of joints from where they are told, pixels, in {what}"] = errors.median().item()
        near = errors < 0.05 * recipe.data.size
        found[f"share of joints within 5 % of the side, in {what}"] = near.float().mean().item()
        seen = reading.outfit >= 0
        found[f"share of colours as told, in {what}"] = (reading.outfit == outfits)[seen].float().mean().item()
    return found


def _large_enough(images: Tensor) -> Tensor:
    """Return pictures of at least the size at which figures are read."""
    if images.shape[-1] >= READ_AT:
        return images
    return to_uint8(interpolate(to_float(images), size=(READ_AT, READ_AT), mode="bilinear"))


def heldout_pairs(model: Model, count: int) -> tuple[Tensor, Tensor]:
    """Return held-out sources, uint8 ``(count, 3, H, W)``, evenly spread over the set, and what the model makes of them."""
    recipe = model[1]
    pairs = recipe.task.pairs(recipe.data, "heldout")
    places = torch.linspace(0, len(pairs.source) - 1, count).long()
    sources, made = pairs.source[places], translate(model, pairs.source[places], pairs.cond[places])
    return sources.expand(-1, 3, -1, -1), made.expand(-1, 3, -1, -1)
