"""``gencore upscale`` as a user meets it: on pictures of every kind, and with what cannot be."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from gencore import zoo
from gencore.applications import palette, super_resolution
from gencore.applications.palette.recipes import upscale_photos
from gencore.cli import super_resolution as command
from gencore.cli.pictures import open_picture
from gencore.data import Photos, to_float, to_uint8
from gencore.diffusion.recipes import Sampling
from gencore.errors import InputError
from gencore.networks.bicubic import enlarge
from gencore.networks.edsr import EDSR
from gencore.networks.palette import Palette
from gencore.networks.unet import UNet
from tests.applications.super_resolution.test_loop import PLAIN


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of two tiny runs, x2 and x4."""
    root = tmp_path_factory.mktemp("models")
    for times in (2, 4):
        network = EDSR(times=times, width=8, blocks=1, finish=4)
        recipe = replace(PLAIN, data=Photos(16), network=network, images=8, checkpoint_every=8)
        for _ in super_resolution.train(recipe, root / f"residual_x{times}", device="cpu"):
            pass
    return root


@pytest.fixture
def upscale(models, tmp_path, monkeypatch):
    """Call the command on a picture; the tiny runs stand in for the zoo's models."""
    monkeypatch.setattr(zoo, "ROOT", models)
    monkeypatch.setattr(zoo, "folder", lambda name: models / name if (models / name).is_dir() else refuse(name))

    def refuse(name):
        raise InputError(f"no model named {name!r}")

    def call(photo, *options, out="large.png"):
        command.run([str(photo), "--out", str(tmp_path / out), "--device", "cpu", *map(str, options)])
        return tmp_path / out

    return call


def test_every_odd_picture_becomes_larger_and_stays_what_it_was(upscale, odd_pictures):
    """After two steps, the tiny network adds little to bicubic interpolation, which shows what must be seen, upright."""
    for odd in odd_pictures:
        looks = torch.from_numpy(odd.looks.copy()).permute(2, 0, 1)
        large = open_picture(upscale(odd.path, "--model", "residual_x2", "--overwrite"))
        expected = to_uint8(enlarge(to_float(looks[None]), 2))[0]
        assert large.shape == expected.shape, odd.path.name
        assert (large.int() - expected.int()).abs().float().mean() < 3 + odd.slack, odd.path.name


def test_what_is_broken_is_refused_and_nothing_is_written(upscale, broken_pictures, tmp_path):
    for broken in broken_pictures:
        with pytest.raises(InputError) as caught:
            upscale(broken.path)
        assert broken.path.name in str(caught.value) and broken.words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_times_and_model_say_how_much_larger(upscale, odd_pictures, models, capsys):
    photo = next(odd.path for odd in odd_pictures if odd.path.name == "mode_RGB.png")
    for options, times in (
        ((), 4),
        (("--times", 2), 2),
        (("--times", 4), 4),
        (("--times", 1), 1),  # larger and small again: sharper, if anything
        (("--model", "residual_x2"), 2),
        (("--model", models / "residual_x2", "--times", 2), 2),  # a run's folder
    ):
        with Image.open(upscale(photo, *options, "--overwrite")) as large:
            assert large.size == (61 * times, 47 * times)
        assert f"{61 * times}x{47 * times} pixels, {times} times larger by " in capsys.readouterr().out
    first = upscale(photo, out="a.png").read_bytes()
    assert upscale(photo, out="b.png").read_bytes() == first


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--times", 3), "--times 3: residual_x4 was trained for 4 times; choose 4 or a part of it"),
        (("--times", 0), "--times 0: residual_x4 was"),
        (("--times", 4, "--model", "residual_x2"), "--times 4: residual_x2 was trained for 2 times"),
        (("--model", "residual_x9"), "no model named 'residual_x9'"),
        (("--device", "tpu9"), "device 'tpu9'"),
    ],
)
def test_what_cannot_be_is_one_error(upscale, odd_pictures, options, words):
    with pytest.raises(InputError, match=words):
        upscale(odd_pictures[0].path, *options)


def test_a_model_that_draws_is_no_model_that_enlarges(odd_pictures, tmp_path):
    with pytest.raises(InputError, match="dcgan_digits: does not enlarge pictures; choose one such as residual_x4 or srgan_x4"):
        command.run([str(odd_pictures[0].path), "--out", str(tmp_path / "a.png"), "--model", "dcgan_digits"])


def test_sizes_that_cannot_be_made_or_written_are_refused_before_the_work(upscale, tmp_path, monkeypatch):
    monkeypatch.setattr(super_resolution, "upscale", lambda *_, **__: pytest.fail("the work was begun"))
    wide = tmp_path / "wide.png"
    Image.new("1", (5_000, 1)).save(wide)
    with pytest.raises(InputError, match=r"large\.webp: 20000x4 pixels, but this format holds at most 16,383"):
        upscale(wide, out="large.webp")
    Image.new("1", (2_600, 2_600)).save(wide)
    with pytest.raises(InputError, match="2600x2600 pixels; this command takes at most 6,250,000"):
        upscale(wide)
    with pytest.raises(InputError, match="exists already"):
        upscale(wide, out="wide.png")
    with pytest.raises(InputError, match="must end in"):
        upscale(wide, out="large.gif")


def test_a_picture_is_enlarged_by_the_model_s_own_function(upscale, odd_pictures, models):
    odd = next(odd for odd in odd_pictures if odd.path.name == "exif_6.jpg")
    expected = super_resolution.upscale(super_resolution.load(models / "residual_x4"), open_picture(odd.path))
    assert torch.equal(open_picture(upscale(odd.path)), expected)
    halved = super_resolution.lower(expected, 2)
    assert torch.equal(open_picture(upscale(odd.path, "--times", 2, "--overwrite")), halved)


def test_a_diffusion_model_draws_another_picture_for_each_seed(upscale, tmp_path, odd_pictures):
    """Also where its network takes no such size: one pixel, and odd sides."""
    unet = UNet(6, out_channels=3, width=8, multipliers=(1, 2), embedding=8, patch=4, finish=4)
    recipe = replace(upscale_photos(), network=Palette(unet), images=4, batch_size=2, scales=(1.0,))
    recipe = replace(recipe, sampling=Sampling("euler", steps=1), checkpoint_every=4)
    for _ in palette.train(recipe, tmp_path / "drawer", device="cpu"):
        pass
    by = "--model", tmp_path / "drawer", "--overwrite"
    for name, size in (("mode_RGB.png", (61, 47)), ("one_pixel.png", (1, 1)), ("wide_700x1.png", (700, 1))):
        photo = next(odd.path for odd in odd_pictures if odd.path.name == name)
        found = open_picture(upscale(photo, *by))
        assert found.shape == (3, 4 * size[1], 4 * size[0])
        assert torch.equal(open_picture(upscale(photo, *by)), found)
        assert not torch.equal(open_picture(upscale(photo, *by, "--seed", 1)), found)
    Image.new("RGB", (300, 300)).save(tmp_path / "large.png")
    with pytest.raises(InputError, match="300x300 pixels; this command takes at most 62,500"):
        upscale(tmp_path / "large.png", *by, out="larger.png")
