"""What makes a painting of a photograph: what is where as in the one, what textures there are as in the other.

Gatys, Ecker & Bethge 2016, https://openaccess.thecvf.com/content_cvpr_2016/html/Gatys_Image_Style_Transfer_CVPR_2016_paper.html,
equations 1, 5 and 7; for networks: Johnson et al. 2016, https://arxiv.org/abs/1603.08155, equations 2 to 5; Huang & Belongie
2017, https://arxiv.org/abs/1703.06868, equations 11 to 13. Equation numbers (STY.n) are those of the chapter "Style transfer".

Deviations: distances are relative to what they are measured against, so that weights need not be tuned layer by layer; what
AdaIN's decoder is to reach in style is the painting's Gram matrices, not only its means and standard deviations; photographs
that are to stay photographs are compared by pixels too.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from gencore.applications.style_transfer.features import Layers, StyleFeatures, gram
from gencore.errors import InputError
from gencore.networks.adain import adain
from gencore.training.loss import Loss

Maps = dict[int, Tensor]  # maps (B, C, H, W), or Gram matrices (B, C, C), by the number of their layer


class Networks(NamedTuple):
    """The networks of this application: one, which paints."""

    model: nn.Module


class Brushes(NamedTuple):
    """What a batch of photographs is to become, if there are rows of scales and shifts for it.

    Attributes
    ----------
    mix : Tensor
        Shares of the network's styles, ``(B, styles)``, the last of which is the photograph as it is.
    grams : dict of int to Tensor
        Gram matrices of each photograph's painting, ``(B, C, C)``.
    strength : Tensor
        How much of the painting is wanted, ``(B,)`` in [0, 1].
    """

    mix: Tensor
    grams: Maps
    strength: Tensor


class Examples(NamedTuple):
    """What a batch of photographs is to become, if pictures show it.

    Attributes
    ----------
    pictures : Tensor
        A style for each photograph, ``(B, 3, h, w)`` in [-1, 1].
    strength : Tensor
        How much of the style is wanted, ``(B,)`` in [0, 1].
    """

    pictures: Tensor
    strength: Tensor


def grams(maps: Maps, layers: Layers) -> Maps:
    """Return the Gram matrices of the layers that speak of style."""
    return {number: gram(maps[number]) for number in layers.style}


def style_distance(ours: Maps, theirs: Maps) -> Tensor:
    """Return how far Gram matrices are from others, relative to those, averaged over layers: ``(B,)``; 0 if they are equal."""
    of_layers = [
        (ours[number] - wanted).square().sum((1, 2)) / wanted.square().sum((1, 2)) for number, wanted in theirs.items()
    ]
    return sum(of_layers) / len(of_layers)  # (STY.2)


def content_distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the squared distance of maps ``(B, C, H, W)`` from others, relative to those: ``(B,)``."""
    return (ours.float() - theirs.float()).square().sum((1, 2, 3)) / theirs.float().square().sum((1, 2, 3))  # (STY.4)


def total_variation(x: Tensor) -> Tensor:
    """Return the mean squared difference of neighbouring pixels, down and across, ``(B,)``, of pictures ``(B, C, H, W)``."""
    down, across = x.diff(dim=2).square().mean((1, 2, 3)), x.diff(dim=3).square().mean((1, 2, 3))
    return down + across  # (STY.5)


