"""Many processes, one training: a thin layer over torchrun and DistributedDataParallel."""

import contextlib
import os
from typing import ContextManager

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def start(device: torch.device) -> None:
    """Join the process group when ``torchrun`` started this process; otherwise do nothing."""
    if "RANK" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def stop() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Return this process's number, 0 for the one that writes files."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def replicate(network: nn.Module) -> nn.Module:
    """Return the network wrapped so that its gradients are averaged over processes; itself if there is only one.

    BatchNorm keeps each process's own statistics: with BatchNorm, more processes mean smaller normalisation batches.
    """
    if world_size() == 1:
        return network
    return DistributedDataParallel(network, broadcast_buffers=False)


def gradients_wait(network: nn.Module, more: bool) -> ContextManager:
    """Return the context of one micro-batch: while ``more`` follow, gradients stay with their process.

    They add up there, and are averaged over processes once, with those of the last micro-batch. Forward and backward
    pass both belong inside.
    """
    return network.no_sync() if more and isinstance(network, DistributedDataParallel) else contextlib.nullcontext()


def average_gradients(weights: list[nn.Parameter]) -> None:
    """Average gradients over processes, in one message; those of weights that had no part stay None."""
    if world_size() == 1:
        return
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    together = mean_over_processes(torch.cat([each.flatten() for each in gradients]))
    for each, mean in zip(gradients, together.split([each.numel() for each in gradients]), strict=True):
        each.copy_(mean.view_as(each))


def wait_for_all() -> None:
    """Wait until every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor added up over processes."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def mean_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor averaged over processes."""
    return sum_over_processes(tensor) / world_size()


def share(count: int) -> range:
    """Return which of ``count`` numbers are this process's: one piece of them, all pieces but the last ones equally long."""
    size = -(-count // world_size())
    return range(min(rank() * size, count), min((rank() + 1) * size, count))


def gather(rows: torch.Tensor, count: int) -> torch.Tensor:
    """Return in every process, on the CPU, all ``count`` rows of which each has made its `share`."""
    if world_size() == 1:
        return rows
    size = -(-count // world_size())
    place = "cuda" if dist.get_backend() == "nccl" else "cpu"
    mine = torch.zeros(size, *rows.shape[1:], dtype=rows.dtype, device=place)  # equally long in all processes
    mine[: len(rows)] = rows
    pieces = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(pieces, mine)
    return torch.cat(pieces)[:count].cpu()
