"""What commands share that make a picture: opening a user's own, and writing another, whole or not at all."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gencore.cli.pictures import FORMATS, check_place, open_picture, write_picture
from gencore.errors import InputError


def test_every_odd_picture_opens_upright_and_in_its_colours(odd_pictures):
    assert len(odd_pictures) >= 40
    for odd in odd_pictures:
        found = open_picture(odd.path)
        assert found.dtype == torch.uint8 and found.is_contiguous(), odd.path.name
        assert tuple(found.shape) == (3, *odd.looks.shape[:2]), odd.path.name
        error = np.abs(found.permute(1, 2, 0).numpy().astype(float) - odd.looks).mean()
        assert error <= odd.slack, f"{odd.path.name}: {error} grey levels off"


def test_the_slack_of_lossy_formats_tells_the_orientations_apart(odd_pictures):
    """Else a picture that lies on its side would pass."""
    upright = next(odd for odd in odd_pictures if odd.path.name == "exif_1.jpg")
    looks = upright.looks.astype(float)
    for turned in (looks[::-1], looks[:, ::-1], looks[::-1, ::-1]):
        assert np.abs(turned - looks).mean() > 3 * upright.slack


def test_every_broken_picture_is_one_error_that_names_the_file(broken_pictures):
    for broken in broken_pictures:
        with pytest.raises(InputError) as caught:
            open_picture(broken.path)
        assert str(caught.value).startswith(f"{broken.path}: ") and broken.words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_picture_too_large_or_too_small_says_what_it_is(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("1", (30, 20)).save(path)
    with pytest.raises(InputError, match=r"picture\.png: 30x20 pixels; .* at most 599, so make it smaller"):
        open_picture(path, most_pixels=599)
    with pytest.raises(InputError, match=r"picture\.png: 30x20 pixels; .* at least 21 on each side"):
        open_picture(path, least_side=21)
    assert open_picture(path, most_pixels=600, least_side=20).shape == (3, 20, 30)


@pytest.mark.parametrize("ending", [*FORMATS, ".PNG"])
def test_what_is_written_is_what_was_given(ending, tmp_path):
    image = torch.zeros(3, 20, 31, dtype=torch.uint8)
    image[0, :, :16], image[2, 10:] = 200, 90  # smooth enough for a lossy format
    out = tmp_path / f"picture{ending}"
    write_picture(out, image)
    assert os.listdir(tmp_path) == [out.name]
    error = (open_picture(out).int() - image.int()).abs().float().mean()
    assert error == 0 if ending.lower() == ".png" else error < 6
    with Image.open(out) as picture:
        assert picture.format == {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}[ending.lower()]


def test_a_picture_that_cannot_be_written_leaves_nothing_and_harms_nothing(tmp_path):
    """JPEG stops at 65,535 pixels: an error in the middle of the work."""
    out = tmp_path / "picture.jpg"
    out.write_bytes(b"the old one")
    with pytest.raises(InputError, match=r"--out .*picture\.jpg: cannot be written"):
        write_picture(out, torch.zeros(3, 1, 70_000, dtype=torch.uint8))
    assert out.read_bytes() == b"the old one" and os.listdir(tmp_path) == [out.name]


def test_a_place_is_checked_before_the_work(tmp_path):
    check_place(tmp_path / "new" / "folder" / "a.png", overwrite=False)
    assert (tmp_path / "new" / "folder").is_dir()
    with pytest.raises(InputError, match=r"must end in \.png or \.jpg or \.jpeg or \.webp"):
        check_place(tmp_path / "a.bmp", overwrite=False)
    with pytest.raises(InputError, match=r"must end in \.png$"):
        check_place(tmp_path / "a.jpg", overwrite=False, formats=(".png",))
    taken = tmp_path / "taken.png"
    taken.write_bytes(b"mine")
    with pytest.raises(InputError, match="exists already; choose another name or add --overwrite"):
        check_place(taken, overwrite=False)
    check_place(taken, overwrite=True)
    assert taken.read_bytes() == b"mine"
    with pytest.raises(InputError, match="cannot be written"):
        check_place(taken / "a.png", overwrite=False)  # a file where a folder would be
    (tmp_path / "folder.png").mkdir()
    for overwrite in (False, True):
        with pytest.raises(InputError, match="it is a folder"):
            check_place(tmp_path / "folder.png", overwrite)
    if Path("/proc/self").is_dir():  # where even an administrator may not write
        with pytest.raises(InputError, match="cannot be written"):
            check_place(Path("/proc/self/a.png"), overwrite=False)
