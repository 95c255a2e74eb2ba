"""What is done with styles: their mean, truncation, mixing, and how evenly pictures change on a walk.

Karras et al. 2019, "A style-based generator architecture for generative adversarial networks",
https://arxiv.org/abs/1812.04948: mixing (section 3.1), truncation in W (appendix B), perceptual path length
(section 4.1). Equation numbers (SB.n) are those of the chapter "Growing, then styles".

The generator is a `gencore.networks.stylegan2.Generator` or a `gencore.networks.coded_stylegan2.CodedGenerator`, in
evaluation mode; what the latter paints are codes, which its ``decode`` turns into pictures.

All pictures of a walk have the noise of its beginning, as in the paper's code. Deviations: a generator that is told
something has a mean style for each condition, not one for all; a path length's step is 1e-3, where the paper has 1e-4.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gencore.errors import InputError
from gencore.gan.sampling import interpolate
from gencore.networks.stylegan2 import normalise
from gencore.training import rng


@torch.no_grad()
def mean_style(generator: nn.Module, cond: Tensor | None = None, count: int = 1000, seed: int = 0) -> Tensor:
    """Return the mean style of each condition, by Monte Carlo.

    Parameters
    ----------
    generator : Module
        Has ``styles(z, cond)`` and ``config.latent``.
    cond : Tensor, optional
        Conditions as the generator takes them, int64 ``(N, K)``; equal rows cost one. None if it is told nothing.
    count : int
        How many latents are averaged over, the same for each condition.
    seed : int
        Decides them.

    Returns
    -------
    Tensor
        ``(N, style)``, or ``(1, style)`` if nothing is told.

    Raises
    ------
    InputError
        If ``count`` is not positive.
    """
    if count < 1:
        raise InputError(f"count is {count}; a mean needs at least 1 latent")
    device = next(generator.parameters()).device
    z = rng.normal((count, generator.config.latent), seed, 0, "mean style", device=device)
    # The first layer's style is never mixed, whatever the mode.
    if cond is None:
        return generator.styles(z)[:, 0].mean(0, keepdim=True)
    rows, place = cond.unique(dim=0, return_inverse=True)
    means = [generator.styles(z, row.expand(count, -1))[:, 0].mean(0) for row in rows]
    return torch.stack(means)[place]


def truncate(w: Tensor, mean: Tensor, psi: float) -> Tensor:
    """Bring styles nearer to their mean: fewer kinds of pictures, each of them more usual.

    Parameters
    ----------
    w : Tensor
        Styles ``(B, layers, style)``.
    mean : Tensor
        What `mean_style` returns for the same conditions, ``(B, style)`` or ``(1, style)``.
    psi : float
        1 changes nothing, 0 gives the mean.
    """
    return torch.lerp(mean[:, None].expand_as(w), w, psi)  # (SB.6)


def mix(w_coarse: Tensor, w_fine: Tensor, layer: int) -> Tensor:
    """Take the first layers' styles from one picture and the others' from another.

    Parameters
    ----------
    w_coarse, w_fine : Tensor
        Styles ``(B, layers, style)``.
    layer : int
        The first layer of the second one's: 0 takes none of the first picture's, ``layers`` takes all.

    Returns
    -------
    Tensor
        ``(B, layers, style)``.

    Raises
    ------
    InputError
        If the shapes differ or there is no such layer.
    """
    if w_coarse.shape != w_fine.shape:
        raise InputError(f"styles: shapes {tuple(w_coarse.shape)} and {tuple(w_fine.shape)} differ; make them equal")
    if not 0 <= layer <= w_coarse.shape[1]:
        raise InputError(f"layer is {layer}; this generator's styles change over at 0 to {w_coarse.shape[1]}")
    return torch.cat([w_coarse[:, :layer], w_fine[:, layer:]], 1)


def walk_z(generator: nn.Module, z0: Tensor, z1: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
    """Return what a generator paints on the way from one latent to another, on the sphere where the mapping puts them.

    Parameters
    ----------
    generator : Module
        Has ``styles(z, cond)`` and ``paint(w, z)``.
    z0, z1 : Tensor
        The ends ``(B, latent)``; the noise is that of ``z0``.
    t : Tensor
        How far each is on its way, ``(B,)``, 0 at ``z0`` and 1 at ``z1``.
    cond : Tensor, optional
        What both ends are told, int64 ``(B, K)``.

    Returns
    -------
    Tensor
        ``(B, ...)``, as ``paint`` gives them.
    """
    count = generator.styles(z0, cond).shape[-1]  # a latent begins with as many numbers as a style has
    on_the_way = interpolate(normalise(z0[:, :count]), normalise(z1[:, :count]), t)  # (B, style), of length sqrt(style)
    z = torch.cat([on_the_way, z0[:, count:]], 1)  # (B, latent)
    return generator.paint(generator.styles(z, cond), z0)


def walk_w(generator: nn.Module, z0: Tensor, z1: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
    """Return what a generator paints on the straight way from the style of one latent to that of another.

    Parameters and result are those of `walk_z`.
    """
    w = torch.lerp(generator.styles(z0, cond), generator.styles(z1, cond), t[:, None, None])  # (B, layers, style)
    return generator.paint(w, z0)


@torch.no_grad()
def path_length(
    walk: Callable[[Tensor], Tensor], distance: Callable[[Tensor, Tensor], Tensor], t: Tensor, step: float = 1e-3
) -> Tensor:
    """Return how much pictures change on a walk, where it is at some times: the square of their speed.

    Its mean over walks and times is the perceptual path length. On one walk, the mean over times is at least the square
    of the way's length, and as little only if the speed is constant.

    Parameters
    ----------
    walk : callable
        Gives the pictures ``(B, ...)`` of B walks at times ``(B,)``, as `walk_z` and `walk_w` do.
    distance : callable
        Gives ``(B,)`` for two batches of pictures; near 0 it must grow with the square of their difference.
    t : Tensor
        Times ``(B,)``, from 0 to 1 less the step.
    step : float
        Time from each picture to the one it is compared with: small, but not so small that rounding is seen.

    Returns
    -------
    Tensor
        ``(B,)``.

    Raises
    ------
    InputError
        If the step is not positive.
    """
    if step <= 0:
        raise InputError(f"step is {step}; it must be more than 0")
    return distance(walk(t), walk(t + step)) / step**2  # (SB.7)
