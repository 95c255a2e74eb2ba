"""Sets that torchvision downloads: read from files at hand; without files and network, one clear error."""

import hashlib
import pickle
import socket
import struct
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from gencore.data import CelebA, Cifar10, Digits, FashionMnist, Mnist, data_root
from gencore.data.digits import HELD_OUT
from gencore.data.torchvision_sets import TIMEOUT
from gencore.errors import InputError
from gencore.training import recipe_io


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """No test here may reach out: what would, fails as it does on a machine without network."""
    asked = []

    def unreachable(*arguments, **named):
        asked.append((arguments, socket.getdefaulttimeout()))
        raise URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr(torchvision.datasets.celeba, "download_file_from_google_drive", unreachable)
    return asked


def write_idx(path, array):
    """Write bytes in the format of MNIST's files: a magic number, the sizes, the data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.tobytes())


def write_mnist(folder, images, labels):
    for part in ("train", "t10k"):
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels)


@pytest.fixture(scope="module")
def ten_thousand():
    """The first 10,000 digits and 12 more that are easily known again."""
    parts = [Digits().load(split) for split in ("train", "heldout")]
    images = torch.cat([part.images[:, 0] for part in parts]).numpy()
    labels = torch.cat([part.labels for part in parts]).numpy().astype(np.uint8)
    more = np.full((12, 28, 28), 77, np.uint8)
    return np.concatenate([images, more]), np.concatenate([labels, np.full(12, 3, np.uint8)])


def test_mnist_holds_out_what_digits_holds_out(tmp_path, ten_thousand):
    write_mnist(tmp_path / "MNIST" / "raw", *ten_thousand)
    train, held_out = Mnist(str(tmp_path)).load("train"), Mnist(str(tmp_path)).load("heldout")
    assert train.images.shape == (9_012, 1, 28, 28)
    assert train.images.dtype == torch.uint8
    assert torch.equal(held_out.images, Digits().load("heldout").images)
    assert torch.equal(train.images[:9_000], Digits().load("train").images)
    assert torch.equal(train.labels[:9_000], Digits().load("train").labels)
    assert (train.images[9_000:] == 77).all() and (train.labels[9_000:] == 3).all()
    assert train.classes == tuple("0123456789")


def test_mnist_in_another_order_is_refused(tmp_path, ten_thousand):
    images, labels = ten_thousand
    images = images.copy()
    images[[HELD_OUT.start, 0]] = images[[0, HELD_OUT.start]]
    write_mnist(tmp_path / "MNIST" / "raw", images, labels)
    with pytest.raises(InputError, match="does not hold MNIST in its own order"):
        Mnist(str(tmp_path)).load("train")


def test_damaged_idx_files_are_named(tmp_path, ten_thousand):
    folder = tmp_path / "MNIST" / "raw"
    write_mnist(folder, *ten_thousand)
    path = folder / "train-images-idx3-ubyte"
    for content in (path.read_bytes()[:-100], b"\0", b"", b"no idx file, but long enough to have a header"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"MNIST: the files in .*raw are damaged or truncated") as caught:
            Mnist(str(tmp_path)).load("train")
        assert "\n" not in str(caught.value)


def test_fashion_mnist_is_read_from_files(tmp_path):
    write_mnist(tmp_path / "FashionMNIST" / "raw", np.full((5, 28, 28), 9, np.uint8), np.arange(5, dtype=np.uint8))
    for split in ("train", "heldout"):
        data = FashionMnist(str(tmp_path)).load(split)
        assert data.images.shape == (5, 1, 28, 28)
        assert data.classes[data.labels[1]] == "Trouser"


def test_cifar10_is_read_from_files(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    sums = {}
    for name in [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]:
        pixels = np.zeros((2, 3, 32, 32), np.uint8)
        pixels[:, 0] = 200  # red
        content = pickle.dumps({"data": pixels.reshape(2, -1), "labels": [3, 7]})
        (folder / name).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    content = pickle.dumps({"label_names": list("abcdefghij")})
    (folder / "batches.meta").write_bytes(content)
    cifar = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", [[name, sums[name]] for name, _ in cifar.train_list])
    monkeypatch.setattr(cifar, "test_list", [[name, sums[name]] for name, _ in cifar.test_list])
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": hashlib.md5(content).hexdigest()})
    train, held_out = Cifar10(str(tmp_path)).load("train"), Cifar10(str(tmp_path)).load("heldout")
    assert train.images.shape == (10, 3, 32, 32)
    assert held_out.images.shape == (2, 3, 32, 32)
    assert (train.images[:, 0] == 200).all() and (train.images[:, 1:] == 0).all()
    assert train.classes[train.labels[1]] == "h"
    (folder / "data_batch_1").write_bytes(b"altered")  # the hash is checked before anything is unpickled
    with pytest.raises(InputError, match="CIFAR-10: there are no intact files"):
        Cifar10(str(tmp_path)).load("train")


def test_celeba_is_read_from_files(tmp_path, monkeypatch):
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{n:06d}.jpg" for n in range(1, 7)]
    for place, name in enumerate(names):
        Image.new("RGB", (178, 218), (40 * place, 0, 0)).save(folder / "img_align_celeba" / name, quality=100)
    tables = {
        "list_eval_partition.txt": "".join(f"{name} {place % 3}\n" for place, name in enumerate(names)),
        "identity_CelebA.txt": "".join(f"{name} 1\n" for name in names),
        "list_bbox_celeba.txt": "6\nimage_id x_1 y_1 width height\n" + "".join(f"{name} 1 1 2 2\n" for name in names),
        "list_landmarks_align_celeba.txt": "6\nlefteye_x lefteye_y\n" + "".join(f"{name} 1 1\n" for name in names),
        "list_attr_celeba.txt": "6\nBald Smiling\n"
        + "".join(f"{name} -1 {1 - 2 * (place % 2)}\n" for place, name in enumerate(names)),
    }
    sums = []
    for name, text in tables.items():
        (folder / name).write_text(text)
        sums.append(("", hashlib.md5(text.encode()).hexdigest(), name))
    monkeypatch.setattr(torchvision.datasets.CelebA, "file_list", sums)
    train, held_out = CelebA(str(tmp_path), size=8).load("train"), CelebA(str(tmp_path), size=8).load("heldout")
    assert train.images.shape == (2, 3, 8, 8)  # of partition 0: the first and the fourth
    assert held_out.images.shape == (2, 3, 8, 8)  # of partition 2: the third and the sixth
    assert abs(int(held_out.images[1, 0, 4, 4]) - 200) < 4
    assert held_out.meta["attributes"] == (("Smiling",), ())
    assert train.meta["attributes"] == (("Smiling",), ())
    path = folder / "img_align_celeba" / names[0]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"000001\.jpg: is "):
        CelebA(str(tmp_path), size=8).load("train")


@pytest.mark.parametrize(
    ("spec", "place", "files"),
    [
        (Mnist, "MNIST/raw", "train-images-idx3-ubyte.gz"),
        (FashionMnist, "FashionMNIST/raw", "train-images-idx3-ubyte.gz"),
        (Cifar10, "", "cifar-10-python.tar.gz"),
        (CelebA, "celeba", "img_align_celeba.zip"),
    ],
)
def test_without_files_and_network_one_error_says_what_to_do(tmp_path, no_network, capsys, spec, place, files):
    with pytest.raises(InputError) as caught:
        spec(str(tmp_path)).load("train")
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / place) in message
    assert files in message
    assert "connect to the network" in message
    assert "Name or service not known" in message
    assert "GENCORE_DATA" in message
    assert no_network  # a download was tried, and could not have hung:
    assert {timeout for _, timeout in no_network} == {TIMEOUT}
    assert socket.getdefaulttimeout() is None
    assert capsys.readouterr().err == ""


def test_the_held_out_digits_need_no_download():
    assert len(Mnist("/nonexistent").load("heldout")) == 1_000


def test_where_data_live(tmp_path, monkeypatch):
    monkeypatch.setenv("GENCORE_DATA", str(tmp_path / "variable"))
    assert data_root("given").name == "given"
    assert data_root() == tmp_path / "variable"
    monkeypatch.delenv("GENCORE_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root() == tmp_path / ".cache" / "gencore" / "data"
    assert data_root("~/here") == tmp_path / "here"


@pytest.mark.parametrize("spec", [Mnist(), Mnist("a"), FashionMnist(), Cifar10(), CelebA(), CelebA("b", 128)], ids=repr)
def test_specs_survive_json(spec):
    assert recipe_io.from_dict(type(spec), recipe_io.to_dict(spec)) == spec
    assert (spec.size, spec.channels) in ((28, 1), (32, 3), (64, 3), (128, 3))


def test_bad_fields_are_refused():
    with pytest.raises(InputError, match="size 0"):
        CelebA(size=0)
    with pytest.raises(InputError, match="split is 'test'"):
        Cifar10().load("test")
