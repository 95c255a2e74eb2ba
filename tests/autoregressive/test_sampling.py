"""Drawing: nothing depends on who else is drawn, the quick way is the slow way; probabilities of images; loading."""

import itertools
import json
import math
import pickle
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from gencore import autoregressive, families, vae
from gencore.autoregressive import AutoregressiveRecipe, Categorical, Draw, LogisticMixture, Networks, NextSymbol, Pixels
from gencore.autoregressive import Sampling, log_likelihood, masked, measure, next_scale, sample, to_pictures, to_symbols, write
from gencore.autoregressive.sampling import build, draw_symbols, hidden_nats
from gencore.data import Binarise, Digits, Emoji, ImageSet, to_float
from gencore.data.told import asked_for
from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.symbols import Grid
from gencore.training import recipe_io, rng
from tests.autoregressive.tiny import CODED, COLOUR, COLOURED, HIDDEN, KINDS, PLAIN, SQUARES, TOLD, WRITERS, WRITING, fill
from tests.autoregressive.tiny import first_stage, model

each_kind = pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)
each_that_writes = pytest.mark.parametrize("recipe", WRITING.values(), ids=WRITING)
MIXED, SCALES = KINDS["mixture of three colours"], KINDS["scales"]
WAYS = {
    "plain": Sampling(),
    "cool": Sampling(temperature=0.7),
    "cold": Sampling(temperature=0.0),
    "nucleus": Sampling(top_p=0.8),
    "guided": Sampling(guidance=2.0),
    "without conditions": Sampling(guidance=0.0),
    "all": Sampling(1.2, 0.9, 1.5),
}
OF_HIDDEN = {"fewer steps": Sampling(steps=2), "undisturbed": Sampling(disturb=0.0)}


def told(recipe, count):
    """Conditions as `sample` takes them, of many kinds."""
    if recipe.captions:
        length, words = recipe.captions.length, recipe.captions.words
        return torch.arange(1, 1 + count * length).view(count, length) % words
    columns = [torch.arange(count) % values for values in recipe.conditions[: len(recipe.told)]]
    return torch.stack(columns, 1) if columns else torch.empty(count, 0, dtype=torch.int64)


def asked(recipe, count):
    """Conditions as the network takes them, and the same not told: none is mirrored."""
    cond, not_mirrored = told(recipe, count), torch.zeros(count, recipe.mirror).long()
    if recipe.captions:
        return cond, torch.zeros_like(cond)  # the empty caption
    nothing = torch.tensor(recipe.conditions[: len(recipe.told)]).long().expand(count, -1)
    return torch.cat([cond, not_mirrored], 1), torch.cat([nothing, not_mirrored], 1)


def uniform(recipe, count, seed=0):
    grid = recipe.network.grid
    draws = 4 if recipe is MIXED else grid.channels  # the component too
    return torch.rand(count, draws, grid.size, grid.size, generator=torch.Generator().manual_seed(seed))


def allowed(recipe, how):
    """The numbers of a mixture are no logits: there is no guidance, and no nucleus."""
    mixture = isinstance(getattr(recipe.objective, "likelihood", None), LogisticMixture)
    return replace(how, top_p=1.0, guidance=1.0) if mixture else how


def guided(told, not_told, guidance):
    return not_told + guidance * (told - not_told)


def slowly(network, likelihood, cond, hidden, u, how, given=None, known=None):
    """The whole network at each place, for each channel; the same numbers decide."""
    grid = network.config.grid
    symbols = torch.zeros(len(u), *grid.shape, dtype=torch.int64)
    for row, column, channel in itertools.product(range(grid.size), range(grid.size), range(grid.channels)):
        params = guided(network(symbols, cond), network(symbols, hidden), how.guidance)[:, :, row, column]
        drawn = likelihood.draw(params, u[:, :, row, column], how.temperature, how.top_p)
        kept = known is not None and known[row, column]
        symbols[:, channel, row, column] = (given[:, :, row, column] if kept else drawn)[:, channel]
    return symbols


@each_that_writes
@pytest.mark.parametrize(
    "how", [Sampling(), Sampling(0.9, 0.9, 2.5), Sampling(guidance=0.0)], ids=["plain", "guided", "untold"]
)
def test_the_quick_way_is_the_slow_way(recipe, how):
    (network,), _ = model(recipe)
    (cond, hidden), u, likelihood = asked(recipe, 5), uniform(recipe, 5), recipe.objective.likelihood
    how = allowed(recipe, how)
    found = write(network, likelihood, cond, hidden, u, how)
    assert found.shape == (5, *network.config.grid.shape) and found.dtype == torch.int64
    assert torch.equal(found, slowly(network, likelihood, cond, hidden, u, how))
    assert len(found.unique()) > 1 and not torch.equal(found[0], found[1])


def assert_same_pictures(recipe, found, expected):
    """Bitwise, unless a first stage computes them: its sums over several pictures are rounded otherwise."""
    torch.testing.assert_close(found, expected, rtol=0, atol=0 if recipe.first_stage is None else 1e-5)


