"""A training step never makes the processor wait for the device.

On a GPU PyTorch itself tells of each wait. Without one, the first test still finds the operations that read a number
back: they are the same on a CPU.
"""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gencore import autoregressive, diffusion, gan, metrics, vae
from gencore.training.run import Run
from tests.autoregressive import tiny
from tests.diffusion.test_loop import KINDS as DIFFUSION_KINDS
from tests.gan.test_train import TINY as TINY_GAN
from tests.metrics.test_digit_classifier import TINY as TINY_JUDGE
from tests.vae.test_loop import KINDS, first_stage

STEPS = 10
TRAININGS = {
    "gan": (gan, replace(TINY_GAN, micro_batches=2)),
    "judge": (metrics, TINY_JUDGE),
    **{f"autoregressive {kind}": (autoregressive, replace(recipe, micro_batches=2)) for kind, recipe in tiny.KINDS.items()},
    **{f"diffusion {kind}": (diffusion, replace(recipe, micro_batches=2)) for kind, recipe in DIFFUSION_KINDS.items()},
    **{kind: (vae, replace(recipe, micro_batches=2)) for kind, recipe in KINDS.items()},
}
FIRST_STAGES = {vae: first_stage, autoregressive: tiny.first_stage}
each_training = pytest.mark.parametrize(("family", "recipe"), TRAININGS.values(), ids=TRAININGS)
# What reads numbers back: single ones, or the size of a result that depends on them.
READS = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "unique", "item")


def train_under(watch, family, recipe, device, given=None):
    """Take steps, all but the first of them, and none of the reports, within ``watch``."""
    given = FIRST_STAGES.get(family, lambda recipe: {})(recipe) if given is None else given
    recipe = replace(recipe, images=(STEPS + 1) * recipe.batch_size, log_every=10**9, checkpoint_every=10**9)
    count, report = Run.count, Run.report

    def counted(self, parts):
        count(self, parts)
        if self.images_seen == recipe.batch_size:
            watch.__enter__()

    def reported(self):
        watch.__exit__(None, None, None)
        return report(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "count", counted)
        patch.setattr(Run, "report", reported)
        (run,) = family.train(recipe, device=device, **given)
    assert run.images_seen == recipe.images


class NoReads(TorchDispatchMode):
    """Refuses operations that read numbers back."""

    def __init__(self):
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        self.operations += 1
        name = operation.overloadpacket.__name__
        by_mask = name.startswith("index") and any(
            isinstance(place, torch.Tensor) and place.dtype == torch.bool
            for argument in arguments[1:]
            if isinstance(argument, (list, tuple))
            for place in argument
        )
        assert name not in READS and not by_mask, f"{name} in a training step: the processor waits for the device"
        return operation(*arguments, **(options or {}))


@each_training
def test_a_step_reads_nothing_back(family, recipe):
    watch = NoReads()
    train_under(watch, family, recipe, "cpu")
    assert watch.operations > 100 * STEPS


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (lambda x: x.sum().item(), "_local_scalar_dense"),
        (lambda x: x[x > 0], "index"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x if x.sum() > 0 else -x, "_local_scalar_dense"),
    ],
)
def test_a_read_is_seen(read, name):
    with pytest.raises(AssertionError, match=f"^{name} in a training step"), NoReads():
        read(torch.ones(2))


class NoWaits:
    """Lets PyTorch raise an error at each wait for the GPU."""

    def __enter__(self):
        torch.cuda.set_sync_debug_mode("error")

    def __exit__(self, *_):
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each_training
def test_a_step_never_waits_for_the_gpu(family, recipe):
    try:
        train_under(NoWaits(), family, recipe, "cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")
