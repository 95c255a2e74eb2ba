"""Painting pictures of any size, by row and by example, and what is measured of it."""

from dataclasses import replace

import pytest
import torch

from gencore.applications import style_transfer
from gencore.applications.style_transfer import Layers, Painted, StyleRecipe, Styles, paint, paint_like
from gencore.applications.style_transfer.sampling import build, cropped, heldout_photographs, padded, row_of
from gencore.data import Photos, to_float
from gencore.data.photos import photographs
from gencore.errors import InputError
from gencore.networks.adain import AdaIN
from gencore.networks.image_transform import ImageTransform

ROWS = StyleRecipe(
    data=Photos(64),
    network=ImageTransform(styles=3, width=4, blocks=1),
    styles=Styles(left_out=(0, 2, 3, 4, 6, 7), side=64),
    objective=Painted(Layers((1, 4), content=4)),
    window=32,
)
ANY = replace(ROWS, network=AdaIN((1, 4), (64, 128), (1, 2), (4, 8)))


@pytest.fixture(scope="module")
def rows():
    networks = build(ROWS)
    with torch.no_grad():  # it begins as no more than a change of colours
        networks.model.last.weight.normal_(std=0.02, generator=torch.Generator().manual_seed(0))
        for layer in networks.model.down:
            layer.scale.copy_(torch.tensor([[1.0], [2.0], [0.5]]).expand_as(layer.scale))
    return networks, ROWS


@pytest.fixture(scope="module")
def any_style():
    return build(ANY), ANY


def picture(height, width, seed=0):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


SIZES = [(1, 1), (1, 50), (3, 2), (17, 33), (32, 32), (48, 31), (65, 16)]


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_of_any_size_is_painted_at_its_size(rows, any_style, size):
    x = picture(*size)
    for made in (paint(rows, x, 1), paint_like(any_style, x, picture(20, 21, 1))):
        assert made.shape == x.shape and made.isfinite().all() and made.abs().max() <= 1


@pytest.mark.parametrize("size", SIZES)
def test_padding_mirrors_and_is_cut_off_again(size):
    x = picture(*size)
    wide = padded(x)
    assert all(side % 16 == 0 and side >= 32 for side in wide.shape[2:])
    assert all(wide_side - side < 32 for side, wide_side in zip(size, wide.shape[2:], strict=True))
    assert torch.equal(cropped(wide, x), x)
    assert set(wide.flatten(2)[0, 0].tolist()) == set(x.flatten(2)[0, 0].tolist())
    if size == (17, 33):
        assert torch.equal(wide[:, :, 17:32], x[:, :, 1:16].flip(2)[:, :, :, list(range(33)) + list(range(31, 16, -1))])


def test_a_picture_that_fits_is_the_networks_own(rows):
    (network,), _ = rows
    x = picture(32, 48)
    mix = torch.tensor([[0.0, 0.3, 0.7]])
    assert torch.equal(paint(rows, x, 5, 0.3), network(x, mix))  # paintings 1 and 5 have rows 0 and 1


def test_pictures_of_a_batch_are_painted_alike(rows, any_style):
    x = torch.cat([picture(20, 40), picture(20, 40, 1)])
    torch.testing.assert_close(paint(rows, x, 1)[1:], paint(rows, x[1:], 1), rtol=1e-4, atol=1e-4)
    style = picture(32, 32, 2)
    torch.testing.assert_close(
        paint_like(any_style, x, style)[1:], paint_like(any_style, x[1:], style), rtol=1e-3, atol=1e-3
    )


def test_strength_and_painting_change_the_picture(rows, any_style):
    x, style = picture(32, 32), 0.3 * picture(40, 40, 1) + 0.5
    for made in (
        [paint(rows, x, 1), paint(rows, x, 5), paint(rows, x, 1, 0.5), paint(rows, x, 1, 0.0)],
        [paint_like(any_style, x, each, s) for each in (style, -style) for s in (1.0, 0.5)],
    ):
        for i, one in enumerate(made):
            for other in made[:i]:
                assert (one - other).abs().max() > 0.01


