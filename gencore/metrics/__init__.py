"""Metrics: how near is a set of samples to real images, and on which features was that measured?

`evaluate` reports everything at once. The parts: `frechet_distance`, `kernel_distance`, `precision_recall` and
`density_coverage` on features from `DigitFeatures`, `SqueezeNetFeatures` or `InceptionFeatures`; `energy_distance` and
`modes_covered` for points in few dimensions; `nearest_neighbours` to look for memorised images.

The digit classifier is trained here too: `train`, `load` and `measure` are the doors that each family has.

`adherence` asks whether pictures of shapes show what their captions say, fact by fact; the answer is exact. `bleu`
compares texts with references.

`psnr`, `ssim` and `PerceptualDistance` compare pictures pair by pair. `mutual_information_gap` asks whether the
coordinates of a code follow the known factors of the pictures one by one. `slant` and `width` measure how a digit is
written.

These networks judge. What is trained against its judge pleases the judge; the one exception, `PerceptualDistance` in the
training of autoencoders, is stated on the cards of those models.
"""

from gencore.metrics.adherence import Share, adherence, measure_adherence, new_captions
from gencore.metrics.bleu import bleu
from gencore.metrics.density_coverage import DensityCoverage, density_coverage
from gencore.metrics.disentanglement import mutual_information, mutual_information_gap
from gencore.metrics.energy import energy_distance
from gencore.metrics.features import DigitFeatures, Features, InceptionFeatures, SqueezeNetFeatures
from gencore.metrics.frechet import frechet_distance, frechet_distance_of, gaussian
from gencore.metrics.image_quality import PerceptualDistance, psnr, ssim
from gencore.metrics.judge import load, measure
from gencore.metrics.kid import KernelDistance, cubic_kernel, kernel_distance, mmd2
from gencore.metrics.loop import train
from gencore.metrics.memorisation import nearest_neighbours
from gencore.metrics.modes import Modes, modes_covered
from gencore.metrics.precision_recall import PrecisionRecall, precision_recall
from gencore.metrics.report import ClassShares, Measure, Report, evaluate
from gencore.metrics.strokes import slant, width

__all__ = [
    "ClassShares",
    "DensityCoverage",
    "DigitFeatures",
    "Features",
    "InceptionFeatures",
    "KernelDistance",
    "Measure",
    "Modes",
    "PerceptualDistance",
    "PrecisionRecall",
    "Report",
    "Share",
    "SqueezeNetFeatures",
    "adherence",
    "bleu",
    "cubic_kernel",
    "density_coverage",
    "energy_distance",
    "evaluate",
    "frechet_distance",
    "frechet_distance_of",
    "gaussian",
    "kernel_distance",
    "load",
    "measure",
    "measure_adherence",
    "mmd2",
    "modes_covered",
    "mutual_information",
    "mutual_information_gap",
    "nearest_neighbours",
    "new_captions",
    "precision_recall",
    "psnr",
    "slant",
    "ssim",
    "train",
    "width",
]
