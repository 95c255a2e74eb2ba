"""Training without pairs: Zhu et al. 2017 (CycleGAN), sections 3 and 4. Generators step first, then discriminators.

The discriminators are shown translations of this step and of earlier ones (`gencore.applications.translation.history`).

Deviations:

- The generators are U-Nets with skip connections and group normalisation (`gencore.networks.translator`), which may begin
  as the identity; the paper's are residual networks without skips, with instance normalisation. Skips make it easy to come
  back.
- No tanh: translations go on unbounded (`gencore.applications.translation.objectives`).
- The least squares are halved, so a cycle weight of 5 is the paper's lambda of 10. The default of 10 is a lambda of 20.
- The identity terms are on by default, at a tenth of the cycle weight; the paper has them for some of its data only.
- Pictures are augmented before the discriminators see them, an R1 penalty is on by default, and moving averages of the
  generators' weights are what is kept.
- Learning rates are 5e-4 and, in `cycle_edges`, 2e-3, where the paper has 2e-4; a logit sees 34x34 pixels, where the
  paper's sees 70x70.
- Batches, where the paper's hold one picture; what this means for earlier translations is said there.
- Both generators, and both discriminators, share an optimiser, which for Adam changes nothing.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from gencore.applications.translation.examples import KindExamples, replay_sources
from gencore.applications.translation.history import History
from gencore.applications.translation.objectives import (
    CycleNetworks,
    cross,
    cycle_generators_loss,
    cycle_judges_loss,
    cycle_loss,
)
from gencore.applications.translation.recipes import CycleRecipe
from gencore.applications.translation.sampling import build_cycle, build_judges, translate
from gencore.data import to_uint8
from gencore.errors import InputError
from gencore.plots.grids import save_grid
from gencore.training import device as devices, distributed
from gencore.training.ema import EMA
from gencore.training.log import Extra
from gencore.training.optimiser import set_learning_rate
from gencore.training.run import REPLAY_SAMPLES, Run


class Players(NamedTuple):
    """All that learns or remembers. Only the generators are averaged, shipped and loaded."""

    there: nn.Module
    back: nn.Module
    judge_a: nn.Module
    judge_b: nn.Module
    history_a: nn.Module
    history_b: nn.Module


def train(
    recipe: CycleRecipe, folder: Path | str | None, device: str, log: Extra, compile: bool
) -> Iterator[Run]:
    """Train two generators; parameters, what is yielded and errors as in `gencore.applications.translation.train`."""
    device = devices.pick_device(device)
    distributed.start(device)
    if recipe.history and distributed.world_size() > 1:
        raise InputError("history: each process would remember other pictures; set it to 0 to train by several")
    side = recipe.data.size
    networks = CycleNetworks(*(each.to(device, memory_format=torch.channels_last) for each in build_cycle(recipe)))
    judges = tuple(each.to(device, memory_format=torch.channels_last) for each in build_judges(recipe))
    histories = tuple(
        History(recipe.history, (judge.channels, side, side)).to(device) for judge in (recipe.judge_a, recipe.judge_b)
    )
    examples = KindExamples(recipe, recipe.task.pairs(recipe.data, "train"), device)
    shown = replay_sources(recipe.task.pairs(recipe.data, "heldout"))
    ema = EMA(nn.ModuleList(networks), recipe.ema_half_life)
    translators, both_judges = nn.ModuleList(networks), nn.ModuleList(judges)
    optimisers = dict(zip(("translators", "judges"), recipe.optimiser.build(translators, both_judges), strict=True))
    players = Players(*networks, *judges, *histories)
    run = Run(recipe, folder, players, CycleNetworks(*ema.network), optimisers, log)
    if compile:
        for network in networks:
            network.compile()

    while not run.done:
        seen = run.images_seen
        a, b, draw = examples.at(seen)  # (B, C, H, W), (B, D, H, W)
        for optimiser, lr in zip(
            optimisers.values(), recipe.optimiser.learning_rates(seen, recipe.images), strict=True
        ):
            set_learning_rate(optimiser, lr)

        weights = list(translators.parameters())
        with devices.autocast(device, recipe.precision):
            crossing = cross(networks, a, b, recipe.veil, draw, recipe.identity > 0)
            says = cycle_generators_loss(recipe.objective, judges, recipe.augmentation, a, b, crossing, draw)
            loss = cycle_loss(a, b, crossing, recipe.cycle, recipe.identity)
        # Through the judges, which learn nothing from it.
        (recipe.adversarial * says.total + loss.total).backward(inputs=weights)
        parts = says.parts | loss.parts
        distributed.average_gradients(weights)
        optimisers["translators"].step()
        optimisers["translators"].zero_grad()

        weights = list(both_judges.parameters())
        fakes = [
            history.exchange(fake.detach().float(), recipe.seed, seen, name)
            for history, fake, name in zip(histories, (crossing.fake_a, crossing.fake_b), ("a", "b"), strict=True)
        ]
        penalty = recipe.penalty
        due = penalty if penalty is not None and seen // recipe.batch_size % penalty.every == 0 else None
        with devices.autocast(device, recipe.precision):
            loss = cycle_judges_loss(recipe.objective, due, judges, recipe.augmentation, a, b, *fakes, draw)
        loss.total.backward(inputs=weights)
        parts |= loss.parts
        distributed.average_gradients(weights)
        optimisers["judges"].step()
        optimisers["judges"].zero_grad()

        run.count(parts)
        ema.update(translators, run.images_seen, recipe.batch_size)
        if path := run.replay_path():
            save_grid(path, to_uint8(translate((run.averaged, recipe), *shown, seed=recipe.seed)), REPLAY_SAMPLES)
        if run.report_due():
            yield run.report()