@each_kind
def test_an_image_does_not_depend_on_its_batch(recipe):
    """It follows from the seed, its number and its condition: symbols bitwise, pictures made of codes but for rounding."""
    drawing, cond = model(replace(recipe, sampling=allowed(recipe, Sampling(0.9, 0.95, 1.5)))), told(recipe, 7)
    seven = sample(drawing, 7, seed=3, cond=cond)
    ways = [
        list(draw_symbols(drawing, 7, 3, cond=cond)),
        list(draw_symbols(drawing, 7, 3, cond=cond, batch_size=2)),
        [next(draw_symbols(drawing, 1, 3, first=i, cond=cond[i : i + 1])) for i in range(7)],
        [next(draw_symbols(drawing, 3, 3, cond=cond[:3])), next(draw_symbols(drawing, 4, 3, first=3, cond=cond[3:]))],
    ]
    assert all(torch.equal(torch.cat(pieces), ways[0][0]) for pieces in ways)
    assert_same_pictures(recipe, sample(drawing, 4, seed=3, first=3, cond=cond[3:], batch_size=3), seven[3:])
    other = sample(drawing, 7, seed=4, cond=cond)
    assert all(not torch.equal(other[i], seven[i]) for i in range(7))
    assert all(not torch.equal(seven[i], seven[j]) for i in range(7) for j in range(i))
    assert seven.shape == (7, recipe.data.channels, recipe.data.size, recipe.data.size) and seven.dtype == torch.float32 and not seven.requires_grad
    assert seven.abs().max() <= 1 and seven.std() > 0.1


def test_pictures_are_what_is_written_by_their_own_numbers():
    for recipe, draws in ((TOLD, 1), (COLOUR, 3), (MIXED, 4)):
        drawing, grid = model(recipe), recipe.network.grid
        u = rng.uniform_per_image(3, (draws, grid.size, grid.size), 5, 2)
        symbols = write(drawing[0].model, recipe.objective.likelihood, *asked(recipe, 3), u)
        assert torch.equal(sample(drawing, 3, seed=5, first=2, cond=told(recipe, 3)), recipe.pixels.read(symbols))


HOW = {"plain": Sampling(), "guided": Sampling(0.9, 0.9, 2.5, steps=5, disturb=2.0), "untold": Sampling(guidance=0.0)}
each_way = pytest.mark.parametrize("how", HOW.values(), ids=HOW)


@each_way
def test_hidden_symbols_are_filled_in_by_an_images_own_numbers(how):
    """In as many steps as the recipe says, each of which takes two numbers for each place."""
    (network,), _ = drawing = model(HIDDEN)
    cond, nothing = asked(HIDDEN, 5)
    u = rng.uniform_per_image(5, (how.steps, 2, 16), 5, 2)
    plain = dict(temperature=how.disturb, cool=how.temperature, top_p=how.top_p)
    (*_, symbols) = masked.draw(network.writer, cond, u, guidance=how.guidance, untold=nothing, **plain)
    (found,) = draw_symbols(drawing, 5, 5, first=2, cond=told(HIDDEN, 5), sampling=how)
    assert torch.equal(found, symbols) and found.shape == (5, 1, 4, 4) and found.max() < 16
    pictures = sample(drawing, 5, 5, first=2, cond=told(HIDDEN, 5), sampling=how)
    assert torch.equal(pictures, network.first.decode(symbols[:, 0]).clamp(-1, 1))
    (*_, other) = masked.draw(network.writer, nothing if how.guidance else cond, u, **plain)
    assert not torch.equal(other, symbols), "conditions make no difference"


@each_way
def test_scales_are_drawn_by_an_images_own_numbers(how):
    """One number for each code, of all scales."""
    (network,), _ = drawing = model(SCALES)
    cond, nothing = asked(SCALES, 5)
    u = rng.uniform_per_image(5, (1 + 4 + 16,), 5, 2)
    quantiser, plain = network.first.quantiser, dict(temperature=how.temperature, top_p=how.top_p)
    codes = next_scale.draw(network.writer, quantiser, cond, u, guidance=how.guidance, untold=nothing, **plain)
    (found,) = draw_symbols(drawing, 5, 5, first=2, cond=told(SCALES, 5), sampling=how)
    assert torch.equal(found, codes[:, None, None]) and found.shape == (5, 1, 1, 21)
    pictures = sample(drawing, 5, 5, first=2, cond=told(SCALES, 5), sampling=how)
    assert torch.equal(pictures, network.first.decode(codes).clamp(-1, 1))
    other = next_scale.draw(network.writer, quantiser, nothing if how.guidance else cond, u, **plain)
    assert not torch.equal(other, codes), "conditions make no difference"


def test_a_mixture_refuses_what_needs_logits():
    for how in (Sampling(guidance=2.0), Sampling(guidance=0.0), Sampling(top_p=0.9)):
        for draw in (sample, lambda *a, **k: list(draw_symbols(*a, **k))):
            with pytest.raises(InputError, match="^sampling: guidance .*, top_p .*: must be 1 for a mixture"):
                draw(model(MIXED), 1, 0, sampling=how)
    with pytest.raises(InputError, match="^sampling: guidance"):
        sample(model(replace(MIXED, sampling=Sampling(guidance=2.0))), 1, 0)


def test_no_pictures_are_none():
    assert sample(model(TOLD), 0, 0).shape == (0, 1, 8, 8)


def test_codes_become_pictures_in_the_range_of_pixels():
    drawing = model(CODED)
    first = drawing[0].model.first
    data = CODED.data.load("heldout").subset(torch.arange(5))
    codes = first.encode(to_float(data.images))[:, None]
    assert torch.equal(to_symbols(drawing, data), codes) and len(codes.unique()) > 8
    for parameter in first.decoder.parameters():
        parameter.mul_(3)
    loud = first.decode(codes[:, 0])
    assert loud.abs().max() > 2 and torch.equal(to_pictures(drawing, codes), loud.clamp(-1, 1))


