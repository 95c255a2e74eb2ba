"""The endless stream of training batches, in an order that follows from the seed and the images seen."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.data.image_set import ImageSet, to_float
from gencore.errors import InputError
from gencore.training import rng
from gencore.training.device import send


class Batch(NamedTuple):
    """One process's share of a batch.

    Attributes
    ----------
    x : Tensor
        float32 ``(B, C, H, W)`` in [-1, 1].
    labels : Tensor
        int64 ``(B,)``.
    index : Tensor
        int64 ``(B,)``, positions in the data set.
    """

    x: Tensor
    labels: Tensor
    index: Tensor


class Batches:
    """Batches of a data set, shuffled anew in each epoch, without an end.

    There is no state to save: ``at(n)`` is the batch that follows ``n`` images, whatever was asked before. Images stay
    on the device as bytes and become floats only batch by batch.

    Parameters
    ----------
    data : ImageSet
        The images.
    batch_size : int
        Images in a batch over all processes; divisible by ``world_size``.
    seed : int
        Decides the order.
    device : torch.device or str
        Where the images live.
    rank, world_size : int
        Which slice of each batch this process takes.
    """

    def __init__(
        self,
        data: ImageSet,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if len(data) == 0:
            raise InputError(f"{data.name}: holds no images")
        if batch_size < 1 or batch_size % world_size:
            raise InputError(f"batch_size {batch_size}: must be a positive multiple of the {world_size} processes")
        self.images, self.labels = data.images.to(device), data.labels.to(device)
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self._epoch, self._order = -1, torch.empty(0)

    def at(self, images_seen: int) -> Batch:
        """Return the batch that comes after ``images_seen`` images.

        Place ``p`` of the endless stream belongs to epoch ``p // N``, so a batch may end one epoch and begin the next.
        """
        share = self.batch_size // self.world_size
        place = images_seen + self.rank * share
        end, pieces = place + share, []
        while place < end:
            epoch, first = divmod(place, len(self.images))
            pieces.append(self._order_of(epoch)[first : first + end - place])
            place += len(pieces[-1])
        index = torch.cat(pieces)  # (B,)
        return Batch(to_float(self.images[index]), self.labels[index], index)

    def _order_of(self, epoch: int) -> Tensor:
        """Return the shuffled indices of an epoch, int64 ``(N,)``; the last one asked for is remembered."""
        if epoch != self._epoch:
            order = torch.randperm(len(self.images), generator=rng.generator(self.seed, epoch, "order"))
            self._order = send(order, self.images.device)  # once an epoch: a step sends nothing
            self._epoch = epoch
        return self._order

    def __iter__(self) -> Iterator[Batch]:
        images_seen = 0
        while True:
            yield self.at(images_seen)
            images_seen += self.batch_size
