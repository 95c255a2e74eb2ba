"""The command line as a user meets it: another folder, no network, typing errors."""

import os
import shutil
import subprocess
import sys

import pytest
import tqdm
from PIL import Image

from gencore import cli, zoo
from gencore.families import recipes
from gencore.integrity import write_sums
from gencore.training import checkpoint


def gencore(*arguments, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "no_proxy": "", "https_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "gencore", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def fails(result, *words):
    """One line on stderr that holds these words, and no traceback."""
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr, result.stderr
    return True


def test_help_and_list(tmp_path):
    assert "gencore sample dcgan_digits" in gencore("--help", folder=tmp_path).stdout
    listed = gencore("list", folder=tmp_path)
    assert listed.returncode == 0 and all(name in listed.stdout for name in recipes()), listed.stderr
    lines = listed.stdout.split("zoo")[1].splitlines()
    draw_none = {line.split()[0]: "draws no pictures" in line for line in lines if "," in line}
    assert draw_none["digit_classifier"] and not draw_none["dcgan_digits"]
    (line,) = (line for line in lines if line.split()[:1] == ["dcgan_digits"])
    score, core_minutes = zoo.card("dcgan_digits")["metrics"]["frechet"]["value"], zoo.card("dcgan_digits")["core_seconds"] / 60
    words = "533,889", "digits", f"Fréchet distance {score:.1f}", "600,000 images", f"{core_minutes:.1f} core-minutes", "AMD EPYC"
    assert all(f" {word}" in line for word in words)
    (line,) = (line for line in lines if line.split()[:1] == ["dcgan_emoji"])
    assert " emoji " in line and f"Kernel distance {zoo.card('dcgan_emoji')['metrics']['kernel']['value']:.3f}" in line
    (line,) = (line for line in lines if line.split()[:1] == ["latent_emoji_long"])  # not what its GPU's processor did
    assert f" {zoo.card('latent_emoji_long')['wall_clock_seconds'] / 60:.1f} minutes, NVIDIA H200, shared" in line
    assert fails(gencore("trian", folder=tmp_path), "no command 'trian'")


def test_sample_writes_a_picture_and_never_overwrites(tmp_path):
    result = gencore("sample", "dcgan_digits", "--out", "pictures/a.png", "--count", 6, "--columns", 3, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    with Image.open(tmp_path / "pictures" / "a.png") as image:
        assert image.size == (84, 56)
        assert image.getextrema()[1] > 200
    again = gencore("sample", "dcgan_digits", "--out", "pictures/a.png", folder=tmp_path)
    assert fails(again, "pictures/a.png", "exists already", "--overwrite")
    assert fails(gencore("sample", "dcgan_digits", "--out", "a.jpg", folder=tmp_path), "must end in .png")
    assert fails(gencore("sample", "dcgan_cats", "--out", "a.png", folder=tmp_path), "no model named 'dcgan_cats'", "dcgan_digits")


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("file/a.png", ["--out file/a.png: cannot be written", "choose another place"]),  # its folder is a file
        ("/proc/a.png", ["--out /proc/a.png: cannot be written"]),
        ("folder.png", ["--out folder.png: cannot be written"]),
    ],
)
def test_where_nothing_can_be_written_is_one_line(tmp_path, out, words):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    result = gencore("sample", "dcgan_digits", "--out", out, "--count", 2, "--overwrite", folder=tmp_path)
    assert fails(result, *words) and result.stderr.count("\n") == 1


def test_many_pictures_have_a_limit_and_show_progress(tmp_path, monkeypatch):
    many = gencore("sample", "dcgan_digits", "--out", "a.png", "--count", 10_001, folder=tmp_path)
    assert fails(many, "--count 10001: must be from 1 to 10,000")
    assert fails(gencore("evaluate", "dcgan_digits", "--count", 10**9, folder=tmp_path), "--count 1000000000", "100,000")
    assert not list(tmp_path.iterdir())
    shown = []
    monkeypatch.setattr(tqdm.tqdm, "update", lambda bar, count: shown.append((bar.total, count)))
    assert cli.draw("dcgan_digits", 150, seed=0).shape == (150, 1, 28, 28)
    assert shown == [(150, 100), (150, 50)]


