"""Training on pairs: Isola et al. 2017 (pix2pix), section 3.3, a step of the discriminator, then one of the generator.

Both are shown the same translations. Training without pairs is in `gencore.applications.translation.cycle`.

Deviations: the discriminator's objective is not divided by 2, which under Adam changes next to nothing; an R1 penalty is on
by default; pairs are augmented before the discriminator sees them; the moving average of the generator's weights is what is
kept; the weight of the mean absolute difference is the recipe's, 10 by default, where the paper has 100. Those of the
networks: `gencore.networks.translator` and `gencore.networks.patchgan`.
"""

from collections.abc import Iterator
from pathlib import Path

import torch

from gencore.applications.translation import cycle
from gencore.applications.translation.examples import PairExamples, replay_sources
from gencore.applications.translation.objectives import judge_of_pairs_loss, judged, translation_loss
from gencore.applications.translation.recipes import CycleRecipe, TranslationRecipe
from gencore.applications.translation.sampling import Networks, Players, build_players, translate
from gencore.data import to_uint8
from gencore.plots.grids import save_grid
from gencore.training import device as devices, distributed
from gencore.training.ema import EMA
from gencore.training.log import Extra
from gencore.training.optimiser import set_learning_rate
from gencore.training.run import REPLAY_SAMPLES, Run


def train(
    recipe: TranslationRecipe | CycleRecipe,
    folder: Path | str | None = None,
    device: str = "auto",
    log: Extra = "none",
    compile: bool = False,
) -> Iterator[Run]:
    """Train a translator, yielding the run at every ``recipe.log_every`` images and at the end.

    Parameters
    ----------
    recipe : TranslationRecipe or CycleRecipe
        What to train.
    folder : Path or str, optional
        Where to keep checkpoints and the curve. A run found there is resumed; on one CPU thread the result is then
        bitwise that of a run never stopped. None keeps nothing.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    log : {"none", "tensorboard", "wandb"}
        A further place for the curve.
    compile : bool
        Compile the generators (pays on GPUs). Discriminators stay as they are: what is compiled cannot be differentiated
        twice.

    Yields
    ------
    Run
        The same object each time.

    Raises
    ------
    InputError
        If the folder holds another run.
    NonFiniteLoss
        If a loss is no longer a number; the last checkpoint stays.
    """
    if isinstance(recipe, CycleRecipe):
        yield from cycle.train(recipe, folder, device, log, compile)
        return
    device = devices.pick_device(device)
    distributed.start(device)
    players = Players(*(each.to(device, memory_format=torch.channels_last) for each in build_players(recipe)))
    examples = PairExamples(recipe, recipe.task.pairs(recipe.data, "train"), device)
    shown = replay_sources(recipe.task.pairs(recipe.data, "heldout"))
    conditions = recipe.network.conditions
    ema = EMA(players.generator, recipe.ema_half_life)
    optimisers = dict(zip(Players._fields, recipe.optimiser.build(*players), strict=True))
    run = Run(recipe, folder, players, Networks(ema.network), optimisers, log)
    if compile:
        players.generator.compile()

    while not run.done:
        seen, parts = run.images_seen, {}
        x, y, cond, draw = examples.at(seen)  # (B, C, H, W), (B, 3, H, W), (B, K)
        for optimiser, lr in zip(
            optimisers.values(), recipe.optimiser.learning_rates(seen, recipe.images), strict=True
        ):
            set_learning_rate(optimiser, lr)
        with devices.autocast(device, recipe.precision):
            fake = players.generator(x, cond, draw.noise).float()  # (B, 3, H, W), made once and shown to both players
        seen_by_judge = None

        if recipe.adversarial:
            weights = list(players.judge.parameters())
            real, given = judged(x, cond, y, conditions, recipe.augmentation, draw.change)
            made, _ = judged(x, cond, fake, conditions, recipe.augmentation, draw.change)
            penalty = recipe.penalty
            due = penalty if penalty is not None and seen // recipe.batch_size % penalty.every == 0 else None
            with devices.autocast(device, recipe.precision):
                loss = judge_of_pairs_loss(recipe.objective, due, players.judge, real, made, given)
            loss.total.backward(inputs=weights)
            parts |= loss.parts
            distributed.average_gradients(weights)
            optimisers["judge"].step()
            optimisers["judge"].zero_grad()
            seen_by_judge = real, made, given

        weights = list(players.generator.parameters())
        with devices.autocast(device, recipe.precision):
            loss = translation_loss(
                recipe.objective, recipe.adversarial, recipe.l1, players.judge, y, fake, seen_by_judge
            )
        loss.total.backward(inputs=weights)  # through the judge, which learns nothing from it
        parts |= loss.parts
        distributed.average_gradients(weights)
        optimisers["generator"].step()
        optimisers["generator"].zero_grad()

        run.count(parts)
        ema.update(players.generator, run.images_seen, recipe.batch_size)
        if path := run.replay_path():
            save_grid(path, to_uint8(translate((run.averaged, recipe), *shown, seed=recipe.seed)), REPLAY_SAMPLES)
        if run.report_due():
            yield run.report()
