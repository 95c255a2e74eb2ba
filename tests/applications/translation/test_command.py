"""``gencore translate`` as a user meets it: pictures of every kind, and what cannot be."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from gencore import gan, zoo
from gencore.applications import translation
from gencore.applications.translation.pairs import Colour
from gencore.applications.translation.pictures import drawn_lines, on_square, translate_picture, ways
from gencore.cli import translation as command
from gencore.cli.pictures import open_picture
from gencore.data import Emoji
from gencore.errors import InputError
from gencore.gan.recipes import Adam
from tests.applications.translation.test_loop import CYCLES, PAIRED, SMALL
from tests.gan.test_train import TINY as TINY_GAN

ALL = ("noto", "twemoji", "fluent3d")
SHORT = dict(images=8, checkpoint_every=8)
STYLES = replace(
    PAIRED["styles"],
    data=Emoji(ALL, size=12),
    task=replace(PAIRED["styles"].task, sources=ALL, targets=ALL),
    network=replace(PAIRED["styles"].network, conditions=(3,)),
    judge=replace(PAIRED["styles"].judge, channels=9),
    **SHORT,
)
LINES = replace(
    PAIRED["edges"],
    data=Emoji(ALL, size=12),
    network=replace(PAIRED["edges"].network, conditions=(3,)),
    judge=replace(PAIRED["edges"].judge, channels=7),
    **SHORT,
)
RECIPES = {
    "style_to_style": STYLES,
    "edges_to_emoji": LINES,
    "cycle_edges": replace(CYCLES["cycle of edges"], **SHORT),
    "pose_to_figure": replace(PAIRED["figures"], **SHORT),
    "moved": replace(STYLES, images=48, checkpoint_every=48, optimiser=Adam(generator_lr=0.05)),  # far enough to see noise
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name, recipe in RECIPES.items():
        for _ in translation.train(recipe, root / name, device="cpu"):
            pass
    for _ in gan.train(replace(TINY_GAN, images=16, checkpoint_every=16), root / "dcgan", device="cpu"):
        pass
    return root


@pytest.fixture
def translate(models, tmp_path, monkeypatch):
    """Call the command on a picture; tiny runs stand in for the zoo's models."""

    def folder(name):
        if (models / name).is_dir():
            return models / name
        raise InputError(f"no model named {name!r}")

    monkeypatch.setattr(zoo, "folder", folder)

    def call(picture, *options, out="out.png"):
        command.run([str(picture), "--out", str(tmp_path / out), "--device", "cpu", *map(str, options)])
        return tmp_path / out

    return call


def test_every_odd_picture_becomes_a_square_that_shows_it_upright(translate, odd_pictures):
    """After one step, the tiny network changes little: what must be seen is the picture, on white, undistorted."""
    assert len(odd_pictures) >= 20
    for odd in odd_pictures:
        looks = torch.from_numpy(odd.looks.copy()).permute(2, 0, 1)
        made = open_picture(translate(odd.path, "--to", "noto", "--scale", 1, "--overwrite"))
        assert made.shape == (3, 12, 12), odd.path.name
        assert (made.int() - on_square(looks, 12).int()).abs().float().mean() < 12 + odd.slack, odd.path.name
        assert open_picture(translate(odd.path, "--to", "emoji", "--overwrite")).shape == (3, 96, 96)


def test_what_is_broken_is_refused_and_nothing_is_written(translate, broken_pictures, tmp_path):
    for broken in broken_pictures:
        with pytest.raises(InputError) as caught:
            translate(broken.path)
        assert broken.path.name in str(caught.value) and broken.words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def photo(odd_pictures):
    return next(odd.path for odd in odd_pictures if odd.path.name == "mode_RGB.png")


def test_the_result_is_that_of_the_model_each_pixel_a_square(translate, photo, models):
    model = translation.load(models / "style_to_style")
    for to in ALL:
        made = open_picture(translate(photo, "--to", to, "--scale", 3, out=f"{to}.png"))
        _, expected = translate_picture(model, open_picture(photo), to)
        assert torch.equal(made, expected.repeat_interleave(3, 1).repeat_interleave(3, 2))
    model = translation.load(models / "edges_to_emoji")
    for options, drawn in (((), False), (("--drawn",), True)):
        made = open_picture(translate(photo, "--to", "emoji", "--style", "noto", "--scale", 1, "--overwrite", *options))
        assert torch.equal(made, translate_picture(model, open_picture(photo), "noto", drawn)[1])


