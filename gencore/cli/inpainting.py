"""The command ``gencore inpaint``: fill what a mask covers, or what is transparent in a picture of any size."""

import dataclasses
from pathlib import Path

MOST_FILLS = 100


def run(arguments: list[str]) -> None:
    """Fill holes in a picture."""
    import tyro
    from tqdm import tqdm

    from gencore import cli, families
    from gencore.applications import inpainting, palette
    from gencore.applications.palette import Holes
    from gencore.cli.pictures import check_place, open_picture, write_picture
    from gencore.errors import InputError
    from gencore.training import device as devices

    @dataclasses.dataclass
    class Inpaint:
        photo: tyro.conf.Positional[Path]
        """Picture to fill, of any format and size."""
        out: Path
        """Picture to write: .png, .jpg or .webp. In a .png, all that was known keeps its very colours."""
        mask: Path | None = None
        """Picture of the same size, white where the other is to be filled. By default what is transparent is filled."""
        model: str = "inpaint_photos"
        """A model of the zoo or the folder of a run, trained for holes: inpaint_photos or inpaint_emoji."""
        count: int = 1
        """How many different fills; of several, the files' names end in -1, -2, ..."""
        seed: int = 0
        """Which series of fills; the same seed gives the same ones."""
        device: str = "auto"
        """auto, cpu or cuda."""
        overwrite: bool = False
        """Replace files that exist."""

    options = tyro.cli(
        Inpaint, args=arguments, prog="gencore inpaint", description="Fill what a mask covers, or what is transparent."
    )
    if not 1 <= options.count <= MOST_FILLS:
        raise InputError(f"--count {options.count}: must be from 1 to {MOST_FILLS}")
    places = [options.out]
    if options.count > 1:
        places = [options.out.with_stem(f"{options.out.stem}-{number + 1}") for number in range(options.count)]
    for place in places:
        check_place(place, options.overwrite)
    folder = cli.find(options.model)
    family, recipe = families.read(folder)
    if family is not palette or not isinstance(recipe.task, Holes):
        raise InputError(f"--model {options.model}: fills no holes; choose one such as inpaint_photos or inpaint_emoji")
    image = open_picture(options.photo)
    hole = transparent(options.photo) if options.mask is None else painted(options.mask)
    if hole.shape != image.shape[1:]:
        (height, width), (rows, columns) = image.shape[1:], hole.shape
        raise InputError(f"--mask {options.mask}: {columns}x{rows} pixels, but the picture has {width}x{height}; make them equal")
    inpainting.check_hole(image, hole)
    model = families.load(folder, devices.pick_device(options.device))
    for number, place in enumerate(places):
        filled = inpainting.fill(
            model, image, hole, options.seed, number, watch=lambda squares: tqdm(squares, unit="square", disable=None)
        )
        write_picture(place, filled)
        print(f"{place}: {int(hole.sum()):,} pixels filled by {options.model}, seed {options.seed}")


def painted(mask: Path):
    """Return where a mask is white, bool ``(H, W)``."""
    from gencore.cli.pictures import open_picture

    return open_picture(mask).float().mean(0) > 127.5


def transparent(photo: Path):
    """Return where a picture is more transparent than not, bool ``(H, W)``.

    Raises
    ------
    InputError
        If nothing is.
    """
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    from gencore.errors import InputError

    with Image.open(photo) as picture:  # it was opened before: whatever is wrong with it has been said
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        alpha = upright.convert("RGBA").getchannel("A") if upright.has_transparency_data else None
    hole = None if alpha is None else torch.from_numpy(np.array(alpha)) < 128
    if hole is None or not hole.any():
        raise InputError(f"{photo}: nothing in it is transparent; say by --mask MASK.png what is to be filled")
    return hole
