"""What every test relies on: figures are drawn without a screen, and one thread computes."""

import matplotlib
import torch

matplotlib.use("Agg")
torch.set_num_threads(1)  # bit-identical from run to run, and two test workers do not fight over two cores
