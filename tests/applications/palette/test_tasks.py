"""How pictures are spoiled, and that what is drawn leads back to the picture."""

import math

import pytest
import torch
from torch.nn.functional import interpolate

from gencore.applications.palette import Damage, Holes, Instruct, Seen, Upscale, to_drawn, to_picture
from gencore.applications.palette.tasks import _block, _blur, reduce
from gencore.errors import InputError


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


X = 2 * uniform(40, 3, 16, 16) - 1
NOISE = torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def shown(task):
    return task.show(X, uniform(40, task.numbers, seed=2), NOISE)


@pytest.mark.parametrize("task", [Upscale(2), Upscale(4, gain=2.0), Holes(), Damage(), Damage(gain=1.0)], ids=repr)
def test_what_is_drawn_leads_back_to_the_picture(task):
    seen = shown(task)
    assert seen.source.shape == (40, task.seen(3), 16, 16)
    assert torch.allclose(to_picture(task, to_drawn(task, X, seen), seen), X, atol=1e-5)


def test_instructions_leave_all_to_be_drawn():
    seen = Seen(X)
    assert torch.equal(to_drawn(Instruct(), X, seen), X) and Instruct().seen(3) == 3
    assert torch.equal(to_picture(Instruct(), 3 * X, seen), (3 * X).clamp(-1, 1))


def test_a_gain_scales_what_the_first_guess_lacks():
    seen = shown(Upscale(2, gain=3.0))
    torch.testing.assert_close(to_drawn(Upscale(2, gain=3.0), X, seen), 3 * (X - seen.base))
    assert torch.equal(seen.base, seen.source)


# Enlarging


def test_a_reduced_picture_has_the_levels_of_a_file_and_the_mean_of_the_large_one():
    small = reduce(X, 4)
    assert small.shape == (40, 3, 4, 4)
    levels = small * 127.5 + 127.5
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    smooth = interpolate(X[:, :, ::8, ::8], size=(16, 16), mode="bicubic").clamp(-1, 1)
    torch.testing.assert_close(reduce(smooth, 4).mean((2, 3)), smooth.mean((2, 3)), atol=0.1, rtol=0)


def test_what_is_shown_depends_on_the_small_picture_only():
    task = Upscale(4)
    assert torch.equal(task.show(X).source, task.show_small(reduce(X, 4)).source)
    flat = torch.full((1, 3, 8, 8), 77 / 127.5 - 1)
    torch.testing.assert_close(task.show(flat).source, flat, atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="cannot be reduced 4 times"):
        task.show(X[:, :, :14])


# Holes


def test_the_network_sees_nothing_of_what_is_in_the_hole():
    task, u = Holes(), uniform(40, Holes.numbers, seed=2)
    seen, other = task.show(X, u), task.show(torch.where(task.draw(u, 16, 16) > 0, -X, X), u)
    assert torch.equal(seen.source, other.source) and torch.equal(seen.source[:, 3:], seen.hole)
    assert torch.equal(seen.source[:, :3], torch.where(seen.hole > 0, 0, X))
    assert set(seen.hole.unique().tolist()) == {0.0, 1.0}


def test_mended_pictures_keep_what_is_known_bit_by_bit():
    seen = shown(Holes())
    mended = to_picture(Holes(), torch.full_like(X, 0.5), seen)
    assert torch.equal(mended, torch.where(seen.hole > 0, torch.tensor(0.5), X))


