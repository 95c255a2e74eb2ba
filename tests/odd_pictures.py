"""Pictures as users have them, none from our data sets: every mode, format and orientation, and files that are broken.

``write_odd(folder)`` writes those that must open, ``write_broken(folder)`` those that must be refused. Tests take them from
the fixtures ``odd_pictures`` and ``broken_pictures``; ``python -m tests.odd_pictures FOLDER`` writes them to be looked at.
"""

import struct
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage
from PIL import Image, ImageCms

SHIPPED = Path(skimage.__file__).parent / "data"  # photographs that come with scikit-image
TURNED = {  # by EXIF orientation: how an upright picture is laid into the file
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
EXACT, CODED = 0.0, 6.0  # grey levels of mean error: none, or what a lossy format may cost


@dataclass(frozen=True, eq=False)
class Odd:
    """A picture that must open.

    Attributes
    ----------
    path : Path
        Where it lies.
    looks : array
        uint8 ``(H, W, 3)``: what a person sees who opens it.
    slack : float
        Mean absolute error, in grey levels, that its format may have.
    """

    path: Path
    looks: np.ndarray
    slack: float = EXACT


@dataclass(frozen=True, eq=False)
class Broken:
    """A file, folder or nothing that must be refused, and words of the error that says why."""

    path: Path
    words: str


def scene() -> Image.Image:
    """Return a photograph, 61x47, whose eight orientations all differ: a part of scikit-image's cup of coffee."""
    with Image.open(SHIPPED / "coffee.png") as picture:
        return picture.convert("RGB").resize((90, 60), Image.Resampling.LANCZOS).crop((12, 6, 73, 53))


def write_odd(folder: Path) -> list[Odd]:
    """Write the pictures that must open; their files' names say what is odd about them."""
    folder.mkdir(parents=True, exist_ok=True)
    base, found = scene(), []

    def add(name: str, picture: Image.Image, looks: Image.Image | None = None, slack: float = EXACT, **options) -> None:
        picture.save(folder / name, **options)
        found.append(Odd(folder / name, np.asarray((looks or picture).convert("RGB")), slack))

    grey = base.convert("L")
    for mode in ("1", "L", "P", "RGB"):
        add(f"mode_{mode}.png", base.convert(mode))
    for mode in ("CMYK", "YCbCr"):
        add(f"mode_{mode}.tif", base.convert(mode))
    to_lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    add("mode_LAB.tif", ImageCms.profileToProfile(base, *to_lab, outputMode="LAB"), base, 2.0)
    add("grey_with_alpha.png", Image.merge("LA", (grey, Image.new("L", base.size, 255))), grey)
    add("sixteen_bit.png", Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), grey)
    add("sixteen_bit.tif", Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), grey)
    add("sixteen_bit.pgm", Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), grey)

    # Transparent parts are laid on white.
    half = Image.new("L", base.size, 255)
    half.paste(0, (0, 0, 30, 47))
    on_white = Image.composite(base, Image.new("RGB", base.size, "white"), half)
    with_alpha = base.copy()
    with_alpha.putalpha(half)
    add("alpha.png", with_alpha, on_white)
    add("alpha.webp", with_alpha, on_white, lossless=True)
    add("alpha.tif", with_alpha, on_white)
    colours = Image.new("P", base.size, 1)
    colours.putpalette([255, 0, 0, 0, 90, 200] + [0] * 762)
    colours.paste(0, (0, 0, 30, 47))
    blue = Image.new("RGB", base.size, (0, 90, 200))
    add("palette_one_transparent.png", colours, Image.composite(blue, Image.new("RGB", base.size, "white"), half), transparency=0)
    veil = Image.composite(blue, Image.new("RGB", base.size, (255, 127, 127)), half)
    add("palette_half_transparent.png", colours, veil, 1.0, transparency=bytes([128, 255]))
    add("transparent.gif", colours, Image.composite(blue, Image.new("RGB", base.size, "white"), half), transparency=0)

    # Of an animation or a stack of pages, the first.
    frames = [base.convert("P", palette=Image.Palette.ADAPTIVE), Image.new("P", base.size, 3)]
    for name in ("animated.gif", "animated.png", "animated.webp", "pages.tif"):
        lossless = {"lossless": True} if name.endswith("webp") else {}
        first = frames[0] if name.endswith("gif") else base
        rest = frames[1:] if name.endswith("gif") else [Image.new("RGB", base.size, "red")]
        add(name, first, save_all=True, append_images=rest, **({} if name == "pages.tif" else {"duration": 100}), **lossless)

    # As a camera holds it: the file lies on its side, and a tag says how.
    for orientation in range(1, 9):
        stored = base if orientation == 1 else base.transpose(TURNED[orientation])
        exif = Image.Exif()
        exif[0x0112] = orientation
        add(f"exif_{orientation}.jpg", stored, base, CODED, exif=exif, quality=95)
    exif[0x0112] = 6
    add("exif_6.png", base.transpose(TURNED[6]), base, exif=exif)
    exif[0x0112] = 77  # no such orientation
    add("exif_unknown.jpg", base, base, CODED, exif=exif, quality=95)
    add("exif_garbage.jpg", base, base, CODED, exif=b"Exif\0\0garbage", quality=95)

    for name, options in {
        "progressive.jpg": {"progressive": True, "quality": 95},
        "tables_in_front.JPEG": {"optimize": True, "quality": 95},
        "lossy.webp": {"quality": 90},
        "wavelets.jp2": {},
        "runs.tga": {"compression": "tga_rle"},
        "plain.bmp": {},
        "plain.ppm": {},
        "plain.pcx": {},
        "squeezed.tif": {"compression": "tiff_lzw"},
    }.items():
        add(name, base, base, CODED if name.split(".")[1] in ("jpg", "JPEG", "webp") else EXACT, **options)
    add("grey.jpg", grey, grey, CODED, quality=95)
    add("for_print.jpg", base.convert("CMYK"), base, CODED, quality=95)
    add("name says otherwise.jpg", base, base, format="PNG")
    add("no_ending", base, base, format="PNG")
    add("café 写真.png", base, base)

    add("one_pixel.png", Image.new("RGB", (1, 1), (10, 200, 30)))
    add("two_pixels.png", Image.new("RGB", (2, 1), (10, 200, 30)))
    add("tall_1x700.png", Image.linear_gradient("L").resize((1, 700)))
    add("wide_700x1.png", Image.linear_gradient("L").rotate(90).resize((700, 1)))
    add("flat.png", Image.new("RGB", (40, 33), "white"))
    for name in ("astronaut.png", "chelsea.png", "camera.png", "page.png", "rocket.jpg"):
        with Image.open(SHIPPED / name) as picture:
            found.append(Odd(SHIPPED / name, np.asarray(picture.convert("RGB"))))
    return found


