"""Pictures from coarse to fine: what a network says of codes of several scales, and how it draws them.

Tian et al. 2024, https://arxiv.org/abs/2404.02905, section 3.2: the codes of one scale are drawn at once, and so, as in the
authors' code, each from its own distribution, independent of the others given the scales before.

Deviations: guidance is the same at all scales, where the authors' code lets it rise with the scale.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.autoregressive.likelihoods import Categorical, at_least_float32
from gencore.networks.multiscale import MultiScaleQuantiser
from gencore.networks.var import VARNetwork


class Scale(NamedTuple):
    """What one scale adds to a drawing.

    Attributes
    ----------
    codes : Tensor
        int64 ``(B, k * k)``: the scale's own codes.
    z : Tensor
        ``(B, D, side, side)``: what this scale and those before add up to; an autoencoder's decoder makes it a picture.
    """

    codes: Tensor
    z: Tensor


def log_prob(network: VARNetwork, quantiser: MultiScaleQuantiser, codes: Tensor, cond: Tensor | None = None) -> Tensor:
    """Return the log-probability of each code given all scales before its own, in nats, ``(B, N)``.

    Parameters
    ----------
    network, quantiser : VARNetwork, MultiScaleQuantiser
        Who says it, and who knows what codes add up to; the latter takes no gradient.
    codes : Tensor
        int64 ``(B, N)``.
    cond : Tensor, optional
        What is told, int64 ``(B, K)``.
    """
    with torch.no_grad():
        inputs = quantiser.inputs(codes)  # (B, N - scales[0] ** 2, D), the right ones whatever was said before
    log_p = at_least_float32(network(inputs, cond)).log_softmax(2)  # (B, N, levels)
    return log_p.gather(2, codes[..., None])[..., 0]  # (TK.7)


@torch.inference_mode()
def draw_scales(
    network: VARNetwork,
    quantiser: MultiScaleQuantiser,
    cond: Tensor | None,
    u: Tensor,
    temperature: float = 1.0,
    top_p: float = 1.0,
    guidance: float = 1.0,
    untold: Tensor | None = None,
) -> Iterator[Scale]:
    """Draw pictures' codes, yielding each scale: one evaluation of the network for each, or two with guidance.

    Parameters
    ----------
    network, quantiser : VARNetwork, MultiScaleQuantiser
        Who draws, and who knows what codes add up to.
    cond : Tensor or None
        What is told, int64 ``(B, K)``.
    u : Tensor
        Uniform numbers ``(B, N)``, which decide.
    temperature, top_p : float
        As in `Categorical.draw`.
    guidance : float
        w: logits are those of `untold` plus w times what `cond` changes. 1 is plainly conditional, 0 unconditional.
    untold : Tensor, optional
        What is told for guidance to lead away from; by default nothing.

    Yields
    ------
    Scale
        From the coarsest to the finest.
    """
    told_at = network.incremental(cond, len(u))
    untold_at = network.incremental(untold, len(u)) if guidance != 1 else None
    z, inputs = quantiser.partial(torch.zeros_like(u, dtype=torch.int64), 0), None  # nothing yet
    for number, span in enumerate(network.config.spans):
        if number:
            inputs = quantiser.fall(z, number).flatten(2).transpose(1, 2)  # (B, k * k, D)
        logits = at_least_float32(told_at(inputs))  # (B, k * k, levels)
        if untold_at is not None:
            plain = at_least_float32(untold_at(inputs))
            logits = plain + guidance * (logits - plain)
        codes = Categorical().draw(logits.flatten(1), u[:, span], temperature, top_p)  # (B, k * k)
        z = z + quantiser.rise(codes, number)
        yield Scale(codes, z)


def draw(
    network: VARNetwork,
    quantiser: MultiScaleQuantiser,
    cond: Tensor | None,
    u: Tensor,
    temperature: float = 1.0,
    top_p: float = 1.0,
    guidance: float = 1.0,
    untold: Tensor | None = None,
) -> Tensor:
    """Return codes, int64 ``(B, N)``, as `draw_scales` draws them."""
    scales = draw_scales(network, quantiser, cond, u, temperature, top_p, guidance, untold)
    return torch.cat([scale.codes for scale in scales], 1)
