"""What is to be mended: each task makes, of a clean picture, the spoiled one that a network is shown.

Two tasks of Saharia et al. 2022 ("Palette", https://arxiv.org/abs/2111.05826) that a small network can learn, filling holes
(inpainting, and uncropping, section 5.3) and undoing damage (their JPEG restoration, and more); that of Saharia et al. 2021
("SR3", https://arxiv.org/abs/2104.07636), enlarging; and that of Brooks et al. 2023 ("InstructPix2Pix",
https://arxiv.org/abs/2211.09800), changing what an instruction says.

Deviation: where there is a first guess, in enlarging and repairing, the network draws the difference from it, times a gain;
SR3 and Palette draw the picture itself.

A task is pure: all randomness is given, as uniform numbers ``u (B, numbers)`` and, if it is ``noisy``, as standard normal
noise of the shape of the pictures. Everything is computed on the pictures' device, for a whole batch at once.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from gencore.errors import InputError


class Seen(NamedTuple):
    """What a network is shown of pictures that it is to mend.

    Attributes
    ----------
    source : Tensor
        The pictures beside the noised ones, ``(B, S, H, W)``; the first C channels are the spoiled picture in [-1, 1].
    base : Tensor or None
        A first guess that is left as it is, ``(B, C, H, W)``: only what is missing in it is drawn. None for black.
    hole : Tensor or None
        1 where something is to be drawn and 0 where the spoiled picture is right, ``(B, 1, H, W)``. None for everywhere.
    words : Tensor or None
        What is to be done, int64 ``(B, L)``.
    """

    source: Tensor
    base: Tensor | None = None
    hole: Tensor | None = None
    words: Tensor | None = None


@dataclass(frozen=True)
class Upscale:
    """Enlarge: the network is shown the reduced picture, brought back to full size by bicubic interpolation, as in SR3.

    Drawn is what the enlarged picture lacks, times ``gain``, so that it has about the variance of the noise; SR3 draws the
    picture.

    Attributes
    ----------
    times : int
        By how much, in each direction.
    gain : float
        Factor of the difference.
    """

    times: int = 4
    gain: float = 4.0

    def __post_init__(self) -> None:
        if self.times < 2 or self.gain <= 0:
            raise InputError(f"times {self.times}, gain {self.gain}: at least 2, and positive")

    numbers = 0
    noisy = False

    def seen(self, channels: int) -> int:
        """Channels that the network sees beside the noised ones."""
        return channels

    def show(self, x: Tensor, u: Tensor | None = None, noise: Tensor | None = None) -> Seen:
        """Return what is shown of clean pictures ``(B, C, H, W)``, whose sides are multiples of ``times``."""
        if x.shape[2] % self.times or x.shape[3] % self.times:
            raise InputError(f"pictures of {x.shape[2]}x{x.shape[3]}: cannot be reduced {self.times} times without a rest")
        return self.show_small(reduce(x, self.times))

    def show_small(self, small: Tensor) -> Seen:
        """Return what is shown of small pictures ``(B, C, h, w)``: ``times`` as large."""
        enlarged = interpolate(small, scale_factor=self.times, mode="bicubic").clamp(-1, 1)  # (B, C, H, W)
        return Seen(enlarged, base=enlarged)


@dataclass(frozen=True)
class Holes:
    """Fill holes: the network is shown the picture, grey in the hole, and a channel, the mask, that says where the hole is.

    Only in the hole its output counts, as in Palette, section 5.2. Holes are boxes, a few thick strokes, or a half of the
    picture, which Palette calls uncropping (section 5.3).

    Deviations: Palette gives its network no mask, and shows noise in the hole, where we show grey; of the noised picture, our
    network sees the hole only.

    Attributes
    ----------
    boxes, strokes : float
        Shares of the first two kinds; the rest are halves.
    """

    boxes: float = 0.4
    strokes: float = 0.4

    def __post_init__(self) -> None:
        if min(self.boxes, self.strokes) < 0 or self.boxes + self.strokes > 1:
            raise InputError(f"boxes {self.boxes}, strokes {self.strokes}: shares, which add up to at most 1")

    gain = 1.0
    numbers = 6 + 5 * 4  # a kind, a box or half, strokes
    noisy = False

    def seen(self, channels: int) -> int:
        """Channels that the network sees beside the noised ones."""
        return channels + 1

    def show(self, x: Tensor, u: Tensor, noise: Tensor | None = None) -> Seen:
        """Return what is shown of clean pictures ``(B, C, H, W)`` with holes drawn by ``u (B, numbers)``."""
        return self.show_hole(x, self.draw(u, x.shape[2], x.shape[3]))

    def show_hole(self, x: Tensor, hole: Tensor) -> Seen:
        """Return what is shown of pictures with a given hole ``(B, 1, H, W)``, 1 inside; what is inside does not matter."""
        return Seen(torch.cat([torch.where(hole > 0, 0, x), hole], 1), hole=hole)

    def draw(self, u: Tensor, height: int, width: int) -> Tensor:
        """Return holes for uniform numbers ``(B, numbers)``: float ``(B, 1, height, width)``, 1 inside."""
        y = ((torch.arange(height, device=u.device) + 0.5) / height)[:, None]
        x = ((torch.arange(width, device=u.device) + 0.5) / width)[None, :]
        u = u[:, :, None, None]  # (B, numbers, 1, 1)
        kind, middle_y, middle_x, tall, wide, side = u[:, :6].unbind(1)  # (B, 1, 1) each
        tall, wide = 0.2 + 0.4 * tall, 0.2 + 0.4 * wide
        top, left = middle_y * (1 - tall), middle_x * (1 - wide)
        box = (y >= top) & (y < top + tall) & (x >= left) & (x < left + wide)  # (B, H, W)
        half = torch.where(side < 0.25, y < 0.5, torch.where(side < 0.5, y >= 0.5, torch.where(side < 0.75, x < 0.5, x >= 0.5)))
        # A line through five points that wander about, and each of its four parts as thick as it likes.
        points = u[:, 6:].unflatten(1, (5, 4))  # (B, 5, 4, 1, 1): y, x, thickness, whether the part is there
        at_y, at_x = points[:, :, 0], points[:, :, 1]
        stroke = torch.zeros_like(box)
        for a, b in ((0, 1), (1, 2), (2, 3), (3, 4)):
            thick = 0.04 + 0.06 * points[:, a, 2]
            there = (points[:, a, 3] < 0.75) | (a == 0)
            stroke |= there & (_to_segment(y, x, at_y[:, a], at_x[:, a], at_y[:, b], at_x[:, b]) <= thick)
        chosen = torch.where(kind < self.boxes, box, torch.where(kind < self.boxes + self.strokes, stroke, half))
        return chosen[:, None].float()  # (B, 1, H, W)


@dataclass(frozen=True)
class Damage:
    """Undo damage: blur, noise, blocks as of strong compression, and scratches, each at random strength or not at all.

    Drawn is the difference from the damaged picture, times ``gain``.

    Attributes
    ----------
    blur : float
        Largest standard deviation of the blur in pixels.
    noise : float
        Largest standard deviation of the noise, in units of half the value range.
    blocks : float
        Largest step to which the coefficients of 8x8 blocks are rounded, in the same units.
    scratches : float
        Share of pictures with scratches.
    gain : float
        Factor of the difference.
    """

    blur: float = 1.2
    noise: float = 0.3
    blocks: float = 0.6
    scratches: float = 0.4
    gain: float = 2.5

    def __post_init__(self) -> None:
        if min(self.blur, self.noise, self.blocks) < 0 or not 0 <= self.scratches <= 1 or self.gain <= 0:
            raise InputError(f"{self}: strengths must not be negative, scratches a share, the gain positive")

    numbers = 7 + 3 * 6
    noisy = True

    def seen(self, channels: int) -> int:
        """Channels that the network sees beside the noised ones."""
        return channels

    def show(self, x: Tensor, u: Tensor, noise: Tensor) -> Seen:
        """Return what is shown of clean pictures ``(B, C, H, W)``: damaged by ``u (B, numbers)`` and ``noise`` like ``x``.

        Height and width are multiples of 8.
        """
        if x.shape[2] % 8 or x.shape[3] % 8:
            raise InputError(f"pictures of {x.shape[2]}x{x.shape[3]}: blocks need multiples of 8")
        some, how = u[:, :3], u[:, 3:6]
        # Each kind of damage is absent in half of the pictures; where it is there, all strengths are equally likely.
        blur, grain, step = torch.where(some < 0.5, how, 0).unbind(1)  # (B,) each
        damaged = _blur(x, self.blur * blur) + (self.noise * grain)[:, None, None, None] * noise
        damaged = _block(damaged, self.blocks * step)
        damaged = torch.where(_scratched(u[:, 7:], *x.shape[2:]) & (u[:, 6] < self.scratches)[:, None, None, None], 1.0, damaged)
        damaged = as_in_a_file(damaged)
        return Seen(damaged, base=damaged)


@dataclass(frozen=True)
class Instruct:
    """Do what an instruction says: the network is shown the picture and reads (InstructPix2Pix). The data hold both."""

    gain = 1.0
    numbers = 0
    noisy = False

    def seen(self, channels: int) -> int:
        """Channels that the network sees beside the noised ones."""
        return channels


Task = Upscale | Holes | Damage | Instruct


def to_drawn(task: Task, x: Tensor, seen: Seen) -> Tensor:
    """Return what is to be drawn of clean pictures ``(B, C, H, W)``: what the first guess lacks, scaled."""
    return task.gain * (x if seen.base is None else x - seen.base)


def to_picture(task: Task, drawn: Tensor, seen: Seen) -> Tensor:
    """Return the mended pictures, ``(B, C, H, W)`` in [-1, 1]; where there is no hole, the spoiled one's very pixels."""
    picture = drawn / task.gain if seen.base is None else seen.base + drawn / task.gain
    picture = picture.clamp(-1, 1)
    if seen.hole is None:
        return picture
    return torch.where(seen.hole > 0, picture, seen.source[:, : picture.shape[1]])