def test_no_strength_leaves_the_maps_of_the_photograph(any_style):
    x = picture(32, 32)
    torch.testing.assert_close(
        paint_like(any_style, x, picture(32, 32, 1), 0.0), paint_like(any_style, x, x, 1.0), rtol=1e-3, atol=1e-3
    )


def test_shares_of_several_paintings_can_be_given(rows):
    x = picture(32, 32)
    assert torch.equal(paint(rows, x, torch.tensor([0.0, 1.0, 0.0])), paint(rows, x, 5))
    half = paint(rows, x, torch.tensor([0.5, 0.5, 0.0]), 0.5)
    (network,), _ = rows
    torch.testing.assert_close(half, network(x, torch.tensor([[0.25, 0.25, 0.5]])))


def test_the_networks_colours_begin_as_those_of_the_paintings():
    model = build(ROWS).model
    for row, painting in enumerate(ROWS.styles.whole()):
        torch.testing.assert_close(model.colour_shift[row], painting.mean((0, 2, 3)))
        torch.testing.assert_close(model.colour_scale[row], painting.std((0, 2, 3)))


def test_the_decoders_units_are_the_size_of_its_maps():
    features = style_transfer.StyleFeatures((1, 4))
    maps = [features(painting) for painting in ANY.styles.whole()]
    for unit, layer in zip(build(ANY).model.unit, (1, 4), strict=True):
        expected = torch.stack([each[layer].square().mean() for each in maps]).mean().sqrt()
        torch.testing.assert_close(unit, expected)


def test_held_out_photographs_are_the_held_out_ones():
    found = heldout_photographs(48)
    assert len(found) == 10 and all(min(x.shape[2:]) == 48 for x in found)
    small = style_transfer.fit_side(to_float(photographs()[4].image)[None], 48)
    assert torch.equal(found[0], small)


def test_measures_are_those_of_their_names(rows):
    """Written plainly, for one photograph; a photograph as it is has no content distance."""
    found = {each["name"]: each for each in style_transfer.measure(rows, 32)}
    assert found.keys() == {"style distance", "content distance", "style distance of photographs"}
    assert all(each["samples"] == 20 and "32 px, each like 2 paintings" in each["on"] for each in found.values())
    features = style_transfer.StyleFeatures((1, 4))
    style, content, plain = [], [], []
    for x in heldout_photographs(32):
        for number, painting in zip((1, 5), ROWS.styles.whole(), strict=True):
            wanted = style_transfer.grams(features(painting), ROWS.objective.layers)
            maps = features(paint(rows, x, number))
            style.append(style_transfer.style_distance(style_transfer.grams(maps, ROWS.objective.layers), wanted))
            content.append(style_transfer.content_distance(maps[4], features(x)[4]))
            plain.append(style_transfer.style_distance(style_transfer.grams(features(x), ROWS.objective.layers), wanted))
    means = [torch.cat(each).mean().item() for each in (style, content, plain)]
    assert [each["value"] for each in found.values()] == pytest.approx(means, rel=1e-4)


@pytest.mark.parametrize("kind", ["rows", "any_style"])
def test_pairs_are_held_out_patches_and_their_paintings(kind, request):
    images, made = style_transfer.heldout_pairs(request.getfixturevalue(kind), 3)
    assert images.shape == made.shape == (3, 3, 96, 96) and images.dtype == made.dtype == torch.uint8
    assert (images != made).float().mean() > 0.5


def test_what_makes_no_sense_is_refused(rows, any_style):
    x = picture(32, 32)
    for call, words in (
        (lambda: paint(rows, x, 0), "painting 0: this model knows 1, 5"),
        (lambda: paint(rows, x, 1, 1.5), "strength 1.5"),
        (lambda: paint(any_style, x, 1), "paint_like"),
        (lambda: paint_like(rows, x, x), "use `paint`"),
        (lambda: paint_like(any_style, x, x, -0.1), "strength -0.1"),
    ):
        with pytest.raises(InputError, match=words):
            call()
    assert row_of(ROWS, 5) == 1
