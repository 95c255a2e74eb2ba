"""Which processor trains, in which number format, and how fast memory is handed out."""

import contextlib
import ctypes
import os
import platform
import sys
from typing import ContextManager, Literal

import torch

from gencore.errors import InputError

Precision = Literal["fp32", "bf16"]


def pick_device(name: str = "auto") -> torch.device:
    """Return the device to use.

    Parameters
    ----------
    name : str
        ``"auto"`` takes the first GPU if there is one, else the CPU; any name PyTorch knows is taken as it is.
        Under ``torchrun`` a GPU name without a number becomes this process's own GPU.

    Raises
    ------
    InputError
        If the device does not exist here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r}: not available here; use 'auto', 'cpu' or 'cuda'") from error
    return device


def autocast(device: torch.device, precision: Precision) -> ContextManager:
    """Return the context in which forward passes run: bfloat16 where that pays, else float32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def send(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Return the tensor on the device, without making the processor wait for the copy."""
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # only from pinned memory does a copy run on its own
    return tensor.to(device, non_blocking=True)


def describe_hardware(device: torch.device) -> str:
    """Return one line that names the processor or GPU and how much of it is used, for cards."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, IndexError):
            lines = open("/proc/cpuinfo", encoding="utf-8").read().splitlines()
            name = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")][0]
    threads = torch.get_num_threads()
    return f"{name} CPU, {threads} thread{'s' if threads > 1 else ''}"


def keep_freed_memory() -> bool:
    """Tell glibc to keep large freed blocks instead of returning them to the kernel; return whether it did.

    Convolutions free and ask for the same large blocks at each step; by default glibc maps and unmaps them each time,
    which cost 18-46 % of U-Net training time on two cores. This changes the whole process, so programs call it
    (the command line and the notebooks do), a library import never does.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # a libc other than glibc
        return False
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD in malloc.h
    gigabyte = 1 << 30
    return bool(mallopt(mmap_threshold, gigabyte) and mallopt(trim_threshold, gigabyte))