def reduce(x: Tensor, times: int) -> Tensor:
    """Return pictures ``(B, C, H, W)`` made smaller by bicubic interpolation with antialiasing, in the levels of a file."""
    small = interpolate(x, size=(x.shape[2] // times, x.shape[3] // times), mode="bicubic", antialias=True)
    return as_in_a_file(small)


def as_in_a_file(x: Tensor) -> Tensor:
    """Return pictures in [-1, 1] in the 256 levels that a file has."""
    return (x.clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1


def _to_segment(y: Tensor, x: Tensor, y0: Tensor, x0: Tensor, y1: Tensor, x1: Tensor) -> Tensor:
    """Return the distance of points ``(H, 1)``, ``(1, W)`` from segments given by ``(B, 1, 1)``: ``(B, H, W)``."""
    dy, dx = y1 - y0, x1 - x0
    along = (((y - y0) * dy + (x - x0) * dx) / (dy**2 + dx**2).clamp(min=1e-8)).clamp(0, 1)
    return torch.hypot(y - y0 - along * dy, x - x0 - along * dx)


def _blur(x: Tensor, sigma: Tensor, reach: int = 3) -> Tensor:
    """Return pictures ``(B, C, H, W)`` blurred by Gaussians of standard deviations ``(B,)``, cut off at ``reach`` pixels."""
    batch, channels, height, width = x.shape
    place = torch.arange(-reach, reach + 1, device=x.device)
    kernel = torch.exp(-(place**2) / (2 * sigma[:, None].clamp(min=1e-2) ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None]  # (B C, 1, 2 reach + 1)
    rows = pad(x, (reach,) * 4, mode="reflect").reshape(1, batch * channels, height + 2 * reach, width + 2 * reach)
    rows = conv2d(rows, kernel[:, :, :, None], groups=batch * channels)
    return conv2d(rows, kernel[:, :, None, :], groups=batch * channels).view_as(x)


def _block(x: Tensor, step: Tensor, side: int = 8) -> Tensor:
    """Return pictures whose 8x8 blocks have cosine coefficients rounded to multiples of ``step (B,)`` times a ramp, as JPEG."""
    place = torch.arange(side, device=x.device, dtype=torch.float32)
    cosine = torch.cos(torch.pi * (place[None] + 0.5) * place[:, None] / side) * (2 / side) ** 0.5  # (8, 8), orthonormal
    cosine[0] /= 2**0.5
    ramp = (1 + place[:, None] + place[None, :]) / side  # fine detail is rounded to coarser steps
    blocks = x.unflatten(3, (-1, side)).unflatten(2, (-1, side)).movedim(3, 4)  # (B, C, H/8, W/8, 8, 8)
    found = cosine @ blocks @ cosine.T
    by = (step[:, None, None, None, None, None] * ramp).clamp(min=1e-6)
    rounded = cosine.T @ ((found / by).round() * by) @ cosine
    rounded = rounded.movedim(4, 3).flatten(4, 5).flatten(2, 3)  # (B, C, H, W)
    return torch.where(step[:, None, None, None] > 0, rounded, x)


def _scratched(u: Tensor, height: int, width: int) -> Tensor:
    """Return where scratches are, bool ``(B, 1, H, W)``: three thin lines, across the picture or within it."""
    y = ((torch.arange(height, device=u.device) + 0.5) / height)[:, None]
    x = ((torch.arange(width, device=u.device) + 0.5) / width)[None, :]
    found = torch.zeros(len(u), height, width, dtype=torch.bool, device=u.device)
    for line in u[:, :, None, None].unflatten(1, (3, 6)).unbind(1):
        y0, x0, y1, x1, thick, there = line.unbind(1)  # (B, 1, 1) each
        found |= (there < 0.7) & (_to_segment(y, x, y0, x0, y1, x1) <= (0.5 + thick) / height)
    return found[:, None]
