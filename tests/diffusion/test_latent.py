"""Diffusion of codes: the first stage is passed in, pictures are encoded once, samples are decoded."""

from dataclasses import replace

import pytest
import torch

from gencore import diffusion, families, vae, zoo
from gencore.data import Digits, to_float
from gencore.diffusion import DiffusionRecipe, Sampling
from gencore.diffusion.examples import Examples
from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.denoising import DenoisingUNet
from gencore.networks.dit import DiT
from gencore.networks.latent import Latent
from gencore.networks.unet import UNet
from gencore.networks.vae import VAE
from gencore.training import checkpoint, recipe_io, rng
from gencore.training.optimiser import AdamW
from gencore.vae import VAERecipe

FIRST = Autoencoder(size=14, latent=2, flat=False, width=8, multipliers=(1,), patch=2)
TINY = DiffusionRecipe(
    data=Digits(14),
    network=Latent(FIRST, DiT(size=7, channels=2, patch=1, width=8, depth=1, heads=2, conditions=(10, 2))),
    told=("class",),
    mirror=True,
    first_stage="some_autoencoder",
    sampling=Sampling("ddim", steps=3, guidance=2.0),
    optimiser=AdamW(lr=1e-3, weight_decay=0.0, warm_up=0),
    images=96,
    batch_size=16,
    log_every=16,
    checkpoint_every=48,
    ema_half_life=64,
)
MAPS = replace(
    TINY, network=Latent(FIRST, DenoisingUNet(7, UNet(2, width=8, multipliers=(1,), embedding=8), conditions=(10, 2)))
)


def first_stage(config=FIRST):
    """An untrained first stage."""
    torch.manual_seed(1)
    return VAE(config)


def run(recipe, folder=None, first=None):
    for state in diffusion.train(recipe, folder, device="cpu", first_stage=first_stage() if first is None else first):
        pass
    return state


def weights(state):
    return checkpoint.flatten({**state.networks._asdict(), "ema": state.averaged.model})


@pytest.mark.parametrize("recipe", [TINY, MAPS], ids=["tokens", "maps"])
def test_the_first_stage_stays_as_it_is_and_its_codes_are_standardised(recipe, tmp_path):
    given = first_stage()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    state = run(recipe, tmp_path, given)
    images = to_float(recipe.data.load("train").images)
    for model in (state.networks.model, state.averaged.model):
        assert all(torch.equal(model.first.state_dict()[name], value) for name, value in before.items())
        codes = model.encode(torch.cat([images, images.flip(3)]))  # of what is learned from: mirrored pictures too
        torch.testing.assert_close(codes.mean((0, 2, 3)), torch.zeros(2), atol=1e-4, rtol=0)
        torch.testing.assert_close(codes.std((0, 2, 3)), torch.ones(2), atol=1e-4, rtol=0)
    saved = checkpoint.read_tensors(checkpoint.list_checkpoints(tmp_path)[-1] / "ema.safetensors")
    assert {key.split(".")[1] for key in saved} == {"mean", "std", "denoiser"}
    loaded = diffusion.load(tmp_path, first_stage=given)
    assert torch.equal(diffusion.sample(loaded, 3, 0), diffusion.sample((state.averaged, recipe), 3, 0))
    drawing = [*state.networks.model.denoiser.parameters(), *given.decoder.parameters()]
    assert diffusion.parameters(loaded) == sum(p.numel() for p in drawing)


def test_samples_are_decoded_codes():
    """Restated for one picture: its noise, two-to-one guidance, three DDIM steps, the first stage's decoder."""
    state = run(TINY)
    model, cond = state.averaged.model, torch.tensor([[7]])
    (found,) = diffusion.sample((state.averaged, TINY), 1, seed=4, first=5, cond=cond)
    x = rng.normal_per_image(1, (1, 2, 7, 7), 4, 5)[:, 0]
    with torch.no_grad():
        for t, s in ((1, 2 / 3), (2 / 3, 1 / 3), (1 / 3, 0)):
            when = torch.tensor([t], dtype=torch.float32)
            told, untold = (x - t * model(x, when, torch.tensor([[c, 0]])) for c in (7, 10))
            clean = untold + 2 * (told - untold)
            x = (1 - s) * clean + s / t * (x - (1 - t) * clean)
        expected = model.first.decode(x * model.std + model.mean)
    torch.testing.assert_close(found[None], expected.clamp(-1, 1), atol=1e-5, rtol=1e-5)


