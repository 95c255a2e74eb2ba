"""The command ``gencore restyle``: a photograph in, a painting out."""

import dataclasses
from pathlib import Path
from typing import Literal

STYLES = {  # names of the paintings that ship, in their order
    "church": "The Church at Auvers",
    "cafe": "Café Terrace at Night",
    "tanguy": "Portrait of Père Tanguy",
    "night-cafe": "The Night Café",
    "asylum": "Vestibule of the Asylum",
    "road": "The Painter on the Road to Tarascon",
    "harvest": "The Harvest",
    "bridge": "The Langlois Bridge at Arles",
}
# Longest sides that each method paints if nothing else is asked for, and at most, in pixels: what two cores take seconds
# for (gatys: a minute or two), and what needs no more than some 4 GB of memory.
LONGEST = {"gatys": (384, 1024), "feed_forward": (1600, 2400), "adain": (1024, 1600)}
LEAST = 16
SHOWN_AT = 320  # most of a style's shorter side in pixels, as in training: it decides how broad strokes are
MODELS = {"feed_forward": "van_gogh", "adain": "any_style"}
STRENGTH = {"feed_forward": 0.5, "adain": 1.0, "gatys": 1.0}  # if nothing else is asked for
WEIGHT = 100.0  # of the style, for gatys at strength 1


def run(arguments: list[str]) -> None:
    """Paint a picture in another style."""
    import torch
    import tyro

    from gencore.cli.pictures import check_place, open_picture, write_picture
    from gencore.data import to_float, to_uint8
    from gencore.data.photos import paintings
    from gencore.errors import InputError
    from gencore.training import device as devices

    names = ", ".join(STYLES)

    @dataclasses.dataclass
    class Restyle:
        photo: tyro.conf.Positional[Path]
        """The picture to paint."""
        out: Path
        """Picture to write: PNG, JPEG or WebP, by its ending."""
        style: Literal[tuple(STYLES)] | None = None
        """A painting by Van Gogh that ships; "harvest" if no style is given."""
        style_picture: Path | None = None
        """Or any picture whose style is wanted."""
        method: Literal["feed_forward", "adain", "gatys"] | None = None
        """A network for the eight paintings, one for any picture, or optimisation, which takes longest and is best. By
        default the first that can do what is asked."""
        model: str | None = None
        """A model of the zoo, or the folder of a run, in place of the method's own."""
        strength: float | None = None
        """How much of the style, from 0 to 1; by default 0.5 for feed_forward, whose strokes cover much, else 1."""
        size: int | None = None
        """Longer side of the painting in pixels; by default the picture's own, up to what the method paints in seconds.
        Strokes have the same number of pixels at any size, so a smaller painting has broader ones."""
        steps: int = 100
        """Steps of optimisation, for gatys."""
        device: str = "auto"
        """auto, cpu or cuda."""
        overwrite: bool = False
        """Replace the file if it exists."""

    options = tyro.cli(
        Restyle,
        args=arguments,
        prog="gencore restyle",
        description=f"Paint a picture in another style. Paintings: {names}.",
    )
    if options.style and options.style_picture:
        raise InputError("--style and --style-picture: give one of them, not both")
    method = options.method or ("adain" if options.style_picture else "feed_forward")
    if method == "feed_forward" and options.style_picture:
        raise InputError("--style-picture: the method feed_forward knows only its own paintings; take adain or gatys")
    if method == "gatys" and options.model:
        raise InputError("--model: the method gatys needs none")
    strength = STRENGTH[method] if options.strength is None else options.strength
    if not 0 <= strength <= 1:
        raise InputError(f"--strength {strength}: must be from 0 to 1")
    if not 1 <= options.steps <= 10_000:
        raise InputError(f"--steps {options.steps}: must be from 1 to 10,000")
    usual, most = LONGEST[method]
    if options.size is not None and not LEAST <= options.size <= most:
        raise InputError(f"--size {options.size}: must be from {LEAST} to {most:,} for the method {method}")
    check_place(options.out, options.overwrite)
    photo = to_float(open_picture(options.photo))[None]
    number = list(STYLES).index(options.style or "harvest")
    style = to_float(open_picture(options.style_picture) if options.style_picture else paintings()[number].image)[None]
    devices.keep_freed_memory()
    device = devices.pick_device(options.device)

    own = max(photo.shape[2:])
    content = _resized(photo, options.size or min(own, usual))
    if options.size is None and own > usual:
        height, width = content.shape[2:]
        print(f"{options.photo}: painted at {width}x{height}; --size paints up to {most:,} pixels on the longer side")
    shorter = min(style.shape[2:])
    style = _resized(style, round(max(style.shape[2:]) * min(1.0, SHOWN_AT / shorter)))
    if method == "gatys":
        painted = _optimised(content.to(device), style.to(device), strength, options.steps)
    else:
        painted = _by_network(method, options.model, content, style, number, strength, device)
    write_picture(options.out, to_uint8(painted[0].cpu()))
    told = options.style_picture or STYLES[list(STYLES)[number]]
    print(f"{options.out}: {options.photo} in the style of {told}, by {method}, strength {strength:g}")


def _resized(x, longer: int):
    """Return a picture ``(1, 3, H, W)`` with that longer side, in its own proportions, antialiased."""
    from torch.nn.functional import interpolate

    height, width = x.shape[2:]
    share = longer / max(height, width)
    size = [max(1, round(side * share)) for side in (height, width)]
    if size == [height, width]:
        return x
    return interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True).clamp(-1, 1)


def _optimised(content, style, strength: float, steps: int):
    """Paint by optimisation, behind a progress bar."""
    from tqdm import tqdm

    from gencore.applications.style_transfer import Painted
    from gencore.applications.style_transfer.gatys import gatys, match_colours

    if strength == 0:
        return content
    start = content.lerp(match_colours(content, style), strength)
    canvas = None
    with tqdm(total=steps, unit="step", disable=None, dynamic_ncols=True, desc="painting") as bar:
        for canvas in gatys(content, style, Painted(style=WEIGHT * strength**2), steps, start=start):
            bar.update()
    return canvas.picture


def _by_network(method: str, name: str | None, content, style, number: int, strength: float, device):
    """Paint by a network of the zoo or of a run, behind a progress bar that counts its layers."""
    from torch import nn
    from tqdm import tqdm

    from gencore import families
    from gencore.applications import style_transfer
    from gencore.cli import find
    from gencore.errors import InputError
    from gencore.networks.adain import AdaIN

    name = name or MODELS[method]
    folder = find(name)
    family, recipe = families.read(folder)
    if family is not style_transfer or isinstance(recipe.network, AdaIN) != (method == "adain"):
        raise InputError(f"--model {name}: paints no pictures by the method {method}")
    model = families.load(folder, device)
    layers = [layer for layer in model[0].model.modules() if isinstance(layer, nn.Conv2d)]
    with tqdm(total=len(layers), unit="layer", disable=None, dynamic_ncols=True, desc="painting") as bar:
        for layer in layers:
            layer.register_forward_hook(lambda *_: bar.update() and None)  # what a hook returns would replace the output
        if method == "adain":
            return style_transfer.paint_like(model, content, style, strength)
        return style_transfer.paint(model, content, number, strength)
