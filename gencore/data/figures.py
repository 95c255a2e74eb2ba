"""Figures: dressed people in all kinds of poses, each with the stick figure that says how it stands.

A procedural data set for translating a pose into a picture. A *pose* is thirteen numbers: where the hips are, how large
the figure is, and the angles of its limbs. An *outfit* is four: which skin, hair, shirt and trousers. A figure is drawn
at any resolution from both, its stick figure from the pose alone. Drawing has a gradient with respect to the pose, so
that `gencore.data.figures_reader` can read the pose off a picture, and "is the pose kept?" has an exact answer.

Coordinates are fractions of the picture's side: ``x`` grows to the right, ``y`` downwards, (0, 0) is the top left corner.
An angle of 0 points down, a positive one turns to the right of the picture, for all limbs; the trunk's points up.
*Left* and *right* are those of the picture. The left arm is behind the trunk, the right one in front of it.

Palettes are chosen so that any two colours of one of them, and skin from shirt and trousers, differ clearly.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gencore.data.image_set import ImageSet, Split, check_split
from gencore.errors import InputError

POSE = (
    "x", "y", "size", "trunk", "head", "left upper arm", "left elbow", "right upper arm", "right elbow",
    "left thigh", "left knee", "right thigh", "right knee",
)  # fmt: skip
JOINTS = (
    "hips", "neck", "head", "left shoulder", "left elbow", "left hand", "right shoulder", "right elbow", "right hand",
    "left hip", "left knee", "left foot", "right hip", "right knee", "right foot",
)  # fmt: skip
# From where to where each bone of the stick figure goes, by numbers of joints, and its colour.
BONES = (
    (0, 1, (240, 240, 240)), (1, 2, (255, 120, 200)), (1, 3, (150, 150, 150)), (1, 6, (150, 150, 150)),
    (0, 9, (150, 150, 150)), (0, 12, (150, 150, 150)), (3, 4, (60, 140, 255)), (4, 5, (90, 220, 255)),
    (6, 7, (255, 70, 50)), (7, 8, (255, 170, 40)), (9, 10, (40, 180, 80)), (10, 11, (150, 235, 90)),
    (12, 13, (150, 80, 220)), (13, 14, (220, 160, 255)),
)  # fmt: skip

OUTFIT = ("skin", "hair", "shirt", "trousers")  # columns of `Figures.outfits`
PALETTES = (
    ((255, 219, 184), (232, 176, 128), (184, 121, 78), (112, 70, 46)),
    ((40, 34, 36), (122, 72, 38), (236, 196, 84), (196, 72, 36), (176, 176, 184)),
    ((218, 44, 56), (250, 196, 40), (44, 160, 92), (40, 110, 214), (140, 70, 180), (252, 252, 252)),
    ((44, 62, 110), (70, 70, 76), (150, 176, 214), (96, 116, 54), (120, 40, 60), (214, 196, 160)),
)
SHOES, LINE, EYES = (60, 44, 40), (46, 38, 48), (30, 26, 30)
BACKGROUND = (238, 242, 246)
NIGHT = (18, 20, 28)  # behind stick figures

MIN_SIZE = 16
EDGE = 0.04  # least room between a joint and the picture's edge, beside what surrounds the joint
TRUNK, NECK, UPPER_ARM, FOREARM, THIGH, SHIN = 0.25, 0.13, 0.145, 0.14, 0.19, 0.19  # lengths at size 1
SHOULDERS, HIPS, TOE = 0.085, 0.048, 0.05
REACH = 0.1  # of hair, hands and toes beyond the joints, at size 1
SIZES = 0.8, 1.05
# Ranges of the angles in `POSE` from the trunk on, in radians; the right half of the body mirrors the left one.
ANGLES = (
    (-0.3, 0.3), (-0.3, 0.3), (-2.9, 0.3), (-1.6, 1.1), (-0.3, 2.9), (-1.1, 1.6),
    (-0.9, 0.2), (-0.3, 1.0), (-0.2, 0.9), (-1.0, 0.3),
)  # fmt: skip
SEEDS = {"train": 31_337, "heldout": 90_210}

SKIN_PART, HAIR_PART, SHIRT_PART, TROUSERS_PART, SHOES_PART, LINE_PART, EYES_PART = range(7)  # rows of `colours_of`


@dataclass(frozen=True)
class Figures:
    """Dressed figures in poses drawn at random.

    Attributes
    ----------
    size : int
        Side of the pictures, 16 or more.
    images : int
        How many there are in the training split; the held-out split has 500.
    """

    size: int = 64
    images: int = 6_000
    channels: ClassVar[int] = 3
    conditions: ClassVar[tuple[int, ...]] = tuple(len(palette) for palette in PALETTES)

    def __post_init__(self) -> None:
        if self.size < MIN_SIZE:
            raise InputError(f"size {self.size}: figures need pictures of at least {MIN_SIZE} pixels a side")
        if self.images < 1:
            raise InputError(f"images {self.images}: must be at least 1")

    def people(self, split: Split) -> tuple[Tensor, Tensor]:
        """Return the poses, float32 ``(N, 13)``, and outfits, int64 ``(N, 4)``, of a split; the same ones at every size."""
        check_split(split)
        draw = torch.Generator().manual_seed(SEEDS[split])
        count = self.images if split == "train" else 500
        poses = sample_poses(count, draw)
        outfits = [torch.randint(len(palette), (count,), generator=draw) for palette in PALETTES]
        return poses, torch.stack(outfits, 1)

    def load(self, split: Split) -> ImageSet:
        """Return a split: pictures of the dressed figures, with the shirt's colour as the label."""
        poses, outfits = self.people(split)
        names = tuple(str(number) for number in range(len(PALETTES[2])))
        return ImageSet(f"figures/{split}", draw_figures(poses, outfits, self.size), outfits[:, 2], names)


