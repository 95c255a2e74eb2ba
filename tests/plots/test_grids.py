"""Grids show every pixel of every image, where it belongs."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from gencore.errors import InputError
from gencore.plots import image_grid, labelled_rows, save_grid, style, tile


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def images(request):
    return torch.randint(256, (7, request.param, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def cells(page: np.ndarray, images: torch.Tensor, columns: int, scale: int, gap: int) -> torch.Tensor:
    """Cut a page back into images."""
    _, channels, height, width = images.shape
    page = page.reshape(*page.shape[:2], channels)
    found = []
    for i in range(len(images)):
        top, left = (i // columns) * (height * scale + gap), (i % columns) * (width * scale + gap)
        square = page[top : top + height * scale, left : left + width * scale]
        assert (np.kron(square[::scale, ::scale], np.ones((scale, scale, 1))) == square).all()
        found.append(torch.from_numpy(square[::scale, ::scale].copy()).permute(2, 0, 1))
    return torch.stack(found)


@pytest.mark.parametrize(("columns", "scale", "gap"), [(3, 1, 0), (4, 3, 2), (7, 1, 1), (20, 2, 0)])
def test_a_saved_grid_holds_the_images(tmp_path, images, columns, scale, gap):
    save_grid(tmp_path / "grid.png", images, columns, scale=scale, gap=gap)
    page = np.asarray(Image.open(tmp_path / "grid.png"))
    rows, across = -(-7 // columns), min(columns, 7)
    assert page.shape[:2] == (rows * (6 * scale + gap) - gap, across * (5 * scale + gap) - gap)
    assert torch.equal(cells(page, images, across, scale, gap), images)


def test_what_holds_no_image_is_white(images):
    page = tile(images, 4, gap=2)
    assert (page[6:8] == 255).all() and (page[:, 5:7] == 255).all()  # gaps
    assert (page[8:, 21:] == 255).all()  # where the eighth image would stand


def test_floats_are_the_images_they_stand_for(images):
    assert (tile(images.float() / 127.5 - 1, 3) == tile(images, 3)).all()
    assert (tile(torch.full((1, 1, 2, 2), 9.0), 1) == 255).all()
    assert (tile(torch.full((1, 1, 2, 2), -9.0, requires_grad=True), 1) == 0).all()


def test_a_palette_only_if_asked(tmp_path, images):
    save_grid(tmp_path / "exact.png", images, 4)
    save_grid(tmp_path / "small.png", images, 4, colours=8)
    assert Image.open(tmp_path / "exact.png").mode in ("L", "RGB")
    small = Image.open(tmp_path / "small.png")
    assert small.mode == "P" and len(small.getcolors()) <= 8


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(2, 6, 5), r"shape \(N, 1 or 3, H, W\), got \(2, 6, 5\)"),
        (torch.zeros(2, 2, 6, 5), "1 or 3"),
        (torch.zeros(0, 1, 6, 5), "got"),
        (torch.zeros(2, 1, 6, 5, dtype=torch.int64), "expected uint8, or floats"),
    ],
)
def test_other_arrays_are_refused(bad, message):
    with pytest.raises(InputError, match=message):
        tile(bad, 2)


def test_sizes_are_checked(images):
    for columns, scale, gap in ((0, 1, 0), (1, 0, 0), (1, 1, -1)):
        with pytest.raises(InputError, match="at least"):
            tile(images, columns, scale=scale, gap=gap)


def find(picture: np.ndarray, page: np.ndarray) -> list[tuple[int, int]]:
    """Return the places at which a picture shows a page, pixel by pixel."""
    height, width = page.shape[:2]
    page = np.broadcast_to(page.reshape(height, width, -1), (height, width, 3))
    windows = np.lib.stride_tricks.sliding_window_view(picture, (height, width), axis=(0, 1))
    return list(zip(*np.nonzero((windows == page.transpose(2, 0, 1)).all(axis=(2, 3, 4)))))


def rendered(figure, **how) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, format="png", **how)
    return np.asarray(Image.open(file).convert("RGB"))


@pytest.mark.filterwarnings("error")  # a warning would stand in the notebook
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_drawn_grid_shows_every_pixel(images, scale):
    with plt.rc_context():
        style()
        figure = image_grid(images, 4, scale=scale, gap=1).figure
        page = tile(images, 4, scale=scale, gap=1)
        assert rendered(figure).shape[:2] == page.shape[:2]
        assert find(rendered(figure), page) == [(0, 0)]
        assert len(find(rendered(figure, bbox_inches="tight"), page)) == 1  # as notebooks save figures


def test_a_grid_can_stand_in_given_axes(images):
    figure, axes = plt.subplots(1, 2)
    assert image_grid(images, 4, ax=axes[1]) is axes[1]
    assert len(axes[1].images) == 1 and not axes[0].images
    assert plt.get_fignums() == [figure.number]
    shown = {tuple(colour) for colour in rendered(figure)[:, int(figure.bbox.width) // 2 :].reshape(-1, 3)}
    page = tile(images, 4, scale=2, gap=1)
    page = np.broadcast_to(page.reshape(*page.shape[:2], -1), (*page.shape[:2], 3)).reshape(-1, 3)
    assert shown <= {tuple(colour) for colour in page}  # enlarged, but never blurred


def test_labelled_rows_show_their_grids_in_order_beside_their_labels(images):
    with plt.rc_context():
        style()
        rows = {"1,000": images[:3], "100,000": images[2:5], "fewer": images[5:7]}
        figure = labelled_rows(rows, scale=4)
        picture = rendered(figure)
        places = [find(picture, tile(row, len(row), scale=4, gap=1)) for row in rows.values()]
        assert [len(place) for place in places] == [1, 1, 1]
        tops, lefts = zip(*(place[0] for place in places))
        assert tops == (0, 30, 60) and len(set(lefts)) == 1
        for label, text, top in zip(figure.texts, rows, tops):
            box = label.get_window_extent()
            assert label.get_text() == text
            assert 0 <= box.x0 and box.x1 < lefts[0]
            assert abs((picture.shape[0] - (box.y0 + box.y1) / 2) - (top + 12)) < 2
        assert (picture[:, : lefts[0]] < 128).any()  # the labels are drawn


def test_labelled_rows_can_have_several_lines(images):
    figure = labelled_rows({"a": images}, columns=3, scale=2)
    assert len(find(rendered(figure, facecolor="white"), tile(images, 3, scale=2, gap=1))) == 1
    with pytest.raises(InputError, match="nothing to draw"):
        labelled_rows({})


def test_titles_stand_above_the_images_of_the_first_line(images):
    with plt.rc_context():
        style()
        rows = {"a": images[:3], "b": images[3:6]}
        figure, plain = labelled_rows(rows, titles=["1×1", "2×2"], scale=8), labelled_rows(rows, scale=8)
        picture = rendered(figure)
        ((top, left),) = find(picture, tile(images[:3], 3, scale=8, gap=1))
        side = tile(images[:3], 3, scale=8, gap=1).shape[1] / 3
        first, second = (text for text in figure.texts if text.get_text() in ("1×1", "2×2"))
        for number, head in enumerate((first, second)):
            box = head.get_window_extent()
            assert abs((box.x0 + box.x1) / 2 - (left + (number + 0.5) * side)) < 1
            assert 0 <= picture.shape[0] - box.y1 and picture.shape[0] - box.y0 <= top + 1
            assert top <= box.height + 2  # no more room than titles take
        assert (picture[:top, left:] < 128).any() and np.array_equal(picture[top:], rendered(plain))
    with pytest.raises(InputError, match="titles: 4 of them, above 3 images"):
        labelled_rows({"a": images[:3]}, titles="abcd")
