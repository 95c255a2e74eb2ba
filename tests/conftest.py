"""What every test relies on: figures are drawn without a screen, and one thread computes."""

import matplotlib
import pytest
import torch

matplotlib.use("Agg")
torch.set_num_threads(1)  # bit-identical from run to run, and two test workers do not fight over two cores


@pytest.fixture
def double_precision():
    """Compute in float64 and from a fixed seed, as the chapters with exact answers do."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