@pytest.fixture
def drawn(monkeypatch):
    """What is asked to be drawn, place by place."""
    calls, original = [], Categorical.draw

    def spy(self, params, u, temperature=1.0, top_p=1.0):
        calls.append((params.clone(), u, temperature, top_p))
        return original(self, params, u, temperature, top_p)

    monkeypatch.setattr(Categorical, "draw", spy)
    return calls


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("name", WRITERS)
def test_guidance_goes_from_the_logits_without_conditions_to_those_with_them(drawn, name, guidance):
    """At 1 conditional, at 0 unconditional, at every place: the finished picture tells what each place was asked."""
    recipe = replace(TOLD, network=WRITERS[name](SQUARES), sampling=Sampling(guidance=guidance))
    (network,), _ = drawing = model(recipe)
    pictures = sample(drawing, 4, 0, cond=told(recipe, 4))
    symbols, (cond, hidden) = recipe.pixels.write(pictures), asked(recipe, 4)
    expected = guided(network(symbols, cond), network(symbols, hidden), guidance).flatten(2)
    tolerance = 1e-4
    torch.testing.assert_close(torch.stack([params for params, *_ in drawn], 2), expected, atol=tolerance, rtol=tolerance)
    assert (network(symbols, cond) - network(symbols, hidden)).abs().mean() > 100 * tolerance, "conditions say too little"


def test_how_to_draw_reaches_each_place(drawn):
    sample(model(replace(TOLD, sampling=Sampling(0.7, 0.8))), 2, 0)
    assert {call[2:] for call in drawn} == {(0.7, 0.8)} and len(drawn) == 16
    drawn.clear()
    sample(model(replace(TOLD, sampling=Sampling(0.7, 0.8))), 2, 0, sampling=Sampling(0.5, 0.6))  # what is said now counts
    assert {call[2:] for call in drawn} == {(0.5, 0.6)}


@pytest.mark.parametrize(
    ("recipe", "how"),
    [(recipe, WAYS[way]) for recipe in (TOLD, HIDDEN, SCALES) for way in WAYS if way != "plain"]
    + [(HIDDEN, how) for how in OF_HIDDEN.values()]
    + [(MIXED, WAYS[way]) for way in ("cool", "cold")],
    ids=repr,
)
def test_every_option_changes_the_samples(recipe, how):
    drawing, cond = model(recipe), told(recipe, 4)
    a, b = (sample(drawing, 4, 0, cond=cond, sampling=each) for each in (Sampling(), how))
    assert not torch.equal(a, b)
    assert torch.equal(sample((drawing[0], replace(recipe, sampling=how)), 4, 0, cond=cond), b)


@pytest.mark.parametrize("recipe", [TOLD, MIXED, HIDDEN, SCALES], ids=["told", "mixed", "hidden", "scales"])
def test_cold_is_the_limit_of_cool(recipe):
    """The likeliest is taken, whatever the numbers; of hidden symbols all at once, for how sure one is depends on temperature."""
    drawing, cond = model(recipe), told(recipe, 4)
    cold, almost = (
        next(draw_symbols(drawing, 4, 0, cond=cond, sampling=Sampling(t, steps=1))) for t in (0.0, 1e-8)
    )
    assert torch.equal(cold, almost)
    other = next(draw_symbols(drawing, 4, 1, cond=cond, sampling=Sampling(0.0, steps=1)))
    assert torch.equal(cold, other)
    assert not torch.equal(cold, next(draw_symbols(drawing, 4, 0, cond=cond, sampling=Sampling(steps=1))))


def test_no_option_was_forgotten():
    fields = {field: value for field, value in recipe_io.to_dict(Sampling()).items() if field != "type"}
    changed = [{f for f in fields if getattr(way, f) != fields[f]} for way in (*WAYS.values(), *OF_HIDDEN.values())]
    assert all({field} in changed for field in fields)


def test_nothing_is_left_out_when_drawing_or_measuring():
    """Channels are left out in training only; the same weights without dropout draw and say the same."""
    network = replace(WRITERS["transformer"](SQUARES), drop=0.4)
    (with_drop, without) = (model(replace(TOLD, network=each)) for each in (network, replace(network, drop=0.0)))
    data = TOLD.data.load("heldout").subset(torch.arange(8))
    assert torch.equal(sample(with_drop, 3, 0), sample(without, 3, 0))
    assert torch.equal(log_likelihood(with_drop, data), log_likelihood(without, data))
    symbols, (cond, _) = to_symbols(with_drop, data), asked(TOLD, 8)
    u = torch.rand(8, *network.noise_shape, generator=torch.Generator().manual_seed(0))
    found = [NextSymbol()(with_drop[0], symbols, cond, draw).total for draw in (Draw(), Draw(u))]
    assert abs(found[0] - found[1]) > 1e-3


@pytest.fixture
def conditions_asked(monkeypatch):
    """What networks are told when they draw."""
    calls, kind = [], type(build(TOLD).model)
    original = kind.incremental

    def spy(self, symbols, cond=None):
        calls.append(cond)
        return original(self, symbols, cond)

    monkeypatch.setattr(kind, "incremental", spy)
    return calls


