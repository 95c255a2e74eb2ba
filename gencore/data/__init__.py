"""Data sets in memory and the stream of batches drawn from them.

A *data spec* such as ``Digits(size=14)`` names a data set fully and is a part of a recipe; its ``load(split)`` gives an
`ImageSet`. What ships with gencore is verified against its checksum when it is read.
"""

from gencore.data.batches import Batch, Batches
from gencore.data.binarised_mnist import BinarisedMnist
from gencore.data.binarise import Binarise
from gencore.data.digits import Digits
from gencore.data.emoji import Emoji
from gencore.data.image_folder import ImageFolder
from gencore.data.image_set import ImageSet, Split, to_float, to_uint8
from gencore.data.photos import Photos, Picture, paintings, photographs
from gencore.data.pictures import read_picture
from gencore.data.resize import area_resize
from gencore.data.root import data_root
from gencore.data.shapes import Shapes
from gencore.data.tissue import Tissue, tissue_pictures
from gencore.data.torchvision_sets import CelebA, Cifar10, FashionMnist, Mnist

__all__ = [
    "Batch",
    "Batches",
    "Binarise",
    "BinarisedMnist",
    "CelebA",
    "Cifar10",
    "Digits",
    "Emoji",
    "FashionMnist",
    "ImageFolder",
    "ImageSet",
    "Mnist",
    "Photos",
    "Picture",
    "Shapes",
    "Split",
    "Tissue",
    "area_resize",
    "data_root",
    "paintings",
    "photographs",
    "read_picture",
    "tissue_pictures",
    "to_float",
    "to_uint8",
]
