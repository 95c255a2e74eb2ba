"""What every family's training loop shares; the only rooms that know hardware."""

from gencore.training.ema import EMA
from gencore.training.loss import Loss, NonFiniteLoss

__all__ = ["EMA", "Loss", "NonFiniteLoss"]
