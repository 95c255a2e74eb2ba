"""The command ``gencore caption``: say what a picture shows."""

import dataclasses
from pathlib import Path
from typing import Literal

FOR_SCENES, FOR_OTHERS = "caption_shapes", "caption_emoji"
TILE = 96  # pixels of a side, on the sheet of where the model looked
LEAST = 0.25  # of its brightness keeps what was not looked at


def run(arguments: list[str]) -> None:
    """Print what a model says of a picture."""
    import tyro

    from gencore import cli, families, zoo
    from gencore.applications import captioning
    from gencore.applications.captioning import fitting
    from gencore.cli.pictures import check_place, open_picture, write_picture
    from gencore.data import Shapes
    from gencore.errors import InputError
    from gencore.training import device as devices

    @dataclasses.dataclass
    class Caption:
        picture: tyro.conf.Positional[Path]
        """Any picture: a drawing of shapes, an emoji, or what you have."""
        model: str = ""
        """A captioner of the zoo, or the folder of a run. By default shapes are told by caption_shapes, known by their
        background, and all else by caption_emoji, which knows emoji and nothing else."""
        language: Literal["en", "zh"] = "en"
        """English or Chinese."""
        beams: int = 4
        """How many beginnings are kept while the caption is written; 1 takes the likeliest word each time."""
        maps: Path | None = None
        """Where to write a picture of where the model looked before each word, in their order."""
        device: str = "auto"
        """auto, cpu or cuda."""
        overwrite: bool = False
        """Replace the file of maps if it exists."""

    options = tyro.cli(Caption, args=arguments, prog="gencore caption", description="Say what a picture shows.")
    if options.maps:
        check_place(options.maps, options.overwrite)
    search = captioning.Search(options.beams)
    image = open_picture(options.picture)
    name = options.model or (FOR_SCENES if fitting.is_scene(image) else FOR_OTHERS)
    if not options.model and name == FOR_OTHERS and name not in zoo.names():
        raise InputError(
            f"{options.picture}: no drawing of shapes, and {name}, which tells what emoji are, does not ship; "
            f"train it by 'gencore train captioning.recipes.{name}', and add --model runs/{name}"
        )
    folder = cli.find(name)
    family, recipe = families.read(folder)
    if family is not captioning:
        raise InputError(f"--model {name}: says nothing of pictures; name a captioner, such as {FOR_SCENES}")
    if options.language not in recipe.languages:
        raise InputError(f"--language {options.language}: {name} writes {', '.join(recipe.languages)}")
    model = families.load(folder, devices.pick_device(options.device))
    x = fitting.fit_whole(image, recipe.data.size, trim=not isinstance(recipe.data, Shapes))
    said = captioning.tell(model, x[None], options.language, search)
    if options.maps:
        words, maps = captioning.looks(model, x, said.ids[0], options.language)
        write_picture(options.maps, sheet(x, maps))
    print(said.texts[0])


def sheet(image, maps):
    """Return a picture beside itself once for each map ``(M, side, side)``, bright where the map is large.

    uint8 ``(3, TILE, (1 + M) * TILE)``.
    """
    import torch
    from torch.nn.functional import interpolate

    large = interpolate(image[None].float(), size=(TILE, TILE), mode="nearest")[0]
    shares = maps / maps.amax((1, 2), keepdim=True)
    light = interpolate(shares[:, None], size=(TILE, TILE), mode="bilinear")  # (M, 1, T, T)
    tiles = [large, *(large * (LEAST + (1 - LEAST) * light))]
    return torch.cat(tiles, 2).round().to(torch.uint8)
