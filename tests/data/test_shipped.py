"""The data that ship with gencore: what is in them, how they are split, that they are intact, whose they are."""

import json
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from gencore.data import (
    Digits,
    Emoji,
    Photos,
    Tissue,
    digits,
    emoji,
    paintings,
    photographs,
    photos,
    tissue,
    tissue_pictures,
)
from gencore.data.root import ASSETS
from gencore.data.tissue import RETINA_SIDE
from gencore.errors import InputError
from gencore.integrity import SUMS, check_file
from gencore.training import recipe_io

SPECS = [Digits(), Digits(14), Emoji(), Emoji(size=16), Photos(), Photos(96), Tissue(), Tissue(32)]


@pytest.mark.parametrize("spec", SPECS, ids=repr)
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_every_set_is_what_it_says(spec, split):
    data = spec.load(split)
    assert data.images.dtype == torch.uint8
    assert data.images.shape == (len(data), spec.channels, spec.size, spec.size)
    assert data.labels.dtype == torch.int64
    assert data.labels.shape == (len(data),)
    assert data.labels.min() >= 0
    assert data.labels.max() < len(data.classes)
    assert len(data.captions) in (0, len(data))
    assert all(len(values) == len(data) for values in data.meta.values())
    assert data.images.min() < 64 and data.images.max() > 192
    assert data.name.endswith(split)


@pytest.mark.parametrize("spec", [Digits(), Emoji(), Photos(), Tissue()], ids=repr)
def test_no_picture_is_in_both_splits(spec):
    train, held_out = ({image.numpy().tobytes() for image in spec.load(split).images} for split in ("train", "heldout"))
    assert not train & held_out


@pytest.mark.parametrize("spec", [Digits(), Emoji(), Photos(), Tissue()], ids=repr)
def test_there_are_two_splits(spec):
    with pytest.raises(InputError, match="split is 'test'; choose 'train' or 'heldout'"):
        spec.load("test")


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_specs_survive_json(spec):
    assert recipe_io.from_dict(type(spec), json.loads(json.dumps(recipe_io.to_dict(spec)))) == spec


@pytest.mark.parametrize(
    "make", [lambda: Digits(32), lambda: Emoji(size=48), lambda: Emoji(()), lambda: Photos(300), lambda: Tissue(200)]
)
def test_impossible_specs_are_refused(make):
    with pytest.raises(InputError, match=r"^(size|styles)"):
        make()


# ---- digits


def test_digits_are_in_the_order_of_mnist():
    train, held_out = Digits().load("train"), Digits().load("heldout")
    assert (len(train), len(held_out)) == (9_000, 1_000)
    assert train.labels[:15].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5, 3, 6, 1]  # the well-known beginning
    assert train.labels.bincount().min() > 700
    assert held_out.labels.bincount().min() > 70
    assert len({image.numpy().tobytes() for image in train.images}) == 9_000


def test_digits_are_light_on_dark():
    images = Digits().load("train").images
    assert images[..., 0, :].float().mean() < 1  # the border is black
    assert 30 < images.float().mean() < 36  # MNIST's mean is 33.3


def test_half_size_digits_are_means_of_blocks():
    whole, half = Digits().load("heldout").images.double(), Digits(14).load("heldout").images.double()
    assert (torch.nn.functional.avg_pool2d(whole, 2) - half).abs().max() <= 0.5


# ---- emoji


def test_emoji_are_split_by_code_point():
    train, held_out = Emoji().load("train"), Emoji().load("heldout")
    codes, held_out_codes = set(train.meta["code"]), set(held_out.meta["code"])
    assert not codes & held_out_codes
    assert len(codes | held_out_codes) == 1_409  # the 1,410th would be in both by its looks
    assert 0.08 < len(held_out_codes) / 1_410 < 0.12
    for data in (train, held_out):
        styles = {}
        for code, style in zip(data.meta["code"], data.meta["style"], strict=True):
            styles.setdefault(code, set()).add(style)
        assert all(len(each) == 3 for each in styles.values())


def test_the_splits_of_one_style_are_those_of_all():
    everything, noto = Emoji().load("heldout"), Emoji(styles=("noto",)).load("heldout")
    chosen = torch.tensor([style == "noto" for style in everything.meta["style"]])
    assert torch.equal(everything.subset(chosen).images, noto.images)
    assert everything.subset(chosen).captions == noto.captions


def test_emoji_know_what_they_show():
    data = Emoji().load("train")
    place = list(zip(data.meta["code"], data.meta["style"], strict=True)).index(("1F34E", "twemoji"))
    assert data.captions[place] == "red apple"
    assert data.classes[data.labels[place]] == "Food & Drink"
    assert "苹果" in data.meta["zh"][place]
    assert "fruit" in data.meta["tags"][place]
    red, green, blue = data.images[place, :, 16, 16].tolist()
    assert red > 150 > max(green, blue)
    assert (data.images[place, :, 0, 0] == 255).all()  # on white
    assert all(data.captions) and all(data.meta["zh"])


def test_emoji_of_64_pixels_come_from_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GENCORE_DATA", str(tmp_path))
    with pytest.raises(InputError, match="emoji64: holds no emoji of 64 pixels; build them with"):
        Emoji(size=64).load("train")


# ---- photographs, paintings, tissue