def test_pictures_show_what_is_asked_for_and_are_not_mirrored(conditions_asked):
    cond = torch.tensor([[3], [10]])  # the last is told nothing
    sample(model(TOLD), 2, 0, cond=cond)
    sample(model(TOLD), 2, 0, cond=cond, sampling=Sampling(guidance=2.0))
    plain, twice = conditions_asked
    assert plain.tolist() == [[3, 0], [10, 0]] and twice.tolist() == [[3, 0], [10, 0], [10, 0], [10, 0]]
    assert not torch.equal(*(sample(model(TOLD), 3, 0, cond=torch.full((3, 1), digit)) for digit in (1, 2)))


def test_by_default_pictures_show_what_training_pictures_show(conditions_asked):
    sample(model(TOLD), 9, seed=1, first=4, batch_size=5)
    assert torch.equal(torch.cat(conditions_asked)[:, :1], asked_for(TOLD, 9, 1, 4))
    assert not torch.cat(conditions_asked)[:, 1].any()


@pytest.mark.parametrize(
    "cond", [torch.zeros(3, 2), torch.zeros(2, 1), torch.zeros(3), torch.full((3, 1), 11), torch.full((3, 1), -1)]
)
def test_conditions_that_do_not_fit_are_refused(cond):
    with pytest.raises(InputError, match="^cond"):
        sample(model(TOLD), 3, 0, cond=cond.long())


GIVEN, KNOWN = torch.zeros(3, 1, 4, 4, dtype=torch.int64), torch.zeros(4, 4, dtype=torch.bool)


@pytest.mark.parametrize(
    ("given", "known"),
    [
        (GIVEN, None),
        (None, KNOWN),
        (GIVEN[:2], KNOWN),
        (GIVEN[:, 0], KNOWN),
        (GIVEN[:, :, :3], KNOWN),
        (GIVEN, KNOWN[:3]),
        (GIVEN, KNOWN[None]),
        (GIVEN - 1, ~KNOWN),
        (GIVEN + 16, ~KNOWN),
        (GIVEN.float(), ~KNOWN),
        (GIVEN, (~KNOWN).float()),
    ],
)
def test_given_symbols_that_do_not_fit_are_refused(given, known):
    with pytest.raises(InputError, match="^given"):
        sample(model(TOLD), 3, 0, given=given, known=known)


def test_what_is_given_where_nothing_is_known_does_not_matter():
    assert torch.equal(sample(model(TOLD), 3, 0, given=GIVEN - 1, known=KNOWN), sample(model(TOLD), 3, 0))


@each_that_writes
def test_what_is_known_stays_and_is_seen_by_what_comes_after(recipe):
    (network,), _ = drawing = model(recipe)
    grid, count = recipe.network.grid, 5
    given = torch.randint(grid.levels, (count, *grid.shape), generator=torch.Generator().manual_seed(8))
    known = torch.rand(grid.size, grid.size, generator=torch.Generator().manual_seed(9)) < 0.4
    how, u, likelihood = allowed(recipe, Sampling(guidance=1.7)), uniform(recipe, count), recipe.objective.likelihood
    found = write(network, likelihood, *asked(recipe, count), u, how, given, known)
    assert torch.equal(found[:, :, known], given[:, :, known])
    assert torch.equal(found, slowly(network, likelihood, *asked(recipe, count), u, how, given, known))
    seven = sample(drawing, count, 0, cond=told(recipe, count), given=given, known=known)
    again = sample(drawing, count, 0, cond=told(recipe, count), given=given, known=known, batch_size=2)
    assert_same_pictures(recipe, again, seven)
    if recipe.first_stage is None:
        assert torch.equal(recipe.pixels.write(seven)[:, :, known], given[:, :, known])


def test_what_is_known_is_not_hidden():
    """It stays, and all that is drawn sees it, wherever it is."""
    (network,), _ = drawing = model(HIDDEN)
    cond, nothing = asked(HIDDEN, 5)
    given = torch.randint(16, (5, 1, 4, 4), generator=torch.Generator().manual_seed(8))
    known = torch.rand(4, 4, generator=torch.Generator().manual_seed(9)) < 0.4
    options = dict(cond=told(HIDDEN, 5), sampling=Sampling(guidance=1.7, steps=3))
    (found,) = draw_symbols(drawing, 5, 0, given=given, known=known, **options)
    assert torch.equal(found[:, :, known], given[:, :, known]) and 0 < known.sum() < 15
    u, begun = rng.uniform_per_image(5, (3, 2, 16), 0), torch.where(known, given, 16)
    (*_, expected) = masked.draw(network.writer, cond, u, guidance=1.7, untold=nothing, known=begun)
    assert torch.equal(found, expected)
    pieces = list(draw_symbols(drawing, 5, 0, batch_size=2, given=given, known=known, **options))
    assert len(pieces) == 3 and torch.equal(torch.cat(pieces), found)
    free, others = (
        next(draw_symbols(drawing, 5, 0, given=each, known=place, **options))
        for each, place in ((given, torch.zeros_like(known)), ((given + 1) % 16, known))
    )
    assert torch.equal(free, next(draw_symbols(drawing, 5, 0, **options)))
    assert not torch.equal(others[:, :, ~known], found[:, :, ~known]), "what is drawn does not see what is known"


def test_scales_cannot_be_given():
    for shape, places in (((3, 1, 4, 4), (4, 4)), ((3, 1, 1, 21), (1, 21))):
        with pytest.raises(InputError, match="^given: codes of several scales"):
            sample(model(SCALES), 3, 0, given=torch.zeros(shape).long(), known=torch.ones(places).bool())


