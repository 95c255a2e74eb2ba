"""Two gloo processes on one machine: what is drawn, judged and learned does not depend on how many share the work."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from gencore import cli
from gencore.data import Digits
from gencore.diffusion import Denoiser
from gencore.diffusion.examples import Examples
from gencore.diffusion.recipes import DiffusionRecipe
from gencore.diffusion.sampling import build
from gencore.networks.dit import DiT
from gencore.training import distributed

TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def run(*command, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "PYTHONPATH": os.getcwd()}
    done = subprocess.run([*TWO, *map(str, command)], env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("count", [1, 2, 7, 8])
@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_shares_are_all_and_each_once(monkeypatch, count, processes):
    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    shares = []
    for rank in range(processes):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares += [*distributed.share(count)]
    assert shares == list(range(count))


def test_rows_are_gathered_in_order(tmp_path):
    script = tmp_path / "gather.py"
    script.write_text(
        "import sys, torch\nfrom gencore.training import distributed\n"
        "distributed.start(torch.device('cpu'))\n"
        "for count in (5, 1):\n"
        "    mine = distributed.share(count)\n"
        "    rows = torch.arange(count)[:, None][mine.start : mine.stop] * torch.ones(1, 3)\n"
        "    all_rows = distributed.gather(rows, count)\n"
        "    assert torch.equal(all_rows, torch.arange(count)[:, None] * torch.ones(1, 3)), all_rows\n"
        "open(sys.argv[1] + str(distributed.rank()), 'w').close()\n"
        "distributed.wait_for_all()\n"
        "distributed.stop()\n"
    )
    run(script, tmp_path / "rank", folder=os.getcwd())
    assert {path.name for path in tmp_path.glob("rank*")} == {"rank0", "rank1"}


def test_two_processes_draw_and_judge_what_one_does(tmp_path):
    run("-m", "gencore", "sample", "flow_digits", "--out", "two.png", "--count", 5, folder=tmp_path)
    two = torch.from_numpy(np.array(Image.open(tmp_path / "two.png").convert("L")))[:, : 5 * 28]  # the first five of a row
    one = torch.cat([*cli.draw("flow_digits", 5, seed=0)[:, 0]], 1)  # (28, 5 * 28)
    assert (two.int() - one.int()).abs().max() <= 2 and one.float().std() > 50

    found = json.loads(
        run("-m", "gencore", "evaluate", "dcgan_digits", "--count", 1000, "--json", folder=tmp_path).stdout
    )
    report = cli.measure("dcgan_digits", 1000, seed=1).to_dict()
    assert found["frechet"]["value"] == pytest.approx(report["frechet"]["value"], rel=1e-3)
    assert found["precision"]["value"] == pytest.approx(report["precision"]["value"], abs=0.005)


def test_sharded_weights_have_the_gradients_of_whole_ones(tmp_path):
    """FSDP2: each process holds a part of every weight, gathers a block when it is its turn, and scatters gradients."""
    script = tmp_path / "shard.py"
    script.write_text(
        "import sys, torch\n"
        "from tests.training.test_distributed import denoising_gradients\n"
        "found = denoising_gradients(shard=True)\n"
        "if torch.distributed.get_rank() == 0: torch.save(found, sys.argv[1])\n"
        "torch.distributed.destroy_process_group()\n"
    )
    run(script, tmp_path / "sharded.pt", folder=os.getcwd())
    sharded, whole = torch.load(tmp_path / "sharded.pt", weights_only=True), denoising_gradients(shard=False)
    assert set(sharded) == set(whole)
    for name, gradient in whole.items():
        torch.testing.assert_close(sharded[name], gradient, rtol=1e-4, atol=1e-6)
    assert any(gradient.abs().sum() > 0 for gradient in whole.values())


def denoising_gradients(shard: bool) -> dict[str, torch.Tensor]:
    """Return the gradients of a step of a small transformer, by one process or by all, each with its share of the batch."""
    device = torch.device("cpu")
    recipe = DiffusionRecipe(data=Digits(14), network=DiT(size=14, patch=7, width=32, depth=2, heads=2), batch_size=8)
    if shard:
        distributed.start(device)
    (network,) = build(recipe)
    torch.manual_seed(0)
    for p in network.parameters():  # gates that start at zero would hide what lies behind them
        p.data += 0.05 * torch.randn_like(p)
    if shard:
        for block in network.blocks:
            fully_shard(block)
        fully_shard(network)
        assert all(isinstance(p, DTensor) for p in network.parameters())
    x, cond, draw = Examples(recipe, recipe.data.load("train"), network, device).at(0)
    recipe.objective(Denoiser(network, recipe.process, recipe.prediction), x, cond, draw).total.backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    return {name: g.full_tensor() if isinstance(g, DTensor) else g for name, g in gradients.items()}