def test_photos_are_split_by_photograph():
    train, held_out = Photos().load("train"), Photos().load("heldout")
    assert not set(train.labels.tolist()) & set(held_out.labels.tolist())
    assert len(set(train.labels.tolist())) == 67
    assert len(set(held_out.labels.tolist())) == 10
    assert train.captions[0] == train.classes[train.labels[0]] == "crab"


def test_patches_cover_the_photograph():
    image = torch.arange(50 * 70).reshape(1, 50, 70)
    patches = photos.cut_patches(image, 16, 8)
    assert patches.shape[1:] == (1, 16, 16)
    assert set(patches.flatten().tolist()) == set(range(50 * 70))
    assert photos.starts(32, 16, 16) == [0, 16]
    assert photos.starts(16, 16, 8) == [0]


def test_galleries_are_whole():
    gallery = photographs()
    assert len(gallery) == 77
    assert len(paintings()) == 8
    assert all(min(picture.image.shape[1:]) == 256 for picture in gallery)
    assert len({picture.title for picture in gallery}) == 77
    assert all(picture.author and picture.source for picture in gallery)
    assert {picture.license for picture in gallery} == {"CC0-1.0", "Public domain"}


@pytest.mark.parametrize("size", [16, 50, 64, 128])
def test_no_tissue_patch_reaches_into_the_other_split(size):
    image = torch.arange(256 * 256).reshape(1, 256, 256)
    train, held_out = (set(tissue.cut_region(image, size, split).flatten().tolist()) for split in ("train", "heldout"))
    assert not train & held_out
    assert held_out <= {y * 256 + x for y in range(128, 256) for x in range(128, 256)}
    if size in (16, 64, 128):
        assert len(train) == 3 * 128 * 128


def test_tissue_patches_have_no_black_surround():
    retina, colon = tissue_pictures()
    assert retina.shape == (3, RETINA_SIDE, RETINA_SIDE)
    assert retina[:, 0, 0].max() < 24  # so there is something to leave out
    assert colon.shape == (3, 512, 512)
    data = Tissue().load("train")
    patches = data.images[data.labels == 0]
    assert patches.amax(1).min() >= 24
    assert patches[:, 0].float().mean() > 2 * patches[:, 2].float().mean()  # a retina is red


# ---- integrity, size, licences


def copied_assets(tmp_path, monkeypatch):
    """Let every data set read its files from a copy."""
    folder = tmp_path / "assets"
    shutil.copytree(ASSETS, folder)
    for module in (digits, emoji, photos, tissue):
        monkeypatch.setattr(module, "ASSETS", folder)
    return folder


FILES = [
    (Digits(), "digits.npz"),
    (Emoji(), "emoji.json"),
    (Emoji(), "emoji_twemoji.webp"),
    (Photos(), "photos.zip"),
    (Tissue(), "retina.jpg"),
    (Tissue(), "immunohistochemistry.png"),
]


@pytest.mark.parametrize(("spec", "name"), FILES)
def test_an_altered_truncated_or_missing_asset_is_named(tmp_path, monkeypatch, spec, name):
    path = copied_assets(tmp_path, monkeypatch) / name
    whole = path.read_bytes()
    spec.load("heldout")  # the copy itself is fine
    altered = bytearray(whole)
    altered[len(whole) // 2] ^= 1
    for content in (bytes(altered), whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: checksum differs"):
            spec.load("heldout")
    path.unlink()
    with pytest.raises(InputError, match=f"{name}: file is missing"):
        spec.load("heldout")


def test_every_shipped_file_has_its_checksum_and_the_whole_is_small():
    listed = {line.split(maxsplit=1)[1] for line in (ASSETS / SUMS).read_text("utf-8").splitlines()}
    present = {path.name for path in ASSETS.iterdir()}
    texts = {f"LICENSE-{name}.txt" for name in ("Apache-2.0", "BSD-2-Clause", "MIT")}
    assert present - listed == {SUMS, "LICENSES.md"} | texts
    for name in listed:
        check_file(ASSETS / name)
    assert sum(path.stat().st_size for path in ASSETS.iterdir()) <= 12_000_000


def test_no_shipped_file_needs_pickle():
    for path in ASSETS.glob("*.npz"):
        with np.load(path, allow_pickle=False) as file:
            assert all(file[name].dtype != object for name in file)


def test_licences_name_every_asset_and_every_picture():
    text = (ASSETS / "LICENSES.md").read_text("utf-8")
    for path in ASSETS.iterdir():
        assert path.name in text or path.name in (SUMS, "LICENSES.md")
    rows = text.splitlines()
    for gallery in (photographs(), paintings()):
        for picture in gallery:
            (row,) = [row for row in rows if row.startswith(f"| {picture.title} |")]
            assert picture.author in row
            assert picture.license in row
            assert picture.source in row
    for words in ("graphics copyright Twitter, Inc and other contributors", "by-sa/3.0", "by/4.0", "LICENSE-2.0"):
        assert words in text


def test_galleries_open_with_any_zip_program():
    for name, count in (("photos.zip", 77), ("paintings.zip", 8)):
        with zipfile.ZipFile(ASSETS / name) as file:
            assert file.testzip() is None
            assert len(json.loads(file.read("index.json"))) == count == len(file.namelist()) - 1


def test_specs_are_values():
    assert replace(Emoji(), size=16) == Emoji(size=16)
    assert hash(Digits(14)) == hash(Digits(14))
