"""The game on codes: the first stage is passed in, pictures are encoded once, samples are decoded."""

from dataclasses import replace

import pytest
import torch

from gencore import gan
from gencore.data import Digits, to_float
from gencore.errors import InputError
from gencore.gan.examples import Examples
from gencore.gan.recipes import GANRecipe, style_emoji
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.coded_stylegan2 import CodedStyleGAN2
from gencore.networks.stylegan2 import StyleGAN2
from gencore.networks.vae import VAE
from gencore.training import checkpoint, recipe_io, rng

FIRST = Autoencoder(size=14, latent=2, flat=False, width=8, multipliers=(1,), patch=2)
GAME = StyleGAN2(7, 2, style=8, mapping=1, width=8, max_width=8, judge_width=8, judge_max_width=8, conditions=(10, 2))
TINY = GANRecipe(
    data=Digits(14),
    network=CodedStyleGAN2(FIRST, GAME),
    penalties=(gan.R1(every=2), gan.PathLength(every=2)),
    told=("class",),
    mirror=True,
    first_stage="some_autoencoder",
    images=96,
    batch_size=16,
    log_every=16,
    checkpoint_every=48,
    ema_half_life=64,
)


def first_stage(config=FIRST):
    """An untrained first stage."""
    torch.manual_seed(1)
    return VAE(config)


def run(recipe=TINY, folder=None, first=None):
    for state in gan.train(recipe, folder, device="cpu", first_stage=first_stage() if first is None else first):
        pass
    return state


def test_the_first_stage_stays_as_it_is_and_its_codes_are_standardised(tmp_path):
    given = first_stage()
    before = {key: value.clone() for key, value in given.state_dict().items()}
    state = run(folder=tmp_path, first=given)
    assert all(torch.equal(before[key], value) for key, value in given.state_dict().items())
    assert not any("first" in key for key in checkpoint.flatten(state.networks._asdict()))
    x = to_float(Digits(14).load("train").images)
    for pictures in (x, x.flip(3)):
        codes = state.networks.generator.encode(pictures)
        assert codes.mean().abs() < 0.05 and (codes.std() - 1).abs() < 0.05
    networks, recipe = gan.load(tmp_path, first_stage=given)
    assert recipe == TINY
    for key in ("mean", "std"):
        assert torch.equal(getattr(networks.generator, key), getattr(state.networks.generator, key))
    assert not torch.equal(networks.generator.mean, torch.zeros(2, 1, 1))


def test_examples_are_the_codes_of_the_pictures_that_were_told():
    generator = gan.build(TINY).generator
    generator.adopt(first_stage())
    data = Digits(14).load("train")
    examples = Examples(TINY, data, generator, torch.device("cpu"))
    x, cond, draw, changes = examples.at(0)
    assert x.shape == (16, 2, 7, 7) and cond.shape == (16, 2) and draw.direction.shape == x.shape and changes is None
    pixels = Examples(replace(TINY, network=GAME_ON_PIXELS, first_stage=None, penalties=()), data, generator=None, device="cpu")
    shown, told, *_ = pixels.at(0)
    assert torch.equal(told, cond) and 0 < told[:, 1].sum() < 16
    torch.testing.assert_close(x, generator.encode(shown), rtol=1e-4, atol=1e-4)  # mirrored before they are encoded


GAME_ON_PIXELS = StyleGAN2(14, 1, style=8, mapping=1, width=8, max_width=8, conditions=(10, 2))


def test_samples_are_decoded_codes():
    networks = gan.build(TINY)
    networks.generator.adopt(first_stage())
    networks.generator.eval()
    cond = torch.arange(5)[:, None]
    images = gan.sample((networks, TINY), 5, seed=3, cond=cond)
    assert images.shape == (5, 1, 14, 14)
    z = rng.normal_per_image(5, (TINY.network.latent,), 3)
    with torch.no_grad():
        codes = networks.generator(z, torch.cat([cond, torch.zeros_like(cond)], 1))
        torch.testing.assert_close(images, networks.generator.decode(codes).clamp(-1, 1))
    decoder = sum(p.numel() for p in networks.generator.first.decoder.parameters())
    assert gan.parameters((networks, TINY)) == decoder + sum(p.numel() for p in networks.generator.parameters())


def test_training_six_steps_equals_three_and_resume_three(tmp_path):
    whole = checkpoint.flatten(run(folder=tmp_path / "whole").averaged._asdict())
    stream = gan.train(TINY, tmp_path / "halves", device="cpu", first_stage=first_stage())
    for state in stream:
        if state.images_seen == 48:
            stream.close()
    resumed = checkpoint.flatten(run(folder=tmp_path / "halves").averaged._asdict())
    assert resumed.keys() == whole.keys() and all(torch.equal(resumed[key], whole[key]) for key in whole)
    assert whole["generator.mean_path"] > 0


def test_a_first_stage_is_asked_for_where_it_belongs(tmp_path):
    with pytest.raises(InputError, match="needs its first stage, the zoo's some_autoencoder; pass it as first_stage"):
        next(gan.train(TINY, device="cpu"))
    with pytest.raises(InputError, match="first stage: has other sizes"):
        run(first=first_stage(replace(FIRST, width=16)))
    pixels = replace(TINY, network=GAME_ON_PIXELS, first_stage=None)
    with pytest.raises(InputError, match="first_stage: this network works on pixels"):
        run(pixels)
    for change in (dict(first_stage=None), dict(network=GAME_ON_PIXELS)):
        with pytest.raises(InputError, match="first_stage: a network that works on codes needs it"):
            replace(TINY, **change)
    with pytest.raises(InputError, match=r"game: paints codes of shape \(4, 8, 8\), but the first stage makes \(2, 7, 7\)"):
        CodedStyleGAN2(FIRST, StyleGAN2(8, 4))
    assert gan.first_stage(TINY) == "some_autoencoder" and gan.first_stage(pixels) is None


def test_the_recipe_survives_its_file(tmp_path):
    for recipe in (TINY, style_emoji()):
        checkpoint.write_json(tmp_path / "recipe.json", recipe_io.to_dict(recipe))
        assert recipe_io.read(GANRecipe, tmp_path / "recipe.json") == recipe
