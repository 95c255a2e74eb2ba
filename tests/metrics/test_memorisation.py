"""Nearest training images."""

import pytest
import torch

from gencore.data import Digits
from gencore.errors import InputError
from gencore.metrics import nearest_neighbours


def images(count, seed):
    return torch.randint(256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def test_copies_are_found_at_distance_zero():
    train = Digits().load("train").images
    copied = torch.tensor([17, 8999, 0])
    distances, indices = nearest_neighbours(train[copied], train)
    assert distances.tolist() == [0, 0, 0] and indices.tolist() == copied.tolist()
    assert distances.dtype == torch.float32 and indices.dtype == torch.int64


def test_one_grey_level_is_seen():
    train = images(50, 1)
    samples = train[[3]].clone()
    samples[0, 0, 0, 0] = samples[0, 0, 0, 0] ^ 1
    distances, indices = nearest_neighbours(samples, train)
    assert indices.item() == 3 and distances.item() == pytest.approx(1 / 127.5)


@pytest.mark.parametrize("chunk", [3, 1024])
def test_equals_comparing_all(chunk):
    samples, train = images(20, 1), images(30, 2)
    scaled = [batch.flatten(1).float() / 127.5 - 1 for batch in (samples, train)]
    expected = torch.cdist(*scaled, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    distances, indices = nearest_neighbours(samples, train, chunk=chunk)
    torch.testing.assert_close(distances, expected.values)
    assert torch.equal(indices, expected.indices)


class MeanColour:
    """A feature network that forgets where things are."""

    name, dimension, provenance = "mean colour", 3, "made for this test"

    def __call__(self, images):
        return images.float().mean((2, 3))


def test_features_find_what_pixels_miss():
    train = images(30, 2)
    moved = train[[5]].roll(4, dims=3)
    assert nearest_neighbours(moved, train, MeanColour())[1].item() == 5
    assert nearest_neighbours(moved, train, MeanColour())[0].item() == 0
    assert nearest_neighbours(moved, train)[0].item() > 5


@pytest.mark.parametrize(
    "samples, train, message",
    [
        (images(2, 1).float(), images(2, 1), "samples: expected uint8"),
        (images(2, 1), images(0, 1), "train_images: no images"),
        (images(2, 1), images(2, 1)[..., :4], r"shapes \(3, 8, 8\) and \(3, 8, 4\) differ"),
    ],
)
def test_bad_input_is_named(samples, train, message):
    with pytest.raises(InputError, match=message):
        nearest_neighbours(samples, train)