def sample_poses(count: int, generator: torch.Generator) -> Tensor:
    """Draw poses, float32 ``(count, 13)``: angles uniform in `ANGLES`, sizes in `SIZES`, places where there is room.

    A pose that needs more room than there is makes its figure smaller.
    """
    u = torch.rand(count, len(POSE), generator=generator)
    low, high = torch.tensor(ANGLES).T
    size = SIZES[0] + (SIZES[1] - SIZES[0]) * u[:, 2:3]
    pose = torch.cat([torch.zeros(count, 2), torch.ones(count, 1), low + (high - low) * u[:, 3:]], 1)
    joints = joints_of(pose)  # (N, 15, 2) at size 1, around the hips
    least, most = joints.amin(1) - REACH, joints.amax(1) + REACH  # (N, 2)
    size = torch.minimum(size, (1 - 2 * EDGE) / (most - least).amax(1, keepdim=True))
    free = 1 - 2 * EDGE - size * (most - least)  # (N, 2), not negative
    return torch.cat([EDGE - size * least + free * u[:, :2], size, pose[:, 3:]], 1)


def joints_of(pose: Tensor) -> Tensor:
    """Return where the joints of poses ``(N, 13)`` are, ``(N, 15, 2)``, in the order of `JOINTS`; it has a gradient."""
    hips, size = pose[:, :2], pose[:, 2:3]
    trunk, head, la, le, ra, re, lt, lk, rt, rk = pose[:, 3:].unbind(1)

    def along(angle: Tensor, length: float) -> Tensor:
        return size * length * torch.stack([angle.sin(), angle.cos()], 1)  # (N, 2), downwards at 0

    up = math.pi
    across = torch.stack([trunk.cos(), trunk.sin()], 1)  # (N, 2), to the right of an upright trunk
    neck = hips + along(up - trunk, TRUNK)
    crown = neck + along(up - trunk - head, NECK)
    left_shoulder, right_shoulder = neck - size * SHOULDERS * across, neck + size * SHOULDERS * across
    left_elbow, right_elbow = left_shoulder + along(la, UPPER_ARM), right_shoulder + along(ra, UPPER_ARM)
    left_hand, right_hand = left_elbow + along(la + le, FOREARM), right_elbow + along(ra + re, FOREARM)
    left_hip, right_hip = hips - size * HIPS * across, hips + size * HIPS * across
    left_knee, right_knee = left_hip + along(lt, THIGH), right_hip + along(rt, THIGH)
    left_foot, right_foot = left_knee + along(lt + lk, SHIN), right_knee + along(rt + rk, SHIN)
    return torch.stack(
        [hips, neck, crown, left_shoulder, left_elbow, left_hand, right_shoulder, right_elbow, right_hand,
         left_hip, left_knee, left_foot, right_hip, right_knee, right_foot], 1
    )  # fmt: skip


