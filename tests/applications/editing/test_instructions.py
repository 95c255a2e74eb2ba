"""Editing by instructions: what reaches the network, what is refused, and the command."""

import shutil
from dataclasses import replace

import pytest
import torch

from gencore import zoo
from gencore.applications import palette
from gencore.applications.editing import check_instruction, instruct
from gencore.applications.palette import Seen, mend
from gencore.applications.palette.sampling import build
from gencore.cli import editing as command
from gencore.cli.pictures import open_picture, write_picture
from gencore.data import to_float, to_uint8
from gencore.data.edits import encode_edits
from gencore.data.shapes import Scene, SceneObject, render
from gencore.errors import InputError
from tests.applications.palette.test_loop import FILLED, TOLD

SCENE = Scene((SceneObject("star", "green", "small", 0.25, 0.25), SceneObject("circle", "red", "large", 0.7, 0.7)))
IMAGES = torch.stack([render(SCENE, 16)] * 3)
TEXTS = ["remove the star", "make the circle blue", "Remove the star"]


def test_instructions_reach_the_network_as_tokens():
    model = build(TOLD), TOLD
    with torch.no_grad():
        for p in model[0].model.parameters():
            p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    made = instruct(model, IMAGES, TEXTS, seed=2, first=5)
    words = encode_edits(["remove the star", "make the circle blue", "remove the star"])
    assert torch.equal(made, mend(model, Seen(to_float(IMAGES), words=words), 2, 5))


@pytest.mark.parametrize(
    ("recipe", "images", "texts", "message"),
    [
        (FILLED, IMAGES, TEXTS, "trained for Holes"),
        (TOLD, IMAGES[:, :, :8], TEXTS, "this model edits uint8"),
        (TOLD, to_float(IMAGES), TEXTS, "this model edits uint8"),
        (TOLD, IMAGES, TEXTS[:2], "give each image one"),
        (TOLD, IMAGES, ["remove a star"] * 3, "grammar wants the"),
    ],
)
def test_what_does_not_fit_is_refused(recipe, images, texts, message):
    with pytest.raises(InputError, match=message):
        instruct((build(recipe), recipe), images, texts)


def test_an_instruction_names_one_object_of_the_picture():
    image = render(SCENE, 32)
    for text in ("remove the star", "add a small blue ring at the top right", "make the red circle small"):
        check_instruction(image, text)
    with pytest.raises(InputError, match="names 0 objects; .* a large red circle, a small green star"):
        check_instruction(image, "remove the blue star")
    with pytest.raises(InputError, match="names 0 objects; .*: no objects"):
        check_instruction(torch.full((3, 32, 32), 245, dtype=torch.uint8), "remove the star")
    twins = Scene((SCENE.objects[0], replace(SCENE.objects[0], x=0.75)))
    with pytest.raises(InputError, match="names 2 objects"):
        check_instruction(render(twins, 32), "remove the star")
    check_instruction(torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8), "remove the star")  # who knows


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    told = replace(TOLD, data=replace(TOLD.data, size=32))
    for name, recipe in (("edit_codes", told), ("inpaint_photos", FILLED)):
        how = replace(recipe.sampling, steps=1)
        for _ in palette.train(replace(recipe, images=16, checkpoint_every=16, sampling=how), root / name, device="cpu"):
            pass
        shutil.rmtree(root / name / "replay")
    return root


@pytest.fixture
def edit(models, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "folder", lambda name: models / name)

    def call(picture, text, *options, out="edited.png"):
        command.run([str(picture), text, "--out", str(tmp_path / out), "--device", "cpu", *map(str, options)])
        return tmp_path / out

    return call


def test_the_command_edits_pictures_of_shapes(edit, tmp_path, models, capsys):
    for size, made in ((32, 32), (64, 64), (100, 32)):
        write_picture(tmp_path / "picture.png", render(SCENE, size))
        out = edit(tmp_path / "picture.png", "remove the star", "--overwrite")
        assert open_picture(out).shape == (3, made, made)
    write_picture(tmp_path / "picture.png", render(SCENE, 32))
    capsys.readouterr()
    edit(tmp_path / "picture.png", "remove the star", "--count", 2, "--seed", 4)
    pair = [open_picture(tmp_path / f"edited-{number}.png") for number in (1, 2)]
    model = palette.load(models / "edit_codes")
    made = instruct(model, torch.stack([render(SCENE, 32)] * 2), ["remove the star"] * 2, seed=4)
    assert torch.equal(torch.stack(pair), to_uint8(made)) and not torch.equal(*pair)
    assert capsys.readouterr().out.count("remove the star, by edit_codes, seed 4") == 2


def test_what_cannot_be_is_one_clear_error(edit, tmp_path):
    picture, flat, tiny = (tmp_path / f"{name}.png" for name in ("picture", "flat", "tiny"))
    write_picture(picture, render(SCENE, 32))
    write_picture(flat, render(SCENE, 64)[:, :32])
    write_picture(tiny, render(SCENE, 20))
    for given, text, options, message in (
        (picture, "remove the ring", (), "names 0 objects"),
        (picture, "paint it black", (), "unknown word 'paint'"),
        (flat, "remove the star", (), "64x32 pixels; shapes are edited in squares"),
        (tiny, "remove the star", (), "20x20 pixels; shapes are edited in squares of at least 32x32"),
        (picture, "remove the star", ("--model", "inpaint_photos"), "reads no instructions"),
        (picture, "remove the star", ("--count", 0), "--count 0"),
        (tmp_path / "none.png", "remove the star", (), "file is missing"),
    ):
        with pytest.raises(InputError, match=message):
            edit(given, text, *options)
    assert not (tmp_path / "edited.png").exists()
