"""Squares cut out of whole photographs: from all of them, at every place, and nothing else."""

import torch

from gencore.data.photos import Squares

SIZES = [(20, 30), (16, 16), (25, 18)]


def numbered():
    """Photographs whose pixels say which photograph, row and column they are."""
    return [
        torch.stack([torch.full((h, w), place), torch.arange(h)[:, None].expand(h, w), torch.arange(w).expand(h, w)]).byte()
        for place, (h, w) in enumerate(SIZES)
    ]


def test_squares_are_cut_from_every_photograph_at_every_place():
    cut = Squares(numbered(), 16).cut
    draw = torch.rand(4_000, 3, generator=torch.Generator().manual_seed(0))
    draw[:3] = torch.tensor([[0, 0, 0], [1 - 2**-24] * 3, [0.4, 1 - 2**-24, 1 - 2**-24]])
    squares = cut(draw).long()
    which, top, left = squares[:, :, 0, 0].unbind(1)
    side = torch.arange(16)
    assert (squares[:, 0] == which[:, None, None]).all()
    assert (squares[:, 1] == (top[:, None] + side)[:, :, None]).all() and (squares[:, 2] == (left[:, None] + side)[:, None]).all()
    for place, (height, width) in enumerate(SIZES):
        for found, last in ((top, height - 16), (left, width - 16)):
            assert found[which == place].unique().tolist() == list(range(last + 1))
    assert (which.bincount() / 4_000 - 1 / 3).abs().max() < 0.05
