"""A training step of a translator never makes the processor wait for the device."""

import pytest
import torch

from gencore.applications import translation
from tests.applications.translation.test_loop import KINDS
from tests.training.test_waiting import STEPS, NoReads, NoWaits, train_under

each_kind = pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)


@each_kind
def test_a_step_reads_nothing_back(recipe):
    watch = NoReads()
    train_under(watch, translation, recipe, "cpu")
    assert watch.operations > 100 * STEPS


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each_kind
def test_a_step_never_waits_for_the_gpu(recipe):
    try:
        train_under(NoWaits(), translation, recipe, "cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")
