"""What commands share that make a picture: where it may go, how it is written, and how a user's own picture is opened."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from torch import Tensor

from gencore.data.pictures import read_picture, to_tensor
from gencore.errors import InputError

FORMATS = (".png", ".jpg", ".jpeg", ".webp")  # which a picture can be written in
MOST_PIXELS = 24_000_000  # of a picture that a network is to work on; a camera's photograph passes


def open_picture(path: Path, most_pixels: int = MOST_PIXELS, least_side: int = 1) -> Tensor:
    """Open a user's picture, whatever its format, mode and orientation: uint8 ``(3, H, W)``.

    Raises
    ------
    InputError
        If it is missing, damaged, no picture, or too large or too small to work on.
    """
    picture = read_picture(path)
    width, height = picture.size
    if width * height > most_pixels:
        raise InputError(f"{path}: {width}x{height} pixels; this command takes at most {most_pixels:,}, so make it smaller")
    if min(width, height) < least_side:
        raise InputError(f"{path}: {width}x{height} pixels; this command needs at least {least_side} on each side")
    return to_tensor(picture)


def check_place(out: Path, overwrite: bool, formats: tuple[str, ...] = FORMATS) -> None:
    """Make sure that a picture can be written there, before the work that it takes.

    Raises
    ------
    InputError
        If the name has no known ending, the file exists and may not be replaced, or nothing can be written there.
    """
    if out.suffix.lower() not in formats:
        raise InputError(f"--out {out}: the file name must end in {' or '.join(formats)}")
    if out.exists() and not overwrite and not out.is_dir():
        raise InputError(f"--out {out}: exists already; choose another name or add --overwrite")
    with told_of_troubles(out):
        if out.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(out.parent, os.W_OK):
            raise PermissionError(None, "no permission to write there")


def write_picture(out: Path, image: Tensor) -> None:
    """Write a picture, uint8 ``(3, H, W)``: whole, or not at all."""
    part = out.with_name(f".{out.name}.part")
    with told_of_troubles(out):
        try:
            picture = Image.fromarray(image.permute(1, 2, 0).numpy())
            picture.save(part, Image.registered_extensions()[out.suffix.lower()], quality=95)
            os.replace(part, out)
        finally:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def told_of_troubles(out: Path) -> Iterator[None]:
    """Say in one clear error what the system says if a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror or error}); choose another place") from None
