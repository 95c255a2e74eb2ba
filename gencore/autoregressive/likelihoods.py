"""Distributions of one symbol, given the numbers that a network returns for its place.

Each has ``numbers(grid)`` (how many the network must return), ``log_prob``, ``probabilities`` (for coding) and ``draw``, which
turns uniform numbers into symbols by the inverse of the distribution function: what is drawn follows from them alone,
whoever computes the parameters; a nucleus of likely values is that of Holtzman et al. 2020,
https://arxiv.org/abs/1904.09751. All compute in float32 at least, whatever autocast gave. Equation numbers (PC.n) are those of
the chapter "Masked convolutions".
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from gencore.errors import InputError
from gencore.networks.symbols import Grid


@dataclass(frozen=True)
class Categorical:
    """A probability for each value, by a softmax; the channels of a place have one each."""

    def numbers(self, grid: Grid) -> int:
        """Return how many numbers a place needs: a logit for each value of each channel."""
        return grid.levels * grid.channels

    def draws(self, grid: Grid) -> int:
        """Return how many uniform numbers it takes to draw a place."""
        return grid.channels

    def rounds(self, grid: Grid) -> int:
        """Return how often a place must be asked until it is written: each round settles one channel more."""
        return grid.channels

    def log_prob(self, params: Tensor, symbols: Tensor) -> Tensor:
        """Return the log-probability of each place in nats, ``(B, H, W)``.

        Parameters
        ----------
        params : Tensor
            ``(B, C * levels, H, W)``, the logits of the first channel first.
        symbols : Tensor
            int64 ``(B, C, H, W)``.
        """
        log_p = self._logits(params, symbols.shape[1]).log_softmax(2)  # (B, C, levels, H, W)
        return log_p.gather(2, symbols[:, :, None]).sum((1, 2))

    def probabilities(self, params: Tensor, channels: int = 1) -> Tensor:
        """Return each value's probability, ``(B, C, levels, ...)``, for logits ``(B, C * levels, ...)``."""
        return self._logits(params, channels).softmax(2)

    def draw(self, params: Tensor, u: Tensor, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
        """Return symbols, int64 ``(B, C)``, for logits ``(B, C * levels)`` and uniform numbers ``(B, C)``.

        Parameters
        ----------
        params, u : Tensor
            Logits of one place, and what decides.
        temperature : float
            Divides the logits; below 1 the likely becomes likelier. 0 takes the likeliest.
        top_p : float
            Only the likeliest values are drawn that together reach this probability (Holtzman et al. 2020, section 3.1).
        """
        logits = self._logits(params, u.shape[1])  # (B, C, levels)
        if temperature == 0:
            return logits.argmax(2)
        p = (logits / temperature).softmax(2)
        if top_p < 1:
            p = nucleus(p, top_p)
        return draw_categorical(p, u)

    def _logits(self, params: Tensor, channels: int) -> Tensor:
        return at_least_float32(params).unflatten(1, (channels, -1))  # (B, C, levels, ...)


@dataclass(frozen=True)
class LogisticMixture:
    """A mixture of logistic distributions, cut into levels: near levels get near probabilities.

    Salimans et al. 2017, https://arxiv.org/abs/1701.05517, sections 2.1 and 2.2. Level s of L lies at 2 s / (L - 1) -
    1, from -1 to 1, and has the probability of the interval of 1 / (L - 1) to either side; the lowest level's
    interval reaches down to minus infinity, the highest one's up to infinity. The channels of a place share the
    component; given it, the locations of green and blue depend linearly on the channels before, with coefficients
    between -1 and 1.

    The parameters of a place, `components` numbers each: logits of the components; the location in each channel; the
    logarithm of the scale in each channel, cut to between -7 and 3; for 3 channels, the coefficients, before tanh, of
    red in green, of red in blue, and of green in blue.

    Attributes
    ----------
    components : int
        How many logistic distributions are mixed.
    levels : int
        Levels of a symbol, those of the grid.
    """

    components: int = 5
    levels: int = 256

    def __post_init__(self) -> None:
        if self.components < 1:
            raise InputError(f"components {self.components}: must be 1 or more")
        if self.levels < 2:
            raise InputError(f"levels {self.levels}: a symbol takes at least 2 values")

    def numbers(self, grid: Grid) -> int:
        """Return how many numbers a place needs: 3 for each component, or 10 if there are three channels.

        Raises
        ------
        InputError
            If the grid's symbols are names, have other levels, or stand neither alone nor in threes.
        """
        if grid.named or grid.levels != self.levels or grid.channels not in (1, 3):
            raise InputError(f"{grid}: this mixture is for amounts of {self.levels} levels, in 1 or 3 channels")
        return self.components * self._kinds(grid.channels)

    def draws(self, grid: Grid) -> int:
        """Return how many uniform numbers it takes to draw a place: for the component, and for each channel."""
        return 1 + grid.channels

    def rounds(self, grid: Grid) -> int:
        """Return how often a place must be asked until it is written: once, for its channels depend on each other here."""
        return 1

    def log_prob(self, params: Tensor, symbols: Tensor) -> Tensor:
        """Return the log-probability of each place in nats, ``(B, H, W)``.

        Parameters
        ----------
        params : Tensor
            ``(B, P, H, W)``, laid out as said above.
        symbols : Tensor
            int64 ``(B, C, H, W)``, of 1 or 3 channels.
        """
        logits, location, log_scale, coefficients = self._split(params, symbols.shape[1])
        log_p = logits.log_softmax(1)  # (B, K, H, W)
        values = self._value(symbols, log_p.dtype)  # (B, C, H, W)
        for channel in range(symbols.shape[1]):
            middle = _depend(location, coefficients, values[:, :, None], channel)  # (B, K, H, W)
            log_p = log_p + self._log_interval(symbols[:, channel, None], middle, log_scale[:, channel])
        return log_p.logsumexp(1)

    def probabilities(self, params: Tensor, channels: int = 1) -> Tensor:
        """Return each level's probability, ``(B, 1, levels, ...)``, for parameters ``(B, P, ...)`` of one channel.

        Raises
        ------
        InputError
            If there are more channels: the levels of one depend on the others.
        """
        if channels != 1:
            raise InputError(f"channels {channels}: a mixture lists the probabilities of one channel only")
        logits, location, log_scale, _ = self._split(params, 1)
        symbols = torch.arange(self.levels, device=params.device).view(1, -1, 1, *[1] * (params.dim() - 2))
        log_p = self._log_interval(symbols, location, log_scale)  # (B, levels, K, ...)
        return (log_p + logits.log_softmax(1)[:, None]).logsumexp(2).exp()[:, None]

    def draw(self, params: Tensor, u: Tensor, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
        """Return symbols, int64 ``(B, C)``, for parameters ``(B, P)`` and uniform numbers ``(B, 1 + C)``.

        Parameters
        ----------
        params, u : Tensor
            Parameters of one place, and what decides: first on the component, then on each channel.
        temperature : float
            Divides the logits of the components, and multiplies the scales. 0 takes the middle of the
            likeliest component.
        top_p : float
            Must be 1: values are not ranked here.

        Raises
        ------
        InputError
            If `top_p` is another number.
        """
        if top_p != 1:
            raise InputError(f"top_p {top_p}: a mixture of logistics has no use for it; it must be 1")
        channels = u.shape[1] - 1
        logits, *rest = self._split(params, channels)
        if temperature == 0:
            component = logits.argmax(1)  # (B,)
        else:
            component = draw_categorical((logits / temperature).softmax(1), u[:, 0])
        rows = torch.arange(len(u), device=u.device)
        location, log_scale, coefficients = (each[rows, :, component].double() for each in rest)  # (B, C)
        noise = temperature * log_scale.exp() * torch.logit(u[:, 1:].double(), eps=1e-12)  # (B, C)
        symbols, values = [], torch.empty_like(noise)
        for channel in range(channels):
            x = _depend(location, coefficients, values, channel) + noise[:, channel]  # (B,)
            symbols.append(((x.clamp(-1, 1) + 1) * ((self.levels - 1) / 2)).round().long())
            values[:, channel] = self._value(symbols[-1], values.dtype)
        return torch.stack(symbols, 1)

    def _kinds(self, channels: int) -> int:
        """Return how many numbers belong to a component."""
        return 1 + 2 * channels + channels * (channels - 1) // 2

    def _split(self, params: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return logits ``(B, K, ...)``, locations and logarithms of scales ``(B, C, K, ...)``, and coefficients."""
        kinds = at_least_float32(params).unflatten(1, (self._kinds(channels), self.components))  # (B, kinds, K, ...)
        logits, location, log_scale, coefficients = kinds.split(
            [1, channels, channels, channels * (channels - 1) // 2], dim=1
        )
        return logits[:, 0], location, log_scale.clamp(-7, 3), coefficients.tanh()

    def _value(self, symbols: Tensor, dtype: torch.dtype) -> Tensor:
        """Return where levels lie, in [-1, 1]."""
        return symbols.to(dtype) * (2 / (self.levels - 1)) - 1

    def _log_interval(self, symbols: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
        """Return the log-probability of a level's interval under one logistic distribution."""
        half_bin = 1 / (self.levels - 1)
        narrowness = torch.exp(-log_scale)
        distance = self._value(symbols, location.dtype) - location
        above, below = (distance + half_bin) * narrowness, (distance - half_bin) * narrowness
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^(b - a)): no difference of nearly equal numbers
        inside = logsigmoid(above) + logsigmoid(-below) + torch.log(-torch.expm1(-2 * half_bin * narrowness))
        log_p = inside.where(symbols < self.levels - 1, logsigmoid(-below))
        return log_p.where(symbols > 0, logsigmoid(above))


def _depend(location: Tensor, coefficients: Tensor, values: Tensor, channel: int) -> Tensor:
    """Return where a channel's distribution lies, given the values of those before; channels are dimension 1."""
    first = channel * (channel - 1) // 2  # of its own coefficients
    middle = location[:, channel]
    for before in range(channel):
        middle = middle + coefficients[:, first + before] * values[:, before]
    return middle


def nucleus(p: Tensor, top_p: float) -> Tensor:
    """Return probabilities ``(..., levels)`` with all but the likeliest values, which together reach `top_p`, at zero."""
    falling, order = p.sort(dim=-1, descending=True)
    before = falling.cumsum(-1) - falling  # probability of all that are likelier
    kept = torch.where(before < top_p, falling, 0.0)
    return torch.zeros_like(p).scatter(-1, order, kept)


def draw_categorical(p: Tensor, u: Tensor) -> Tensor:
    """Return int64 ``(...)``: the values that uniform numbers ``(...)`` pick by weights ``(..., levels)``, of any sum."""
    edges = p.double().cumsum(-1)  # (..., levels)
    below = edges <= (u.double() * edges[..., -1])[..., None]
    return below.sum(-1).clamp(max=p.shape[-1] - 1)


def at_least_float32(params: Tensor) -> Tensor:
    """Return what autocast made narrow in float32, anything else as it is."""
    return params.float() if params.dtype in (torch.bfloat16, torch.float16) else params