def small(name, levels=2, channels=1, size=2, block=1):
    """A model of pictures of 2x2 pixels, all of which can be counted."""
    grid = Grid(size, channels=channels, levels=levels)
    recipe = SimpleNamespace(
        network=WRITERS[name](grid), pixels=Pixels(2, block), augmentation=None, objective=NextSymbol(), told=(), drop=0.0,
        mirror=False, conditions=(), sampling=Sampling(), seed=0, data=SimpleNamespace(channels=channels, size=2),
    )  # fmt: skip
    return Networks(fill(build(recipe).model, 0.5)), recipe


def all_pictures(channels=1):
    bits = torch.cartesian_prod(*[torch.arange(2)] * (4 * channels)).view(-1, channels, 2, 2)
    return ImageSet("all", (255 * bits).to(torch.uint8), torch.zeros(len(bits)).long(), ("one",))


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in WRITERS]
    + [(name, dict(levels=16, size=1, block=2)) for name in WRITERS]
    + [(name, dict(channels=3)) for name in COLOURED],
    ids=str,
)
def test_the_probabilities_of_all_pictures_sum_to_one(name, options):
    p = log_likelihood(small(name, **options), all_pictures(options.get("channels", 1)), batch_size=1000).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-5) and p.dtype == torch.float64
    assert p.max() > 1.5 * p.mean(), "a uniform distribution would pass"


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(("known", "each"), [(0, 16), (1, 30), (2, 100), (3, 2000)])
def test_what_follows_a_beginning_is_drawn_from_the_conditional_distribution(name, known, each):
    """Pictures of 2x2: against the enumerated conditional distribution, with uniform numbers that leave no gaps."""
    ((network,), recipe), free = small(name), 4 - known
    begin = torch.tensor([1, 0, 1, 0])[:known]
    pictures = all_pictures()
    symbols = recipe.pixels.write(to_float(pictures.images)).flatten(1)  # (16, 4)
    p = log_likelihood((Networks(network), recipe), pictures).exp()
    p = torch.where((symbols[:, :known] == begin).all(1), p, 0.0)
    p = p / p.sum()
    middles = (torch.arange(each) + 0.5) / each
    u = torch.cartesian_prod(*[middles] * free).view(-1, free)
    u = torch.cat([torch.rand(len(u), known), u], 1).view(-1, 1, 2, 2)
    given = torch.zeros(len(u), 1, 2, 2, dtype=torch.int64)
    given.flatten(1)[:, :known] = begin
    nothing = torch.empty(len(u), 0, dtype=torch.int64)
    places = (torch.arange(4) < known).view(2, 2)
    found = write(network, Categorical(), nothing, nothing, u, Sampling(), given, places).flatten(1)
    number = (found * torch.tensor([8, 4, 2, 1])).sum(1)
    assert torch.equal(symbols, torch.cartesian_prod(*[torch.arange(2)] * 4))
    # each place is off by less than half a step of its numbers, in either direction
    torch.testing.assert_close(number.bincount(minlength=16) / len(u), p.float(), atol=free / 2 / each, rtol=0)


def test_places_before_what_is_known_do_not_know_of_it():
    """So it is no draw from the conditional distribution: the first pixel is what it would have been."""
    drawing = small("gated")
    given, known = torch.ones(50, 1, 2, 2).long(), torch.tensor([[False, False], [False, True]])
    found, free = sample(drawing, 50, 0, given=given, known=known), sample(drawing, 50, 0)
    assert torch.equal(found.flatten(1)[:, :3], free.flatten(1)[:, :3]) and (found[:, 0, 1, 1] == 1).all()


def test_each_place_is_shown_once_it_is_written():
    (network,), _ = model(COLOUR)
    u, seen = uniform(COLOUR, 2), []
    how = Sampling(guidance=2.0)
    symbols = write(network, Categorical(), *asked(COLOUR, 2), u, how, watch=lambda grid: seen.append(grid.clone()))
    assert len(seen) == 64 and torch.equal(seen[-1], symbols)
    for number, grid in enumerate(seen, start=1):
        assert torch.equal(grid.flatten(2)[:, :, :number], symbols.flatten(2)[:, :, :number])
        assert not grid.flatten(2)[:, :, number:].any()


def held_out(recipe, count=20):
    return recipe.data.load("heldout").subset(torch.arange(count))


@pytest.mark.parametrize("recipe", [*WRITING.values(), SCALES], ids=[*WRITING, "scales"])
def test_log_likelihood_is_what_the_loss_costs(recipe):
    (networks, _) = drawing = model(recipe)
    data = held_out(recipe)
    found = log_likelihood(drawing, data, seed=2)
    assert found.shape == (20,) and found.dtype == torch.float64
    cond = autoregressive.sampling.conditions(recipe, data)
    cond = torch.cat([cond, torch.zeros(20, recipe.mirror).long()], 1)
    for i in range(0, 20, 7):
        symbols = to_symbols(drawing, data, seed=2)[i : i + 1]
        loss = recipe.objective(networks, symbols, cond[i : i + 1], Draw())
        assert -loss.parts["nats"].item() == pytest.approx(found[i].item(), rel=1e-4)
    torch.testing.assert_close(log_likelihood(drawing, data, seed=2, batch_size=3), found, rtol=1e-5, atol=1e-4)


