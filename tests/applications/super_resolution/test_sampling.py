"""Enlarging pictures of any size, in tiles without seams; and the judge, against other implementations."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gencore import metrics
from gencore.applications import super_resolution
from gencore.applications.super_resolution import judge, judge_each, lower, luminance, measure, photos_of, upscale
from gencore.applications.super_resolution import sampling as module
from gencore.applications.super_resolution.recipes import residual_x4
from gencore.applications.super_resolution.sampling import build
from gencore.data import Photos, Picture, photographs, to_float, to_uint8
from gencore.errors import InputError
from gencore.metrics import PerceptualDistance
from gencore.networks.bicubic import enlarge, reduce
from gencore.networks.edsr import EDSR
from gencore.networks.srcnn import SRCNN

NETWORKS = {
    "residual x4": EDSR(times=4, width=8, blocks=2, finish=4),
    "residual x2": EDSR(times=2, width=8, blocks=1, finish=4),
    "srcnn x4": SRCNN(times=4, widths=(6, 4), kernels=(9, 1, 5)),
}


def model(network):
    """A network with weights that say something."""
    recipe = replace(residual_x4(), data=Photos(64), network=network)
    networks = build(recipe)
    draw = torch.Generator().manual_seed(1)
    torch.nn.init.normal_(networks.model.head.weight, std=0.2, generator=draw)
    return networks._replace(model=networks.model.eval()), recipe


def picture(height, width, seed=0):
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("tile", [5, 16, 23])
def test_tiles_make_what_the_whole_makes(network, tile):
    given, image = model(network), picture(40, 33)
    whole = to_uint8(given[0].model(to_float(image[None])))[0]
    assert (upscale(given, image, tile=tile).int() - whole.int()).abs().max() <= 1  # but for rounding
    assert torch.equal(upscale(given, image), whole)
    shorter = type("Short", (type(network),), {"reach": 0})(**vars(network))
    seams = upscale((given[0], replace(given[1], network=shorter)), image, tile=tile)
    assert (seams.int() - whole.int()).abs().max() > 1  # without a look around there would be seams


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (2, 3), (193, 2)])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_a_picture_may_have_any_size(network, height, width):
    large = upscale(model(network), picture(height, width))
    assert large.shape == (3, network.times * height, network.times * width) and large.dtype == torch.uint8


def test_the_list_of_tiles_can_be_watched():
    seen = []
    upscale(model(NETWORKS["residual x2"]), picture(10, 7), tile=4, watch=lambda tiles: seen.extend(tiles) or tiles)
    assert seen == [(0, 0), (0, 4), (4, 0), (4, 4), (8, 0), (8, 4)]


@pytest.mark.parametrize(
    ("image", "tile", "words"),
    [
        (picture(4, 4).float(), 8, r"uint8 \(3, H, W\).*float32"),
        (picture(4, 4)[:1], 8, r"is torch.uint8 \(1, 4, 4\)"),
        (picture(4, 4)[None], 8, r"\(1, 3, 4, 4\)"),
        (picture(4, 4)[:, :0], 8, "at least one pixel"),
        (picture(4, 4), 0, "tile is 0"),
    ],
)
def test_what_is_no_picture_is_refused(image, tile, words):
    with pytest.raises(InputError, match=words):
        upscale(model(NETWORKS["residual x2"]), image, tile)


def test_the_split_is_that_of_the_patches():
    whole = {split: {each.title for each in photos_of(split)} for split in ("train", "heldout")}
    for split, titles in whole.items():
        assert titles == set(Photos(64).load(split).captions)
    assert not whole["train"] & whole["heldout"] and len(photos_of("train")) + len(photos_of("heldout")) == len(photographs())


def test_luminance_is_that_of_scikit_image():
    image = picture(6, 7)
    theirs = rgb2ycbcr(image.permute(1, 2, 0).numpy())[..., 0]  # 16 to 235
    ours = (luminance(to_float(image[None]))[0, 0] + 1) * 127.5
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_the_judge_reduces_compares_and_averages(monkeypatch):
    """Values by scikit-image, on luminance and within the border, of two photographs that no multiple of 4 fits."""
    monkeypatch.setattr(module.second_features, "installed", lambda: False)
    pictures = [Picture("one", photographs()[4].image[:, :83, :90], "", "", ""), Picture("two", picture(71, 70), "", "", "")]
    asked, expected = [], {}

    def doubled(low):
        asked.append(low)
        return low.repeat_interleave(4, 1).repeat_interleave(4, 2)

    found = judge(doubled, 4, pictures)
    for each, low in zip(pictures, asked, strict=True):
        original = each.image[:, : each.image.shape[1] // 4 * 4, : each.image.shape[2] // 4 * 4]
        assert torch.equal(low, to_uint8(reduce(to_float(original[None]), 4))[0])
        made = low.repeat_interleave(4, 1).repeat_interleave(4, 2)
        y, x = (rgb2ycbcr(image.permute(1, 2, 0).numpy())[4:-4, 4:-4, 0] for image in (original, made))
        values = peak_signal_noise_ratio(y, x, data_range=255), structural_similarity(y, x, data_range=255)
        with torch.inference_mode():
            values = *values, PerceptualDistance()(to_float(made[None]), to_float(original[None])).item()
        for name, value in zip(found, values, strict=True):
            expected.setdefault(name, []).append(value)
    assert judge_each(doubled, 4, pictures) == {name: pytest.approx(values, rel=1e-4) for name, values in expected.items()}
    assert found == pytest.approx({name: sum(values) / 2 for name, values in expected.items()}, rel=1e-4)


def test_the_judge_refuses_another_size():
    with pytest.raises(InputError, match=r"one: enlarged to \(3, 18, 20\), but the original is \(3, 72, 80\)"):
        judge(lambda low: low, 4, [Picture("one", picture(72, 80), "", "", "")])


def test_a_card_says_what_bicubic_enlargement_reaches_beside_it(monkeypatch):
    """A new network is bicubic interpolation: the same numbers; both judges are heard."""
    some = photos_of("heldout")[:2]
    monkeypatch.setattr(module, "photos_of", lambda split: some)
    recipe = replace(residual_x4(), network=NETWORKS["residual x4"])
    found = measure((build(recipe), recipe))
    assert [each["name"] for each in found] == [
        f"{name}{by}"
        for name in (
            "peak signal-to-noise ratio, dB",
            "structural similarity",
            "perceptual distance on SqueezeNet",
            "perceptual distance on EfficientNet-Lite0",
        )
        for by in ("", " (bicubic)")
    ]
    assert all(ours["value"] == theirs["value"] for ours, theirs in zip(found[::2], found[1::2], strict=True))
    assert {(each["on"], each["samples"]) for each in found} == {("photos/heldout", 2)}
    moved = measure(model(NETWORKS["residual x4"]))
    assert all(ours["value"] != theirs["value"] for ours, theirs in zip(moved[::2], moved[1::2], strict=True))
    assert [each["value"] for each in moved[1::2]] == [each["value"] for each in found[1::2]]


def test_heldout_pairs_are_squares_and_what_is_made_of_them():
    given = model(NETWORKS["residual x4"])
    images, made = super_resolution.heldout_pairs(given, 5)
    assert images.shape == made.shape == (5, 3, 32, 32) and images.dtype == torch.uint8
    theirs = Photos(32).load("heldout").images
    assert all(any(torch.equal(image, other) for other in theirs) for image in images)
    assert len({tuple(image.flatten().tolist()) for image in images}) == 5
    with torch.inference_mode():
        expected = given[0].model(to_float(to_uint8(reduce(to_float(images), 4))))
    torch.testing.assert_close(made, expected)


def test_reducing_takes_one_picture_or_many():
    batch = torch.stack([picture(8, 12), picture(8, 12, seed=1)])
    assert torch.equal(lower(batch, 4), torch.stack([lower(each, 4) for each in batch]))
    assert lower(batch, 4).shape == (2, 3, 2, 3)


def test_what_the_judge_says_of_perfect_work(monkeypatch):
    monkeypatch.setattr(module.second_features, "installed", lambda: False)
    one = [Picture("one", picture(72, 80), "", "", "")]
    found = judge(lambda low: one[0].image, 4, one)
    assert list(found.values()) == [float("inf"), pytest.approx(1), pytest.approx(0, abs=1e-6)]
    assert metrics.psnr(*[enlarge(to_float(one[0].image[None]), 1)] * 2).item() == float("inf")
