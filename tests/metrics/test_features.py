"""Feature networks: what they accept, what they return, and what they say when they cannot."""

import sys

import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from gencore.data import Digits, Emoji
from gencore.errors import InputError
from gencore.metrics import DigitFeatures, InceptionFeatures, SqueezeNetFeatures, features as rooms


@pytest.fixture(scope="module")
def digits():
    return Digits().load("heldout").images[:60]


@pytest.fixture(scope="module")
def emoji():
    return Emoji().load("heldout").images[::60]


@pytest.fixture(scope="module")
def squeezenet():
    return SqueezeNetFeatures(size=64)


def test_digit_features(digits):
    network = DigitFeatures()
    features = network(digits)
    assert features.shape == (60, network.dimension) and features.dtype == torch.float32
    assert features.min() >= 0 and features.std() > 0.1
    torch.testing.assert_close(DigitFeatures(batch_size=7)(digits), features)
    assert "9,000" in network.provenance and "28x28" in network.provenance


def test_digit_probabilities_are_those_of_the_classifier(digits):
    network = DigitFeatures()
    probabilities = network.probabilities(network(digits))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(60))
    labels = Digits().load("heldout").labels[:60]
    assert (probabilities.argmax(1) == labels).float().mean() >= 0.95


def test_digits_of_another_size_are_resized(digits):
    network = DigitFeatures()
    # Each pixel doubled and halved again is the pixel; a digit of half the size keeps most of its features.
    doubled = digits.repeat_interleave(2, 2).repeat_interleave(2, 3)
    labels = network.probabilities(network(digits)).argmax(1)
    assert (network.probabilities(network(doubled)).argmax(1) == labels).float().mean() > 0.9
    halved = Digits(14).load("heldout").images[:60]
    assert (network.probabilities(network(halved)).argmax(1) == labels).float().mean() > 0.8


@pytest.mark.parametrize(
    "images, message",
    [
        (torch.zeros(2, 1, 28, 28), "images: expected uint8"),
        (torch.zeros(2, 28, 28, dtype=torch.uint8), "images: expected uint8"),
        (torch.zeros(0, 1, 28, 28, dtype=torch.uint8), "images: no images"),
        (torch.zeros(2, 3, 28, 28, dtype=torch.uint8), "3 channels, but digit features need grey"),
    ],
)
def test_bad_digits_are_named(images, message):
    with pytest.raises(InputError, match=message):
        DigitFeatures()(images)


def test_squeezenet_features(squeezenet, emoji):
    features = squeezenet(emoji)
    assert features.shape == (len(emoji), 512) and features.dtype == torch.float32
    assert features.min() >= 0 and 0.3 < features.square().mean().sqrt() < 3
    torch.testing.assert_close(SqueezeNetFeatures(size=64, batch_size=3)(emoji), features, rtol=1e-4, atol=1e-4)
    assert "64x64" in squeezenet.provenance and "64" in squeezenet.name


def test_squeezenet_sees_blue_green_red_less_the_mean(squeezenet):
    # An image of ImageNet's mean colour is all zeros to the network; the same numbers in the other order are not.
    seen = []
    hook = squeezenet._network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    colour = torch.tensor([123, 117, 104], dtype=torch.uint8)[None, :, None, None].expand(1, 3, 64, 64)
    squeezenet(torch.cat([colour, colour.flip(1)]))
    hook.remove()
    assert seen[0][0].abs().max() < 0.5
    assert seen[0][1].abs().max() > 15


def test_squeezenet_takes_grey_and_any_size(squeezenet, digits):
    grey = squeezenet(digits[:3])
    torch.testing.assert_close(squeezenet(digits[:3].expand(-1, 3, -1, -1)), grey)
    large = digits[:3].repeat_interleave(5, 2).repeat_interleave(5, 3)
    assert squeezenet(large).shape == (3, 512)


def test_squeezenet_knows_what_is_alike(squeezenet):
    # The same symbol in another drawing style is nearer than another symbol, for most symbols.
    held_out = Emoji(styles=("noto", "twemoji")).load("heldout")
    noto, twemoji = squeezenet(held_out.images).chunk(2)
    nearest = torch.cdist(noto, twemoji).argmin(1)
    assert (nearest == torch.arange(len(noto))).float().mean() > 0.3  # 1 in 137 by chance


@pytest.mark.parametrize(
    "images, message",
    [
        (torch.zeros(2, 4, 32, 32, dtype=torch.uint8), "4 channels; grey .1. or RGB .3."),
        (torch.zeros(2, 3, 32, 32), "images: expected uint8"),
    ],
)
def test_bad_colour_images_are_named(squeezenet, images, message):
    with pytest.raises(InputError, match=message):
        squeezenet(images)


def test_squeezenet_needs_its_size_and_its_file(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="size is 8"):
        SqueezeNetFeatures(size=8)
    for name in (rooms.SQUEEZENET.name, "SHA256SUMS"):
        (tmp_path / name).write_bytes((rooms.SQUEEZENET.parent / name).read_bytes())
    short = tmp_path / rooms.SQUEEZENET.name
    short.write_bytes(short.read_bytes()[:-500])
    monkeypatch.setattr(rooms, "SQUEEZENET", short)
    with pytest.raises(InputError, match=f"{short.name}: checksum differs"):
        SqueezeNetFeatures()


def test_inception_without_torch_fidelity(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.delitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", raising=False)
    with pytest.raises(InputError, match="pip install torch-fidelity"):
        InceptionFeatures()


def test_inception_without_network(tmp_path, monkeypatch):
    def offline(*args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(InputError, match="weights-inception-2015-12-05-6726825d.pth: .* could not be downloaded"):
        InceptionFeatures()


def test_inception_weights_must_be_the_published_ones(tmp_path):
    with pytest.raises(InputError, match="nothing.pth: file is missing"):
        InceptionFeatures(tmp_path / "nothing.pth")
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, other)
    with pytest.raises(InputError, match="other.pth: not torch-fidelity's Inception weights"):
        InceptionFeatures(other)


class Intruder:
    """Unpickling this would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_inception_weights_never_run_code(tmp_path, monkeypatch):
    evil = tmp_path / "evil.pth"
    torch.save({"weight": Intruder(tmp_path / "owned")}, evil)
    monkeypatch.setattr(rooms, "INCEPTION_HASH", "")  # as if the checksum fitted
    with pytest.raises(InputError, match="evil.pth: not a plain file of weights"):
        InceptionFeatures(evil)
    assert not (tmp_path / "owned").exists()


def test_inception_features(tmp_path, monkeypatch, emoji, digits):
    # The published weights cannot be had offline; the way to the network and back does not depend on them.
    weights = tmp_path / "weights.pth"
    torch.save({}, weights)
    monkeypatch.setattr(rooms, "INCEPTION_HASH", "")
    monkeypatch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, weights: None)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = InceptionFeatures(weights, batch_size=2)
    features = network(emoji[:3])
    assert features.shape == (3, 2048) == (3, network.dimension) and features.dtype == torch.float32
    torch.testing.assert_close(features[2:], network._network(emoji[2:3])[0])
    torch.testing.assert_close(network(digits[:1]), network(digits[:1].expand(-1, 3, -1, -1)))
