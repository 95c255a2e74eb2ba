"""Filling with models that only learned to draw: RePaint on whole pictures, and pixel by pixel."""

from dataclasses import replace

import pytest
import torch

from gencore import autoregressive, diffusion, zoo
from gencore.applications.inpainting import complete, is_prefix, repaint_pictures, untrained
from gencore.applications.inpainting.resampling import evaluations, jumps
from gencore.data import Digits, to_float
from gencore.errors import InputError
from tests.diffusion.test_loop import TINY

HOLE = torch.zeros(28, 28, dtype=torch.bool)
HOLE[14:] = True
FEW = dict(steps=3, length=1, resamples=2)


@pytest.fixture(scope="module")
def digits():
    return Digits().load("heldout").images[:4]


@pytest.fixture(scope="module")
def model():
    networks = diffusion.sampling.build(TINY)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in networks.model.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator)
    return networks, TINY


def test_a_fill_depends_on_its_picture_its_number_and_the_seed_only(model, digits):
    whole = repaint_pictures(model, digits, HOLE, 3, **FEW)
    assert whole.abs().max() <= 1 and torch.equal(whole[:, :, :14], to_float(digits)[:, :, :14])
    part = repaint_pictures(model, digits[2:], HOLE, 3, first=2, **FEW)
    torch.testing.assert_close(part, whole[2:], atol=1e-5, rtol=0)
    masks = HOLE.expand(4, 1, 28, 28)
    assert torch.equal(repaint_pictures(model, digits, masks, 3, **FEW), whole)
    spoiled = torch.where(HOLE, 255 - digits, digits)
    assert torch.equal(repaint_pictures(model, spoiled, HOLE, 3, **FEW), whole)
    assert not torch.allclose(repaint_pictures(model, digits, HOLE, 4, **FEW), whole, atol=1e-3)


def test_conditions_and_guidance_are_told(model, digits):
    nothing = repaint_pictures(model, digits, HOLE, 0, **FEW)
    eights = torch.full((4, 1), 8)
    told = repaint_pictures(model, digits, HOLE, 0, cond=eights, **FEW)
    guided = repaint_pictures(model, digits, HOLE, 0, cond=eights, guidance=3.0, **FEW)
    assert not torch.allclose(nothing, told, atol=1e-3) and not torch.allclose(told, guided, atol=1e-3)
    untold = torch.full((4, 1), 10)
    assert torch.equal(repaint_pictures(model, digits, HOLE, 0, cond=untold, **FEW), nothing)


def test_the_walk_is_that_of_its_jumps(model, digits, monkeypatch):
    calls = []
    real = diffusion.Denoiser.__call__
    monkeypatch.setattr(diffusion.Denoiser, "__call__", lambda self, *given: calls.append(1) or real(self, *given))
    repaint_pictures(model, digits, HOLE, 0, steps=6, length=2, resamples=3)
    assert len(calls) == evaluations(jumps(6, 2, 3))


def test_what_does_not_fit_is_refused(model, digits):
    with pytest.raises(InputError, match="this model fills uint8"):
        repaint_pictures(model, digits[:, :, :20], HOLE[:20], 0)
    with pytest.raises(InputError, match="this model fills uint8"):
        repaint_pictures(model, to_float(digits), HOLE, 0)
    with pytest.raises(InputError, match="cond"):
        repaint_pictures(model, digits, HOLE, 0, cond=torch.full((4, 1), 11))
    codes = replace(diffusion.recipes.latent_emoji())
    with pytest.raises(InputError, match="draws codes"):
        repaint_pictures((model[0], codes), digits, HOLE, 0)
    with pytest.raises(InputError, match="symbols are codes"):
        complete((None, autoregressive.recipes.tokens_emoji()), digits, HOLE, 0)


def test_pixel_by_pixel_what_is_known_stays(digits):
    pixelcnn = autoregressive.load(zoo.folder("pixelcnn_digits"))
    size = pixelcnn[1].data.size
    images, hole = pixelcnn[1].data.load("heldout").images[:2], torch.zeros(size, size, dtype=torch.bool)
    hole[size - 2 :] = True
    filled = complete(pixelcnn, images, hole, 0)
    symbols = untrained.autoregressive.sampling.to_symbols(pixelcnn, Digits(size).load("heldout").subset(torch.arange(2)))
    shown = autoregressive.sampling.to_pictures(pixelcnn, symbols)
    assert torch.equal(filled[:, :, ~hole], shown[:, :, ~hole]) and not torch.equal(filled, shown)
    assert not torch.equal(complete(pixelcnn, images, hole, 1), filled)


def test_only_what_comes_first_is_a_condition():
    assert is_prefix(HOLE) and not is_prefix(~HOLE) and not is_prefix(HOLE.T)
    within = HOLE.clone()
    within[13, 20:] = True
    assert is_prefix(within)
    within[13, 5] = True
    assert not is_prefix(within)
