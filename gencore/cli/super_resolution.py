"""The command ``gencore upscale``: a picture of any size, twice or four times larger on each side."""

import dataclasses
from pathlib import Path

MOST_LARGE_PIXELS = 100_000_000  # of what is made: as many as gencore opens again
MOST_ON_A_SIDE = {".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383}  # what the formats allow
BY_TIMES = {2: "residual_x2", 4: "residual_x4"}  # models of the zoo that invent nothing


def run(arguments: list[str]) -> None:
    """Enlarge a picture."""
    import tyro
    from tqdm import tqdm

    from gencore import cli, families
    from gencore.applications import super_resolution
    from gencore.cli.pictures import MOST_PIXELS, check_place, open_picture, write_picture
    from gencore.errors import InputError
    from gencore.training import device as devices

    @dataclasses.dataclass
    class Upscale:
        photo: tyro.conf.Positional[Path]
        """Picture to enlarge, of any format and size."""
        out: Path
        """Picture to write: .png, .jpg or .webp."""
        times: int | None = None
        """How many times larger each side becomes: 2 or 4. By default 4, or what the model does."""
        model: str | None = None
        """A model of the zoo or the folder of a run. By default residual_x2 or residual_x4, which invent nothing;
        srgan_x4 draws sharper texture, some of which was never there."""
        device: str = "auto"
        """auto, cpu or cuda."""
        overwrite: bool = False
        """Replace the file if it exists."""

    options = tyro.cli(
        Upscale, args=arguments, prog="gencore upscale", description="Make a picture larger, and sharper than it would be."
    )
    check_place(options.out, options.overwrite)
    if options.times not in (None, *BY_TIMES) and options.model is None:
        raise InputError(f"--times {options.times}: there are models for {' and '.join(map(str, BY_TIMES))}; choose one")
    name = options.model or BY_TIMES[options.times or 4]
    folder = cli.find(name)
    family, recipe = families.read(folder)
    if family is not super_resolution:
        raise InputError(f"--model {name}: does not enlarge pictures; choose one such as {', '.join(BY_TIMES.values())}")
    times = recipe.network.times
    if options.times not in (None, times):
        raise InputError(f"--times {options.times}: {name} enlarges {times} times; leave one of the two options out")
    image = open_picture(options.photo, min(MOST_PIXELS, MOST_LARGE_PIXELS // times**2))
    height, width = (times * side for side in image.shape[1:])
    if max(height, width) > (most := MOST_ON_A_SIDE.get(options.out.suffix.lower(), max(height, width))):
        raise InputError(
            f"--out {options.out}: {width}x{height} pixels, but this format holds at most {most:,} on a side; choose .png"
        )
    model = families.load(folder, devices.pick_device(options.device))
    large = super_resolution.upscale(model, image, watch=lambda tiles: tqdm(tiles, unit="tile", disable=None))
    write_picture(options.out, large)
    print(f"{options.out}: {width}x{height} pixels, {times} times larger by {name}")
