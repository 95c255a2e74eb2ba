"""``gencore translate``: draw a picture in another way, such as from its edges."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

MODELS = {"noto": "style_to_style", "twemoji": "style_to_style", "fluent3d": "style_to_style", "emoji": "edges_to_emoji"}
LARGEST = 64  # times


def run(arguments: list[str]) -> None:
    """Translate one picture."""
    import tyro

    from gencore import families
    from gencore.applications import translation
    from gencore.applications.translation.pictures import translate_picture
    from gencore.cli import find
    from gencore.cli.pictures import check_place, open_picture, write_picture
    from gencore.errors import InputError
    from gencore.training import device as devices

    @dataclasses.dataclass
    class Translate:
        picture: tyro.conf.Positional[Path]
        """The picture. It is laid on a white square and made as small as the model's own pictures."""
        out: Path
        """File to write: .png, .jpg or .webp."""
        to: Literal["noto", "twemoji", "fluent3d", "emoji", "lines"] = "fluent3d"
        """A drawing style of emoji; emoji: from the picture's edges; lines: to a line drawing, by a cycle's way back."""
        style: Literal["noto", "twemoji", "fluent3d"] = "fluent3d"
        """With --to emoji: in which style the lines are coloured."""
        drawn: bool = False
        """With --to emoji: the picture is a dark line drawing on light paper, whose lines are taken as they are."""
        model: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
        """A model of the zoo, or the folder of a run; by default one that was trained for it."""
        seed: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
        """Let the generator's dropout vary the picture, in the way of this seed; by default nothing is dropped."""
        scale: int = 8
        """Side of the square that shows one pixel."""
        device: str = "auto"
        """auto, cpu or cuda."""
        overwrite: bool = False
        """Replace the file if it exists."""

    options = tyro.cli(Translate, args=arguments, prog="gencore translate", description="Draw a picture in another way.")
    check_place(options.out, options.overwrite)
    if not 1 <= options.scale <= LARGEST:
        raise InputError(f"--scale {options.scale}: must be from 1 to {LARGEST}")
    if options.drawn and options.to != "emoji":
        raise InputError("--drawn: goes with --to emoji, which starts from lines; leave it out")
    name = options.model or MODELS.get(options.to)
    if name is None:
        raise InputError(f"--to {options.to}: name a --model that was trained for it, such as a run of a cycle of edges")
    picture, folder = open_picture(options.picture), find(name)
    if families.read(folder)[0] is not translation:
        raise InputError(f"--model {name}: is no translator; 'gencore list' shows those of translation.recipes")
    model = families.load(folder, devices.pick_device(options.device))
    to = options.style if options.to == "emoji" else options.to
    shown, made = translate_picture(model, picture, to, options.drawn, options.seed)
    made = made.expand(3, -1, -1).repeat_interleave(options.scale, 1).repeat_interleave(options.scale, 2)
    write_picture(options.out, made)
    side, height, width = shown.shape[-1], *picture.shape[1:]
    print(f"{options.out}: {options.picture} ({width}x{height}) at {side}x{side}, to {options.to}, by {name}")