def draw_figures(poses: Tensor, outfits: Tensor, size: int) -> Tensor:
    """Draw dressed figures: uint8 ``(N, 3, size, size)`` for poses ``(N, 13)`` and outfits, int64 ``(N, 4)``."""
    return _draw_in_parts(lambda pose, outfit: paint(pose, colours_of(outfit), size), poses, outfits, size)


def draw_sticks(poses: Tensor, size: int) -> Tensor:
    """Draw the stick figures of poses ``(N, 13)``, each bone in its colour: uint8 ``(N, 3, size, size)``."""
    return _draw_in_parts(lambda pose, _: _paint_sticks(pose, size), poses, poses, size)


def _draw_in_parts(painted, poses: Tensor, outfits: Tensor, size: int) -> Tensor:
    """Paint some figures at a time, and round: what fits the processor's cache goes fastest."""
    at_once = max(1, (1 << 18) // size**2)
    parts = [painted(p, o) for p, o in zip(poses.split(at_once), outfits.split(at_once), strict=True)]
    return torch.cat([(255 * part).round().to(torch.uint8) for part in parts])


def colours_of(outfits: Tensor) -> Tensor:
    """Return the colours of the parts of figures, from 0 to 1, ``(N, 8, 3)``; the last row is the background."""
    worn = [torch.tensor(p, device=outfits.device)[column] for p, column in zip(PALETTES, outfits.unbind(1), strict=True)]
    same = [torch.tensor(each, device=outfits.device).expand_as(worn[0]) for each in (SHOES, LINE, EYES, BACKGROUND)]
    return torch.stack([*worn, *same], 1).float() / 255


def paint(pose: Tensor, colours: Tensor, size: int) -> Tensor:
    """Draw figures in any colours; it has a gradient with respect to the pose.

    Parameters
    ----------
    pose : Tensor
        ``(N, 13)``.
    colours : Tensor
        Of each part and, in the last row, of the background: ``(N, 8, C)`` with any number of channels. With the identity
        in place of colours, each pixel says which part it shows.
    size : int
        Side of the pictures.

    Returns
    -------
    Tensor
        float32 ``(N, C, size, size)``. A pixel at a border is mixed by the share that a straight border would cover.
    """
    joints, scale = joints_of(pose), pose[:, 2]
    points = _points(size, pose.device)
    picture = colours[:, -1, :, None, None].expand(-1, -1, size, size)  # (N, C, size, size)

    def joint(name: str) -> Tensor:
        return joints[:, JOINTS.index(name)]

    def between(a: str, b: str, share: float = 0.5) -> Tensor:
        return torch.lerp(joint(a), joint(b), share)

    def toe(foot: str, side: float) -> Tensor:
        return joint(foot) + torch.stack([side * TOE * scale, torch.zeros_like(scale)], 1)

    def arm(side: str) -> list[tuple]:
        shoulder, elbow, hand = (f"{side} {name}" for name in ("shoulder", "elbow", "hand"))
        sleeve = between(elbow, hand, 0.15)
        return [
            (joint(elbow), joint(hand), 0.026, SKIN_PART), (joint(hand), joint(hand), 0.036, SKIN_PART),
            (joint(shoulder), joint(elbow), 0.042, SHIRT_PART), (joint(elbow), sleeve, 0.04, SHIRT_PART),
        ]  # fmt: skip

    def leg(side: str, way: float) -> list[tuple]:
        hip, knee, foot = (f"{side} {name}" for name in ("hip", "knee", "foot"))
        return [
            (joint(foot), toe(foot, way), 0.032, SHOES_PART),
            (joint(hip), joint(knee), 0.048, TROUSERS_PART), (joint(knee), joint(foot), 0.038, TROUSERS_PART),
        ]  # fmt: skip

    up = joint("head") - joint("neck")  # (N, 2), the length of the neck
    aside = torch.stack([-up[:, 1], up[:, 0]], 1)
    left_eye, right_eye = (joint("head") - 0.02 * up + side * 0.24 * aside for side in (-1, 1))
    trunk = [
        (joint("neck"), between("neck", "head"), 0.03, SKIN_PART),
        (joint("left hip"), joint("right hip"), 0.052, TROUSERS_PART),
        (joint("neck"), between("neck", "hips", 0.8), 0.082, SHIRT_PART),
        (joint("left shoulder"), joint("right shoulder"), 0.046, SHIRT_PART),
    ]
    head = [
        (joint("head") + 0.22 * up, joint("head") + 0.22 * up, 0.084, HAIR_PART),
        (joint("head") - 0.08 * up, joint("head") - 0.08 * up, 0.072, SKIN_PART),
    ]
    eyes = [(left_eye, left_eye, 0.011, EYES_PART), (right_eye, right_eye, 0.011, EYES_PART)]
    # From the back to the front; each group has an outline around all of it.
    for group, outlined in (
        (arm("left"), True), (leg("left", -1.0) + leg("right", 1.0), True), (trunk, True), (head, True), (eyes, False),
        (arm("right"), True),
    ):  # fmt: skip
        distances = [_distance(points, a, b) / scale[:, None, None] - radius for a, b, radius, _ in group]
        edge = size * scale[:, None, None]  # pixels in a unit of distance
        if outlined:
            nearest = torch.stack(distances).amin(0) - 0.012
            picture = _cover(picture, nearest, edge, colours[:, LINE_PART])
        for distance, (*_, part) in zip(distances, group, strict=True):
            picture = _cover(picture, distance, edge, colours[:, part])
    return picture


def _paint_sticks(pose: Tensor, size: int) -> Tensor:
    """Draw stick figures, from 0 to 1, ``(N, 3, size, size)``."""
    joints, points = joints_of(pose), _points(size, pose.device)
    picture = (torch.tensor(NIGHT, device=pose.device) / 255).view(1, 3, 1, 1).expand(len(pose), -1, size, size)
    half = max(0.014, 0.75 / size)  # at least a pixel and a half wide
    for start, end, colour in BONES:
        distance = _distance(points, joints[:, start], joints[:, end]) - half  # (N, size, size)
        picture = _cover(picture, distance, size, (torch.tensor(colour, device=pose.device) / 255).expand(len(pose), -1))
    head = joints[:, JOINTS.index("head")]
    distance = _distance(points, head, head) - 2 * half
    return _cover(picture, distance, size, (torch.tensor(BONES[1][2], device=pose.device) / 255).expand(len(pose), -1))


def _points(size: int, device: torch.device) -> Tensor:
    """Return the middles of pixels, ``(2, size, size)``, x first."""
    middle = (torch.arange(size, device=device) + 0.5) / size
    return torch.stack([middle.expand(size, size), middle[:, None].expand(size, size)])


def _distance(points: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return how far points ``(2, H, W)`` are from line segments with ends ``(N, 2)``: ``(N, H, W)``."""
    x, y = points[0] - a[:, 0, None, None], points[1] - a[:, 1, None, None]  # (N, H, W) each
    u, v = (b - a)[:, 0, None, None], (b - a)[:, 1, None, None]
    share = ((x * u + y * v) / (u * u + v * v).clamp(min=1e-12)).clamp(0, 1)
    return ((x - share * u).square() + (y - share * v).square() + 1e-12).sqrt()  # the small number keeps the slope finite


def _cover(picture: Tensor, distance: Tensor, pixels: Tensor | float, colour: Tensor) -> Tensor:
    """Paint a colour ``(N, C)`` where a distance ``(N, H, W)`` is negative, softly over one pixel."""
    share = (0.5 - distance * pixels).clamp(0, 1)[:, None]  # (N, 1, H, W)
    return torch.lerp(picture, colour[:, :, None, None], share)
