"""The report: real images sit at the floor, and each fault of a model shows where it should."""

import dataclasses
import json

import pytest
import torch

from gencore.data import Digits, ImageSet
from gencore.errors import InputError
from gencore.metrics import (
    DigitFeatures,
    InceptionFeatures,
    density_coverage,
    evaluate,
    frechet_distance_of,
    precision_recall,
)
from gencore.metrics.kid import kernel_distance


@pytest.fixture(scope="module")
def world():
    """Training images, held-out images, and unseen real ones that play the perfect model; a small protocol."""
    train, heldout = Digits().load("train"), Digits().load("heldout")
    return train.subset(torch.arange(1200)), heldout.subset(torch.arange(300)), train.subset(torch.arange(2000, 4400))


@pytest.fixture(scope="module")
def features():
    return DigitFeatures()


@pytest.fixture(scope="module")
def perfect(world, features):
    train, heldout, unseen = world
    return evaluate(unseen.images, train, heldout, features)


def figures(report):
    distances = (report.frechet, report.kernel)
    return (*distances, report.precision, report.recall, report.density, report.coverage)


def noisy(images, sd):
    draw = torch.Generator().manual_seed(0)
    return (images + sd * torch.randn(images.shape, generator=draw)).round().clamp(0, 255).to(torch.uint8)


def test_real_images_sit_at_the_floor(perfect):
    for measure in figures(perfect):
        assert abs(measure.value - measure.floor) < 2 * (measure.sd + measure.floor_sd), measure
        assert measure.floor_sd > 0
    assert all(share > 0.06 for share in perfect.classes.shares.values())
    assert abs(perfect.classes.confidence - perfect.classes.heldout_confidence) < 0.01


def test_every_figure_states_features_counts_and_floor(perfect):
    for measure in set(figures(perfect)) - {perfect.kernel}:
        assert measure.features == "digit-classifier features"
        assert (measure.samples, measure.set_size, measure.sets, measure.floor_sets) == (2400, 300, 8, 4)
    names = ["Fréchet distance", "Kernel distance", "Precision", "Recall", "Density", "Coverage"]
    assert [measure.name for measure in figures(perfect)] == names
    assert all(f"\n{name} " in str(perfect) for name in names)
    assert (perfect.kernel.samples, perfect.kernel.set_size) == (2400, 150)
    text = str(perfect)
    for part in ("2,400 samples", "digits/heldout (300 images)", "digit-classifier features", "real against real"):
        assert part in text
    assert "FID" not in text and "KID" not in text
    plain = json.loads(json.dumps(perfect.to_dict()))
    assert plain["frechet"]["floor"] == perfect.frechet.floor and plain["classes"]["samples"] == 2400


def test_noise_is_far_above_the_floor(world, features, perfect):
    train, heldout, unseen = world
    report = evaluate(torch.randint_like(unseen.images[:300], 256), train, heldout, features)
    assert report.frechet.value > 50 * report.frechet.floor
    assert report.kernel.value > 50 * perfect.kernel.sd
    assert all(measure.value < 0.05 for measure in figures(report)[2:])
    assert report.frechet.sd is None and report.frechet.sets == 1  # one set has no spread


def test_precision_falls_on_noisy_images(world, features, perfect):
    train, heldout, unseen = world
    report = evaluate(noisy(unseen.images[:900], 80), train, heldout, features)
    assert report.precision.value < perfect.precision.value - 0.2
    assert report.density.value < perfect.density.value - 0.3
    assert report.frechet.value > 5 * perfect.frechet.value
    assert report.classes.confidence < perfect.classes.confidence - 0.02


def test_a_dropped_class_shows(world, features, perfect):
    train, heldout, unseen = world
    without = unseen.subset(unseen.labels != 3)
    report = evaluate(without.images, train, heldout, features)
    assert report.classes.smallest == "3" and report.classes.smallest_share < 0.01
    assert sum(report.classes.shares.values()) == pytest.approx(1)
    assert report.recall.value < perfect.recall.value - 0.03
    assert report.coverage.value < perfect.coverage.value - 0.05
    assert report.precision.value > perfect.precision.value - 0.03
    assert report.frechet.value > 2 * perfect.frechet.value


def test_samples_sorted_by_class_are_shuffled_first(world, features, perfect):
    train, heldout, unseen = world
    report = evaluate(unseen.images[unseen.labels.argsort()], train, heldout, features)
    assert report.frechet.value == pytest.approx(perfect.frechet.value, rel=0.3)
    assert report.frechet.sd < 3 * perfect.frechet.sd


class Pixels:
    """A feature network for these tests: pixels on a coarse grid."""

    name, provenance = "coarse pixels", "made for this test"

    def __init__(self, side):
        self.side, self.dimension = side, side * side

    def __call__(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, self.side).flatten(1)


