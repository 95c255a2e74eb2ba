"""The published files: read where they lie; whatever is wrong with one is one error that names it."""

import numpy as np
import pytest
import torch

from gencore.data import BinarisedMnist, binarised_mnist
from gencore.errors import InputError
from gencore.training import recipe_io

NAMES = {"train": "some_train.amat", "heldout": "some_test.amat"}


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """Three digits to train on and two held out, as the published files write them."""
    counts = {"train": 3, "heldout": 2}
    monkeypatch.setattr(binarised_mnist, "FILES", {split: (NAMES[split], counts[split]) for split in NAMES})
    folder = tmp_path / "BinarisedMNIST"
    folder.mkdir()
    drawn = {}
    for split, count in counts.items():
        drawn[split] = np.random.default_rng(count).integers(0, 2, (count, 784))
        (folder / NAMES[split]).write_text("".join(" ".join(map(str, row)) + " \n" for row in drawn[split]))
    return BinarisedMnist(str(tmp_path)), folder, drawn


def test_the_files_are_read(digits):
    spec, _, drawn = digits
    for split, bits in drawn.items():
        data = spec.load(split)
        assert data.images.shape == (len(bits), 1, spec.size, spec.size) and spec.channels == 1
        assert data.images.dtype == torch.uint8
        assert data.images.flatten().tolist() == (255 * bits).flatten().tolist()  # row by row, black and white
        assert data.labels.tolist() == [0] * len(bits) and data.classes == ("digit",)
        assert data.name == f"binarised-mnist/{split}"


def test_line_ends_of_other_systems_are_spaces_too(digits):
    spec, folder, drawn = digits
    path = folder / NAMES["train"]
    path.write_bytes(path.read_bytes().replace(b" \n", b"\r\n").replace(b" ", b"\t"))
    assert spec.load("train").images.flatten().tolist() == (255 * drawn["train"]).flatten().tolist()


def damaged(content, kind):
    return {
        "truncated": content[:-100],
        "one bit short": content[2:],
        "one digit more": content + content[: 784 * 2 + 1],
        "empty": b"",
        "a stray letter": content[:100] + b"x" + content[100:],
        "a letter in place of a space": content[:101] + b"x" + content[102:],
        "another number": content.replace(b"1", b"2", 1),
        "a fraction": content.replace(b"1", b"1.0", 1),
        "a page of a server": b"<html>404</html>",
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["truncated", "one bit short", "one digit more", "empty", "a stray letter", "a letter in place of a space",
     "another number", "a fraction", "a page of a server"],
)
def test_a_damaged_file_is_named(digits, kind):
    spec, folder, _ = digits
    path = folder / NAMES["train"]
    path.write_bytes(damaged(path.read_bytes(), kind))
    with pytest.raises(InputError, match="is not 3 lines of 784 zeros and ones; fetch it anew from http") as caught:
        spec.load("train")
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and NAMES["train"] in message.split("http")[1]
    assert len(spec.load("heldout")) == 2


def test_a_missing_file_is_named(digits):
    spec, folder, _ = digits
    (folder / NAMES["heldout"]).unlink()
    with pytest.raises(InputError, match="cannot be read .No such file or directory.; fetch it from http") as caught:
        spec.load("heldout")
    assert str(caught.value).startswith(f"{folder / NAMES['heldout']}: ") and "\n" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_folder_in_its_place_is_no_file(digits):
    spec, folder, _ = digits
    (folder / NAMES["train"]).unlink()
    (folder / NAMES["train"]).mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        spec.load("train")


def test_the_published_files_are_meant():
    assert binarised_mnist.FILES == {
        "train": ("binarized_mnist_train.amat", 50_000), "heldout": ("binarized_mnist_test.amat", 10_000)
    }


def test_the_spec_survives_json_and_knows_its_splits():
    for spec in (BinarisedMnist(), BinarisedMnist("somewhere")):
        assert recipe_io.from_dict(BinarisedMnist, recipe_io.to_dict(spec)) == spec
    with pytest.raises(InputError, match="split is 'test'"):
        BinarisedMnist().load("test")