def test_log_likelihood_of_scales_is_that_of_their_codes():
    (network,), _ = drawing = model(SCALES)
    data = held_out(SCALES)
    codes = network.first.encode(to_float(data.images))  # (20, 21)
    assert torch.equal(to_symbols(drawing, data), codes[:, None, None]) and codes.shape == (20, 21)
    for is_told in (True, False):
        cond = autoregressive.sampling.conditions(SCALES, data) if is_told else torch.full((20, 1), 8)
        cond = torch.cat([cond, torch.zeros(20, 1).long()], 1)
        expected = next_scale.log_prob(network.writer, network.first.quantiser, codes, cond).double().sum(1)
        torch.testing.assert_close(log_likelihood(drawing, data, told=is_told), expected, rtol=1e-5, atol=1e-4)
    assert (log_likelihood(drawing, data) - expected).abs().min() > 1e-3


@pytest.mark.parametrize("is_told", [True, False])
def test_hidden_codes_cost_what_the_loss_says_of_the_same_draw(is_told):
    (network,), _ = drawing = model(HIDDEN)
    data = held_out(HIDDEN)
    found = hidden_nats(drawing, data, seed=2, told=is_told)
    assert found.shape == (20,) and found.dtype == torch.float64
    cond = autoregressive.sampling.conditions(HIDDEN, data) if is_told else torch.full((20, 1), 8)
    cond = torch.cat([cond, torch.zeros(20, 1).long()], 1)
    u = rng.uniform_per_image(20, (17,), 2)
    symbols = to_symbols(drawing, data)
    loss = HIDDEN.objective(Networks(network), symbols, cond, Draw(None, u[:, 0], u[:, 1:]))
    assert loss.parts["nats"].item() == pytest.approx(found.mean().item(), rel=1e-5)
    for i in range(0, 20, 7):
        one = HIDDEN.objective(Networks(network), symbols[[i]], cond[[i]], Draw(None, u[[i], 0], u[[i], 1:]))
        assert one.parts["nats"].item() == pytest.approx(found[i].item(), rel=1e-5)
    torch.testing.assert_close(hidden_nats(drawing, data, 2, batch_size=3, told=is_told), found, rtol=1e-5, atol=1e-5)
    assert (hidden_nats(drawing, data, seed=3, told=is_told) - found).abs().max() > 1e-2
    assert (hidden_nats(drawing, data, seed=2, told=not is_told) - found).abs().max() > 1e-2


def test_guesses_of_hidden_codes_are_no_probability_of_a_picture():
    with pytest.raises(InputError, match="^objective: .* see hidden_nats"):
        log_likelihood(model(HIDDEN), held_out(HIDDEN))


def test_without_being_told_it_is_that_of_conditions_not_told():
    (network,), _ = drawing = model(TOLD)
    data = held_out(TOLD)
    symbols, nothing = to_symbols(drawing, data), torch.tensor([[10, 0]]).expand(20, -1)
    expected = Categorical().log_prob(network(symbols, nothing), symbols).double().sum((1, 2))
    found = log_likelihood(drawing, data, told=False)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert (found - log_likelihood(drawing, data)).abs().min() > 1e-3


def test_images_are_binarised_once_by_their_place_as_the_vae_does(monkeypatch):
    """So that both families speak of the same pictures, whatever the batches."""
    shown, original = [], Binarise.__call__

    def spy(self, x, u):
        shown.append(original(self, x, u))
        return shown[-1]

    monkeypatch.setattr(Binarise, "__call__", spy)
    drawing, data = model(PLAIN), held_out(PLAIN, 7)
    log_likelihood(drawing, data, seed=3, batch_size=3)
    ours = torch.cat(shown)
    shown.clear()
    network = vae.sampling.VAE(Autoencoder(size=8, latent=3, width=8, multipliers=(1, 2))).eval()
    recipe = SimpleNamespace(objective=vae.ELBO(vae.Bernoulli()), augmentation=Binarise(), network=network.config)
    vae.log_likelihood((vae.Networks(network), recipe), data, 2, seed=3, at_once=8)
    assert len(shown) == 2 and torch.equal(torch.cat(shown), ours)
    u = torch.stack([torch.rand(1, 8, 8, generator=rng.generator(3, place, "binarise")) for place in range(7)])
    assert torch.equal(ours, 2 * (u < data.images / 255).float() - 1)
    assert torch.equal(PLAIN.pixels.read(to_symbols(drawing, data, seed=3)), ours)
    assert not torch.equal(PLAIN.pixels.read(to_symbols(drawing, data, seed=4)), ours)


def test_a_binarised_image_keeps_its_pixels_in_any_batch():
    drawing, data = model(PLAIN), held_out(PLAIN)
    symbols = to_symbols(drawing, data, seed=1)
    assert torch.equal(to_symbols(drawing, data.subset(torch.arange(5, 9)), seed=1, first=5), symbols[5:9])
    assert not torch.equal(to_symbols(drawing, data.subset(torch.arange(5, 9)), seed=1), symbols[5:9])


def measured(recipe):
    found = measure(model(recipe))
    return {each["name"]: each["value"] for each in found}, found


@pytest.fixture
def few_held_out(monkeypatch):
    for kind in (Digits, Emoji):
        load = kind.load
        monkeypatch.setattr(kind, "load", lambda self, split, load=load: load(self, split).subset(torch.arange(50)))