def test_each_figure_is_that_of_its_own_measure(world):
    train, heldout, unseen = world
    report = evaluate(unseen.images[:300], train, heldout, Pixels(4))
    ours, real = Pixels(4)(unseen.images[:300]), Pixels(4)(heldout.images)
    direct = (frechet_distance_of(ours, real), *precision_recall(ours, real), *density_coverage(ours, real))
    assert [measure.value for measure in figures(report) if measure != report.kernel] == pytest.approx(direct)


def test_fewer_samples_are_compared_with_equally_many_held_out_images(world):
    train, heldout, unseen = world
    report = evaluate(unseen.images[:120], train, heldout, Pixels(4))
    assert (report.samples, report.heldout_size) == (120, 300)
    for measure in set(figures(report)) - {report.kernel}:
        assert (measure.samples, measure.set_size, measure.sets, measure.floor_sets) == (120, 120, 1, 10)
        assert abs(measure.value - measure.floor) < 4 * measure.floor_sd, measure  # at the floor of that size
    assert report.kernel.set_size == 60
    assert report.note == "Only 120 of the 300 held-out images were compared, as many as there are samples."
    assert report.note in str(report) and "120 samples against digits/heldout (300 images)" in str(report)
    picked = heldout.images[torch.randperm(300, generator=torch.Generator().manual_seed(0))[:120]]
    direct = density_coverage(Pixels(4)(unseen.images[:120]), Pixels(4)(picked))
    assert (report.density.value, report.coverage.value) == direct
    few = evaluate(unseen.images[:8], train, heldout, Pixels(4))
    assert few.frechet is None and "8 images a set are too few" in few.note


def test_class_shares_are_said_of_digits_only(world, features):
    train, heldout, unseen = world
    clothes = dataclasses.replace(heldout, name="fashion-mnist/heldout", classes=tuple("abcdefghij"))
    report = evaluate(unseen.images[:300], train, clothes, features)
    assert report.classes is None and report.to_dict()["classes"] is None
    assert "Class shares" not in str(report) and "confidence" not in str(report)
    assert "Class shares" in str(evaluate(unseen.images[:300], train, heldout, features))


def test_no_frechet_distance_when_the_held_out_split_is_too_small(world):
    train, heldout, unseen = world
    report = evaluate(unseen.images[:600], train, heldout.subset(torch.arange(49)), Pixels(7))
    assert report.frechet is None and "49 held-out images are too few" in report.note
    assert "Fréchet distance ↓" not in str(report) and report.note in str(report)
    assert report.kernel.set_size == 24
    assert report.classes is None  # only the digit classifier knows classes
    assert evaluate(unseen.images[:600], train, heldout.subset(torch.arange(50)), Pixels(7)).frechet is not None


def test_the_kernel_distance_is_that_of_all_samples(world):
    train, heldout, unseen = world
    report = evaluate(unseen.images[:700], train, heldout, Pixels(4))
    order = torch.randperm(700, generator=torch.Generator().manual_seed(0))
    direct = kernel_distance(Pixels(4)(unseen.images[order]), Pixels(4)(heldout.images), 100, 150)
    assert report.kernel.value == direct.mean and report.kernel.sd == direct.sd
    assert report.precision.samples == 600 and report.precision.sets == 2  # the last hundred make no whole set


def test_only_inception_may_be_called_fid(world, monkeypatch):
    train, heldout, unseen = world
    inception = object.__new__(InceptionFeatures)
    monkeypatch.setattr(InceptionFeatures, "dimension", 16)
    monkeypatch.setattr(InceptionFeatures, "__call__", lambda self, images: Pixels(4)(images))
    report = evaluate(unseen.images[:300], train, heldout, inception)
    assert report.frechet.name == "FID" and report.kernel.name == "KID"
    report = evaluate(unseen.images[:300], train, heldout, Pixels(4))
    assert report.frechet.name == "Fréchet distance" and report.kernel.name == "Kernel distance"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s, t, h: (s[:7], t, h), "samples: 7 images are too few; at least 8"),
        (lambda s, t, h: (s[:0], t, h), "samples: no images"),
        (lambda s, t, h: (s.float(), t, h), "samples: expected uint8"),
        (lambda s, t, h: (s[..., :14], t, h), r"samples: images are \(1, 28, 14\), but digits/heldout has \(1, 28, 28\)"),
        (lambda s, t, h: (s, t.subset(torch.arange(10)), h), "digits/train: 10 images are too few; at least 300"),
        (lambda s, t, h: (s, t, h.subset(torch.arange(5))), "digits/heldout: 5 images are too few; at least 8"),
        (lambda s, t, h: (s, t, ImageSet("x", h.images[:0], h.labels[:0], h.classes)), "x: no images"),
    ],
)
def test_bad_input_is_named(world, change, message):
    train, heldout, unseen = world
    with pytest.raises(InputError, match=message):
        evaluate(*change(unseen.images[:400], train, heldout), Pixels(4))