def test_a_seed_repeats_and_another_differs(translate, photo):
    a, b, c = (
        open_picture(translate(photo, "--model", "moved", "--seed", seed, "--scale", 1, out=f"{number}.png"))
        for number, seed in enumerate((5, 5, 6))
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_a_run_is_named_by_its_folder_and_a_cycle_goes_back(translate, photo, models, capsys):
    made = open_picture(translate(photo, "--to", "lines", "--model", models / "cycle_edges", "--scale", 1))
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])
    assert "61x47" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--to", "lines"), "--to lines: name a --model"),
        (("--to", "noto", "--drawn"), "--drawn: goes with --to emoji"),
        (("--to", "noto", "--scale", 0), "--scale 0: must be from 1 to 64"),
        (("--to", "noto", "--model", "dcgan"), "--model dcgan: is no translator"),
        (("--to", "noto", "--model", "nothing"), "no model named 'nothing'"),
        (("--to", "noto", "--model", "pose_to_figure"), "dresses stick figures"),
        (("--to", "fluent3d", "--model", "cycle_edges"), "to 'fluent3d': this model translates to noto, lines"),
    ],
)
def test_what_cannot_be_is_one_error(translate, photo, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        translate(photo, *options)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(translate, photo, tmp_path):
    (tmp_path / "out.png").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        translate(photo)
    assert (tmp_path / "out.png").read_text() == "mine"


def test_a_picture_is_laid_on_white_without_distortion():
    tall = torch.zeros(3, 40, 10, dtype=torch.uint8)
    found = on_square(tall, 16)
    assert found.shape == (3, 16, 16) and not found[:, :, 7:9].any()
    assert (found[:, :, :5] == 255).all() and (found[:, :, 11:] == 255).all()
    assert torch.equal(on_square(tall.mT, 16), found.mT)
    exact = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
    assert torch.equal(on_square(exact, 16), exact)
    assert on_square(torch.zeros(3, 1, 1, dtype=torch.uint8), 16).sum() == 0


def test_lines_of_a_drawing_stay_however_thin():
    paper = torch.full((3, 320, 320), 240, dtype=torch.uint8)
    paper[:, 160] = 20  # one pixel in three hundred
    lines = drawn_lines(paper, 32)
    assert lines.shape == (1, 32, 32) and (lines[0, 16] == 0).all() and (lines == 0).sum() == 32
    small = torch.full((3, 8, 8), 255, dtype=torch.uint8)
    small[:, 3] = 0
    assert (drawn_lines(small, 32)[0, 12:16] == 0).all() and (drawn_lines(small, 32) == 0).sum() == 4 * 32


def test_the_model_is_shown_lines_where_it_starts_from_them(models, photo):
    model, picture = translation.load(models / "edges_to_emoji"), open_picture(photo)
    shown, _ = translate_picture(model, picture, "noto")
    assert torch.equal(shown, Colour().edges(on_square(picture, 12)[None])[0])
    assert torch.equal(translate_picture(model, picture, "noto", drawn=True)[0], drawn_lines(picture, 12))
    with pytest.raises(InputError, match="drawn: this way starts from a picture"):
        translate_picture(translation.load(models / "style_to_style"), picture, "noto", drawn=True)


def test_ways():
    assert list(ways(STYLES)) == list(ALL) and [way.told for way in ways(STYLES).values()] == [0, 1, 2]
    assert all(way.lines for way in ways(LINES).values())
    cycle = ways(CYCLES["cycle"])
    assert {name: way.back for name, way in cycle.items()} == {"twemoji": False, "noto": True}
    assert ways(RECIPES["pose_to_figure"]) == {} and SMALL.embedding


def test_the_written_file_has_the_format_of_its_name(translate, photo):
    with Image.open(translate(photo, out="out.webp")) as picture:
        assert picture.format == "WEBP" and picture.size == (96, 96)
