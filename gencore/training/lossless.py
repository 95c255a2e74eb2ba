"""What all lossless files of pictures share: a frame that says whether they can be read here, and arithmetic that repeats.

What a network computes must be the same to the last bit when a file is written and when it is read. Both sides therefore
compute batches of the same sizes on one thread of the CPU, and a file carries a fingerprint of the weights and of something
computed with them; another machine that computes otherwise says so instead of reading nonsense.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from gencore.errors import InputError

MOST = 1_000_000  # images in a file
HEADER = struct.Struct("<6sI3H8s")  # magic, images, channels, height, width, fingerprint; a checksum of all follows
CHECKSUM = struct.Struct("<I")


def frame(magic: bytes, count: int, shape: tuple[int, int, int], fingerprint: bytes, words: np.ndarray) -> bytes:
    """Return a file that holds so many images of a shape ``(C, H, W)`` in the words of an entropy coder.

    Raises
    ------
    InputError
        If there are more images than a file holds.
    """
    if count > MOST:
        raise InputError(f"images: {count:,} are too many for one file, which holds {MOST:,}")
    head, body = HEADER.pack(magic, count, *shape, fingerprint), words.astype("<u4").tobytes()
    return head + CHECKSUM.pack(zlib.crc32(head + body)) + body


def unframe(magic: bytes, shape: tuple[int, int, int], data: bytes) -> tuple[int, bytes, np.ndarray]:
    """Return the number of images, the fingerprint and the words of a file.

    Raises
    ------
    InputError
        If it is no such file, is damaged, or holds images of another shape.
    """
    start = HEADER.size + CHECKSUM.size
    if len(data) < start or not data.startswith(magic):
        raise InputError("compressed images: this is no such file")
    head, body = data[: HEADER.size], data[start:]
    _, count, *wanted, fingerprint = HEADER.unpack(head)
    if CHECKSUM.unpack(data[HEADER.size : start])[0] != zlib.crc32(head + body) or len(body) % 4:
        raise InputError("compressed images: the file is damaged, its checksum does not fit")
    if tuple(wanted) != tuple(shape):
        raise InputError(f"compressed images: the file holds images of {tuple(wanted)}, the model knows {tuple(shape)}")
    if count > MOST:
        raise InputError(f"compressed images: the file claims {count:,} images, and holds at most {MOST:,}")
    return count, fingerprint, np.frombuffer(body, "<u4").astype(np.uint32)


def fingerprint(network: nn.Module, computed: Tensor) -> bytes:
    """Return eight bytes that stand for the weights, and for what this machine computes with them."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    digest.update(computed.numpy().tobytes())
    return digest.digest()


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: the order of a sum, and so its last bit, depends on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
