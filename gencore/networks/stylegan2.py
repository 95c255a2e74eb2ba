"""StyleGAN2: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN".

https://arxiv.org/abs/1912.04958: a mapping network turns the latent into a style w; each convolution of the synthesis
network is modulated by it and demodulated (section 2.2, equations 1 and 3), noise is added to each map, and colours
are summed over resolutions (figure 7b); the discriminator is residual (figure 7c). Mapping network, learned constant
and style mixing are those of Karras et al. 2019, https://arxiv.org/abs/1812.04948, sections 2 and 3.1, and appendix C
for the mapping network's learning rate; conditions enter the mapping network as in Karras et al. 2020 (ADA),
https://arxiv.org/abs/2006.06676, and the discriminator's verdict as in Miyato & Koyama 2018,
https://arxiv.org/abs/1802.05637, equation 3, their vectors normalised as in ADA.
Equation numbers (SB.n) are those of the chapter "Growing, then styles".

All randomness is read from one vector of standard normal numbers: a style's, those of the noise maps, and, for
training, those of a second style and of the layer from which it takes over. A generator in evaluation mode reads the
first two only.

Deviations:

- Activations are scaled before and after a convolution instead of its weights, which is the same (equation 3) and
  needs no convolution of its own for each picture.
- Where the resolution changes, the kernel's taps lie on the smaller map; in the paper's code, a convolution with
  stride 2 or its transpose, they lie on the larger one, at the same cost. Enlarging is bilinear, which is the paper's
  filter [1, 3, 3, 1], but repeats the edge where that meets zeros; reducing takes means, a narrower filter.
- A resolution's colours take the style of its last convolution, where the paper's code gives them the next one's. All
  resolutions share one bias of colours.
- In the mapping network and the discriminator, He's constant multiplies the weights, and in the paper's code biases
  too.
- The discriminator has no mapping network for conditions, and its verdict a part that does not hear them. The vectors
  of several conditions are summed.
- No running mean of w is kept; truncation can take the mean of many.
- With ``patch`` 2 the finest map has half the picture's side, and each of its places paints and sees 2x2 pixels. With
  it, or with ``convolutions`` 1, the layers to and from colours see their neighbours, too.
- The smallest resolution may be 4, 5, 6 or 7, and widths are small.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate, leaky_relu, pixel_shuffle

from gencore.errors import InputError
from gencore.networks.blocks import doublings
from gencore.networks.embeddings import Told
from gencore.networks.equalised import HE, EqualConv2d, EqualLinear
from gencore.networks.minibatch_std import minibatch_std


@dataclass(frozen=True)
class StyleGAN2:
    """Sizes of a generator with styles and of its discriminator.

    Attributes
    ----------
    size : int
        Height and width of the images: 4 to 7 times a power of two (14, 28, 32, ...).
    channels : int
        1 for grey, 3 for colour.
    style : int
        Numbers of a latent's style, and length of w.
    mapping : int
        Layers of the mapping network, 8 in the paper. With none, and nothing told, w is the normalised latent.
    width : int
        Channels of the finest map; each level below has twice as many, up to ``max_width``.
    max_width : int
        Upper bound of the channels.
    judge_width, judge_max_width : int
        The same of the discriminator.
    convolutions : int
        Of each resolution above the smallest, in both networks: 2 as in the paper, or 1, which is about a third of the
        work.
    patch : int
        Side, in pixels, of what one place of the finest map paints or sees.
    conditions : tuple of int
        How many values each condition has; each must be told.
    noise : bool
        Whether each layer of the synthesis adds noise.
    mixing : float
        Share of training pictures that take their finer layers' styles from a second latent.
    """

    size: int = 32
    channels: int = 3
    style: int = 64
    mapping: int = 4
    width: int = 64
    max_width: int = 128
    judge_width: int = 64
    judge_max_width: int = 128
    convolutions: int = 2
    patch: int = 1
    conditions: tuple[int, ...] = ()
    noise: bool = True
    mixing: float = 0.9

    def __post_init__(self) -> None:
        for name in ("channels", "style", "width", "max_width", "judge_width", "judge_max_width"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.patch < 1 or self.size % self.patch:
            raise InputError(f"patch {self.patch} does not divide the size {self.size}; take 1 or 2")
        if self.size < 4 * self.patch or self.sides[-1] * self.patch != self.size:
            over = f"size {self.size} over patch {self.patch}"
            raise InputError(f"{over} is not 4, 5, 6 or 7 times a power of two; use 28, 32, 64, ...")
        if self.convolutions not in (1, 2):
            raise InputError(f"convolutions is {self.convolutions}; each resolution has 1 or 2")
        if self.conditions and min(self.conditions) < 1:
            raise InputError(f"conditions {self.conditions}: each has 1 value or more")
        if self.mapping < bool(self.conditions):
            raise InputError(f"mapping is {self.mapping}; take 1 layer or more, or none if there are no conditions")
        if not 0 <= self.mixing <= 1:
            raise InputError(f"mixing is {self.mixing}; it is a share, from 0 to 1")

    @property
    def levels(self) -> int:
        """How many times the maps' resolution doubles."""
        return doublings(self.size // self.patch)

    @property
    def sides(self) -> list[int]:
        """Side of each convolution's map, from coarse to fine; at the smallest resolution there is one."""
        smallest = self.size // self.patch >> self.levels
        return [smallest] + [smallest << level for level in range(1, self.levels + 1) for _ in range(self.convolutions)]

    @property
    def layers(self) -> int:
        """How many styles a picture takes: one for each convolution; a resolution's colours take its last one's."""
        return len(self.sides)

    @property
    def latent(self) -> int:
        """How many normal numbers one picture takes; a generator that does not mix styles leaves the last unread."""
        return 2 * self.style + 1 + (sum(side**2 for side in self.sides) if self.noise else 0)

    def build(self) -> "tuple[Generator, Discriminator]":
        """Return both players."""
        return Generator(self), Discriminator(self)


def widths(levels: int, width: int, max_width: int) -> list[int]:
    """Return the channels of each resolution, from the smallest to the one ``levels`` doublings above it."""
    return [min(width << level, max_width) for level in range(levels, -1, -1)]


class Mapping(nn.Module):
    """Turn the latent's style numbers into a style w.

    Parameters
    ----------
    config : StyleGAN2
        The sizes.
    """

    def __init__(self, config: StyleGAN2) -> None:
        super().__init__()
        self.told = Told(config.conditions, config.style, std=1.0)
        inputs = config.style * (2 if config.conditions else 1)
        lengths = [inputs] + [config.style] * config.mapping
        # A hundredth of the learning rate: w must not move faster than the layers that read it can follow.
        self.layers = nn.ModuleList(EqualLinear(a, b, lr_multiplier=0.01) for a, b in zip(lengths, lengths[1:]))

    def forward(self, z: Tensor, cond: Tensor | None) -> Tensor:
        """Return ``(B, style)`` for the latent's style numbers ``(B, style)`` and conditions ``(B, K)``.

        Errors as in `Told.vectors`.
        """
        h = normalise(z)
        if vectors := self.told.vectors(cond, len(z)):
            h = torch.cat([h, normalise(sum(vectors))], 1)  # (B, 2 style)
        for layer in self.layers:
            h = leaky_relu(layer(h), 0.2)
        return h


def normalise(vectors: Tensor) -> Tensor:
    """Return vectors ``(B, N)`` brought to the length sqrt(N)."""
    return vectors * (vectors.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class ModulatedConv(nn.Module):
    """A convolution whose input channels are scaled by a style, and whose outputs are brought back to their size.

    Parameters
    ----------
    channels, out_channels : int
        Channels of input and output.
    kernel : int
        Side of the kernel.
    style : int
        Length of w.
    demodulate : bool
        Whether outputs are brought back.
    """

    def __init__(self, channels: int, out_channels: int, kernel: int, style: int, demodulate: bool = True) -> None:
        super().__init__()
        self.affine = EqualLinear(style, channels, gain=1.0, bias=1.0)  # a new layer scales by about 1
        self.weight = nn.Parameter(torch.randn(out_channels, channels, kernel, kernel))
        self.scale = 1 / math.sqrt(channels * kernel**2)
        self.demodulate = demodulate

    def forward(self, h: Tensor, w: Tensor) -> Tensor:
        """Return ``(B, out_channels, H, W)`` for maps ``(B, channels, H, W)`` and styles ``(B, style)``."""
        s = self.affine(w)  # (B, channels)
        weight = self.scale * self.weight
        h = conv2d(h * s[:, :, None, None], weight, padding=self.weight.shape[2] // 2)  # equation 1, (SB.9)
        if self.demodulate:
            squares = s.square() @ weight.square().sum((2, 3)).mT  # (B, out_channels)
            h = h * (squares + 1e-8).rsqrt().to(h)[:, :, None, None]  # equation 3, (SB.10)
        return h


class StyledLayer(nn.Module):
    """A modulated convolution, noise, bias and activation; the resolution is doubled on the way, if asked for.

    Parameters
    ----------
    channels, out_channels : int
        Channels of input and output.
    style : int
        Length of w.
    double : bool
        Whether the resolution doubles.
    noise : bool
        Whether noise is added.
    """

    def __init__(self, channels: int, out_channels: int, style: int, double: bool, noise: bool) -> None:
        super().__init__()
        self.doubles = double  # nn.Module.double is a method
        self.conv = ModulatedConv(channels, out_channels, 3, style)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.strength = nn.Parameter(torch.zeros(())) if noise else None  # the network learns how much noise it wants

    def forward(self, h: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """Return ``(B, out_channels, H, W)``, for noise ``(B, 1, H, W)`` if there is any."""
        h = self.conv(h, w)
        h = enlarge(h) if self.doubles else h
        if noise is not None:
            h = h + self.strength.to(h) * noise.to(h)
        return HE * leaky_relu(h + self.bias.to(h)[:, None, None], 0.2)


def enlarge(h: Tensor) -> Tensor:
    """Double height and width of ``(B, C, H, W)``."""
    return interpolate(h, scale_factor=2.0, mode="bilinear")


class Generator(nn.Module):
    """Map a latent to a picture, by way of its styles.

    Parameters
    ----------
    config : StyleGAN2
        The sizes.
    """

    def __init__(self, config: StyleGAN2) -> None:
        super().__init__()
        self.config = config
        channels = widths(config.levels, config.width, config.max_width)
        self.mapping = Mapping(config)
        self.constant = nn.Parameter(torch.randn(1, channels[0], config.sides[0], config.sides[0]))
        self.layers = nn.ModuleList([StyledLayer(channels[0], channels[0], config.style, False, config.noise)])
        for before, after in zip(channels, channels[1:], strict=False):
            self.layers.append(StyledLayer(before, after, config.style, True, config.noise))
            if config.convolutions == 2:
                self.layers.append(StyledLayer(after, after, config.style, False, config.noise))
        painted = config.channels * config.patch**2
        # The paper's 1x1, where two convolutions come before it; else what it paints is to know its neighbours.
        kernel = 1 if config.convolutions == 2 and config.patch == 1 else 3
        self.colours = nn.ModuleList(ModulatedConv(each, painted, kernel, config.style, False) for each in channels)
        self.colour_bias = nn.Parameter(torch.zeros(config.channels, 1, 1))
        self.register_buffer("mean_path", torch.zeros(()))  # for the path length penalty

    def forward(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return pictures ``(B, channels, size, size)`` for latents ``(B, latent)`` and conditions ``(B, K)``.

        They are meant to lie in [-1, 1], and nothing keeps them there. Errors as in `styles`.
        """
        return self.paint(self.styles(z, cond), z)

    def styles(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return each layer's style ``(B, layers, style)``: all one, but for mixing in training.

        Raises
        ------
        InputError
            If a latent has more or fewer numbers than the generator takes, or as in `Told.vectors`.
        """
        if z.shape[1:] != (self.config.latent,):
            raise InputError(f"latents {tuple(z.shape)}: this generator takes (B, {self.config.latent})")
        count, layers = self.config.style, self.config.layers
        w = self.mapping(z[:, :count], cond)[:, None].expand(-1, layers, -1)
        if self.training and self.config.mixing:
            second, where = z[:, -count - 1 : -1], torch.special.ndtr(z[:, -1:])  # (B, style), uniform (B, 1)
            # A share of pictures changes over at one of the layers 1, 2, ..., equally often; the others at none.
            start = 1 + (layers - 1) * where / self.config.mixing
            over = torch.arange(layers, device=z.device) >= start.floor()  # (B, layers)
            w = torch.where(over[:, :, None], self.mapping(second, cond)[:, None], w)
        return w

    def paint(self, w: Tensor, z: Tensor) -> Tensor:
        """Return pictures for each layer's style ``(B, layers, style)``, with the noise of latents ``(B, latent)``."""
        noise, sides = [None] * self.config.layers, self.config.sides
        if self.config.noise:
            maps = z[:, self.config.style :].split([side**2 for side in sides] + [self.config.style + 1], 1)
            noise = [each.view(-1, 1, side, side) for each, side in zip(maps, sides, strict=False)]
        h, picture = self.constant.expand(len(w), -1, -1, -1), None
        for number, layer in enumerate(self.layers):
            h = layer(h, w[:, number], noise[number])  # (B, C, side, side)
            resolution, rest = divmod(number, self.config.convolutions)
            if not rest:  # the last layer of its resolution
                colours = self.colours[resolution](h, w[:, number])  # (B, channels patch², side, side)
                colours = pixel_shuffle(colours, self.config.patch)  # (B, channels, side patch, side patch)
                picture = colours if picture is None else enlarge(picture) + colours
        return picture + self.colour_bias.to(picture)


class JudgeBlock(nn.Module):
    """Halve the resolution: two convolutions beside a plain way, added up (figure 7c).

    Parameters
    ----------
    channels, out_channels : int
        Channels of input and output.
    convolutions : int
        With 1, the convolution of the larger map is left out.
    """

    def __init__(self, channels: int, out_channels: int, convolutions: int = 2) -> None:
        super().__init__()
        self.first = EqualConv2d(channels, channels, 3, padding=1) if convolutions == 2 else None
        self.second = EqualConv2d(channels, out_channels, 3, padding=1)
        self.plain = EqualConv2d(channels, out_channels, 1, bias=False, gain=1.0)

    def forward(self, h: Tensor) -> Tensor:
        """Return ``(B, out_channels, H / 2, W / 2)`` for ``(B, channels, H, W)``."""
        r = h if self.first is None else leaky_relu(self.first(h), 0.2)
        r = leaky_relu(self.second(avg_pool2d(r, 2)), 0.2)
        return (r + self.plain(avg_pool2d(h, 2))) / math.sqrt(2)  # two halves of equal size keep the size


class Discriminator(nn.Module):
    """Map a picture to one logit.

    Parameters
    ----------
    config : StyleGAN2
        The sizes.
    """

    def __init__(self, config: StyleGAN2) -> None:
        super().__init__()
        channels = widths(config.levels, config.judge_width, config.judge_max_width)[::-1]
        side, last = config.sides[0], channels[-1]
        patch = config.patch
        kernel = 1 if config.convolutions == 2 and patch == 1 else patch + 2  # 1x1; else 3x3, or 4x4 with stride 2
        self.stem = EqualConv2d(config.channels, channels[0], kernel, patch, min(kernel // 2, 1))
        self.blocks = nn.ModuleList(JudgeBlock(a, b, config.convolutions) for a, b in zip(channels, channels[1:]))
        self.conv = EqualConv2d(last + 1, last, 3, padding=1)
        self.dense = EqualLinear(last * side**2, last)
        self.verdict = EqualLinear(last, 1, gain=1.0)
        self.told = Told(config.conditions, last, std=1.0)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return logits ``(B,)`` for pictures ``(B, channels, size, size)`` and conditions ``(B, K)``.

        They depend on the batch (`gencore.networks.minibatch_std`). Errors as in `Told.vectors`.
        """
        h = leaky_relu(self.stem(x), 0.2)
        for block in self.blocks:
            h = block(h)
        h = leaky_relu(self.conv(minibatch_std(h)), 0.2)  # (B, C, s, s)
        h = leaky_relu(self.dense(h.flatten(1)), 0.2)  # (B, C)
        verdict = self.verdict(h)[:, 0]
        for vectors in self.told.vectors(cond, len(x)):
            # What is told is compared with what is seen.
            verdict = verdict + (normalise(vectors).to(h) * h).sum(1) / math.sqrt(h.shape[1])
        return verdict
