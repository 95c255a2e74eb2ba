"""``gencore restyle``: any picture, each method, the same each time, and one clear error for what cannot be."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from gencore.applications import style_transfer
from gencore.applications.style_transfer import recipes
from gencore.cli import main, style_transfer as command
from gencore.data import Photos
from gencore.data.photos import paintings
from gencore.errors import InputError
from gencore.networks.adain import AdaIN
from gencore.networks.image_transform import ImageTransform


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A run of each kind of network, one step long and small."""
    folder = tmp_path_factory.mktemp("runs")
    small = dict(data=Photos(64), window=32, images=1, batch_size=1, log_every=1, checkpoint_every=1, precision="fp32")
    kinds = {
        "feed_forward": replace(recipes.van_gogh(), network=ImageTransform(9, 4, 1), **small),
        "adain": replace(
            recipes.any_style(),
            network=AdaIN((1, 4), (64, 128), (1, 2), (4, 8)),
            styles=replace(recipes.any_style().styles, others=False),
            **small,
        ),
    }
    for name, recipe in kinds.items():
        for _ in style_transfer.train(recipe, folder / name, "cpu"):
            pass
    return {name: str(folder / name) for name in kinds}


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    pixels = torch.randint(256, (40, 52, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Image.fromarray(pixels.numpy()).resize((52, 40)).save(path)
    return path


def restyled(photo, *options, name="out.png"):
    out = photo.parent / name
    command.run([str(photo), "--out", str(out), "--device", "cpu", *options])
    with Image.open(out) as made:
        return made.copy()


@pytest.mark.parametrize("method", ["feed_forward", "adain", "gatys"])
def test_each_method_paints_at_the_pictures_size_the_same_each_time(method, models, photo, capsys):
    options = ["--method", method, "--style", "cafe"]
    options += ["--model", models[method]] if method in models else ["--steps", "3"]
    made = restyled(photo, *options)
    again = restyled(photo, *options, name="again.png")
    assert made.size == (52, 40) and made.tobytes() == again.tobytes()
    assert f"in the style of Café Terrace at Night, by {method}, strength {command.STRENGTH[method]:g}" in capsys.readouterr().out
    other = restyled(photo, *options[:2], *options[4:], "--style", "bridge", name="other.png")
    weaker = restyled(photo, *options, "--strength", "0.3", name="weaker.png")
    assert len({made.tobytes(), other.tobytes(), weaker.tobytes()}) == 3


def test_a_picture_can_show_the_style_and_chooses_the_method(models, photo, capsys):
    styles = photo.parent / "style.jpg"
    Image.new("RGB", (50, 37), "orange").save(styles)
    made = restyled(photo, "--style-picture", str(styles), "--model", models["adain"])
    assert made.size == (52, 40) and "style.jpg, by adain" in capsys.readouterr().out


def test_no_strength_of_optimisation_is_the_photograph(photo):
    made = restyled(photo, "--method", "gatys", "--strength", "0")
    assert made.tobytes() == Image.open(photo).convert("RGB").tobytes()


def test_size_is_the_longer_side(models, photo):
    assert restyled(photo, "--model", models["feed_forward"], "--size", "26").size == (26, 20)


def test_a_large_picture_is_painted_smaller_and_says_so(models, photo, monkeypatch, capsys):
    monkeypatch.setitem(command.LONGEST, "feed_forward", (39, 100))
    assert restyled(photo, "--model", models["feed_forward"]).size == (39, 30)
    assert "painted at 39x30; --size paints up to 100 pixels" in capsys.readouterr().out


def test_every_odd_picture_is_painted(models, odd_pictures, tmp_path):
    """Of any size, mode and orientation, in its own proportions."""
    for number, odd in enumerate(odd_pictures):
        out = tmp_path / f"{number}.png"
        command.run([str(odd.path), "--out", str(out), "--device", "cpu", "--model", models["feed_forward"], "--size", "32"])
        height, width = odd.looks.shape[:2]
        share = 32 / max(height, width)
        with Image.open(out) as made:
            assert made.size == (max(1, round(width * share)), max(1, round(height * share))), odd.path.name


def test_a_broken_picture_is_one_error_and_nothing_is_written(models, broken_pictures, tmp_path):
    for broken in broken_pictures:
        with pytest.raises(InputError) as caught:
            command.run([str(broken.path), "--out", str(tmp_path / "out.png"), "--model", models["feed_forward"]])
        assert str(caught.value).startswith(f"{broken.path}: ")
    assert not (tmp_path / "out.png").exists()


def test_the_paintings_have_their_names():
    assert [each.title for each in paintings()] == list(command.STYLES.values())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--style", "cafe", "--style-picture", "x.png"], "--style and --style-picture"),
        (["--style-picture", "x.png", "--method", "feed_forward"], "only its own paintings"),
        (["--method", "gatys", "--model", "van_gogh"], "needs none"),
        (["--strength", "1.5"], "--strength 1.5"),
        (["--steps", "0"], "--steps 0"),
        (["--size", "8"], "--size 8"),
        (["--size", "9000"], "--size 9000"),
        (["--model", "dcgan_digits"], "--model dcgan_digits: paints no pictures"),
        (["--model", "nothing"], "no model named 'nothing'"),
    ],
)
def test_what_makes_no_sense_is_one_error(options, words, photo):
    with pytest.raises(InputError, match=words):
        restyled(photo, *options)
    assert not (photo.parent / "out.png").exists()


def test_the_wrong_kind_of_network_is_refused(models, photo):
    with pytest.raises(InputError, match="paints no pictures by the method adain"):
        restyled(photo, "--method", "adain", "--model", models["feed_forward"])


def test_nothing_is_overwritten_unasked(models, photo):
    restyled(photo, "--model", models["feed_forward"])
    with pytest.raises(InputError, match="exists already"):
        restyled(photo, "--model", models["feed_forward"])
    restyled(photo, "--model", models["feed_forward"], "--overwrite")


def test_the_command_is_there(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gencore", "restyle", "missing.png", "--out", "x.png"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2 and "missing.png: file is missing" in capsys.readouterr().err
