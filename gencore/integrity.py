"""Checksums of shipped files: data assets and trained weights are verified before they are read."""

import hashlib
from pathlib import Path

from gencore.errors import InputError

SUMS = "SHA256SUMS"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: Path | str) -> Path:
    """Verify a file against the ``SHA256SUMS`` file beside it (the format of ``sha256sum``).

    Parameters
    ----------
    path : Path or str
        The file to verify.

    Returns
    -------
    Path
        The same path, so that the call can stand where the file is opened.

    Raises
    ------
    InputError
        If the file or its checksum is missing, or the file is not the one that was shipped.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: file is missing; reinstall gencore, or rebuild it with tools/build_assets.py")
    sums = path.parent / SUMS
    if not sums.is_file():
        raise InputError(f"{sums}: checksum list is missing; reinstall gencore")
    expected = dict(line.split(maxsplit=1)[::-1] for line in sums.read_text("utf-8").splitlines() if line)
    if path.name not in expected:
        raise InputError(f"{sums}: has no line for {path.name}; reinstall gencore")
    if sha256(path) != expected[path.name]:
        raise InputError(f"{path}: checksum differs from {SUMS} (truncated or altered file); reinstall gencore")
    return path


def write_sums(folder: Path | str, names: list[str]) -> None:
    """Write ``SHA256SUMS`` for the named files of a folder."""
    folder = Path(folder)
    lines = [f"{sha256(folder / name)}  {name}\n" for name in sorted(names)]
    (folder / SUMS).write_text("".join(lines), "utf-8")
