"""Pictures and captions in one space: Radford et al. 2021 (CLIP).

"Learning transferable visual models from natural language supervision", https://arxiv.org/abs/2103.00020, section 2.3
and figure 3: one network turns a picture into a unit vector, another one a caption, and the cosine between the two says
how well they fit, in units of a learned temperature.

Deviations: what looks at the picture is a small convolutional network with a transformer on top, and its vector is the
mean over places; captions are read without hiding later words from earlier ones, and the vector is, as in the paper,
that of the token that ends the caption.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from gencore.errors import InputError
from gencore.networks.places import Places, PlacesNetwork
from gencore.networks.text import TextEncoder, TextEncoderNetwork

COLDEST = 100.0  # the largest factor of cosines: section 2.5


@dataclass(frozen=True)
class Contrastive:
    """Sizes of the two networks.

    Attributes
    ----------
    picture : Places
        What looks at pictures.
    text : TextEncoder
        What reads captions.
    width : int
        Length of the vectors in the common space.
    end : int
        Number of the word that ends captions.
    """

    picture: Places = Places()
    text: TextEncoder = TextEncoder()
    width: int = 128
    end: int = 0

    def __post_init__(self) -> None:
        if self.width < 1:
            raise InputError(f"width {self.width}: must be 1 or more")
        if not 0 <= self.end < self.text.words:
            raise InputError(f"end {self.end}: must be one of the {self.text.words} words, from 0 on")

    @property
    def size(self) -> int:
        """Height and width of the pictures."""
        return self.picture.size

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.picture.channels


class ContrastiveNetwork(nn.Module):
    """Map pictures and captions to unit vectors.

    Parameters
    ----------
    config : Contrastive
        The sizes.
    """

    def __init__(self, config: Contrastive) -> None:
        super().__init__()
        self.config = config
        self.picture = PlacesNetwork(config.picture)
        self.text = TextEncoderNetwork(config.text)
        self.of_picture = nn.Linear(config.picture.width, config.width, bias=False)
        self.of_text = nn.Linear(config.text.transformer.width, config.width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # section 2.5

    @property
    def scale(self) -> Tensor:
        """By what cosines are multiplied: one over the temperature."""
        return self.log_scale.exp().clamp(max=COLDEST)

    def forward(self, x: Tensor, captions: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit vectors of pictures ``(B, channels, size, size)`` and of captions, int64 ``(M, length)``.

        Returns
        -------
        pictures, captions : Tensor
            ``(B, width)`` and ``(M, width)``, float32 at least.
        """
        return self.look(x), self.read(captions)

    def look(self, x: Tensor) -> Tensor:
        """Return the unit vectors of pictures, ``(B, width)``."""
        return _unit(self.of_picture(self.picture(x).mean(1)))

    def read(self, captions: Tensor) -> Tensor:
        """Return the unit vectors of captions, ``(M, width)``; a caption without an end is read at its last word."""
        words = self.text(captions)  # (M, L, w)
        last = (captions != self.config.end).long().cumprod(1).sum(1).clamp(max=captions.shape[1] - 1)  # (M,)
        return _unit(self.of_text(words[torch.arange(len(words), device=words.device), last]))


def _unit(vectors: Tensor) -> Tensor:
    """Return vectors of length 1, in float32 at least: cosines near each other must stay apart."""
    return normalize(vectors if vectors.dtype == torch.float64 else vectors.float(), dim=1)
