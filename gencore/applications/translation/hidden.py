"""What a cycle hides: Chu, Zhmoginov & Sandler 2017, "CycleGAN, a master of steganography".

https://arxiv.org/abs/1712.02950. A generator that is asked to come back finds a way to keep what its target has no room for:
as a pattern of low amplitude that the eye does not see and the other generator reads. Such a pattern does not outlive a
small change of the picture, and that gives it away.

The generators here have a second place to hide in, which the paper's tanh closes: values beyond black and white, which in
training go back as they are. In a picture they do not exist. So whatever is put in between in `DISTURBANCES`, nothing
included, meets translations that are held to [-1, 1]; `cycle_errors` with ``clamp=False`` says what comes back without that.
"""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from gencore.applications.translation.recipes import CycleRecipe
from gencore.applications.translation.sampling import Model, translate
from gencore.data import to_float, to_uint8
from gencore.errors import InputError
from gencore.training import rng

AMPLIFIED = 20.0  # how much a hidden pattern is enlarged to be seen


def rounded(x: Tensor) -> Tensor:
    """Return pictures as a file of eight bits holds them, float in [-1, 1]."""
    return to_float(to_uint8(x))


def noisy(levels: float, seed: int = 0) -> Callable[[Tensor], Tensor]:
    """Return a function that adds normal noise of a standard deviation of so many grey levels (of 255), and rounds.

    Picture ``i``'s noise depends on the seed and on ``i`` only.
    """

    def add(x: Tensor) -> Tensor:
        noise = rng.normal_per_image(len(x), tuple(x.shape[1:]), seed)
        return rounded(x + levels / 127.5 * noise)

    return add


def compressed(quality: int) -> Callable[[Tensor], Tensor]:
    """Return a function that writes pictures as JPEG of a quality from 1 to 95, and reads them again."""
    if not 1 <= quality <= 95:
        raise InputError(f"quality {quality}: JPEG has qualities from 1 to 95")

    def write(x: Tensor) -> Tensor:
        read = []
        for picture in to_uint8(x):
            file = io.BytesIO()
            grey = len(picture) == 1
            pixels = picture[0] if grey else picture.permute(1, 2, 0)
            Image.fromarray(pixels.numpy()).save(file, "JPEG", quality=quality, subsampling=0)
            back = torch.from_numpy(np.array(Image.open(file)))
            read.append(back[None] if grey else back.permute(2, 0, 1))
        return to_float(torch.stack(read))

    return write


DISTURBANCES: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing": lambda x: x,
    "8 bits": rounded,
    "noise of 2 levels": noisy(2),
    "noise of 8 levels": noisy(8),
    "JPEG, quality 90": compressed(90),
    "JPEG, quality 50": compressed(50),
}


def cycle_errors(
    model: Model,
    images: Tensor,
    from_b: bool = False,
    disturbances: dict[str, Callable[[Tensor], Tensor]] = DISTURBANCES,
    clamp: bool = True,
) -> dict[str, Tensor]:
    """Return the errors of reconstruction: how far pictures are from themselves after a way there and back.

    Parameters
    ----------
    model : tuple of CycleNetworks and CycleRecipe
        What `load` returns.
    images : Tensor
        Pictures of kind a, or of kind b, uint8 or float ``(N, C, H, W)``.
    from_b : bool
        Which kind.
    disturbances : dict of str to callable
        Functions of the translations, float ``(N, D, H, W)``, to pictures of the same form.
    clamp : bool
        Whether translations are held to [-1, 1] before they are disturbed, as in a picture that can be shown. False leaves
        them as in training, with what lies beyond black and white; the pictures that come back are held to it in any case.

    Returns
    -------
    dict of str to Tensor
        Mean absolute difference of each picture, ``(N,)``, in units of half the range of grey levels.

    Raises
    ------
    InputError
        If the model is no cycle.
    """
    _check_cycle(model)
    x = to_float(images) if images.dtype == torch.uint8 else images
    between = translate(model, x, back=from_b, clamp=clamp)
    come_back = {name: translate(model, change(between), back=not from_b) for name, change in disturbances.items()}
    return {name: (made - x).abs().flatten(1).mean(1) for name, made in come_back.items()}


def faint_part(x: Tensor) -> Tensor:
    """Return what is left of pictures when each pixel's usual neighbourhood is taken away, enlarged for the eye.

    Lines and areas survive a median of 3x3 pixels, or nearly; a faint pattern does not. Where a picture has a strong line,
    the median changes that too: such pixels are left grey.

    Parameters
    ----------
    x : Tensor
        ``(B, C, H, W)`` in [-1, 1].

    Returns
    -------
    Tensor
        In [-1, 1], ``(B, C, H, W)``: 20 times the difference, 0 where it is stronger than a twentieth of half the range.
    """
    height, width = x.shape[2:]
    around = pad(x, (1, 1, 1, 1), mode="replicate")
    window = torch.stack([around[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)])
    faint = x - window.median(0).values
    return torch.where(faint.abs() <= 1 / AMPLIFIED, AMPLIFIED * faint, 0)


def what_is_read(model: Model, images: Tensor, levels: float = 8, from_b: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return translations, what comes back from them, and what comes back once noise has drowned what they hide.

    Parameters
    ----------
    model, images, from_b
        As in `cycle_errors`.
    levels : float
        Standard deviation of the noise, in grey levels.

    Returns
    -------
    tuple of Tensor
        Three of ``(N, C, H, W)``, float in [-1, 1].
    """
    _check_cycle(model)
    between = translate(model, images, back=from_b)
    return between, *(translate(model, each, back=not from_b) for each in (between, noisy(levels)(between)))


def _check_cycle(model: Model) -> None:
    if not isinstance(model[1], CycleRecipe):
        raise InputError("model: only translators of a cycle come back")