def test_evaluate_reports_the_floor(tmp_path):
    result = gencore("evaluate", "dcgan_digits", "--count", 1000, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "real against real" in result.stdout and "digits/heldout" in result.stdout


@pytest.mark.parametrize("command", [["sample", "dcgan_digits", "--out", "a.png"], ["evaluate", "dcgan_digits"]])
def test_a_device_that_is_not_there_is_named(tmp_path, command):
    assert fails(gencore(*command, "--device", "abacus", folder=tmp_path), "device 'abacus'")
    assert not list(tmp_path.iterdir())


def test_the_judge_is_a_run_like_any_other(tmp_path):
    assert "accuracy on 1,000 images of digits/heldout: 0.99" in gencore("evaluate", "digit_classifier", folder=tmp_path).stdout
    drawn = gencore("sample", "digit_classifier", "--out", "a.png", folder=tmp_path)
    assert fails(drawn, "digit_classifier: draws no pictures")
    assert not list(tmp_path.iterdir())


def test_a_record_without_weights_is_marked_and_draws_nothing(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "dcgan_digits"
    shutil.copytree(zoo.folder("dcgan_digits"), folder)
    (folder / "ema.safetensors").unlink()
    checkpoint.write_json(folder / "card.json", zoo.card("dcgan_digits") | {"weights": checkpoint.NOT_SHIPPED})
    write_sums(folder, [path.name for path in folder.iterdir() if path.name != "SHA256SUMS"])
    shutil.copytree(zoo.folder("dcgan_emoji"), tmp_path / "dcgan_emoji")
    for command in (["sample", folder, "--out", "a.png"], ["evaluate", folder]):
        result = gencore(*command, folder=tmp_path)
        assert fails(result, "dcgan_digits: only its record ships", "gencore train gan.recipes.dcgan_digits")
        assert result.stderr.count("\n") == 1 and not (tmp_path / "a.png").exists()
    monkeypatch.setattr(zoo, "ROOT", tmp_path)
    cli.list_all([])
    lines = capsys.readouterr().out.split("zoo")[1].splitlines()
    marked = {line.split()[0]: "only its record ships" in line for line in lines if "," in line}
    assert marked["dcgan_digits"] and not marked["dcgan_emoji"]


def test_train_help_explains_fields(tmp_path):
    shown = gencore("train", "gan.recipes.dcgan_digits", "--help", folder=tmp_path).stdout
    for flag in ("--folder", "--images", "--batch-size", "network:dcgan", "--optimiser.beta1"):
        assert flag in shown


def test_train_names_its_flags_as_it_takes_them(tmp_path):
    listed = gencore("train", "--help", folder=tmp_path)
    assert listed.returncode == 0 and all(name in listed.stdout for name in recipes()), listed.stderr
    for shown in (listed, gencore("train", "gan.recipes.dcgan_digits", "--help", folder=tmp_path)):
        assert "--recipe" not in shown.stdout
    assert "--FIELD VALUE" in listed.stdout and "RECIPE --help" in listed.stdout


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["gan.recipes.dcgan_digit"], ["no recipe 'gan.recipes.dcgan_digit'", "gan.recipes.dcgan_digits"]),
        (["gan.recipes.dcgan_digits", "--imagess", "5"], ["--imagess"]),
        (["gan.recipes.dcgan_digits", "--images", "many"], ["--images"]),
        (["gan.recipes.dcgan_digits", "network:dcgan", "--network.size", "32"], ["network.size is 32, but the data have 28"]),
        (["gan.recipes.dcgan_digits", "--device", "abacus"], ["device 'abacus'"]),
    ],
)
def test_wrong_flags_are_named(tmp_path, arguments, words):
    assert fails(gencore("train", *arguments, folder=tmp_path), *words)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("recipe.json"))


def test_train_shows_progress_resumes_and_says_when_done(tmp_path):
    command = ["train", "gan.recipes.dcgan_digits", "--images", 64, "--log-every", 64, "--batch-size", 32]
    first = gencore(*command, folder=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "64 images in" in first.stdout
    assert (tmp_path / "runs" / "dcgan_digits" / "checkpoints" / "000000000064").is_dir()
    assert "already trained to 64 images" in gencore(*command, folder=tmp_path).stdout
    drawn = gencore("sample", "runs/dcgan_digits", "--out", "a.png", folder=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