@dataclass(frozen=True)
class Painted:
    """Weights of what a painting should be. Each may be 0.

    Attributes
    ----------
    layers : Layers
        Where pictures are compared.
    style : float
        Weight of the textures.
    content : float
        Weight of what is where.
    variation : float
        Weight of differences between neighbouring pixels, which keeps noise away.
    pixels : float
        Weight of the squared error, for photographs that are to stay as they are.
    """

    layers: Layers = Layers()
    style: float = 100.0
    content: float = 1.0
    variation: float = 3.0
    pixels: float = 30.0

    def __post_init__(self) -> None:
        for field in ("style", "content", "variation", "pixels"):
            if getattr(self, field) < 0:
                raise InputError(f"{field} {getattr(self, field)}: must be 0 or more")

    def of_picture(self, features: StyleFeatures, picture: Tensor, content: Tensor, wanted: Maps) -> Loss:
        """Return the loss of pictures themselves, as Gatys et al. minimise it.

        Parameters
        ----------
        features : StyleFeatures
            The fixed network.
        picture : Tensor
            ``(B, 3, H, W)`` in [-1, 1].
        content : Tensor
            The photographs' maps at ``layers.content``.
        wanted : dict of int to Tensor
            The paintings' Gram matrices.

        Returns
        -------
        Loss
            Parts: ``style``, ``content`` and ``variation``, without weights.
        """
        maps = features(picture)
        style = style_distance(grams(maps, self.layers), wanted).mean()
        at_places = content_distance(maps[self.layers.content], content).mean()
        variation = total_variation(picture).mean()
        total = self.style * style + self.content * at_places + self.variation * variation  # (STY.6)
        return Loss(total, {"style": style, "content": at_places, "variation": variation}, picture=picture)

    def by_network(self, networks: Networks, features: StyleFeatures, x: Tensor, draw: Brushes) -> Loss:
        """Return the loss of what a network with a row of numbers for each style makes of photographs.

        Parameters
        ----------
        networks : Networks
            An `ImageTransformNetwork`.
        features : StyleFeatures
            The fixed network.
        x : Tensor
            Photographs ``(B, 3, H, W)`` in [-1, 1].
        draw : Brushes
            What each is to become.

        Returns
        -------
        Loss
            Parts: ``style``, ``content``, ``variation`` and ``pixels``, without weights; the first is that of whole
            strength, the last that of none.
        """
        picture = networks.model(x, draw.mix)
        maps = features(picture)
        content = content_distance(maps[self.layers.content], features(x)[self.layers.content])
        style = style_distance(grams(maps, self.layers), draw.grams)
        return self._joined(picture, x, style, content, draw.strength)

    def by_example(
        self, networks: Networks, features: StyleFeatures, x: Tensor, draw: Examples, layers: tuple[int, ...]
    ) -> Loss:
        """Return the loss of what a decoder makes of photographs' maps, once they have the moments of a style's.

        Parameters
        ----------
        networks : Networks
            An `AdaINDecoder`.
        features : StyleFeatures
            The fixed network, which looks at the decoder's layers too.
        x : Tensor
            Photographs ``(B, 3, H, W)`` in [-1, 1].
        draw : Examples
            What each is to become.
        layers : tuple of int
            Those that the decoder is given.

        Returns
        -------
        Loss
            Parts as those of `by_network`; ``content`` is the distance from the maps that were to be decoded, averaged over
            layers.
        """
        shown, given = features(x), features(draw.pictures)
        wanted = blended(shown, given, layers, draw.strength)
        picture = networks.model(wanted)
        maps = features(picture)
        of_layers = [content_distance(maps[number], each) for number, each in zip(layers, wanted, strict=True)]
        content = sum(of_layers) / len(of_layers)
        style = style_distance(grams(maps, self.layers), grams(given, self.layers))
        return self._joined(picture, x, style, content, draw.strength)

    def _joined(self, picture: Tensor, x: Tensor, style: Tensor, content: Tensor, strength: Tensor) -> Loss:
        """Add up what each picture costs: its style as far as it is wanted, its pixels as far as it is not."""
        error = (picture - x).square().mean((1, 2, 3))  # (B,)
        of_style, of_pixels = (strength * style).mean(), ((1 - strength) * error).mean()
        at_places, variation = content.mean(), total_variation(picture).mean()
        total = self.style * of_style + self.pixels * of_pixels
        total = total + self.content * at_places + self.variation * variation  # (STY.11)
        parts = {"style": of_style, "content": at_places, "variation": variation, "pixels": of_pixels}
        return Loss(total, parts, picture=picture)


def blended(content: Maps, style: Maps, layers: tuple[int, ...], strength: Tensor) -> list[Tensor]:
    """Return maps on the way from a photograph's own to those with a style's moments (Huang & Belongie 2017, equation 14).

    Parameters
    ----------
    content, style : dict of int to Tensor
        Maps ``(B, C, H, W)`` and ``(B, C, h, w)`` of the layers.
    layers : tuple of int
        Which.
    strength : Tensor
        How far to go, ``(B,)`` in [0, 1].

    Returns
    -------
    list of Tensor
        One ``(B, C, H, W)`` for each layer.
    """
    share = strength[:, None, None, None]
    return [content[n].float().lerp(adain(content[n], style[n]), share) for n in layers]  # (STY.13)
