"""Hidden symbols: learn to guess them from those that are visible, and draw many at once.

Chang et al. 2022, "MaskGIT: masked generative image transformer", https://arxiv.org/abs/2202.04200: training, section 3.1,
iterative decoding, section 3.2, the cosine schedule, section 3.3. That confidence is a logarithm, disturbed by Gumbel noise
that falls to zero, stands in the authors' code alone.

Symbols that are drawn in the same step do not see each other: the step draws from the product of their distributions, not
from their joint distribution. One symbol a step in random order would be exact, if the network were. Drawing the confident
ones first is not, however many steps there are: which places are kept depends on what was drawn there.

Deviations: the loss of an image is divided by the number of all its places, so that all hidden symbols count alike, as in the
sum of the paper's equation; the authors' loss function divides by the number of those that are hidden in it. The number of
symbols still hidden is rounded down, as in the authors' code, where the paper writes "up", and may be none before the last
step, where their code keeps one. Label smoothing, 0.1 in the paper, is off unless asked for. Guidance, ``cool`` and ``top_p``
are additions. With more steps than hidden symbols, the last steps change nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gencore.autoregressive.likelihoods import Categorical, at_least_float32
from gencore.autoregressive.objectives import Draw, Networks
from gencore.errors import InputError
from gencore.networks.symbols import Grid
from gencore.training.loss import Loss


def share_hidden(progress: Tensor) -> Tensor:
    """Return the share of places that are hidden, from 1 at progress 0 to 0 at progress 1; float64."""
    return torch.cos(torch.pi / 2 * progress.double())  # section 3.3, gamma


def hidden_places(ratio: Tensor, order: Tensor) -> Tensor:
    """Return which places are hidden, bool ``(B, N)``, at least one.

    Parameters
    ----------
    ratio : Tensor
        Uniform numbers ``(B,)``: how many.
    order : Tensor
        Uniform numbers ``(B, N)``: those with the lowest.
    """
    count = (share_hidden(ratio) * order.shape[1]).ceil()  # (B,)
    return order.argsort(1).argsort(1) < count[:, None]


@dataclass(frozen=True)
class MaskedSymbols:
    """Cross-entropy of hidden symbols given the visible ones (section 3.1).

    Attributes
    ----------
    smoothing : float
        Share of the target's probability that is spread evenly over all values, in [0, 1).
    """

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise InputError(f"smoothing {self.smoothing}: must be in [0, 1)")

    def needs(self, grid: Grid) -> int:
        """Return how many numbers the network must return for each place."""
        return grid.levels

    def __call__(self, networks: Networks, symbols: Tensor, cond: Tensor | None, draw: Draw) -> Loss:
        """Return the cross-entropy of the hidden symbols of an image, over the number of all its places.

        Parameters
        ----------
        networks : Networks
            A `MaskGITNetwork`, or one that writes codes by it.
        symbols : Tensor
            int64 ``(B, 1, H, W)``, all of them known.
        cond : Tensor or None
            Conditions, int64 ``(B, K)``.
        draw : Draw
            What is hidden, and what dropout takes.

        Returns
        -------
        Loss
            Parts: ``nats`` per hidden symbol, without smoothing, the mean over images of each image's mean.
        """
        hidden = hidden_places(draw.ratio, draw.order).view_as(symbols)  # (B, 1, H, W)
        logits = networks.model(symbols, cond, draw.dropped, hidden)  # (B, levels, H, W)
        log_p = at_least_float32(logits).log_softmax(1)
        nats = -log_p.gather(1, symbols)  # (B, 1, H, W)
        smoothed = (1 - self.smoothing) * nats - self.smoothing * log_p.mean(1, keepdim=True)
        per_image = (hidden * nats).sum((1, 2, 3)) / hidden.sum((1, 2, 3))  # (B,)
        return Loss((hidden * smoothed).mean(), {"nats": per_image.mean()})


def draw(
    network: nn.Module,
    cond: Tensor | None,
    u: Tensor,
    temperature: float = 4.5,
    guidance: float = 1.0,
    untold: Tensor | None = None,
    known: Tensor | None = None,
    cool: float = 1.0,
    top_p: float = 1.0,
) -> Iterator[Tensor]:
    """Fill in hidden symbols over a number of steps, in each those of which the network is most confident (section 3.2).

    A symbol, once visible, stays. Each image follows from its own rows of `cond`, `u`, `untold` and `known` alone.

    Parameters
    ----------
    network : nn.Module
        ``network(symbols, cond)`` returns logits ``(B, levels, H, W)``; ``network.config.grid`` says of what.
    cond : Tensor or None
        Conditions, int64 ``(B, K)``.
    u : Tensor
        Uniform numbers in [0, 1), ``(B, steps, 2, N)``: for each step and place, one that draws the symbol and one that
        disturbs the confidence in it.
    temperature : float
        How much confidence is disturbed at the beginning; less and less later. With 0 the likeliest drawn symbols are kept,
        a large one keeps places at random. It does not change the distribution a symbol is drawn from.
    guidance : float
        0 is unconditional, 1 conditional; above 1 the condition counts for more than in the data.
    untold : Tensor, optional
        Conditions with "not told" in place of some; None tells nothing. Used unless `guidance` is 1.
    known : Tensor, optional
        Symbols to start from, int64 ``(B, 1, H, W)``: what is given, and elsewhere the mask.
    cool : float
        Divides the logits from which symbols are drawn; below 1 the likely becomes likelier. 0 takes the likeliest, of which
        the network is as confident as by its own logits.
    top_p : float
        As in `Categorical.draw`.

    Yields
    ------
    Tensor
        The symbols after each step, int64 ``(B, 1, H, W)``: what is not drawn yet is the mask. The last holds none.

    Raises
    ------
    InputError
        If `u` or `known` do not fit the grid, or there is no step.
    """
    grid = network.config.grid
    mask, places = grid.levels, grid.size**2
    if tuple(u.shape[2:]) != (2, places) or u.shape[1] < 1:
        raise InputError(f"uniform numbers of shape {tuple(u.shape)}: need (B, steps, 2, {places}), and a step")
    shape = (len(u), *grid.shape)
    if known is not None and known.shape != shape:
        raise InputError(f"known symbols of shape {tuple(known.shape)}: need {shape}")
    symbols = torch.full(shape, mask, device=u.device) if known is None else known
    steps = torch.arange(1, u.shape[1] + 1, device=u.device)
    progress = steps.double() / u.shape[1]  # (steps,)
    left = (symbols == mask).sum((1, 2, 3))  # (B,)
    planned = (share_hidden(progress) * left[:, None]).floor()  # (B, steps)
    for step in range(u.shape[1]):
        written = symbols.flatten(1)  # (B, N)
        hidden = written == mask
        logits = guided_logits(network, symbols, cond, guidance, untold).flatten(2).transpose(1, 2)  # (B, N, levels)
        drawn = Categorical().draw(logits.flatten(1), u[:, step, 0], cool, top_p)  # (B, N)
        log_p = (logits / (cool or 1)).log_softmax(2)
        gumbel = -torch.log(-torch.log(u[:, step, 1].clamp(min=torch.finfo(u.dtype).tiny)))
        confidence = log_p.gather(2, drawn[..., None])[..., 0] + temperature * (1 - progress[step]) * gumbel
        confidence = confidence.masked_fill(~hidden, float("inf"))
        left = torch.minimum(planned[:, step], left - 1)  # at least one new, while there is one
        rank = confidence.argsort(dim=1, descending=True, stable=True).argsort(1)  # 0 for the most confident
        symbols = torch.where(hidden & (rank < places - left[:, None]), drawn, written).view(shape)
        yield symbols


def guided_logits(
    network: nn.Module, symbols: Tensor, cond: Tensor | None, guidance: float, untold: Tensor | None
) -> Tensor:
    """Return logits ``(B, levels, H, W)``, `guidance` times the way from those of `untold` to those of `cond`."""
    told = at_least_float32(network(symbols, cond))
    if guidance == 1:
        return told
    not_told = at_least_float32(network(symbols, untold))
    return not_told + guidance * (told - not_told)
