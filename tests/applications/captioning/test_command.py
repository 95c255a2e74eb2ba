"""The command: any picture, one caption; one clear error for what cannot be told."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from gencore import cli, families, zoo
from gencore.applications import captioning
from gencore.applications.captioning import Search, tell
from gencore.applications.captioning.fitting import fit_whole
from gencore.cli import captioning as command
from gencore.data import Shapes
from gencore.data.pictures import read_picture, to_tensor
from gencore.errors import InputError
from tests.applications.captioning.tiny import NAMES, TINY


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, recipe in (("caption_shapes", TINY), ("caption_emoji", NAMES)):
        for _ in captioning.train(replace(recipe, images=32), folder / name, device="cpu"):
            pass
    return folder


@pytest.fixture
def here(runs, tmp_path, monkeypatch):
    """Where the models of the zoo are these runs."""
    monkeypatch.chdir(tmp_path)
    find = cli.find
    monkeypatch.setattr(cli, "find", lambda name: runs / name if (runs / name).is_dir() else find(name))
    shipped = zoo.names()
    monkeypatch.setattr(zoo, "names", lambda: [*shipped, "caption_emoji"])
    image = Shapes(size=64, images=1).load("train").images[0]
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "scene.png")
    Image.new("RGBA", (30, 90), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.effect_noise((50, 20), 50).save(tmp_path / "grey.jpg")
    return tmp_path


def expected(runs, name, picture, recipe, language="en", beams=4):
    x = fit_whole(to_tensor(read_picture(picture)), 16, trim=recipe is NAMES)
    return tell(families.load(runs / name), x[None], language, Search(beams)).texts[0]


@pytest.mark.parametrize(
    ("arguments", "name", "recipe"),
    [
        (["scene.png"], "caption_shapes", TINY),
        (["clear.png"], "caption_emoji", NAMES),
        (["grey.jpg"], "caption_emoji", NAMES),
        (["grey.jpg", "--model", "caption_shapes"], "caption_shapes", TINY),
        (["clear.png", "--language", "zh"], "caption_emoji", NAMES),
        (["grey.jpg", "--beams", "1"], "caption_emoji", NAMES),
    ],
)
def test_it_prints_what_is_said(here, runs, capsys, arguments, name, recipe):
    command.run(arguments)
    options = {"language": "zh"} if "zh" in arguments else {}
    options |= {"beams": 1} if "1" in arguments else {}
    assert capsys.readouterr().out == expected(runs, name, here / arguments[0], recipe, **options) + "\n"


def test_maps_stand_beside_the_picture(here, runs, capsys):
    command.run(["scene.png", "--maps", "looks.png"])
    words = capsys.readouterr().out.split()
    with Image.open("looks.png") as sheet:
        assert sheet.size == (96 * (1 + len(words)), 96)
    with pytest.raises(InputError, match="looks.png: exists already; choose another name or add --overwrite"):
        command.run(["scene.png", "--maps", "looks.png"])
    command.run(["scene.png", "--maps", "looks.png", "--overwrite"])
    with pytest.raises(InputError, match="must end in"):
        command.run(["scene.png", "--maps", "looks.txt"])


def test_the_sheet_is_bright_where_the_map_is_large():
    maps = torch.zeros(2, 4, 4)
    maps[0, 1, 1], maps[1, 3, 3] = 0.7, 0.2
    found = command.sheet(torch.full((3, 16, 16), 200, dtype=torch.uint8), maps)
    assert found.shape == (3, 96, 288) and found.dtype == torch.uint8
    picture, first, second = found[0].split(96, 1)
    assert (picture == 200).all() and first[35, 35] > 190 and first[80, 80] == 50 and second[90, 90] == 200 and second[30, 30] == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.png"], "none.png: file is missing"),
        (["scene.png", "--model", "dcgan_digits"], "dcgan_digits: says nothing of pictures"),
        (["scene.png", "--model", "nobody"], "no model named 'nobody'"),
        (["scene.png", "--language", "zh"], "--language zh: caption_shapes writes en"),
        (["scene.png", "--beams", "0"], "beams 0"),
    ],
)
def test_what_cannot_be_told_is_one_error(here, arguments, message):
    with pytest.raises(InputError, match=message):
        command.run(arguments)


def test_a_model_that_does_not_ship_is_said_to(here, monkeypatch):
    monkeypatch.setattr(zoo, "names", lambda: ["caption_shapes"])  # others than the two are not asked for here
    with pytest.raises(InputError, match="grey.jpg: no drawing of shapes, and caption_emoji.*gencore train captioning.recipes.caption_emoji"):
        command.run(["grey.jpg"])
    command.run(["grey.jpg", "--model", "caption_emoji"])
    command.run(["scene.png"])