def test_what_a_card_says(few_held_out):
    """Nats and their standard error, bits a pixel; also without conditions if the model has learned to do without."""
    values, found = measured(TOLD)
    data = TOLD.data.load("heldout")
    what = "negative log-likelihood, nats"
    names = [what, f"standard error of: {what}", "bits per dimension"]
    hidden = [f"{what}, nothing told", f"standard error of: {what}, nothing told", "bits per dimension, nothing told"]
    assert list(values) == names + hidden
    assert all((each["on"], each["samples"]) == ("digits/heldout", 50) and type(each["value"]) is float for each in found)
    for (nats_name, error_name, bits_name), is_told in ((names, True), (hidden, False)):
        nats = -log_likelihood(model(TOLD), data, told=is_told)
        assert values[nats_name] == pytest.approx(nats.mean().item(), rel=1e-6)
        assert values[error_name] == pytest.approx(nats.std().item() / math.sqrt(50), rel=1e-6)
        assert values[bits_name] == pytest.approx(nats.mean().item() / math.log(2) / 64, rel=1e-6)
    assert list(measured(replace(TOLD, drop=0.0))[0]) == names
    assert list(measured(PLAIN)[0]) == names


def test_what_a_card_says_of_codes(few_held_out):
    values, _ = measured(CODED)
    nats = -log_likelihood(model(CODED), CODED.data.load("heldout"))
    assert values["codes, nats"] == pytest.approx(nats.mean().item(), rel=1e-6)
    assert not any("bits" in name for name in values) and len(values) == 4
    assert list(measured(replace(CODED, drop=0.0))[0]) == ["codes, nats", "standard error of: codes, nats"]


def test_what_a_card_says_of_hidden_codes_and_of_scales(few_held_out):
    for recipe, what, nats in (
        (HIDDEN, "hidden codes, nats each", lambda **k: hidden_nats(model(HIDDEN), HIDDEN.data.load("heldout"), **k)),
        (SCALES, "codes, nats", lambda **k: -log_likelihood(model(SCALES), SCALES.data.load("heldout"), **k)),
    ):
        values, found = measured(recipe)
        names = [what, f"standard error of: {what}"]
        assert list(values) == [*names, *(f"{name}, nothing told" for name in names)]
        assert {(each["on"], each["samples"]) for each in found} == {(recipe.data.load("heldout").name, 50)}
        for is_told, suffix in ((True, ""), (False, ", nothing told")):
            each = nats(told=is_told)
            assert values[what + suffix] == pytest.approx(each.mean().item(), rel=1e-6)
            assert values[f"standard error of: {what}{suffix}"] == pytest.approx(each.std().item() / 50**0.5, rel=1e-6)
        assert list(measured(replace(recipe, drop=0.0))[0]) == names


def test_bits_of_colours_are_those_of_a_colour(few_held_out):
    values, _ = measured(replace(COLOUR, drop=0.0))
    assert values["bits per dimension"] == pytest.approx(values["negative log-likelihood, nats"] / math.log(2) / (3 * 64))


def test_parameters_are_what_it_takes_to_draw():
    for recipe in (TOLD, COLOUR, MIXED):
        drawing = model(recipe)
        assert families.parameters(autoregressive, drawing) == sum(p.numel() for p in drawing[0].model.parameters()) > 500
    (network,), _ = drawing = model(CODED)
    parts = (network.writer, network.first.decoder)
    assert autoregressive.parameters(drawing) == sum(p.numel() for part in parts for p in part.parameters()) + 16 * 4
    (network,), _ = drawing = model(SCALES)
    parts, blends = (network.writer, network.first.decoder), 2 * (4 * 4 * 9 + 4)
    expected = sum(p.numel() for part in parts for p in part.parameters()) + 16 * 4 + blends
    assert autoregressive.parameters(drawing) == expected


def test_building_depends_on_the_seed_and_disturbs_nothing():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (build(replace(TOLD, seed=seed)).model for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.head.weight, same.head.weight) and not torch.equal(one.head.weight, other.head.weight)


@pytest.mark.parametrize("name", [name for name in families.recipes() if name.startswith("autoregressive.")])
def test_recipes_survive_json(name):
    recipe = families.recipes()[name]()
    assert recipe_io.from_dict(type(recipe), json.loads(json.dumps(recipe_io.to_dict(recipe)))) == recipe


@each_kind
def test_every_kind_survives_json(recipe):
    recipe = replace(recipe, sampling=WAYS["all"])
    assert recipe_io.from_dict(AutoregressiveRecipe, json.loads(json.dumps(recipe_io.to_dict(recipe)))) == recipe


def squares(**fields):
    return dict(network=WRITERS["gated"](replace(SQUARES, **fields)))


