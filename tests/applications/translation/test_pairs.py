"""Pairs show one thing twice, and no symbol is in training and held out, or in both kinds of a cycle."""

from dataclasses import replace

import pytest
import torch

from gencore.applications.translation import baselines
from gencore.applications.translation.examples import KindExamples, PairExamples, Turned
from gencore.applications.translation.pairs import Colour, Dress, Pairs, Restyle, apart
from gencore.data import Emoji, to_float
from gencore.data.figures import Figures, draw_figures, draw_sticks
from gencore.errors import InputError
from tests.applications.translation.test_loop import CYCLES, PAIRED

EMOJI = Emoji(("noto", "twemoji", "fluent3d"), size=12)


def test_restyled_pairs_go_from_each_style_to_each_other():
    task, images = Restyle(), EMOJI.load("heldout")
    pairs, count = task.pairs(EMOJI, "heldout"), len(images) // 3
    styles = images.images.view(3, count, 3, 12, 12)
    assert task.conditions(EMOJI) == (3,) and len(task.directions()) == 6
    for number, (a, b) in enumerate(task.directions()):
        rows = slice(number * count, (number + 1) * count)
        assert torch.equal(pairs.source[rows], styles[EMOJI.styles.index(a)])
        assert torch.equal(pairs.target[rows], styles[EMOJI.styles.index(b)])
        assert (pairs.cond[rows] == task.targets.index(b)).all() and pairs.cond.shape == (6 * count, 1)
        assert torch.equal(pairs.group[rows], images.labels[:count])


def test_one_direction_is_told_nothing_and_styles_may_be_in_any_order():
    task, data = Restyle(("fluent3d",), ("noto",)), EMOJI
    pairs, images = task.pairs(data, "heldout"), data.load("heldout")
    count = len(images) // 3
    assert task.conditions(data) == () and pairs.cond.shape == (count, 0)
    assert torch.equal(pairs.source, images.images[2 * count :]) and torch.equal(pairs.target, images.images[:count])


def test_lines_are_paired_with_what_they_were_found_in():
    pairs, images = Colour().pairs(EMOJI, "heldout"), EMOJI.load("heldout")
    assert torch.equal(pairs.source, Colour().edges(images.images)) and torch.equal(pairs.target, images.images)
    assert pairs.cond[:, 0].bincount().tolist() == [len(images) // 3] * 3 and Colour().conditions(EMOJI) == (3,)
    assert Colour().conditions(replace(EMOJI, styles=("noto",))) == ()


def test_stick_figures_are_paired_with_dressed_ones():
    data = Figures(size=16, images=4)
    pairs, (poses, outfits) = Dress().pairs(data, "train"), data.people("train")
    assert torch.equal(pairs.source, draw_sticks(poses, 16)) and torch.equal(pairs.target, draw_figures(poses, outfits, 16))
    assert torch.equal(pairs.cond, outfits) and Dress().conditions(data) == (4, 5, 6, 6)


def test_kinds_are_torn_apart():
    pairs = Pairs(*(torch.arange(n * 7).view(7, n) for n in (2, 3, 1, 1)))
    a, b = apart(pairs)
    assert torch.equal(a, pairs.source[[0, 2, 4, 6]]) and torch.equal(b, pairs.target[[1, 3, 5]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Restyle((), ("noto",)), "two different styles"),
        (lambda: Restyle(("noto",), ("noto",)), "two different styles"),
        (lambda: Restyle().conditions(Emoji(("noto",))), "needs the styles"),
        (lambda: Colour().conditions(Figures()), "Colour needs Emoji, but data are Figures"),
        (lambda: Dress().conditions(Emoji()), "Dress needs Figures, but data are Emoji"),
    ],
)
def test_tasks_that_make_no_sense_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_examples_are_pairs_turned_together():
    """Source and target of twins stay twins, whatever is mirrored and shifted; and batches share nothing but the seed."""
    recipe = replace(PAIRED["styles"], batch_size=32)
    images = EMOJI.load("train").images[:100]
    twins = Pairs(images, images, torch.zeros(100, 1, dtype=torch.int64), torch.zeros(100, dtype=torch.int64))
    x, y, cond, draw = PairExamples(recipe, twins, torch.device("cpu")).at(64)
    assert torch.equal(x, y) and x.shape == (32, 3, 12, 12) and cond.shape == (32, 1)
    assert draw.noise.shape == (32, 8) and draw.change.shape == (32, 7)
    plain, *_ = PairExamples(replace(recipe, mirror=False, shift=0.0), twins, torch.device("cpu")).at(64)
    same = (x == plain).flatten(1).all(1).float().mean()
    assert same < 0.5