def write_broken(folder: Path) -> list[Broken]:
    """Write the files that must be refused."""
    folder.mkdir(parents=True, exist_ok=True)
    good = folder / "good.png"
    scene().save(good)
    scene().save(folder / "good.jpg")
    jpeg, found = (folder / "good.jpg").read_bytes(), []
    for name, content, words in (
        ("empty.png", b"", "not a picture that can be read"),
        ("text.png", b"This is no picture.\n", "not a picture that can be read"),
        ("page.html.jpg", b"<html><body>404</body></html>", "not a picture that can be read"),
        ("truncated.png", good.read_bytes()[:2_000], "damaged or truncated"),
        ("truncated.jpg", jpeg[: len(jpeg) // 2], "damaged or truncated"),
        ("header_only.png", good.read_bytes()[:40], "not a picture that can be read"),
        ("altered.png", _altered(good.read_bytes()), "damaged or truncated"),
        ("bomb.png", _png_that_claims(50_000, 50_000), "unpacks to more than"),
        ("small_bomb.png", _png_that_claims(11_000, 10_000), "unpacks to more than"),
        ("no_pixels.png", _png_that_claims(0, 10), "not a picture that can be read"),
    ):
        (folder / name).write_bytes(content)
        found.append(Broken(folder / name, words))
    for name in ("good.png", "good.jpg"):
        (folder / name).unlink()
    Image.fromarray(np.zeros((9, 9), np.float32)).save(folder / "floats.tif")
    found.append(Broken(folder / "floats.tif", "no agreed range"))
    Image.fromarray(np.full((9, 9), 70_000, np.int32)).save(folder / "wide_integers.tif")
    found.append(Broken(folder / "wide_integers.tif", "no agreed range"))
    (folder / "folder.png").mkdir(exist_ok=True)
    found.append(Broken(folder / "folder.png", "is a folder"))
    found.append(Broken(folder / "nowhere.png", "file is missing"))
    return found


def _altered(data: bytes) -> bytes:
    """Turn over some bits in the middle of the pixels."""
    middle = len(data) // 2
    return data[:middle] + bytes(255 - each for each in data[middle : middle + 40]) + data[middle + 40 :]


def _png_that_claims(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header speaks of that many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    print(f"{len(write_odd(place / 'odd'))} odd and {len(write_broken(place / 'broken'))} broken pictures in {place}")
