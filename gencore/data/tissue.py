"""Medical pictures: patches of a retina and of a stained section of a colon.

Split by region: the lower right quarter of each picture is held out, and no training patch reaches into it.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gencore.data.image_set import ImageSet, Split, check_split
from gencore.data.photos import starts
from gencore.data.pictures import read_picture, to_tensor
from gencore.data.resize import area_resize
from gencore.data.root import ASSETS
from gencore.errors import InputError
from gencore.integrity import check_file

RETINA_SIDE = 704  # half of the original's 1411: a patch then shows a vessel and its branches
BLACK = 24  # the retina's surround is darker than this


@dataclass(frozen=True)
class Tissue:
    """Square patches; the grid's step is half a patch in training and a whole patch in the held-out split.

    Attributes
    ----------
    size : int
        Side of a patch in pixels, 16 to 128.
    """

    size: int = 64
    channels: ClassVar[int] = 3

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 128:
            raise InputError(f"size {self.size}: patches of tissue come at 16 to 128 pixels")

    def load(self, split: Split) -> ImageSet:
        """Return the patches of a split; the classes are "retina" and "colon".

        Patches of the retina that contain some of its black surround are left out.

        Raises
        ------
        InputError
            If a file that ships with gencore is missing or altered.
        """
        check_split(split)
        retina, colon = tissue_pictures()
        retina_patches = cut_region(retina, self.size, split)
        inside = (retina_patches.amax(1) >= BLACK).flatten(1).all(1)
        parts = [retina_patches[inside], cut_region(colon, self.size, split)]
        labels = torch.tensor([label for label, part in enumerate(parts) for _ in range(len(part))])
        return ImageSet(f"tissue/{split}", torch.cat(parts), labels, ("retina", "colon"))


def tissue_pictures() -> tuple[Tensor, Tensor]:
    """Return the whole pictures: retina uint8 ``(3, 704, 704)``, colon uint8 ``(3, 512, 512)``."""
    retina = to_tensor(read_picture(check_file(ASSETS / "retina.jpg")))
    colon = to_tensor(read_picture(check_file(ASSETS / "immunohistochemistry.png")))
    return area_resize(retina[None], RETINA_SIDE)[0], colon


def cut_region(image: Tensor, size: int, split: Split) -> Tensor:
    """Cut the patches of one split from a square image ``(C, H, H)``: ``(N, C, size, size)``."""
    side, half = image.shape[-1], image.shape[-1] // 2
    if split == "heldout":
        corners = [(half + y, half + x) for y in starts(half, size, size) for x in starts(half, size, size)]
    else:
        grid = starts(side, size, size // 2)
        corners = [(y, x) for y in grid for x in grid if y + size <= half or x + size <= half]
    return torch.stack([image[:, y : y + size, x : x + size] for y, x in corners])