def test_half_is_mirrored_and_shifts_go_as_far_as_asked():
    recipe = replace(PAIRED["styles"], batch_size=400, shift=0.25)
    x = torch.zeros(400, 1, 12, 12)
    x[:, :, 5, 3] = 1.0
    places = Turned(recipe, torch.device("cpu"))(x, 0, "pair").flatten(1).argmax(1)
    rows, columns = places // 12, places % 12
    assert sorted(set((rows - 5).tolist())) == list(range(-3, 4))
    mirrored = columns > 5  # 3 and 8 are more than one shift apart, but for those in between
    assert sorted(set((columns[~mirrored] - 3).tolist())) == [-3, -2, -1, 0, 1, 2]
    assert 0.4 < mirrored.float().mean() < 0.7
    straight = Turned(replace(recipe, mirror=False), torch.device("cpu"))(x, 0, "pair").flatten(1).argmax(1) % 12
    assert straight.max() == 6


def test_kinds_of_a_cycle_come_in_orders_of_their_own():
    recipe = replace(CYCLES["cycle"], mirror=False, shift=0.0, batch_size=40, history=40)
    numbers = torch.arange(80, dtype=torch.uint8).view(80, 1, 1, 1).expand(-1, 3, 12, 12)
    kinds = KindExamples(recipe, Pairs(numbers, numbers, numbers[:, 0, 0, :0].long(), numbers[:, 0, 0, 0].long()), "cpu")
    a, b, draw = kinds.at(0)
    a, b = (((each[:, 0, 0, 0] + 1) * 127.5).round().long() for each in (a, b))
    assert sorted(a.tolist()) == list(range(0, 80, 2)) and sorted(b.tolist()) == list(range(1, 80, 2))
    assert not torch.equal(a + 1, b), "neighbours do not meet each other in every epoch"
    assert draw.veil_a.shape == (40, 3, 12, 12) and draw.change.shape == (4, 40, 7)
    assert not torch.equal(draw.veil_a, draw.veil_b) and len(set(draw.change[:, 0, 0].tolist())) == 4


def flat(values):
    return torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 6, 6)


def test_the_mean_target_is_that_of_the_same_group_told_the_same():
    told, group = torch.tensor([[0], [0], [1], [0]]), torch.tensor([5, 5, 5, 2])
    train = Pairs(flat([0, 0, 0, 0]), flat([10, 30, 90, 200]), told, group)
    heldout = Pairs(flat([0] * 4), flat([0] * 4), torch.tensor([[0], [1], [0], [1]]), torch.tensor([5, 5, 2, 2]))
    expected = to_float(torch.tensor([20.0, 90, 200, 82.5]))  # the last: no such pair, so the mean of all
    torch.testing.assert_close(baselines.mean_targets(train, heldout)[:, 0, 3, 3], expected)


def test_the_linear_map_finds_a_linear_map_for_each_way_of_being_told():
    generator = torch.Generator().manual_seed(0)
    source = torch.randint(60, 200, (60, 3, 8, 8), generator=generator, dtype=torch.uint8)
    told = torch.arange(60)[:, None] % 2
    shifted = torch.cat([source[..., :1], source[..., :-1]], 3)
    swapped = (255 - source[:, [2, 1, 0]].float()).to(torch.uint8)
    target = torch.where(told[:, :, None, None] == 0, shifted, swapped)
    train, heldout = (Pairs(source[part], target[part], told[part], told[part, 0]) for part in (slice(40), slice(40, 60)))
    made = baselines.linear_patches(train, heldout)
    assert (made - to_float(heldout.target)).abs().max() < 0.01


def test_sources_are_a_baseline_where_they_have_the_targets_channels():
    pairs = Colour().pairs(EMOJI, "heldout")
    assert baselines.unchanged(pairs) is None
    pairs = Restyle().pairs(EMOJI, "heldout")
    assert torch.equal(baselines.unchanged(pairs), to_float(pairs.source))
