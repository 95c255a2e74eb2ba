"""The command ``gencore draw``: pictures of what a prompt says, of shapes or as emoji."""

import dataclasses
import sys
from pathlib import Path

SHAPES, EMOJI = "latent_shapes", "text_emoji64"  # what draws, if no model is named
SCORER = "contrastive_shapes"  # what chooses the best of several pictures of shapes
MOST = 256  # pictures on a sheet
MOST_TRIES = 64  # of which each is the best
AT_ONCE = 16  # pictures drawn between two movements of the progress bar


def run(arguments: list[str]) -> None:
    """Draw what a prompt says."""
    import torch
    import tyro
    from tqdm import tqdm

    from gencore import cli, families
    from gencore.applications import contrastive, text_to_image
    from gencore.applications.text_to_image.prompts import names_shapes
    from gencore.cli.pictures import check_place, write_picture
    from gencore.data import Shapes, to_uint8
    from gencore.errors import InputError
    from gencore.plots.grids import tile
    from gencore.training import device as devices

    @dataclasses.dataclass
    class Draw:
        prompt: tyro.conf.Positional[str]
        """What is to be seen: shapes, as in "two small red circles above a blue square", or an emoji in English or Chinese."""
        out: Path
        """Picture to write: .png, .jpg or .webp."""
        model: str | None = None
        """A model of the zoo or the folder of a run. By default one that draws shapes if the prompt names shapes, else emoji."""
        style: str | None = None
        """Drawing style of emoji: noto, twemoji or fluent3d. By default any."""
        count: int = 4
        """How many pictures, side by side."""
        columns: int = 4
        """How many in a row."""
        scale: int = 4
        """Each pixel becomes a square of so many pixels on a side."""
        guidance: float | None = None
        """How much the words count: 1 is plainly conditional, more is plainer and less varied."""
        best_of: int = 1
        """Draw so many for each picture, and keep the one that fits the prompt best. Of shapes only."""
        seed: int = 0
        """Which series of pictures; the same seed gives the same ones."""
        device: str = "auto"
        """auto, cpu or cuda."""
        overwrite: bool = False
        """Replace the file if it exists."""

    options = tyro.cli(Draw, args=arguments, prog="gencore draw", description="Draw what a prompt says.")
    check_place(options.out, options.overwrite)
    for field, most in (("count", MOST), ("columns", MOST), ("scale", 32), ("best_of", MOST_TRIES)):
        if not 1 <= getattr(options, field) <= most:
            raise InputError(f"--{field.replace('_', '-')} {getattr(options, field)}: must be from 1 to {most}")
    name = options.model or (SHAPES if names_shapes(options.prompt) else EMOJI)
    family, recipe = families.read(cli.find(name))
    if getattr(recipe, "captions", None) is None or not families.draws(family, recipe):
        raise InputError(f"--model {name}: draws nothing from words; choose one such as {SHAPES} or {EMOJI}")
    prompt = text_to_image.read_prompt(recipe.data, options.prompt, recipe.captions.length)
    if options.style is not None:
        text_to_image.told(recipe, options.prompt, options.style)  # refuses a style that there is not
    scorer, device = None, devices.pick_device(options.device)
    if options.best_of > 1:
        if not isinstance(recipe.data, Shapes):
            raise InputError(f"--best-of {options.best_of}: only pictures of shapes can be compared; leave it out")
        scorer = contrastive.scorer(families.load(cli.find(SCORER), device))
    if prompt.left_out:
        print(f"gencore: left out, since no training picture has it: {'; '.join(prompt.left_out)}", file=sys.stderr)
    model, drawn = families.load(cli.find(name), device), []
    with tqdm(total=options.count, unit="img", disable=None, dynamic_ncols=True) as bar:
        for first in range(0, options.count, AT_ONCE):
            size = min(AT_ONCE, options.count - first)
            drawn.append(
                text_to_image.draw(
                    model, prompt.text, size, options.seed, first, options.style, options.guidance, options.best_of, scorer
                )
            )
            bar.update(size)
    page = tile(to_uint8(torch.cat(drawn)), min(options.columns, options.count), scale=options.scale)
    write_picture(options.out, torch.from_numpy(page).permute(2, 0, 1))
    print(f"{options.out}: {prompt.text!r} drawn {options.count} times by {name}, seed {options.seed}")
