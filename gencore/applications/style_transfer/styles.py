"""Pictures whose style is to be learned: paintings, and for a network that should take any style, much else.

What else: the same paintings in other colours, photographs, sheets of emoji, and textures made of oriented noise in a few
colours. All are made from a seed, once, before training.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gencore.data import Emoji, Photos, to_float, to_uint8
from gencore.data.photos import cut_patches, paintings
from gencore.errors import InputError

PAINTINGS = 8  # that ship
SIDES = (288, 384)  # shorter sides at which paintings are cut: fine strokes and coarser ones
PATCH, STEP = 256, 96
SHEETS, TEXTURES = 64, 128


@dataclass(frozen=True)
class Styles:
    """Which pictures show what to paint like.

    Attributes
    ----------
    left_out : tuple of int
        Numbers of paintings (`gencore.data.photos.paintings`, from 0 on) that are not used, so that a network can be tried
        on what it has never seen.
    others : bool
        Whether other pictures than paintings are styles too.
    side : int
        Shorter side at which whole paintings are looked at, in pixels: it decides how broad strokes are.
    """

    left_out: tuple[int, ...] = ()
    others: bool = False
    side: int = 320

    def __post_init__(self) -> None:
        if any(not 0 <= each < PAINTINGS for each in self.left_out) or self.count < 1:
            raise InputError(f"left_out {self.left_out}: numbers of paintings, 0 to {PAINTINGS - 1}, but not of all")
        if self.side < 64:
            raise InputError(f"side {self.side}: must be at least 64")

    @property
    def count(self) -> int:
        """How many paintings there are."""
        return PAINTINGS - len(set(self.left_out))

    @property
    def numbers(self) -> tuple[int, ...]:
        """Which paintings there are."""
        return tuple(number for number in range(PAINTINGS) if number not in self.left_out)

    def whole(self) -> list[Tensor]:
        """Return the paintings as they are looked at, float ``(1, 3, H, W)`` in [-1, 1] each, sides multiples of 16."""
        pictures = paintings()
        return [fit_side(to_float(pictures[number].image)[None], self.side) for number in self.numbers]

    def patches(self, seed: int) -> tuple[Tensor, int]:
        """Return square patches of all pictures, and how many of them, at the beginning, are of paintings.

        Parameters
        ----------
        seed : int
            Decides sheets and textures.

        Returns
        -------
        patches : Tensor
            uint8 ``(N, 3, 256, 256)``.
        of_paintings : int
            The first so many are of paintings.
        """
        pictures, cut = paintings(), []
        for number in self.numbers:
            for side in SIDES:
                cut.append(cut_patches(to_uint8(fit_side(to_float(pictures[number].image)[None], side))[0], PATCH, STEP))
        painted = torch.cat(cut)
        if not self.others:
            return painted, len(painted)
        draw = torch.Generator().manual_seed(seed)
        photographs = Photos(PATCH).load("train").images
        return torch.cat([painted, photographs, emoji_sheets(SHEETS, draw), textures(TEXTURES, draw)]), len(painted)


def fit_side(x: Tensor, side: int) -> Tensor:
    """Return pictures ``(B, 3, H, W)`` with that shorter side, both sides rounded to multiples of 16, antialiased."""
    share = side / min(x.shape[2:])
    size = [max(16, 16 * round(each * share / 16)) for each in x.shape[2:]]
    return interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True).clamp(-1, 1)


def emoji_sheets(count: int, draw: torch.Generator) -> Tensor:
    """Return sheets of emoji side by side, uint8 ``(count, 3, 256, 256)``."""
    images = Emoji(("noto", "twemoji")).load("train").images  # (N, 3, 32, 32)
    across = PATCH // images.shape[3]
    pick = torch.randint(len(images), (count, across, across), generator=draw)
    return images[pick].permute(0, 3, 1, 4, 2, 5).reshape(count, 3, PATCH, PATCH)


def textures(count: int, draw: torch.Generator) -> Tensor:
    """Return oriented noise in a few colours, uint8 ``(count, 3, 256, 256)``: strokes, grains, stripes and blots."""
    across = torch.fft.fftfreq(PATCH)[None]  # cycles a pixel
    down = across.T
    made = []
    for _ in range(count):
        angle, fine, longer, width = torch.rand(4, generator=draw).tolist()
        along = across * math.cos(math.pi * angle) + down * math.sin(math.pi * angle)
        beside = across * math.sin(math.pi * angle) - down * math.cos(math.pi * angle)
        centre, spread = 0.01 * 20**fine, 0.005 + 0.05 * width  # of the frequencies that are let through
        radius = (along.square() + (1 + 8 * longer) * beside.square()).sqrt()
        band = torch.exp(-((radius - centre) ** 2) / (2 * spread**2))
        noise = torch.fft.fft2(torch.randn(PATCH, PATCH, generator=draw))
        wave = torch.fft.ifft2(noise * band).real
        wave = (wave - wave.mean()) / (wave.std() + 1e-6)
        colours = 2 * torch.rand(5, 3, generator=draw) - 1
        place = 4 * (0.5 + 0.5 * torch.erf(wave / math.sqrt(2)))  # evenly spread over [0, 4]
        lower = place.floor().clamp(max=3).long()
        mixed = colours[lower].lerp(colours[lower + 1], (place - lower)[..., None].pow(2))  # (256, 256, 3)
        made.append(to_uint8(mixed.permute(2, 0, 1)))
    return torch.stack(made)
