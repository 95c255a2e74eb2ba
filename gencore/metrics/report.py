"""How good is a model? Several figures, each beside what real images would get in the model's place.

Protocol
--------
Every figure is measured against the held-out split, because a model that repeats its training images should not be
rewarded. Held-out splits are small, and all figures but the kernel distance depend on the number of images; so samples
are shuffled, cut into disjoint sets as large as the held-out split, and each set is compared with it: mean and standard
deviation over sets. The *floor* is the same with sets of training images: what real images reach, and what no model
should be expected to beat. The kernel distance, whose expectation does not depend on the number of images, is measured
on random subsets half as large as the held-out split (at most 1,000). Of fewer samples than there are held-out images
there is one set, which is compared with equally many held-out images, picked at random once for all.

All figures share one held-out split, so their standard deviations do not include that split's own chance; two models
compared on it share that chance too.

Recall counts real images in balls around samples, which grow as samples stray; so it is read beside coverage, which
counts samples in balls around real images.

Where sets are not larger than the feature dimension, a covariance cannot be estimated from them and the Fréchet
distance would measure mostly that; it is left out then, and the kernel distance is the headline.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gencore.data import ImageSet
from gencore.errors import InputError
from gencore.metrics.density_coverage import density_coverage
from gencore.metrics.features import DigitFeatures, Features, InceptionFeatures, check_images
from gencore.metrics.frechet import frechet_distance, gaussian
from gencore.metrics.kid import kernel_distance
from gencore.metrics.precision_recall import precision_recall

LARGEST_SUBSET = 1_000  # for the kernel distance, as in its paper
SEED = 0  # decides the sets; part of the protocol


@dataclass(frozen=True)
class Measure:
    """One figure beside its floor.

    Attributes
    ----------
    name : str
        What was measured.
    features : str
        On which features.
    samples : int
        How many samples of the model took part.
    set_size : int
        How many images each of the two sets held that were compared at a time.
    value, sd : float
        Mean and standard deviation over sets; ``sd`` is None if there was one set only.
    floor, floor_sd : float
        The same for real training images in the place of samples.
    sets, floor_sets : int
        How many sets were averaged over.
    """

    name: str
    features: str
    samples: int
    set_size: int
    value: float
    sd: float | None
    floor: float
    floor_sd: float | None
    sets: int
    floor_sets: int


@dataclass(frozen=True)
class ClassShares:
    """Which classes the samples belong to, as the digit classifier sees them (its most probable class).

    Attributes
    ----------
    samples : int
        How many samples were classified.
    shares, heldout_shares : dict of str to float
        Share of each class among the samples and among held-out images; each sums to 1.
    smallest : str
        The class with the smallest share of samples.
    smallest_share : float
        That share.
    confidence, heldout_confidence : float
        Mean probability of the most probable class.
    """

    samples: int
    shares: dict[str, float]
    heldout_shares: dict[str, float]
    smallest: str
    smallest_share: float
    confidence: float
    heldout_confidence: float


@dataclass(frozen=True)
class Report:
    """What `evaluate` found; ``str(report)`` is a small table.

    Attributes
    ----------
    train, heldout : str
        Names of the real images.
    heldout_size : int
        How many held-out images there are.
    features, provenance : str
        Name of the feature network, and where it comes from.
    samples : int
        How many samples were given.
    frechet : Measure or None
        Fréchet distance, lower is better; None if the held-out split is too small for these features (``note`` says so).
    kernel : Measure
        Kernel distance (MMD²), lower is better.
    precision, recall : Measure
        Improved precision and recall, higher is better.
    density, coverage : Measure
        Density and coverage, higher is better.
    classes : ClassShares or None
        For digits only, on features of the digit classifier.
    note : str
        What was left out, and why; often empty.
    """

    train: str
    heldout: str
    heldout_size: int
    features: str
    provenance: str
    samples: int
    frechet: Measure | None
    kernel: Measure
    precision: Measure
    recall: Measure
    density: Measure
    coverage: Measure
    classes: ClassShares | None
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.samples:,} samples against {self.heldout} ({self.heldout_size:,} images), on {self.features}",
            f"{'':24}{'samples':>18}   {'real against real':>18}   sets",
        ]
        distances, shares = (self.frechet, self.kernel), (self.precision, self.recall, self.density, self.coverage)
        arrows = [(measure, "↓") for measure in distances if measure] + [(measure, "↑") for measure in shares]
        for measure, arrow in arrows:
            value, floor = _plus_minus(measure.value, measure.sd), _plus_minus(measure.floor, measure.floor_sd)
            sets = f"{measure.sets} and {measure.floor_sets} of {measure.set_size:,}"
            lines.append(f"{measure.name + ' ' + arrow:24}{value:>18}   {floor:>18}   {sets}")
        if self.classes:
            shares = " ".join(f"{name}: {100 * share:.1f}" for name, share in self.classes.shares.items())
            lines.append(f"Class shares in %: {shares}; smallest {self.classes.smallest}")
            lines.append(
                f"Mean confidence of the classifier: {self.classes.confidence:.3f} "
                f"(held-out {self.classes.heldout_confidence:.3f})"
            )
        return "\n".join(lines + ([self.note] if self.note else []))


def _plus_minus(value: float, sd: float | None) -> str:
    """Print both numbers with the decimals that give the larger one three significant digits, four at most."""
    largest = max(abs(value), sd or 0.0)
    decimals = 2 - math.floor(math.log10(largest)) if largest > 0 else 0
    decimals = min(max(decimals, 0), 4)
    return f"{value:,.{decimals}f}" + ("" if sd is None else f" ± {sd:,.{decimals}f}")


def evaluate(samples: Tensor, train: ImageSet, heldout: ImageSet, features: Features) -> Report:
    """Measure a model's samples against held-out images, beside the floor that real images set.

    Parameters
    ----------
    samples : Tensor
        uint8 ``(N, C, H, W)``, of the shape of the real images, N at least 8. Headline results use 10,000.
    train, heldout : ImageSet
        The real images, at least 8 held out; ``train`` has at least as many as are compared at a time.
    features : Features
        Such as `DigitFeatures` or `SqueezeNetFeatures`.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        If there are too few images on any side, or their shapes differ.
    """
    size = min(len(samples), len(heldout))
    sides = ((samples, "samples", 8), (train.images, train.name, size), (heldout.images, heldout.name, 8))
    for images, name, least in sides:
        check_images(images, name)
        if images.shape[1:] != heldout.images.shape[1:]:
            shapes = f"{tuple(images.shape[1:])}, but {heldout.name} has {tuple(heldout.images.shape[1:])}"
            raise InputError(f"{name}: images are {shapes}; bring them to one size and colour")
        if len(images) < least:
            raise InputError(f"{name}: {len(images)} images are too few; at least {least} are needed")
    notes = []
    real = features(heldout.images)  # (M, D)
    if size < len(heldout):
        real = _shuffled(real)[:size]
        notes.append(f"Only {size:,} of the {len(heldout):,} held-out images were compared, as many as there are samples.")
    generated, trained = (_shuffled(features(images)) for images in (samples, train.images))  # (N, D)
    groups, floor_groups = (rows[: len(rows) // size * size].split(size) for rows in (generated, trained))

    def over_sets(name: str, measure: Callable[[Tensor], float]) -> Measure:
        """Compare each set with the held-out images, for the samples and for the floor."""
        values, floors = ([measure(group) for group in sets] for sets in (groups, floor_groups))
        return _measure(name, features.name, size, values, floors)

    def both_over_sets(names: tuple[str, str], measure: Callable[[Tensor, Tensor], tuple]) -> list[Measure]:
        """Do the same with a measure that finds two figures at once."""
        values, floors = ([measure(group, real) for group in sets] for sets in (groups, floor_groups))
        by_figure = zip(names, zip(*values), zip(*floors), strict=True)
        return [_measure(name, features.name, size, ours, theirs) for name, ours, theirs in by_figure]

    frechet = None
    if size > features.dimension:
        target = gaussian(real)
        name = "FID" if isinstance(features, InceptionFeatures) else "Fréchet distance"
        frechet = over_sets(name, lambda group: frechet_distance(*gaussian(group), *target))
    else:
        what = "held-out images" if size == len(heldout) else "images a set"
        notes.append(
            f"No Fréchet distance: {size:,} {what} are too few to estimate a covariance of {features.dimension} "
            "features. The kernel distance is the headline."
        )
    precision, recall = both_over_sets(("Precision", "Recall"), precision_recall)
    density, coverage = both_over_sets(("Density", "Coverage"), density_coverage)
    # Clothes have ten classes too, which a classifier of digits knows nothing about.
    digits = isinstance(features, DigitFeatures) and heldout.classes == features.classes
    return Report(
        train=train.name,
        heldout=heldout.name,
        heldout_size=len(heldout),
        features=features.name,
        provenance=features.provenance,
        samples=len(samples),
        frechet=frechet,
        kernel=_kernel(features, generated, trained, real),
        precision=precision,
        recall=recall,
        density=density,
        coverage=coverage,
        classes=_class_shares(features, generated, real) if digits else None,
        note=" ".join(notes),
    )


def _shuffled(rows: Tensor) -> Tensor:
    """Return rows in a fixed random order: data sets and samplers often come sorted by class."""
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(SEED))]


def _measure(name: str, features: str, size: int, values: Sequence[float], floors: Sequence[float]) -> Measure:
    return Measure(
        name=name,
        features=features,
        samples=len(values) * size,
        set_size=size,
        value=statistics.fmean(values),
        sd=statistics.stdev(values) if len(values) > 1 else None,
        floor=statistics.fmean(floors),
        floor_sd=statistics.stdev(floors) if len(floors) > 1 else None,
        sets=len(values),
        floor_sets=len(floors),
    )


def _kernel(features: Features, generated: Tensor, trained: Tensor, real: Tensor) -> Measure:
    size, subsets = min(LARGEST_SUBSET, len(real) // 2), 100
    ours, floor = (kernel_distance(rows, real, subsets, size) for rows in (generated, trained))
    name = "KID" if isinstance(features, InceptionFeatures) else "Kernel distance"
    return Measure(name, features.name, len(generated), size, ours.mean, ours.sd, floor.mean, floor.sd, subsets, subsets)


def _class_shares(features: DigitFeatures, generated: Tensor, real: Tensor) -> ClassShares:
    ours, theirs = (features.probabilities(rows).max(1) for rows in (generated, real))
    shares, heldout_shares = (_shares(found.indices, features.classes) for found in (ours, theirs))
    smallest = min(shares, key=shares.__getitem__)
    confidence, heldout_confidence = (found.values.mean().item() for found in (ours, theirs))
    return ClassShares(
        len(generated), shares, heldout_shares, smallest, shares[smallest], confidence, heldout_confidence
    )


def _shares(labels: Tensor, classes: tuple[str, ...]) -> dict[str, float]:
    counts = labels.bincount(minlength=len(classes)).tolist()
    return {name: count / len(labels) for name, count in zip(classes, counts, strict=True)}