def test_kinds_of_holes_come_in_their_shares():
    u = uniform(4000, Holes.numbers, seed=3)
    halves = Holes(0.0, 0.0).draw(u, 16, 16)
    assert (halves.mean((1, 2, 3)) == 0.5).all()
    corners = halves[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    kinds = {tuple(row) for row in corners.int().tolist()}
    assert kinds == {(1, 1, 0, 0), (0, 0, 1, 1), (1, 0, 1, 0), (0, 1, 0, 1)}
    boxes = Holes(1.0, 0.0).draw(u, 16, 16)[:, 0]
    rows, columns = boxes.amax(2), boxes.amax(1)
    assert torch.equal(boxes, rows[:, :, None] * columns[:, None, :])  # each the product of its sides
    for sides in (rows.sum(1), columns.sum(1)):
        assert 0.2 * 16 - 1 <= sides.min() and sides.max() <= 0.6 * 16 + 1 and sides.float().std() > 1
    both = Holes(0.3, 0.3).draw(u, 16, 16)
    kind = u[:, 0]
    assert torch.equal(both[kind < 0.3], boxes[kind < 0.3][:, None])
    assert torch.equal(both[kind >= 0.6], halves[kind >= 0.6])
    strokes = Holes(0.0, 1.0).draw(u, 16, 16)
    assert torch.equal(both[(kind >= 0.3) & (kind < 0.6)], strokes[(kind >= 0.3) & (kind < 0.6)])
    assert 0.05 < strokes.mean().item() < 0.4


def test_a_stroke_is_the_points_near_a_line():
    u = torch.zeros(1, Holes.numbers)
    u[0, 0], u[0, 9::4] = 0.7, 1.0  # a stroke of its first part only
    u[0, 6:10] = torch.tensor([0.25, 0.25, 0.5, 1.0])  # from (y, x)
    u[0, 10:12] = torch.tensor([0.25, 0.75])  # to
    hole = Holes(0.5, 0.5).draw(u, 100, 100)[0, 0]
    y, x = ((torch.arange(100) + 0.5) / 100)[:, None], ((torch.arange(100) + 0.5) / 100)[None]
    nearest = torch.stack([torch.hypot(y - 0.25, x - at) for at in torch.linspace(0.25, 0.75, 501)]).amin(0)
    assert ((hole > 0) == (nearest <= 0.07)).float().mean() > 0.995


# Damage


def test_no_strength_is_no_damage_but_the_levels_of_a_file():
    seen = shown(Damage(blur=0.0, noise=0.0, blocks=0.0, scratches=0.0))
    assert (seen.source - X).abs().max() <= 0.5 / 127.5 + 1e-6


def test_each_kind_of_damage_spares_half_of_the_pictures():
    nothing = dict(blur=0.0, noise=0.0, blocks=0.0, scratches=0.0)
    for field, strength in (("blur", 1.2), ("noise", 0.3), ("blocks", 0.6)):
        u = uniform(400, Damage.numbers, seed=5)
        x, noise = X.repeat(10, 1, 1, 1), NOISE.repeat(10, 1, 1, 1)
        task = Damage(**{**nothing, field: strength})
        damaged = (task.show(x, u, noise).source - x).abs().flatten(1).amax(1) > 2 / 127.5
        assert damaged.float().mean().item() == pytest.approx(0.5, abs=0.12), field


def test_noise_has_the_strength_that_is_drawn():
    task, u = Damage(blur=0.0, noise=0.3, blocks=0.0, scratches=0.0), torch.zeros(40, Damage.numbers)
    u[:, 4] = 0.5
    grey = torch.zeros_like(X)
    torch.testing.assert_close(task.show(grey, u, NOISE).source.std(), torch.tensor(0.15), atol=0.005, rtol=0)
    u[:, 1] = 0.9  # spared
    assert (task.show(grey, u, NOISE).source - grey).abs().max() <= 0.5 / 127.5 + 1e-6


def test_blur_is_that_of_a_gaussian():
    point = torch.zeros(2, 1, 15, 15)
    point[:, :, 7, 7] = 1.0
    blurred = _blur(point, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(blurred[0], point[0])
    place = torch.arange(-3.0, 4.0)
    kernel = torch.exp(-(place**2) / 2)
    kernel = kernel / kernel.sum()
    torch.testing.assert_close(blurred[1, 0, 4:11, 4:11], kernel[:, None] * kernel[None])
    flat = torch.full((2, 3, 16, 16), 0.3)
    torch.testing.assert_close(_blur(flat, torch.tensor([0.5, 1.2])), flat)


def test_blocks_are_rounded_in_their_cosine_coefficients():
    """Each of the 64 waves of a block is kept or lost by its own size; none leaks into the next block."""
    n, k = torch.arange(8.0), torch.arange(8.0)
    wave = torch.cos(math.pi * (2 * n[None] + 1) * k[:, None] / 16)  # (k, n)
    wave = wave / wave.norm(dim=1, keepdim=True)
    for row, column in ((0, 0), (0, 3), (5, 2), (7, 7)):
        x = torch.zeros(1, 1, 16, 24)
        by = 0.5 * (1 + row + column) / 8
        x[0, 0, 8:16, 8:16] = 1.3 * by * wave[row][:, None] * wave[column][None]
        rounded = _block(x, torch.tensor([0.5]))
        torch.testing.assert_close(rounded, x / 1.3, atol=1e-5, rtol=0)
        torch.testing.assert_close(_block(0.3 * x, torch.tensor([0.5])), torch.zeros_like(x), atol=1e-5, rtol=0)
    assert torch.equal(_block(x, torch.tensor([0.0])), x)


def test_scratches_are_thin_white_lines_in_a_share_of_pictures():
    task = Damage(blur=0.0, noise=0.0, blocks=0.0, scratches=0.4)
    u, dark = uniform(2000, Damage.numbers, seed=7), torch.full((2000, 1, 32, 32), -1.0)
    damaged = task.show(dark, u, torch.zeros_like(dark)).source
    assert set(damaged.unique().tolist()) == {-1.0, 1.0}
    white = (damaged > 0).float().mean((1, 2, 3))
    assert (white > 0).float().mean().item() == pytest.approx(0.4 * (1 - 0.3**3), abs=0.05)
    assert white.max() < 0.35


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Upscale(1), lambda: Upscale(4, gain=0.0), lambda: Holes(0.6, 0.6), lambda: Holes(-0.1), lambda: Damage(blur=-1.0),
        lambda: Damage(scratches=1.5), lambda: Damage(gain=0.0), lambda: Damage().show(X[:, :, :12], uniform(40, 25), NOISE[:, :, :12]),
    ],
)  # fmt: skip
def test_nonsense_is_refused(wrong):
    with pytest.raises(InputError):
        wrong()
