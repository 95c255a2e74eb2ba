"""The command ``gencore edit``: change a picture of shapes as an instruction says."""

import dataclasses
from pathlib import Path

MOST_EDITS = 100
LEAST_SIDE = 16


def run(arguments: list[str]) -> None:
    """Edit a picture of shapes, or a new one that shows what a caption says."""
    import torch
    import tyro

    from gencore import cli, families
    from gencore.applications import editing, palette
    from gencore.applications.palette import Instruct
    from gencore.cli.pictures import check_place, open_picture, write_picture
    from gencore.data import area_resize, to_uint8
    from gencore.errors import InputError
    from gencore.training import device as devices

    @dataclasses.dataclass
    class Edit:
        picture: tyro.conf.Positional[Path]
        """Square picture of coloured shapes on a light ground, such as 'gencore draw' makes."""
        instruction: tyro.conf.Positional[str]
        """What to change: "add a small red circle at the top left", "remove the star", "make the red circle green",
        "make the star large", "turn the cross into a ring", "move the ring to the bottom"."""
        out: Path
        """Picture to write: .png, .jpg or .webp."""
        model: str = "edit_codes"
        """A model of the zoo or the folder of a run, trained for instructions."""
        count: int = 1
        """How many different results; of several, the files' names end in -1, -2, ..."""
        seed: int = 0
        """Which series of results; the same seed gives the same ones."""
        device: str = "auto"
        """auto, cpu or cuda."""
        overwrite: bool = False
        """Replace files that exist."""

    options = tyro.cli(Edit, args=arguments, prog="gencore edit", description="Change a picture of shapes as you say.")
    if not 1 <= options.count <= MOST_EDITS:
        raise InputError(f"--count {options.count}: must be from 1 to {MOST_EDITS}")
    places = [options.out]
    if options.count > 1:
        places = [options.out.with_stem(f"{options.out.stem}-{number + 1}") for number in range(options.count)]
    for place in places:
        check_place(place, options.overwrite)
    folder = cli.find(options.model)
    family, recipe = families.read(folder)
    if family is not palette or not isinstance(recipe.task, Instruct):
        raise InputError(f"--model {options.model}: reads no instructions; choose one such as edit_codes")
    image, size = open_picture(options.picture, least_side=LEAST_SIDE), recipe.data.size
    height, width = image.shape[1:]
    if height != width or height < size:
        raise InputError(f"{options.picture}: {width}x{height} pixels; shapes are edited in squares of at least {size}x{size}")
    image = area_resize(image[None], size)  # (1, 3, size, size)
    editing.check_instruction(image[0], options.instruction)
    model = families.load(folder, devices.pick_device(options.device))
    made = editing.instruct(model, image.repeat(options.count, 1, 1, 1), [options.instruction] * options.count, options.seed)
    # As large as the picture was, if it is so a whole number of times.
    times = height // size if height % size == 0 else 1
    for place, each in zip(places, to_uint8(made), strict=True):
        write_picture(place, torch.kron(each, torch.ones(1, times, times, dtype=torch.uint8)))
        print(f"{place}: {options.instruction}, by {options.model}, seed {options.seed}")
