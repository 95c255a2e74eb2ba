"""Data sets in memory and the stream of batches drawn from them."""

from gencore.data.batches import Batch, Batches
from gencore.data.digits import Digits
from gencore.data.emoji import Emoji
from gencore.data.image_set import ImageSet, to_float, to_uint8

__all__ = ["Batch", "Batches", "Digits", "Emoji", "ImageSet", "to_float", "to_uint8"]
