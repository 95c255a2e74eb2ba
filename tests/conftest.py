"""What every test relies on: figures are drawn without a screen, and one thread computes."""

from dataclasses import replace

import matplotlib
import pytest
import torch

from gencore.data import Emoji
from tests import odd_pictures as odd

matplotlib.use("Agg")
torch.set_num_threads(1)  # bit-identical from run to run, and two test workers do not fight over two cores


@pytest.fixture
def double_precision():
    """Compute in float64 and from a fixed seed, as the chapters with exact answers do."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def emoji64(monkeypatch):
    """Emoji of 64 pixels, which do not ship: those of 32, each pixel four times."""
    load = Emoji.load

    def enlarged(self, split):
        if self.size != 64:
            return load(self, split)
        small = load(replace(self, size=32), split)
        return replace(small, images=small.images.repeat_interleave(2, 2).repeat_interleave(2, 3))

    monkeypatch.setattr(Emoji, "load", enlarged)


@pytest.fixture(scope="session")
def odd_pictures(tmp_path_factory):
    """Some sixty pictures as users have them, all of which must open: a list of `tests.odd_pictures.Odd`."""
    return odd.write_odd(tmp_path_factory.mktemp("pictures") / "odd")


@pytest.fixture(scope="session")
def broken_pictures(tmp_path_factory):
    """Files that must be refused, with words of the error: a list of `tests.odd_pictures.Broken`."""
    return odd.write_broken(tmp_path_factory.mktemp("pictures") / "broken")
