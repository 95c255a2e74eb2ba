"""Pairs to learn from: what is cut out, how it is turned, how it is reduced, and what decides it."""

import pytest
import torch

from gencore.applications.super_resolution import Crops, turn
from gencore.applications.super_resolution import examples as module
from gencore.data import to_float, to_uint8
from gencore.errors import InputError
from gencore.networks.bicubic import reduce

SIZES = [(20, 30), (16, 16), (25, 18)]


def numbered():
    """Photographs whose pixels say which photograph, row and column they are."""
    return [
        torch.stack([torch.full((h, w), place), torch.arange(h)[:, None].expand(h, w), torch.arange(w).expand(h, w)]).byte()
        for place, (h, w) in enumerate(SIZES)
    ]


def test_the_eight_ways_to_lay_a_square_are_equally_likely():
    x = torch.arange(9.0).view(1, 1, 3, 3).expand(4_000, 1, 3, 3)
    draw = torch.rand(4_000, 3, generator=torch.Generator().manual_seed(0))
    kinds, counts = turn(x, draw).flatten(1).unique(dim=0, return_counts=True)
    square = x[0, 0]
    ways = [torch.rot90(each, k) for each in (square, square.flip(1)) for k in range(4)]
    assert {tuple(way.flatten().tolist()) for way in ways} == {tuple(kind) for kind in kinds.tolist()}
    assert (counts / 4_000 - 1 / 8).abs().max() < 0.03


def test_the_small_picture_is_the_large_one_reduced_and_rounded():
    photographs = [torch.randint(0, 256, (3, 40, 50), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)]
    low, high = Crops(photographs, 32, 4, 6, seed=0).at(0)
    assert low.shape == (6, 3, 8, 8) and high.shape == (6, 3, 32, 32)
    assert torch.equal(to_float(to_uint8(high)), high)
    assert torch.equal(low, to_float(to_uint8(reduce(high, 4)))) and not torch.equal(low, reduce(high, 4))
    same, still = Crops(photographs, 32, 1, 6, seed=0).at(0)
    assert torch.equal(same, still) and torch.equal(still, high)


def test_a_batch_follows_from_the_seed_and_the_images_seen():
    crops, again = (Crops(numbered(), 16, 4, 8, seed=0) for _ in range(2))
    first, later = crops.at(0), crops.at(8)
    assert torch.equal(again.at(8)[1], later[1]) and torch.equal(again.at(0)[1], first[1])
    assert not torch.equal(first[1], later[1])
    assert not torch.equal(Crops(numbered(), 16, 4, 8, seed=1).at(0)[1], first[1])


def test_two_processes_see_what_one_does(monkeypatch):
    whole, halves = Crops(numbered(), 16, 4, 8, seed=0).at(16), []
    monkeypatch.setattr(module.distributed, "world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(module.distributed, "rank", lambda rank=rank: rank)
        halves.append(Crops(numbered(), 16, 4, 8, seed=0).at(16))
    for pieces, one in zip(zip(*halves, strict=True), whole, strict=True):
        assert torch.equal(torch.cat(pieces), one)


@pytest.mark.parametrize(
    ("photographs", "size", "words"),
    [([], 16, "none to learn from"), (numbered(), 18, "multiple of 4"), (numbered(), 20, "16x16 pixels: smaller")],
)
def test_what_cannot_be_cut_is_refused(photographs, size, words):
    with pytest.raises(InputError, match=words):
        Crops(photographs, size, 4, 8, seed=0)
