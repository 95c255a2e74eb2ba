"""Any folder of pictures; pictures that are none, damaged, turned, transparent, or far too large."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from gencore.data import ImageFolder, read_picture
from gencore.data.image_folder import is_held_out
from gencore.data.pictures import fit_square
from gencore.errors import InputError
from gencore.training import recipe_io


def plain(colour, size=(12, 8), mode="RGB"):
    return Image.new(mode, size, colour)


def filled(folder, count=100):
    """Write pictures whose red channel is their number; two folders, three formats."""
    for number in range(count):
        path = folder / ("even" if number % 2 == 0 else "odd") / f"{number:03d}.{('png', 'bmp', 'webp')[number % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        plain((number, 0, 0)).save(path, lossless=True)
    return folder


def test_folder_is_read_in_order_and_split_by_name(tmp_path):
    spec = ImageFolder(str(filled(tmp_path)), size=4)
    train, held_out = spec.load("train"), spec.load("heldout")
    assert len(train) + len(held_out) == 100
    assert 3 < len(held_out) < 20
    for data in (train, held_out):
        assert data.images.shape == (len(data), 3, 4, 4)
        assert data.classes == ("even", "odd")
        assert list(data.meta["file"]) == sorted(data.meta["file"])
        for image, label, name in zip(data.images, data.labels, data.meta["file"], strict=True):
            number = int(name.split("/")[1][:3])
            assert (image[0] == number).all() and (image[1:] == 0).all()
            assert label == number % 2
            assert is_held_out(name) == (data is held_out)


def test_a_new_picture_moves_no_other_one(tmp_path):
    spec = ImageFolder(str(filled(tmp_path)), size=4)
    before = set(spec.load("heldout").meta["file"])
    plain("blue").save(tmp_path / "even" / "new.png")
    assert set(spec.load("heldout").meta["file"]) - {"even/new.png"} == before


def test_pictures_outside_folders_make_one_class(tmp_path):
    filled(tmp_path)
    plain("blue").save(tmp_path / "alone.png")
    assert ImageFolder(str(tmp_path), size=4).load("train").classes == ("image",)


def test_what_systems_leave_behind_is_no_picture(tmp_path):
    filled(tmp_path)
    for name in (".DS_Store", "Thumbs.db", "even/.hidden.txt"):
        (tmp_path / name).write_text("no picture")
    assert len(ImageFolder(str(tmp_path), size=4).load("train")) > 80


def test_the_middle_square_is_kept():
    picture = plain("black", (30, 10))
    picture.paste((255, 0, 0), (10, 0, 20, 10))
    assert (fit_square(picture, 5)[0] == 255).all()
    assert (fit_square(picture.transpose(Image.Transpose.TRANSPOSE), 5)[0] == 255).all()


def test_shrinking_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert (fit_square(Image.fromarray(stripes), 8).int() - 128).abs().max() < 20


def test_exif_orientation_is_respected(tmp_path):
    picture = plain("black", (20, 10))
    picture.paste((255, 255, 255), (0, 0, 10, 10))  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    picture.save(tmp_path / "turned.png", exif=exif)
    upright = read_picture(tmp_path / "turned.png")
    assert upright.size == (10, 20)
    assert upright.getpixel((5, 2)) == (255, 255, 255)  # now on top
    assert upright.getpixel((5, 17)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (plain((200, 0, 0, 0), mode="RGBA"), (255, 255, 255)),
        (plain((200, 0, 0, 255), mode="RGBA"), (200, 0, 0)),
        (plain((0, 0, 0, 128), mode="RGBA"), (127, 127, 127)),
        (plain((90, 0), mode="LA"), (255, 255, 255)),
        (plain(90, mode="L"), (90, 90, 90)),
        (plain(1, mode="1"), (255, 255, 255)),
        (plain(0x8000, mode="I;16"), (128, 128, 128)),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(tmp_path, picture, expected):
    picture.save(tmp_path / "picture.png")
    read = read_picture(tmp_path / "picture.png")
    assert read.mode == "RGB"
    assert read.getpixel((3, 3)) == expected


def test_transparent_palettes_are_laid_on_white(tmp_path):
    plain((200, 0, 0, 0), mode="RGBA").save(tmp_path / "picture.gif")
    assert read_picture(tmp_path / "picture.gif").getpixel((3, 3)) == (255, 255, 255)


# ---- bad input: one clear error that names the file, and no warning


def refusal(root, split="train"):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as caught:
            ImageFolder(str(root), size=4).load(split)
    message = str(caught.value)
    assert "\n" not in message
    return message


def in_train(folder, suffix):
    """Return the path of a new file that falls into the train split."""
    return next(folder / f"x{n}.{suffix}" for n in range(100) if not is_held_out(f"x{n}.{suffix}"))


@pytest.mark.parametrize("suffix", ["txt", "jpg"])
def test_a_text_file_is_named(tmp_path, suffix):
    path = in_train(filled(tmp_path), suffix)
    path.write_text("hello\n")
    assert refusal(tmp_path) == f"{path}: is not a picture that can be read; choose another file, or take it out"


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff"])
def test_a_truncated_picture_is_named(tmp_path, suffix):
    path = in_train(filled(tmp_path), suffix)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert refusal(tmp_path).startswith(f"{path}: is ")


@pytest.mark.parametrize("side", [12_000, 60_000])  # Pillow alone would warn of the first and refuse the second
def test_a_decompression_bomb_is_named(tmp_path, side):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    path = in_train(filled(tmp_path), "png")
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""))
    message = refusal(tmp_path)
    assert message.startswith(f"{path}: unpacks to ")
    assert "100,000,000" in message


def test_missing_and_empty_folders_are_named(tmp_path):
    assert refusal(tmp_path / "nowhere").startswith(f"{tmp_path / 'nowhere'}: there is no such folder")
    (tmp_path / "inside").mkdir()
    assert refusal(tmp_path) == f"{tmp_path}: the folder holds no pictures"
    (tmp_path / "file").write_text("x")
    assert "no such folder" in refusal(tmp_path / "file")


def test_a_folder_too_small_for_two_splits_says_so(tmp_path):
    plain("blue").save(in_train(tmp_path, "png"))
    assert "none of its 1 pictures falls into the split 'heldout'" in refusal(tmp_path, "heldout")


def test_a_missing_picture_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.png: file is missing"):
        read_picture(tmp_path / "none.png")


def test_bad_fields_are_refused(tmp_path):
    with pytest.raises(InputError, match="size 0"):
        ImageFolder(str(tmp_path), size=0)
    spec = ImageFolder(str(tmp_path), size=4)
    assert recipe_io.from_dict(ImageFolder, recipe_io.to_dict(spec)) == spec
    with pytest.raises(InputError, match="split is 'test'"):
        spec.load("test")
