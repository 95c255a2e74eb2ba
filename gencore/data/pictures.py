"""Opening pictures that others made: whatever the format, an RGB picture the right way up, or one clear error."""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

from gencore.errors import InputError

MAX_PIXELS = 100_000_000  # beyond this, a small file that unpacks into all memory is more likely than a photograph


def read_picture(source: Path | str | BinaryIO, name: str | None = None) -> Image.Image:
    """Read a picture as 8-bit RGB.

    It is turned the way its EXIF tag says; transparent parts are laid on white; 16-bit grey keeps its upper 8 bits.
    Of an animation, the first frame is read.

    Parameters
    ----------
    source : Path, str or binary file
        Where to read.
    name : str, optional
        What messages call it; needed for an open file.

    Raises
    ------
    InputError
        If the file is missing, no picture, truncated, or unpacks to more than `MAX_PIXELS`.
    """
    name = name or str(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as odd metadata; too large a picture is refused below
            with Image.open(source) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                picture.load()
                return _to_rgb(ImageOps.exif_transpose(picture))
    except FileNotFoundError:
        raise InputError(f"{name}: file is missing") from None
    except IsADirectoryError:
        raise InputError(f"{name}: is a folder, not a picture; name a file") from None
    except Image.DecompressionBombError:
        message = f"{name}: unpacks to more than {MAX_PIXELS:,} pixels; make it smaller or take it out"
        raise InputError(message) from None
    except Image.UnidentifiedImageError:
        raise InputError(f"{name}: is not a picture that can be read; choose another file, or take it out") from None
    except Exception as error:  # a damaged file can make a decoder raise almost anything
        raise InputError(f"{name}: is a damaged or truncated picture ({error}); replace it or take it out") from None


def fit_square(picture: Image.Image, size: int) -> Tensor:
    """Cut the largest square out of the middle and resize it (Lanczos, antialiased): uint8 ``(3, size, size)``."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return to_tensor(square.resize((size, size), Image.Resampling.LANCZOS))


def to_tensor(picture: Image.Image) -> Tensor:
    """Return an RGB picture as uint8 ``(3, H, W)``."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip at 255
        pixels = np.asarray(picture)
        if pixels.min() < 0 or pixels.max() > 0xFFFF:
            raise ValueError("its pixels are numbers of 32 bits, which have no agreed range")
        return Image.fromarray((pixels >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise ValueError("its pixels are floating-point numbers, which have no agreed range")
    if picture.mode == "LAB":  # Pillow converts it by colour profiles only
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(picture, *profiles, outputMode="RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")
