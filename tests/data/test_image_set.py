"""ImageSet, the two number formats, area averaging."""

import pytest
import torch

from gencore.data import ImageSet, area_resize, to_float, to_uint8
from gencore.data.resize import overlaps


def test_bytes_survive_the_way_to_floats_and_back():
    every = torch.arange(256, dtype=torch.uint8)
    assert to_float(every).dtype == torch.float32
    assert to_float(every)[[0, 255]].tolist() == [-1.0, 1.0]
    assert torch.equal(to_uint8(to_float(every)), every)


def test_to_uint8_rounds_and_clamps():
    # 0.4 and 0.6 of a grey level above 10; beyond both ends
    values = torch.tensor([10.4, 10.6]) / 127.5 - 1
    assert to_uint8(torch.cat([values, torch.tensor([-7.0, 7.0])])).tolist() == [10, 11, 0, 255]


def test_subset_keeps_everything_together():
    images = torch.arange(4, dtype=torch.uint8).reshape(4, 1, 1, 1)
    data = ImageSet("four", images, torch.arange(4), ("a", "b", "c", "d"), tuple("wxyz"), {"place": (0, 1, 2, 3)})
    for index in (torch.tensor([3, 1]), torch.tensor([False, True, False, True])):
        part = data.subset(index)
        order = torch.arange(4)[index].tolist()
        assert part.images.flatten().tolist() == part.labels.tolist() == list(part.meta["place"]) == order
        assert part.captions == tuple("wxyz"[place] for place in order)
        assert len(part) == 2


@pytest.mark.parametrize("new", [3, 5, 6, 7, 12])
def test_overlaps_share_every_old_pixel_out_evenly(new):
    share = overlaps(12, new)
    assert torch.allclose(share.sum(1), torch.ones(new, dtype=torch.float64))
    assert torch.allclose(share.sum(0), torch.full((12,), new / 12, dtype=torch.float64))
    assert (share >= 0).all()


def test_area_averaging_equals_repeating_then_averaging_blocks():
    images = torch.randint(0, 256, (3, 2, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for new in (2, 4, 5):
        fine = images.double().repeat_interleave(new, 2).repeat_interleave(new, 3)  # 6 new by 6 new
        means = torch.nn.functional.avg_pool2d(fine, 6)
        assert (area_resize(images, new).double() - means).abs().max() <= 0.5 + 1e-9
    assert area_resize(images, 6) is images