@pytest.mark.parametrize(
    ("recipe", "change", "message"),
    [
        (TOLD, dict(images=0), "^images is 0"),
        (TOLD, dict(batch_size=0), "^batch_size is 0"),
        (TOLD, dict(micro_batches=0), "^micro_batches is 0"),
        (TOLD, dict(log_every=0), "^log_every is 0"),
        (TOLD, dict(checkpoint_every=0), "^checkpoint_every is 0"),
        (TOLD, dict(clip=0.0), "^clip is 0"),
        (TOLD, dict(drop=1.0), "^drop is 1"),
        (TOLD, dict(drop=-0.1), "^drop is -0.1"),
        (TOLD, dict(jitter=-1), "^jitter is -1"),
        (TOLD, dict(jitter=1), "^jitter: it is for Coded networks"),
        (TOLD, dict(told=("style",)), "^told: only emoji have styles"),
        (TOLD, dict(first_stage="some_vqgan"), "^first_stage: a Coded network names"),
        (CODED, dict(first_stage=None), "^first_stage: a Coded network names"),
        (CODED, dict(data=Emoji(("noto",), size=16)), "^network.size is 8, but the data have 16"),
        (CODED, dict(data=Digits(8)), "^network.channels is 3, but the data have 1"),
        (CODED, dict(augmentation=Binarise()), "^augmentation: it varies pixels"),
        (TOLD, dict(data=Digits(12)), r"^network.grid: .* must be \(1, 6, 16\)"),
        (TOLD, dict(pixels=Pixels(2)), r"^network.grid: .* must be \(1, 8, 2\)"),
        (TOLD, dict(data=COLOUR.data), r"^network.grid: .* must be \(3, 4, 16\)"),
        (TOLD, dict(data=Digits(9)), "^network.grid: its channels, size and levels"),
        (TOLD, dict(pixels=Pixels(2, 3), data=Digits(9), **squares(size=3, levels=512), told=("class",)), None),
        (TOLD, dict(data=Digits(8), pixels=Pixels(4, 2), **squares(levels=256)), "^pixels.levels: binarised pictures have 2"),
        (TOLD, squares(outputs=17), "^network.grid.outputs is 17, but the likelihood needs 16"),
        (TOLD, squares(outputs=16), None),
        (TOLD, dict(told=()), r"^network.grid.conditions \(10, 2\): must be 0 for told, and 2"),
        (TOLD, dict(mirror=False), r"^network.grid.conditions \(10, 2\): must be 1 for told$"),
        (TOLD, squares(conditions=(10, 3)), r"^network.grid.conditions \(10, 3\): must be 1 for told, and 2"),
        (TOLD, squares(conditions=(10,)), r"^network.grid.conditions \(10,\): must be 1 for told, and 2"),
    ],
)
def test_what_does_not_fit_is_refused(recipe, change, message):
    if message is None:  # does fit
        assert replace(recipe, **change)
        return
    with pytest.raises(InputError, match=message):
        replace(recipe, **change)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(temperature=-0.1), "^temperature -0.1"),
        (dict(top_p=0.0), "^top_p 0.0"),
        (dict(top_p=1.1), "^top_p 1.1"),
    ],
)
def test_what_is_no_way_to_draw_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Sampling(**fields)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a short run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    list(autoregressive.train(replace(TOLD, images=32, checkpoint_every=32), folder, device="cpu"))
    return folder


@pytest.fixture
def damaged(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "run")
    return tmp_path / "run", tmp_path / "run" / "checkpoints" / "000000000032"


@pytest.mark.parametrize("keep", [0, 7, 500])
def test_truncated_weights_are_one_error(damaged, keep):
    path = damaged[1] / "ema.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="ema.safetensors: not a whole safetensors file"):
        autoregressive.load(damaged[0])


def test_missing_files_are_one_error(damaged):
    (damaged[1] / "ema.safetensors").unlink()
    with pytest.raises(InputError, match="ema.safetensors: file is missing"):
        autoregressive.load(damaged[0])
    (damaged[0] / "recipe.json").unlink()
    with pytest.raises(InputError, match="recipe.json: file is missing"):
        autoregressive.load(damaged[0])


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("drop",), 2.0, "drop is 2.0"),
        (("drop",), "0.3", "field 'drop'"),
        (("told",), ["colour"], "field 'told'"),
        (("mirrors",), True, "field 'mirrors': unknown"),
        (("pixels", "levels"), 1, "field 'pixels': levels 1"),
        (("pixels", "block"), 10**9, "field 'pixels': block 1000000000"),
        (("network", "type"), "os.system", "field 'network': type 'os.system'"),
        (("network", "grid", "levels"), 8, "network.grid"),
        (("network", "width"), 16, "ema.safetensors: .* has shape"),
        (("network", "depth"), 3, "ema.safetensors: lacks"),
        (("network", "depth"), 1, "ema.safetensors: holds"),
        (("objective", "likelihood", "type"), "Normal", "field 'objective.likelihood'"),
        (("sampling", "top_p"), 0.0, "field 'sampling': top_p 0.0"),
        (("type",), "GANRecipe", "GANRecipe"),
    ],
)
def test_a_wrong_field_of_a_recipe_is_one_error(damaged, where, value, message):
    recipe = json.loads((damaged[0] / "recipe.json").read_text())
    place = recipe
    for name in where[:-1]:
        place = place[name]
    place[where[-1]] = value
    (damaged[0] / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(InputError, match=message):
        autoregressive.load(damaged[0])


class Bomb:
    def __reduce__(self):
        return (open, ("exploded", "w"))


def test_loading_never_runs_code(damaged, monkeypatch, tmp_path):
    """Drawing does not read a training's state at all; going on with it refuses what calls something."""
    monkeypatch.chdir(tmp_path)
    (damaged[1] / "train_state.pt").write_bytes(pickle.dumps(Bomb(), protocol=2))
    assert sample(autoregressive.load(damaged[0]), 2, 0).shape == (2, 1, 8, 8)
    with pytest.raises(InputError, match="train_state.pt: damaged"):
        list(autoregressive.train(replace(TOLD, images=32, checkpoint_every=32), damaged[0], device="cpu"))
    (damaged[1] / "ema.safetensors").write_bytes(pickle.dumps(Bomb(), protocol=2))
    with pytest.raises(InputError, match="ema.safetensors: not a whole safetensors file"):
        autoregressive.load(damaged[0])
    assert not (tmp_path / "exploded").exists()


def test_a_network_without_its_first_stage_says_so():
    networks = build(CODED)
    with pytest.raises(InputError, match="first stage: missing"):
        sample((networks, CODED), 1, 0)
    networks.model.adopt(first_stage(CODED)["first_stage"])
    assert sample((networks, CODED), 1, 0).shape == (1, 3, 8, 8)
