"""One painting at a time: the pixels themselves are what is optimised. Gatys, Ecker & Bethge 2016.

"Image style transfer using convolutional neural networks",
https://openaccess.thecvf.com/content_cvpr_2016/html/Gatys_Image_Style_Transfer_CVPR_2016_paper.html, section 3. Equation
numbers (STY.n) are those of the chapter "Style transfer".

Deviations: the picture starts as the photograph in the painting's colours, which saves half of the steps; it may be painted
small first, and then larger (Gatys et al. 2017, https://arxiv.org/abs/1611.07865, section 6), which saves more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gencore.applications.style_transfer.features import StyleFeatures
from gencore.applications.style_transfer.objectives import Maps, Painted, grams
from gencore.applications.style_transfer.sampling import cropped, padded
from gencore.errors import InputError
from gencore.training.optimiser import set_learning_rate

LAST_STEP = 0.1  # size of Adam's last step, as a share of the first
LIKELY_NOISE = 1e-4  # added to variances of colours: grey pictures have none across


@dataclass(frozen=True)
class Canvas:
    """Where a painting stands.

    Attributes
    ----------
    step : int
        Steps done, over all sizes.
    picture : Tensor
        ``(1, 3, h, w)`` in [-1, 1]; of the size of the photograph at the last.
    parts : dict of str to Tensor
        The loss and its parts before this step, scalars.
    """

    step: int
    picture: Tensor
    parts: dict[str, Tensor]


def gatys(
    content: Tensor,
    style: Tensor,
    objective: Painted = Painted(),
    steps: int = 100,
    start: Tensor | Literal["colours", "content", "noise"] = "colours",
    sizes: tuple[float, ...] = (1.0,),
    method: Literal["lbfgs", "adam"] = "lbfgs",
    lr: float = 0.05,
    seed: int = 0,
    features: StyleFeatures | None = None,
) -> Iterator[Canvas]:
    """Paint one photograph like one picture, yielding the canvas after each step.

    Parameters
    ----------
    content, style : Tensor
        Photograph and painting, ``(1, 3, H, W)`` and ``(1, 3, h, w)`` in [-1, 1], of any sizes, on one device.
    objective : Painted
        What is minimised; its ``pixels`` play no part.
    steps : int
        Steps at each size.
    start : Tensor or {"colours", "content", "noise"}
        What the canvas shows at first: a picture of the photograph's shape, the photograph in the painting's colours, the
        photograph, or noise.
    sizes : tuple of float
        Sizes at which to paint, one after another, in units of the photograph's, rising to 1.
    method : {"lbfgs", "adam"}
        How the loss is minimised; either looks at the picture once a step. L-BFGS comes lower in as many steps.
    lr : float
        Size of Adam's first step, in units of pixels; L-BFGS starts each search with a length of 1.
    seed : int
        Decides the noise.
    features : StyleFeatures, optional
        The fixed network; by default SqueezeNet.

    Yields
    ------
    Canvas
        A new one each time.

    Raises
    ------
    InputError
        If shapes or options do not fit.
    """
    if content.shape[:2] != (1, 3) or style.shape[:2] != (1, 3) or content.ndim != 4 or style.ndim != 4:
        raise InputError(f"content {tuple(content.shape)}, style {tuple(style.shape)}: one picture each, (1, 3, H, W)")
    if steps < 1 or lr <= 0:
        raise InputError(f"steps {steps}, lr {lr}: at least 1, and positive")
    if not sizes or list(sizes) != sorted(sizes) or sizes[0] <= 0 or sizes[-1] != 1:
        raise InputError(f"sizes {sizes}: must be positive and rise to 1")
    device, layers = content.device, objective.layers
    if features is None:
        features = StyleFeatures(layers.all, layers.enlarge, layers.pool).to(device)
    picture, done = _first(content, style, start, seed), 0
    for size in sizes:
        photograph, painting = scaled(content, size), scaled(style, size)
        with torch.no_grad():
            aim = features(padded(photograph))[layers.content]
            wanted = grams(features(padded(painting)), layers)
        first = interpolate(picture, size=photograph.shape[2:], mode="bilinear", align_corners=False, antialias=True)
        x = padded(first).clone().requires_grad_()
        if method == "adam":
            optimiser = torch.optim.Adam([x], lr, betas=(0.9, 0.99))
        else:  # one evaluation a step, so that steps of both cost the same
            optimiser = torch.optim.LBFGS([x], max_iter=1, max_eval=1, history_size=20, tolerance_change=0, tolerance_grad=0)
        measured = _Measured(objective, features, x, aim, wanted)
        for step in range(steps):
            if method == "adam":
                set_learning_rate(optimiser, lr * (1 - (1 - LAST_STEP) * step / steps))
            optimiser.step(measured)
            with torch.no_grad():
                if method == "adam":  # L-BFGS would not know what became of its step
                    x.clamp_(-1, 1)
                picture = cropped(x, photograph).clamp(-1, 1)
            done += 1
            yield Canvas(done, picture, measured.parts)


class _Measured:
    """The loss of a canvas, as optimisers ask for it, and its parts when it was last asked for."""

    def __init__(self, objective: Painted, features: StyleFeatures, x: Tensor, aim: Tensor, wanted: Maps) -> None:
        self.objective, self.features, self.x, self.aim, self.wanted = objective, features, x, aim, wanted
        self.parts: dict[str, Tensor] = {}

    @torch.enable_grad()
    def __call__(self) -> Tensor:
        self.x.grad = None
        loss = self.objective.of_picture(self.features, self.x, self.aim, self.wanted)
        loss.total.backward()
        self.parts = {name: value.detach() for name, value in (loss.parts | {"total": loss.total}).items()}
        return loss.total


def _first(content: Tensor, style: Tensor, start: Tensor | str, seed: int) -> Tensor:
    """Return what the canvas shows at first, ``(1, 3, H, W)``."""
    if isinstance(start, Tensor):
        return start
    if start == "colours":
        return match_colours(content, style)
    if start == "content":
        return content
    draw = torch.Generator().manual_seed(seed)
    return (0.3 * torch.randn(content.shape, generator=draw)).clamp(-1, 1).to(content)


def scaled(x: Tensor, size: float) -> Tensor:
    """Return pictures ``(B, C, H, W)`` at this share of their size, antialiased."""
    if size == 1:
        return x
    sides = [max(1, round(size * side)) for side in x.shape[2:]]
    return interpolate(x, size=sides, mode="bilinear", align_corners=False, antialias=True)


def match_colours(content: Tensor, style: Tensor) -> Tensor:
    """Return a photograph in a painting's colours: mean and covariance of its pixels are those of the painting's.

    Of all affine maps that reach them, the one that moves colours least: the optimal transport between two normal laws.

    Parameters
    ----------
    content, style : Tensor
        ``(1, 3, H, W)`` and ``(1, 3, h, w)`` in [-1, 1].

    Returns
    -------
    Tensor
        ``(1, 3, H, W)`` in [-1, 1]; colours outside are clamped.
    """
    (mean, ours), (wanted, theirs) = _colours(content), _colours(style)
    root, back = _power(ours, 0.5), _power(ours, -0.5)
    turn = back @ _power(root @ theirs @ root, 0.5) @ back  # (STY.7) in three dimensions
    pixels = content.double().flatten(2)[0] - mean  # (3, HW)
    return (turn @ pixels + wanted).view(content.shape).clamp(-1, 1).to(content)


def _colours(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean ``(3, 1)`` and the covariance ``(3, 3)`` of a picture's pixels, in float64."""
    pixels = x.double().flatten(2)[0]
    mean = pixels.mean(1, keepdim=True)
    centred = pixels - mean
    covariance = centred @ centred.T / pixels.shape[1]
    return mean, covariance + LIKELY_NOISE * torch.eye(3, dtype=torch.float64, device=x.device)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Return the power of a symmetric positive matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ values.clamp(min=1e-12).pow(exponent).diag() @ vectors.T
