"""The command ``gencore upscale``: a picture of any size, twice or four times larger on each side."""

import dataclasses
from pathlib import Path

MOST_LARGE_PIXELS = 100_000_000  # of what is made: as many as gencore opens again
MOST_DRAWN_PIXELS = 1_000_000  # of what a diffusion model makes, all at once: some minutes on a processor
MOST_ON_A_SIDE = {".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383}  # what the formats allow
DEFAULT = "residual_x4"  # of the zoo's models the one that invents nothing


def run(arguments: list[str]) -> None:
    """Enlarge a picture."""
    import tyro
    from tqdm import tqdm

    from gencore import cli, families
    from gencore.applications import palette, super_resolution
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
        """How many times larger each side becomes. By default as many as the model was trained for; a model for 4 times
        also does 2, by halving what it makes."""
        model: str = DEFAULT
        """A model of the zoo or the folder of a run. By default one that invents nothing; srgan_x4 draws sharper
        texture, some of which was never there; upscale_photos draws by diffusion, slowly, another picture for each seed."""
        seed: int = 0
        """Which picture, of a model that draws."""
        device: str = "auto"
        """auto, cpu or cuda."""
        overwrite: bool = False
        """Replace the file if it exists."""

    options = tyro.cli(
        Upscale, args=arguments, prog="gencore upscale", description="Make a picture larger, and sharper than it would be."
    )
    check_place(options.out, options.overwrite)
    folder = cli.find(options.model)
    family, recipe = families.read(folder)
    draws = family is palette and isinstance(recipe.task, palette.Upscale)
    if family is not super_resolution and not draws:
        raise InputError(f"--model {options.model}: does not enlarge pictures; choose one such as {DEFAULT} or srgan_x4")
    trained = recipe.task.times if draws else recipe.network.times
    times = trained if options.times is None else options.times
    if times < 1 or trained % times:
        raise InputError(f"--times {times}: {options.model} was trained for {trained} times; choose {trained} or a part of it")
    most_pixels = MOST_DRAWN_PIXELS if draws else MOST_LARGE_PIXELS
    image = open_picture(options.photo, min(MOST_PIXELS, most_pixels // trained**2))
    height, width = (times * side for side in image.shape[1:])
    if max(height, width) > (most := MOST_ON_A_SIDE.get(options.out.suffix.lower(), max(height, width))):
        raise InputError(
            f"--out {options.out}: {width}x{height} pixels, but this format holds at most {most:,} on a side; choose .png"
        )
    model = families.load(folder, devices.pick_device(options.device))
    if draws:
        large = _draw(model, image, options.seed)
    else:
        large = super_resolution.upscale(model, image, watch=lambda tiles: tqdm(tiles, unit="tile", disable=None))
    if times < trained:
        large = super_resolution.lower(large, trained // times)
    write_picture(options.out, large)
    print(f"{options.out}: {width}x{height} pixels, {times} times larger by {options.model}")


def _draw(model, image, seed):
    """Enlarge a picture, uint8 ``(3, h, w)``, by a diffusion model, whole: ``(3, times h, times w)``."""
    from torch.nn.functional import pad

    from gencore.applications import palette
    from gencore.data import to_float, to_uint8

    recipe, (height, width) = model[1], image.shape[1:]
    times, divisor = recipe.task.times, recipe.network.unet.divisor
    step, least = max(1, divisor // times), recipe.data.size // times  # what the network takes; what it has learned from
    tall, wide = (max(least, -(-side // step) * step) for side in (height, width))
    given = pad(to_float(image[None]), (0, wide - width, 0, tall - height), mode="replicate")
    drawn = palette.mend(model, recipe.task.show_small(given), seed)[0]  # (3, H, W)
    return to_uint8(drawn[:, : times * height, : times * width])
