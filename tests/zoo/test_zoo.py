import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from gencore import families, gan, zoo
from gencore.data import to_uint8
from gencore.errors import InputError
from gencore.integrity import sha256
from gencore.metrics.features import DigitFeatures
from gencore.training import checkpoint
from gencore.training.eight_bits import STEP
from gencore.training.log import read_curve

FILES = {"ema.safetensors", "recipe.json", "card.json", "curve.csv"}


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A zoo of one model that may be damaged."""
    shutil.copytree(zoo.ROOT / "dcgan_digits", tmp_path / "dcgan_digits")
    monkeypatch.setattr(zoo, "ROOT", tmp_path)
    return tmp_path / "dcgan_digits"


@pytest.mark.parametrize("name", zoo.names())
def test_every_model_is_whole_and_says_what_it_cost(name):
    folder, card = zoo.folder(name), zoo.card(name)
    shipped = card.get("weights") != checkpoint.NOT_SHIPPED
    assert FILES <= {path.name for path in folder.iterdir()} | (set() if shipped else {"ema.safetensors"})
    assert (folder / "ema.safetensors").exists() == shipped
    for key in ("recipe", "metrics", "hardware", "wall_clock_seconds", "images_seen", "parameters", "seed", "versions"):
        assert card[key] not in (None, ""), key
    assert read_curve(folder / "curve.csv")[-1]["images_seen"] == card["images_seen"]
    assert families.read(folder)[1] == families.recipes()[card["recipe"]]()
    if not shipped:
        return
    stored = load_file(folder / "ema.safetensors")
    assert {t.dtype for key, t in stored.items() if not key.endswith(STEP)} <= {torch.float16, torch.int8, torch.int64}
    assert all(t.isfinite().all() for t in checkpoint.read_tensors(folder / "ema.safetensors").values())


@pytest.mark.parametrize("name", zoo.names())
def test_small_pictures_in_colour_have_a_palette(name):
    modes = {path.name: Image.open(path).mode for path in zoo.folder(name).glob("*.png") if path.name != "replay.png"}
    assert set(modes.values()) <= {"L", "P" if families.read(zoo.folder(name))[1].data.size <= 32 else "RGB"}


def test_the_zoo_stays_small():
    assert sum(path.stat().st_size for path in zoo.ROOT.rglob("*") if path.is_file()) < 64e6


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(InputError, match="no model named 'dcgan_cats'; there are: .*dcgan_digits"):
        zoo.folder("dcgan_cats")


@pytest.mark.parametrize("name, channels, size", [("dcgan_digits", 1, 28), ("dcgan_emoji", 3, 32)])
def test_a_replay_ends_with_what_the_model_draws(name, channels, size):
    images_seen, pictures = zoo.replay(name)
    assert images_seen == sorted(images_seen) and images_seen[-1] == zoo.card(name)["images_seen"]
    assert pictures.dtype == torch.uint8 and pictures.shape == (len(images_seen), 16, channels, size, size)
    model = gan.load(zoo.folder(name))
    drawn = to_uint8(gan.sample(model, 16, seed=model[1].seed))
    # weights are shipped rounded, and those that drew in training were not
    assert (pictures[-1].int() - drawn.int()).abs().float().mean() < 1
    assert (pictures[0].int() - drawn.int()).abs().float().mean() > 20


def test_models_without_a_replay_say_so():
    with pytest.raises(InputError, match="digit_classifier was published without a replay"):
        zoo.replay("digit_classifier")


def test_a_replay_that_does_not_fit_its_card_names_the_file(copy):
    card = zoo.card("dcgan_digits")
    (copy / "card.json").write_text(json.dumps(card | {"replay_images_seen": card["replay_images_seen"][1:]}), "utf-8")
    _sum_again(copy)
    with pytest.raises(InputError, match="replay.png: expected 8 rows of 16 square pictures"):
        zoo.replay("dcgan_digits")


def _sum_again(folder):
    names = [line.split(maxsplit=1)[1] for line in (folder / "SHA256SUMS").read_text("utf-8").splitlines()]
    lines = [f"{sha256(folder / name)}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(lines), "utf-8")


@pytest.mark.parametrize("damage", ["truncate", "alter", "remove"])
def test_damaged_weights_give_one_error_that_names_the_file(copy, damage):
    path = copy / "ema.safetensors"
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(data[:-10] if damage == "truncate" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InputError, match="ema.safetensors: (checksum differs|file is missing)"):
        zoo.folder("dcgan_digits")


def test_a_record_without_weights_says_how_to_train_them(copy):
    (copy / "card.json").write_text(json.dumps(zoo.card("dcgan_digits") | {"weights": checkpoint.NOT_SHIPPED}), "utf-8")
    (copy / "ema.safetensors").unlink()
    sums = copy / "SHA256SUMS"
    sums.write_text("".join(line for line in sums.read_text("utf-8").splitlines(True) if "ema" not in line), "utf-8")
    _sum_again(copy)
    test_every_model_is_whole_and_says_what_it_cost("dcgan_digits")
    assert zoo.replay("dcgan_digits")[0][-1] == zoo.card("dcgan_digits")["images_seen"]
    sentence = "dcgan_digits: only its record ships, not its weights; train it by: gencore train gan.recipes.dcgan_digits$"
    with pytest.raises(InputError, match=sentence):
        families.load(zoo.folder("dcgan_digits"))


def test_a_study_is_a_table_of_numbers():
    rows = zoo.study("disentanglement")
    assert "studies" not in zoo.names()
    assert {row["beta"] for row in rows} == {4, 16, 64} and sorted({row["seed"] for row in rows}) == [0, 1, 2, 3, 4]
    assert len(rows) == 15 and all(0 <= row[name] <= 1 for row in rows for name in ("x", "y", "size", "colour"))
    with pytest.raises(InputError, match="no study named 'speed'; there are: .*disentanglement"):
        zoo.study("speed")


def test_an_altered_study_is_noticed(tmp_path, monkeypatch):
    shutil.copytree(zoo.ROOT / zoo.STUDIES, tmp_path / zoo.STUDIES)
    monkeypatch.setattr(zoo, "ROOT", tmp_path)
    with open(tmp_path / zoo.STUDIES / "disentanglement.csv", "a", encoding="utf-8") as file:
        file.write("1,1,1,1,1,1,1,1,1,1\n")
    with pytest.raises(InputError, match="disentanglement.csv: checksum differs"):
        zoo.study("disentanglement")


def test_an_altered_checksum_is_noticed(copy):
    sums = copy / "SHA256SUMS"
    first, rest = sums.read_text().split("\n", 1)
    sums.write_text(("0" if first[0] != "0" else "1") + first[1:] + "\n" + rest)
    with pytest.raises(InputError, match="checksum differs"):
        zoo.folder("dcgan_digits")


def test_digits_cover_all_classes():
    """A generator that forgets a digit shows here: on the card's 10,000 samples, and on 2,000 drawn now."""
    classes = json.loads((zoo.folder("dcgan_digits") / "card.json").read_text())["metrics"]["classes"]
    assert classes["samples"] == 10_000
    assert min(classes["shares"].values()) > 0.04
    model = gan.load(zoo.folder("dcgan_digits"))
    judge, images = DigitFeatures(), to_uint8(gan.sample(model, 2000, seed=7))
    counts = torch.bincount(judge.probabilities(judge(images)).argmax(1), minlength=10)
    # Within four standard errors of what the card says, so that it cannot be another model's card.
    for digit, share in classes["shares"].items():
        assert abs(counts[int(digit)] / 2000 - share) < 4 * (share * (1 - share) / 2000) ** 0.5, digit


def test_a_replay_with_a_palette_has_its_colours():
    """What is drawn at the end is what the model's sheet begins with, but for the colours of the palette."""
    _, pictures = zoo.replay("latent_emoji64")
    sheet = torch.from_numpy(np.array(Image.open(zoo.folder("latent_emoji64") / "samples.png").convert("RGB")))
    assert Image.open(zoo.folder("latent_emoji64") / "replay.png").mode == "P"
    assert pictures.shape[1:] == (16, 3, 64, 64)
    first = sheet[:64].view(64, 8, 64, 3).permute(1, 3, 0, 2)
    assert (pictures[-1, :8].int() - first.int()).abs().float().mean() < 8
