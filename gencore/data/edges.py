"""Edges: where a picture changes abruptly, as thin lines. Canny 1986, "A computational approach to edge detection".

https://doi.org/10.1109/TPAMI.1986.4767851, sections 5 and 7: blur a little, take the slope, keep the places where it is
largest across the line, and of those keep what is steep or hangs together with something steep.

Deviations: the slope of a colour picture is that of its steepest channel; its direction is rounded to eighths of a turn;
thresholds are heights of a step, as shares of the range, where Canny estimates the noise.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gencore.errors import InputError

LINE, PAPER = 0, 255  # dark lines on white


@dataclass(frozen=True)
class Edges:
    """How lines are found.

    Attributes
    ----------
    blur : float
        Standard deviation of the blur before, in pixels; 0 for none.
    low, high : float
        Height of a step, as a share of the range from black to white: from ``high`` on it is a line, and from ``low`` on
        where it continues one.
    """

    blur: float = 0.6
    low: float = 0.08
    high: float = 0.2

    def __post_init__(self) -> None:
        if self.blur < 0:
            raise InputError(f"blur {self.blur}: must be 0 (none) or more")
        if not 0 < self.low <= self.high:
            raise InputError(f"low {self.low}, high {self.high}: low is above 0, and high at least as large")

    def __call__(self, images: Tensor) -> Tensor:
        """Return the lines of pictures, uint8 ``(N, 1, H, W)``, 0 on 255, for uint8 ``(N, 1 or 3, H, W)`` of any size."""
        lines = [self._lines(part) for part in images.split(1024)] or [images.new_empty(0, *images.shape[1:]).bool()[:, :1]]
        return torch.where(torch.cat(lines), LINE, PAPER).to(torch.uint8)

    def _lines(self, images: Tensor) -> Tensor:
        x = _blur(images.float() / 255, self.blur)
        down, right = _slopes(x)  # (B, C, H, W) each
        height = torch.hypot(down, right)
        steepest = height.argmax(1, keepdim=True)
        height, down, right = (each.gather(1, steepest) for each in (height, down, right))  # (B, 1, H, W) each
        ridge = height * _is_ridge(height, down, right)
        weak, lines = ridge >= self.low, ridge >= self.high
        while True:  # lines grow along weak ones until nothing is added
            grown = (F.max_pool2d(lines.float(), 3, 1, 1) > 0) & weak
            if torch.equal(grown, lines):
                return lines
            lines = grown


def _blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of ``(B, C, H, W)``, the border repeated."""
    if sigma == 0:
        return x
    reach = max(1, math.ceil(3 * sigma))
    place = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-(place**2) / (2 * sigma**2))
    return _separable(x, kernel / kernel.sum(), kernel / kernel.sum())


def _slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel's slopes downwards and to the right; a step of height 1 across an axis has slope 1 on both of its sides."""
    smooth, step = x.new_tensor([0.25, 0.5, 0.25]), x.new_tensor([-1.0, 0.0, 1.0])
    return _separable(x, step, smooth), _separable(x, smooth, step)


def _separable(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Correlate each channel with a kernel that is a product of two, the border repeated."""
    channels, reach = x.shape[1], len(down) // 2
    x = F.pad(x, (reach,) * 4, mode="replicate")
    x = F.conv2d(x, down.view(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)
    return F.conv2d(x, right.view(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)


def _is_ridge(height: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Whether a place is steeper than both neighbours across the line; of two that are equal, the later one counts."""
    eighth = (torch.atan2(down, right) / (math.pi / 4)).round().long() % 4  # 0: across, 1: diagonal, 2: down, 3: the other
    around = F.pad(height, (1, 1, 1, 1))
    rows, columns = height.shape[2:]

    def moved(y: int, x: int) -> Tensor:
        return around[:, :, 1 + y : 1 + y + rows, 1 + x : 1 + x + columns]

    # Equal up to rounding counts as equal: a step between two pixels has the same slope in both.
    slack = 1e-4
    ridge = torch.zeros_like(height, dtype=torch.bool)
    for number, (y, x) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        along = (height > moved(y, x) + slack) & (height >= moved(-y, -x) - slack)
        ridge |= along & (eighth == number)
    return ridge