def test_a_mirrored_picture_is_mirrored_before_it_is_encoded():
    networks = diffusion.sampling.build(TINY)
    networks.model.adopt(first_stage())
    data = TINY.data.load("train")
    examples = Examples(TINY, data, networks.model, torch.device("cpu"))
    x, cond, draw = examples.at(160)
    images = to_float(data.images[diffusion.examples.Batches(data, 16, TINY.seed).at(160).index])
    mirrored = cond[:, 1].bool()
    assert 0 < mirrored.sum() < 16 and x.shape == draw.eps.shape == (16, 2, 7, 7)
    plain, turned = networks.model.encode(images), networks.model.encode(images.flip(3))
    torch.testing.assert_close(x, torch.where(mirrored[:, None, None, None], turned, plain), atol=1e-5, rtol=1e-5)
    assert (turned - plain.flip(3)).abs().max() > 0.1, "to mirror codes would have been something else"


def test_pictures_are_encoded_once(monkeypatch):
    encoded, encode = [], VAE.encode

    def counted(self, x, cond=None):
        encoded.append(len(x))
        return encode(self, x, cond)

    monkeypatch.setattr(VAE, "encode", counted)
    run(TINY)
    assert sum(encoded) == 2 * 9_000
    encoded.clear()
    denoiser = replace(TINY.network.denoiser, conditions=(10,))
    run(replace(TINY, mirror=False, network=replace(TINY.network, denoiser=denoiser)))
    assert sum(encoded) == 9_000


def test_training_six_steps_equals_three_and_resume_three(tmp_path):
    whole = weights(run(TINY, tmp_path / "whole"))
    stream = diffusion.train(TINY, tmp_path / "halves", device="cpu", first_stage=first_stage())
    for state in stream:
        if state.images_seen == 48:
            stream.close()
    resumed = weights(run(TINY, tmp_path / "halves"))
    assert resumed.keys() == whole.keys()
    assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []


def test_every_parameter_moves():
    for recipe in (TINY, MAPS):
        before, after = (checkpoint.flatten(n._asdict()) for n in (diffusion.sampling.build(recipe), run(recipe).networks))
        assert [key for key in before if torch.equal(before[key], after[key])] == []


def test_a_first_stage_is_asked_for_where_it_belongs(tmp_path):
    with pytest.raises(InputError, match="needs its first stage, the zoo's some_autoencoder; pass it as first_stage"):
        list(diffusion.train(TINY, device="cpu"))
    with pytest.raises(InputError, match="first stage: has other sizes"):
        run(TINY, first=first_stage(replace(FIRST, width=16)))
    pixels = replace(TINY, network=DiT(size=14, width=8, patch=7, heads=2, conditions=(10, 2)), first_stage=None)
    with pytest.raises(InputError, match="first_stage: this network works on pixels"):
        run(pixels)
    for change in (dict(first_stage=None), dict(network=pixels.network)):
        with pytest.raises(InputError, match="first_stage: a Latent network names"):
            replace(TINY, **change)
    run(TINY, tmp_path)
    with pytest.raises(InputError, match="some_autoencoder; pass it as first_stage"):
        diffusion.load(tmp_path)


def test_codes_have_no_range_to_be_held_to():
    with pytest.raises(InputError, match="sampling.clip"):
        replace(TINY, sampling=Sampling(clip=True))
    state = run(TINY)
    with pytest.raises(InputError, match="sampling.clip"):
        diffusion.sample((state.averaged, TINY), 1, 0, sampling=Sampling(clip=True))


def test_the_first_stage_may_come_from_another_family(tmp_path, monkeypatch):
    """By the folder's recipe it is known who reads it."""
    autoencoder = VAERecipe(Digits(14), FIRST, vae.ELBO(vae.Gaussian()), images=64)
    for _ in vae.train(autoencoder, tmp_path / "some_autoencoder", device="cpu"):
        pass
    monkeypatch.setattr(zoo, "folder", lambda name: tmp_path / name)
    assert diffusion.first_stage(TINY) == "some_autoencoder"
    passed = families.passed_in(diffusion, TINY)
    for state in diffusion.train(TINY, tmp_path / "run", device="cpu", **passed):
        pass
    (model,), recipe = families.load(tmp_path / "run")
    assert recipe == TINY and recipe_io.from_dict(DiffusionRecipe, recipe_io.to_dict(TINY)) == TINY
    trained = vae.load(tmp_path / "some_autoencoder")[0].model.state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in model.first.state_dict().items())
    assert families.parameters(diffusion, ((model,), recipe)) == diffusion.parameters(((model,), recipe))
