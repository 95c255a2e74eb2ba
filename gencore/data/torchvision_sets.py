"""Bigger data sets, downloaded and hash-checked by torchvision on first use: MNIST, Fashion-MNIST, CIFAR-10, CelebA."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torchvision.datasets as sets
from tqdm import tqdm

from gencore.data.digits import HELD_OUT, Digits
from gencore.data.image_set import ImageSet, Split, check_split
from gencore.data.pictures import fit_square, read_picture
from gencore.data.root import data_root
from gencore.errors import InputError

TIMEOUT = 30.0  # seconds without an answer from a server
IDX_FILES = "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz and the two that begin with t10k instead"


@dataclass(frozen=True)
class Mnist:
    """All of MNIST's training digits, 28x28 grey.

    Attributes
    ----------
    root : str or None
        Folder for data sets; None is ``$GENCORE_DATA`` or else ``~/.cache/gencore/data``. The files lie in
        ``MNIST/raw`` below it.
    held_out : {"book", "test"}
        ``"book"`` holds out the 1,000 digits that `Digits` holds out and trains on the other 59,000, so that models
        trained on either set are judged by the same digits. ``"test"`` holds out MNIST's own 10,000 test digits and
        trains on all 60,000, so that results can be compared with published ones.
    """

    root: str | None = None
    held_out: Literal["book", "test"] = "book"
    size: ClassVar[int] = 28
    channels: ClassVar[int] = 1

    def load(self, split: Split) -> ImageSet:
        """Return the digits to train on or those held out; `InputError` if they cannot be had."""
        check_split(split)
        own = self.held_out == "test"
        if split == "heldout" and not own:
            held_out = Digits().load("heldout")
            return ImageSet("mnist/heldout", held_out.images, held_out.labels, held_out.classes)
        root = data_root(self.root)
        mnist = _get(
            lambda download: sets.MNIST(root, train=split == "train", download=download),
            "MNIST",
            root / "MNIST" / "raw",
            f"the four files {IDX_FILES}",
        )
        images, labels = mnist.data[:, None], mnist.targets  # (60000 or 10000, 1, 28, 28)
        if own:
            return ImageSet(f"mnist/{'train' if split == 'train' else 'test'}", images, labels, tuple("0123456789"))
        if not torch.equal(images[HELD_OUT], Digits().load("heldout").images):
            raise InputError(f"{root / 'MNIST' / 'raw'}: does not hold MNIST in its own order; delete it and try again")
        keep = torch.ones(len(images), dtype=torch.bool)
        keep[HELD_OUT] = False
        return ImageSet("mnist/train", images[keep], labels[keep], tuple("0123456789"))


@dataclass(frozen=True)
class FashionMnist:
    """Fashion-MNIST (Xiao et al. 2017): clothes, 28x28 grey; 60,000 to train on, its 10,000 test images held out.

    Attributes
    ----------
    root : str or None
        As for `Mnist`; the files lie in ``FashionMNIST/raw``.
    """

    root: str | None = None
    size: ClassVar[int] = 28
    channels: ClassVar[int] = 1

    def load(self, split: Split) -> ImageSet:
        """Return a split; `InputError` if the files cannot be had."""
        check_split(split)
        root = data_root(self.root)
        fashion = _get(
            lambda download: sets.FashionMNIST(root, train=split == "train", download=download),
            "Fashion-MNIST",
            root / "FashionMNIST" / "raw",
            f"the four files {IDX_FILES}",
        )
        return ImageSet(f"fashion-mnist/{split}", fashion.data[:, None], fashion.targets, tuple(fashion.classes))


@dataclass(frozen=True)
class Cifar10:
    """CIFAR-10 (Krizhevsky 2009): things and animals, 32x32 RGB; 50,000 to train on, its 10,000 test images held out.

    Attributes
    ----------
    root : str or None
        As for `Mnist`; the files lie in ``cifar-10-batches-py``.
    """

    root: str | None = None
    size: ClassVar[int] = 32
    channels: ClassVar[int] = 3

    def load(self, split: Split) -> ImageSet:
        """Return a split; `InputError` if the files cannot be had."""
        check_split(split)
        root = data_root(self.root)
        cifar = _get(
            lambda download: sets.CIFAR10(root, train=split == "train", download=download),
            "CIFAR-10",
            root,
            "cifar-10-python.tar.gz",
        )
        images = torch.from_numpy(cifar.data).permute(0, 3, 1, 2).contiguous()  # (N, 3, 32, 32)
        return ImageSet(f"cifar10/{split}", images, torch.tensor(cifar.targets), tuple(cifar.classes))


@dataclass(frozen=True)
class CelebA:
    """CelebA (Liu et al. 2015): 202,599 faces, cropped to the middle square; its test split is held out.

    For research only, by its authors' terms. All images of a split are read into memory: at 64 pixels, 2 GB.

    Attributes
    ----------
    root : str or None
        As for `Mnist`; the files lie in ``celeba``.
    size : int
        Side of the resized square in pixels.
    """

    root: str | None = None
    size: int = 64
    channels: ClassVar[int] = 3

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 178:
            raise InputError(f"size {self.size}: CelebA's faces come at 1 to 178 pixels")

    def load(self, split: Split) -> ImageSet:
        """Return a split; ``meta["attributes"]`` holds the names of each face's attributes, such as "Smiling".

        Raises
        ------
        InputError
            If the files cannot be had.
        """
        check_split(split)
        root = data_root(self.root)
        celeba = _get(
            lambda download: sets.CelebA(root, split="train" if split == "train" else "test", download=download),
            "CelebA",
            root / "celeba",
            "img_align_celeba.zip (unpacked as well), list_attr_celeba.txt, identity_CelebA.txt, list_bbox_celeba.txt, "
            "list_landmarks_align_celeba.txt and list_eval_partition.txt",
        )
        images = torch.empty(len(celeba.filename), 3, self.size, self.size, dtype=torch.uint8)
        for place, name in enumerate(tqdm(celeba.filename, desc="reading CelebA", leave=False)):
            images[place] = fit_square(read_picture(root / "celeba" / "img_align_celeba" / name), self.size)
        rows = celeba.attr.tolist()
        attributes = tuple(tuple(n for n, has in zip(celeba.attr_names, row, strict=False) if has) for row in rows)
        labels = torch.zeros(len(images), dtype=torch.int64)
        return ImageSet(f"celeba/{split}", images, labels, ("face",), (), {"attributes": attributes})


def _get(make: Callable[[bool], Any], name: str, folder: Path, files: str) -> Any:
    """Make a torchvision data set from the files at hand, else download them; one clear error if neither works."""
    with contextlib.suppress(RuntimeError):  # no files yet
        return _read(lambda: make(False), name, folder)
    try:
        with _timeout():
            return _read(lambda: make(True), name, folder)
    except InputError:
        raise
    except Exception as error:  # whatever a network, a proxy or a missing download tool can raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]  # of several mirrors, the last one's
        raise InputError(
            f"{name}: there are no intact files in {folder}, and downloading failed ({reason}); connect to the network "
            f"and try again or put {files} into that folder. Another place for data: root, or the variable GENCORE_DATA"
        ) from None


def _read(make: Callable[[], Any], name: str, folder: Path) -> Any:
    """Make a data set; files that are there but damaged are named."""
    try:
        return make()
    except (AssertionError, EOFError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, RuntimeError) and "download" in str(error):  # "not found, you can use download=True"
            raise
        raise InputError(
            f"{name}: the files in {folder} are damaged or truncated ({type(error).__name__}: {error}); "
            "delete them and try again"
        ) from None


@contextlib.contextmanager
def _timeout() -> Iterator[None]:
    """Do not wait forever for a server that does not answer."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
