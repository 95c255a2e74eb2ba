"""Numbers and pictures as tokens: sinusoidal embeddings of Vaswani et al. 2017, patches of Dosovitskiy et al. 2021.

"Attention is all you need", https://arxiv.org/abs/1706.03762, section 3.5, and "An image is worth 16x16 words",
https://arxiv.org/abs/2010.11929, equation 1.

Deviations: all sines come first, then all cosines, where Vaswani et al. let them alternate (a permutation of the
vector); a picture's patches get one half of the vector from their row and the other from their column, as in Peebles &
Xie 2023, https://arxiv.org/abs/2212.09748; continuous time is embedded by the same function, as in Ho et al. 2020,
https://arxiv.org/abs/2006.11239.
"""

import torch
from torch import Tensor, nn

from gencore.errors import InputError


def sinusoidal(position: Tensor, width: int, longest: float = 10_000.0) -> Tensor:
    """Embed numbers by sines and cosines of geometrically spaced frequencies.

    Parameters
    ----------
    position : Tensor
        Any shape ``(...)``: places in a sequence, times, ...
    width : int
        Length of the vectors, even.
    longest : float
        The frequencies fall from 1 to nearly ``1 / longest``, in radians per unit.

    Returns
    -------
    Tensor
        ``(..., width)``, of the type of `position` if that is floating-point, else float32; first the sines.

    Raises
    ------
    InputError
        If `width` is odd or not positive.
    """
    if width < 2 or width % 2:
        raise InputError(f"width {width}: sines and cosines come in pairs; give an even number")
    position = position if position.is_floating_point() else position.float()
    index = torch.arange(width // 2, dtype=position.dtype, device=position.device)
    frequency = longest ** (-index / (width // 2))  # (width / 2,)
    angle = position[..., None] * frequency  # (..., width / 2), section 3.5
    return torch.cat([angle.sin(), angle.cos()], dim=-1)  # (..., width)


def sinusoidal_grid(rows: int, columns: int, width: int) -> Tensor:
    """Embed the places of a grid, read row by row: half of a vector from the row, half from the column.

    Parameters
    ----------
    rows, columns : int
        Size of the grid.
    width : int
        Length of the vectors, a multiple of 4.

    Returns
    -------
    Tensor
        ``(rows * columns, width)``, float32.

    Raises
    ------
    InputError
        If `width` is not a multiple of 4.
    """
    if width % 4:
        raise InputError(f"width {width}: row and column need pairs of sines and cosines; give a multiple of 4")
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    halves = [sinusoidal(place.flatten(), width // 2) for place in (row, column)]
    return torch.cat(halves, dim=1)  # (rows * columns, width)


class TimeEmbedding(nn.Module):
    """Turn times into vectors: sines and cosines, then a small network.

    Parameters
    ----------
    width : int
        Length of the vectors, even.
    scale : float
        Times are multiplied by it, so that the highest frequency turns `scale` radians while time runs from 0 to 1.
    """

    def __init__(self, width: int, scale: float = 1000.0) -> None:
        super().__init__()
        self.width, self.scale = width, scale
        self.layers = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """Return ``(B, width)`` for times ``(B,)`` in [0, 1]."""
        return self.layers(sinusoidal(self.scale * t, self.width))


def condition_tables(conditions: tuple[int, ...], width: int) -> nn.ModuleList:
    """Return, for each condition, one learned vector for each of its values, and one more for "not told"."""
    return nn.ModuleList([nn.Embedding(count + 1, width) for count in conditions])


def tell(vectors: Tensor, tables: nn.ModuleList, cond: Tensor | None) -> Tensor:
    """Add to vectors ``(B, width)`` those of conditions, int64 ``(B, K)``; None tells nothing.

    Raises
    ------
    InputError
        If there are more or fewer conditions than tables.
    IndexError
        On the CPU, if one is below 0 or above its "not told"; to look at them first would make a GPU wait.
    """
    batch = len(vectors)
    if cond is None:
        none = [torch.full((batch,), table.num_embeddings - 1, device=vectors.device) for table in tables]
        cond = torch.stack(none, 1) if none else vectors.new_empty(batch, 0)
    if cond.shape != (batch, len(tables)):
        raise InputError(f"conditions {tuple(cond.shape)}: this network takes {(batch, len(tables))}")
    for column, table in zip(cond.unbind(1), tables, strict=True):
        vectors = vectors + table(column)
    return vectors


class Conditions(nn.Module):
    """Make one vector of all that is told; it begins small.

    Parameters
    ----------
    conditions : tuple of int
        How many values each condition has; their number stands for "not told".
    width : int
        Length of the vector.
    """

    def __init__(self, conditions: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.tables = condition_tables(conditions, width)
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.1)
        self.register_buffer("nothing", torch.zeros(1, width), persistent=False)

    def forward(self, cond: Tensor | None, batch: int) -> Tensor:
        """Return ``(batch, width)`` for conditions, int64 ``(batch, K)``; None tells nothing. Errors as in `tell`."""
        return tell(self.nothing.expand(batch, -1), self.tables, cond)


class Told(nn.Module):
    """Make one vector of all that is told: the sum of one learned vector for each condition. Each must be told.

    Parameters
    ----------
    conditions : tuple of int
        How many values each condition has.
    width : int
        Length of the vector.
    std : float
        Standard deviation of the vectors' first entries.
    """

    def __init__(self, conditions: tuple[int, ...], width: int, std: float) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(count, width) for count in conditions)
        for table in self.tables:
            nn.init.normal_(table.weight, 0.0, std)

    def forward(self, cond: Tensor | None, batch: int) -> Tensor:
        """Return ``(batch, width)`` for conditions, int64 ``(batch, K)``. Errors as in `vectors`."""
        return torch.stack(self.vectors(cond, batch)).sum(0)

    def vectors(self, cond: Tensor | None, batch: int) -> list[Tensor]:
        """Return the vector of each condition, ``(batch, width)``; none if there are no tables, and no conditions.

        Raises
        ------
        InputError
            If conditions are missing, or there are more or fewer than tables or pictures.
        IndexError
            On the CPU, if one is below 0 or not below its number of values.
        """
        if cond is None and not len(self.tables):
            return []
        if cond is None or cond.shape != (batch, len(self.tables)):
            given = None if cond is None else tuple(cond.shape)
            raise InputError(f"conditions {given}: this network takes {(batch, len(self.tables))}")
        return [table(column) for column, table in zip(cond.unbind(1), self.tables, strict=True)]


def patchify(x: Tensor, patch: int) -> Tensor:
    """Cut images into square patches, read row by row.

    Parameters
    ----------
    x : Tensor
        ``(B, C, H, W)``.
    patch : int
        Side of a patch, a divisor of H and of W.

    Returns
    -------
    Tensor
        ``(B, H / patch * W / patch, C * patch * patch)``.

    Raises
    ------
    InputError
        If the patches do not fill the images.
    """
    b, c, h, w = x.shape
    if patch < 1 or h % patch or w % patch:
        raise InputError(f"patches of side {patch} do not fill images of {h}x{w}")
    x = x.view(b, c, h // patch, patch, w // patch, patch).permute(0, 2, 4, 1, 3, 5)  # (B, rows, columns, C, p, p)
    return x.reshape(b, (h // patch) * (w // patch), c * patch * patch)


def unpatchify(tokens: Tensor, patch: int, rows: int, columns: int) -> Tensor:
    """Put patches together again: the inverse of `patchify`.

    Parameters
    ----------
    tokens : Tensor
        ``(B, rows * columns, C * patch * patch)``.
    patch, rows, columns : int
        Side of a patch in pixels, and how many patches stand below and beside each other.

    Returns
    -------
    Tensor
        ``(B, C, rows * patch, columns * patch)``.

    Raises
    ------
    InputError
        If there are more or fewer tokens, or their length is no whole number of channels.
    """
    b, count, length = tokens.shape
    if count != rows * columns or length % patch**2:
        raise InputError(f"{count} tokens of length {length} are not {rows}x{columns} patches of side {patch}")
    x = tokens.view(b, rows, columns, -1, patch, patch).permute(0, 3, 1, 4, 2, 5)  # (B, C, rows, p, columns, p)
    return x.reshape(b, -1, rows * patch, columns * patch)
