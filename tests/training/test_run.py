"""The run: what is due when, and how it resumes."""

import json
from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest
import torch
from torch import nn

from gencore.errors import InputError
from gencore.metrics.recipes import ClassifierRecipe, digit_classifier
from gencore.training import checkpoint, recipe_io
from gencore.training.log import read_curve
from gencore.training.optimiser import AdamW
from gencore.training.run import Run


@dataclass(frozen=True)
class Recipe:
    images: int = 60
    batch_size: int = 6
    log_every: int = 20
    checkpoint_every: int = 30


class Networks(NamedTuple):
    net: nn.Conv2d


def start(folder, recipe=Recipe(), layout=torch.contiguous_format):
    torch.manual_seed(0)
    networks = Networks(nn.Conv2d(3, 5, 3).to(memory_format=layout))
    adam = AdamW().build(networks.net.parameters())
    return Run(recipe, folder, networks, networks, {"adam": adam}), networks.net, adam


def go(run, net, adam, until=10**9):
    """Take steps until so many images have been seen; return the moments at which the run had something to tell."""
    told = {"report": [], "replay": []}
    while not run.done and run.images_seen < until:
        x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(run.images_seen))
        loss = net(x).square().mean()
        loss.backward()
        adam.step()
        adam.zero_grad()
        run.count({"loss": loss})
        if path := run.replay_path():
            told["replay"].append(int(path.stem))
        if run.report_due():
            told["report"].append(run.report().images_seen)
    return told


def test_what_is_due_when(tmp_path):
    run, *rest = start(tmp_path / "run")
    told = go(run, *rest)
    # rows at each 20 images, checkpoints at each 30, both at the first step past them; then the end
    assert told["report"] == [24, 30, 42, 60]
    assert told["replay"] == [6, 12, 18, 30, 60]  # 60 / 16 or less, 60 / 8, 60 / 4, 60 / 2, 60
    assert [row["images_seen"] for row in read_curve(tmp_path / "run" / "curve.csv")] == told["report"]
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path / "run")] == [f"{n:012d}" for n in (30, 60)]
    assert run.losses.keys() == {"loss"} and run.seconds > 0


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, *rest = start(None)
    assert go(run, *rest) == {"report": [24, 30, 42, 60], "replay": []}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_run_resumes_in_either_memory_layout(tmp_path, layout):
    """A fused optimiser pairs weights and moments by their place in memory, so their layouts must agree."""
    whole, net, adam = start(None)
    go(whole, net, adam)
    go(*start(tmp_path / "run"), until=30)
    run, again, adam = start(tmp_path / "run", layout=layout)
    assert run.images_seen == 30
    go(run, again, adam)
    moment = adam.state[again.weight]["exp_avg"]
    assert moment.stride() == again.weight.stride()
    torch.testing.assert_close(again.weight, net.weight, rtol=0, atol=1e-6)


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    go(*start(tmp_path / "run"))
    run, *rest = start(tmp_path / "run")
    assert run.done and go(run, *rest) == {"report": [], "replay": []}


def without_betas(folder):
    """Make a recipe.json what it was before the optimiser had betas."""
    path = folder / "recipe.json"
    data = json.loads(path.read_text("utf-8"))
    del data["optimiser"]["beta1"], data["optimiser"]["beta2"]
    path.write_text(json.dumps(data), "utf-8")
    return path


def test_a_recipe_from_before_a_field_was_there_is_still_read(tmp_path):
    checkpoint.open_run(tmp_path / "run", digit_classifier())
    path = without_betas(tmp_path / "run")
    assert recipe_io.read(ClassifierRecipe, path) == digit_classifier()
    checkpoint.open_run(tmp_path / "run", digit_classifier())  # such a run can go on
    assert "beta1" not in path.read_text("utf-8"), "an existing recipe is not written again"
    with pytest.raises(InputError, match=r"another recipe \(field 'optimiser.beta2'\)"):
        checkpoint.open_run(tmp_path / "run", replace(digit_classifier(), optimiser=AdamW(beta2=0.99)))
