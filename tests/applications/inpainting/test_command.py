"""``gencore inpaint`` as a user meets it: pictures of every kind, masks and transparent parts, and what cannot be."""

import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image

from gencore import zoo
from gencore.applications import palette
from gencore.cli import inpainting as command
from gencore.cli.pictures import open_picture, write_picture
from gencore.errors import InputError
from tests.applications.palette.test_loop import DAMAGED, FILLED


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of two tiny runs: one that fills, one that does something else."""
    root = tmp_path_factory.mktemp("models")
    for name, recipe in (("inpaint_photos", FILLED), ("repair_photos", DAMAGED)):
        how = replace(recipe.sampling, steps=1)
        for _ in palette.train(replace(recipe, images=16, checkpoint_every=16, sampling=how), root / name, device="cpu"):
            pass
        shutil.rmtree(root / name / "replay")
    return root


@pytest.fixture
def inpaint(models, tmp_path, monkeypatch):
    """Call the command; the tiny runs stand in for the zoo's models."""
    monkeypatch.setattr(zoo, "folder", lambda name: models / name)

    def call(photo, *options, out="filled.png"):
        command.run([str(photo), "--out", str(tmp_path / out), "--device", "cpu", *map(str, options)])
        return tmp_path / out

    return call


def draw_mask(path, size, *rectangles):
    mask = Image.new("L", size, 0)
    for rectangle in rectangles:
        mask.paste(255, rectangle)
    mask.save(path)
    return path


def test_every_odd_picture_is_filled_where_the_mask_is_white_and_only_there(inpaint, odd_pictures, tmp_path):
    for odd in odd_pictures:
        height, width = odd.looks.shape[:2]
        if height * width < 2:
            continue
        box = (0, 0, max(1, min(30, width // 3)), max(1, min(30, height // 2)))
        mask = draw_mask(tmp_path / "mask.png", (width, height), box)
        before = open_picture(odd.path)
        after = open_picture(inpaint(odd.path, "--mask", mask, "--overwrite"))
        hole = torch.zeros(height, width, dtype=torch.bool)
        hole[: box[3], : box[2]] = True
        assert after.shape == before.shape and torch.equal(after[:, ~hole], before[:, ~hole]), odd.path.name


def test_what_is_broken_is_refused_and_nothing_is_written(inpaint, broken_pictures, tmp_path):
    mask = draw_mask(tmp_path / "mask.png", (8, 8), (0, 0, 4, 4))
    good = tmp_path / "good.png"
    write_picture(good, torch.zeros(3, 8, 8, dtype=torch.uint8))
    for broken in broken_pictures:
        for photo, option in ((broken.path, mask), (good, broken.path)):
            with pytest.raises(InputError) as caught:
                inpaint(photo, "--mask", option)
            assert broken.path.name in str(caught.value) and broken.words in str(caught.value)
    assert not (tmp_path / "filled.png").exists()


def test_without_a_mask_what_is_transparent_is_filled(inpaint, tmp_path):
    photo = Image.new("RGBA", (30, 20), (200, 30, 60, 255))
    photo.paste((0, 0, 0, 0), (5, 5, 12, 12))
    photo.save(tmp_path / "photo.png")
    filled = open_picture(inpaint(tmp_path / "photo.png"))
    hole = torch.zeros(20, 30, dtype=torch.bool)
    hole[5:12, 5:12] = True
    assert (filled[:, ~hole] == torch.tensor([200, 30, 60], dtype=torch.uint8)[:, None]).all()
    white = torch.tensor([255] * 3, dtype=torch.uint8)[:, None]  # on which transparent parts are laid elsewhere
    assert not (filled[:, hole] == white).all()
    turned = photo.copy()
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    assert open_picture(inpaint(tmp_path / "turned.png", "--overwrite")).shape == (3, 30, 20)
    for name, alpha in (("opaque", 255), ("nearly", 200)):
        Image.new("RGBA", (9, 9), (1, 2, 3, alpha)).save(tmp_path / f"{name}.png")
        with pytest.raises(InputError, match="nothing in it is transparent"):
            inpaint(tmp_path / f"{name}.png", "--overwrite")


def test_a_series_has_a_file_for_each_fill_and_repeats(inpaint, tmp_path, capsys):
    photo, mask = tmp_path / "photo.png", draw_mask(tmp_path / "mask.png", (24, 18), (3, 3, 15, 12))
    write_picture(photo, torch.randint(0, 256, (3, 18, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8))
    inpaint(photo, "--mask", mask, "--count", 2, "--seed", 5)
    one, two = (open_picture(tmp_path / f"filled-{number}.png") for number in (1, 2))
    assert not torch.equal(one, two) and not (tmp_path / "filled.png").exists()
    assert capsys.readouterr().out.count("108 pixels filled by inpaint_photos, seed 5") == 2
    assert torch.equal(open_picture(inpaint(photo, "--mask", mask, "--seed", 5)), one)
    assert not torch.equal(open_picture(inpaint(photo, "--mask", mask, "--seed", 6, "--overwrite")), one)


def test_what_cannot_be_is_one_clear_error_before_the_work(inpaint, tmp_path):
    photo, mask = tmp_path / "photo.png", draw_mask(tmp_path / "mask.png", (24, 18), (3, 3, 15, 12))
    write_picture(photo, torch.zeros(3, 18, 24, dtype=torch.uint8))
    small, black, white = (tmp_path / f"{name}.png" for name in ("small", "black", "white"))
    draw_mask(small, (18, 24), (0, 0, 4, 4))
    draw_mask(black, (24, 18))
    draw_mask(white, (24, 18), (0, 0, 24, 18))
    taken = tmp_path / "taken-2.png"
    taken.write_bytes(b"mine")
    for options, out, message in (
        (("--mask", small), "filled.png", "18x24 pixels, but the picture has 24x18; make them equal"),
        (("--mask", black), "filled.png", "covers nothing"),
        (("--mask", white), "filled.png", "covers the whole picture"),
        (("--mask", mask, "--model", "repair_photos"), "filled.png", "fills no holes; choose one such as inpaint_photos"),
        (("--mask", mask, "--count", 0), "filled.png", "--count 0"),
        (("--mask", mask), "filled.gif", "must end in"),
        (("--mask", mask, "--count", 2), "taken.png", "taken-2.png: exists already"),
    ):
        with pytest.raises(InputError, match=message):
            inpaint(photo, *options, out=out)
    assert taken.read_bytes() == b"mine" and not (tmp_path / "filled.png").exists()
