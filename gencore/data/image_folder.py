"""Any folder of pictures as a data set."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from tqdm import tqdm

from gencore.data.image_set import ImageSet, Split, check_split
from gencore.data.pictures import fit_square, read_picture
from gencore.errors import InputError

LEFT_BY_SYSTEMS = ("Thumbs.db", "desktop.ini")  # as well as names that begin with a dot


@dataclass(frozen=True)
class ImageFolder:
    """All pictures in a folder and the folders inside it, cropped to the middle square and resized.

    Pictures are ordered by name; about one in ten, chosen by a hash of its name relative to ``root``, is held out, so
    adding pictures never moves another one to the other split.

    Attributes
    ----------
    root : str
        The folder; ``~`` stands for the home folder.
    size : int
        Side of the resized square in pixels.
    """

    root: str
    size: int
    channels: ClassVar[int] = 3

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"size {self.size}: must be at least 1")

    def load(self, split: Split) -> ImageSet:
        """Read the pictures of a split into memory.

        Returns
        -------
        ImageSet
            RGB. The classes are the folders directly inside ``root`` if every picture lies in one, else there is one
            class, named "image". ``meta["file"]`` holds the names relative to ``root``.

        Raises
        ------
        InputError
            If the folder is missing or holds no picture for this split, or a file in it cannot be read as a picture.
        """
        check_split(split)
        root = Path(self.root).expanduser()
        names = list_pictures(root)
        picked = [name for name in names if is_held_out(name) == (split == "heldout")]
        if not picked:
            raise InputError(
                f"{root}: none of its {len(names)} pictures falls into the split '{split}' (about one in ten is held "
                "out, by a hash of its name); add more pictures"
            )
        images = torch.empty(len(picked), 3, self.size, self.size, dtype=torch.uint8)
        for place, name in enumerate(tqdm(picked, desc=f"reading {root}", leave=False, disable=len(picked) < 500)):
            images[place] = fit_square(read_picture(root / name), self.size)
        folders = {name.split("/")[0] for name in names}
        classes = tuple(sorted(folders)) if all("/" in name for name in names) else ("image",)
        labels = [classes.index(name.split("/")[0]) if classes != ("image",) else 0 for name in picked]
        return ImageSet(f"{root.name}/{split}", images, torch.tensor(labels), classes, (), {"file": tuple(picked)})


def list_pictures(root: Path) -> list[str]:
    """Return the names of all files below a folder, relative to it, sorted, with forward slashes."""
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder; name a folder that holds pictures")
    names = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file()
        and path.name not in LEFT_BY_SYSTEMS
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    if not names:
        raise InputError(f"{root}: the folder holds no pictures")
    return names


def is_held_out(name: str) -> bool:
    """Whether a picture, by its name relative to the root, belongs to the held-out tenth."""
    return hashlib.blake2b(name.encode()).digest()[0] % 10 == 0
