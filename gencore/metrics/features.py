"""Feature networks: what turns images into the vectors that distances are measured on.

A distance means nothing without its features, so each network states its name, dimension and provenance, and reports
repeat them. Only a Fréchet distance on `InceptionFeatures` may be called FID.

Features judge, they do not guide: a model that trains on them, or samples with their help, is rewarded for pleasing the
judge instead of resembling the data. One kind of model does, and its card says so: autoencoders that compare pictures in
the lower layers of SqueezeNet (`gencore.metrics.image_quality.PerceptualDistance`). Judge those by another network too.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from gencore import zoo
from gencore.data import to_float
from gencore.errors import InputError
from gencore.integrity import check_file, sha256
from gencore.metrics.judge import load
from gencore.training import distributed

SQUEEZENET = Path(__file__).parents[1] / "data" / "assets" / "squeezenet11_fp16.npz"
MEAN_COLOUR = (104.006, 116.669, 122.679)  # of ImageNet, in the order of SqueezeNet's weights: blue, green, red
INCEPTION_HASH = "6726825d"  # first digits of the SHA-256, part of the file's published name


class Features(Protocol):
    """What a feature network offers.

    Attributes
    ----------
    name : str
        Completes "distance on ...".
    dimension : int
        D, the length of a feature vector.
    provenance : str
        What the network was trained on, by whom, and how images are fitted to its input.
    """

    name: str
    dimension: int
    provenance: str

    def __call__(self, images: Tensor) -> Tensor:
        """Return float32 ``(N, D)`` on the CPU for images uint8 ``(N, C, H, W)``."""
        ...


class DigitFeatures:
    """The penultimate layer of this library's digit classifier, 64 numbers, none negative.

    Images of another size than 28x28 are resized to it: bilinear, antialiased where they shrink.

    What the classifier was trained to ignore, its features see dimly: Gaussian noise of 10 grey levels changes a
    report's figures hardly, of 30 clearly. And it has seen nothing but digits: pictures of nothing at all can be an "8"
    with full confidence, so class shares and confidence mean something only beside a small distance.

    Parameters
    ----------
    folder : Path or str, optional
        A classifier's folder; by default that of the zoo.
    device : torch.device or str
        Where it runs.
    batch_size : int
        Images computed at once.

    Raises
    ------
    InputError
        If the weights are missing, truncated or altered.
    """

    name = "digit-classifier features"

    def __init__(
        self, folder: Path | str | None = None, device: torch.device | str = "cpu", batch_size: int = 256
    ) -> None:
        (self._network,), recipe = load(folder or zoo.folder("digit_classifier"))
        self._network.to(device)
        self._device, self._batch_size, self._size = device, batch_size, recipe.data.size
        self.dimension = recipe.network.features
        self.classes = tuple("0123456789")
        self.provenance = (
            f"penultimate layer ({self.dimension} numbers) of gencore's digit_classifier, trained on the 9,000 training "
            f"digits; input {self._size}x{self._size}, other sizes resized bilinearly with antialiasing"
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Return float32 ``(N, 64)`` on the CPU for grey digits uint8 ``(N, 1, H, W)``.

        Raises
        ------
        InputError
            If the images are not uint8, or not grey.
        """
        check_images(images, "images")
        if images.shape[1] != 1:
            raise InputError(f"images: {images.shape[1]} channels, but digit features need grey images (N, 1, H, W)")
        return _in_batches(self._features, images, self._batch_size, self.dimension)

    def _features(self, images: Tensor) -> Tensor:
        x = _resize(to_float(images.to(self._device)), self._size)  # (B, 1, 28, 28)
        return self._network.features(x)  # (B, 64)

    @torch.inference_mode()
    def probabilities(self, features: Tensor) -> Tensor:
        """Return class probabilities ``(N, 10)`` for features ``(N, 64)`` that this network gave."""
        return self._network.head(features.to(self._device)).softmax(1).cpu()


class SqueezeNetFeatures:
    """The last fire module of SqueezeNet 1.1 trained on ImageNet, averaged over positions: 512 numbers.

    Iandola et al. 2016, https://arxiv.org/abs/1602.07360. Images of any size are resized to ``size`` x ``size``:
    bilinear, antialiased where they shrink. Grey images are repeated in the three colour channels. The averages are
    divided by 6, which makes their root mean square on emoji and on photographs about 1.

    On 32-pixel emoji, 128 pixels tell real images from slightly blurred, noisy or recombined ones several times more
    surely than 64 pixels do; that is why small images are enlarged.

    Parameters
    ----------
    size : int
        Side to which images are resized. Numbers measured with different sizes are not comparable.
    device : torch.device or str
        Where it runs.
    batch_size : int
        Images computed at once.

    Raises
    ------
    InputError
        If the shipped weights are missing, truncated or altered.
    """

    dimension = 512

    def __init__(self, size: int = 128, device: torch.device | str = "cpu", batch_size: int = 32) -> None:
        if size < 32:
            raise InputError(f"size is {size}; SqueezeNet needs at least 32")
        self.name = f"SqueezeNet features at {size} px"
        self.provenance = (
            "last fire module (512 numbers, averaged over positions) of SqueezeNet 1.1 trained on ImageNet, half-precision "
            f"weights; input {size}x{size}, resized bilinearly with antialiasing, grey repeated in three channels; divided by 6"
        )
        self._size, self._device, self._batch_size = size, device, batch_size
        # Channels last: half the time on a CPU (2.5 instead of 6 ms an image at 128 px, one thread).
        self._network = squeezenet().to(device, memory_format=torch.channels_last)
        self._mean = torch.tensor(MEAN_COLOUR, device=device)[:, None, None]

    def __call__(self, images: Tensor) -> Tensor:
        """Return float32 ``(N, 512)`` on the CPU for images uint8 ``(N, 1 or 3, H, W)``.

        Raises
        ------
        InputError
            If the images are not uint8, or have neither 1 nor 3 channels.
        """
        return _in_batches(self._features, as_colour(images), self._batch_size, self.dimension)

    def _features(self, images: Tensor) -> Tensor:
        x = _resize(images.to(self._device).float(), self._size)  # (B, 3, S, S)
        return self._network(x.flip(1) - self._mean).mean((2, 3)) / 6  # (B, 512)


class InceptionFeatures:
    """The pooled features of the Inception-v3 that FID is defined on, through torch-fidelity: 2048 numbers.

    torch-fidelity (``pip install torch-fidelity``) and its weights file are not part of this library. The file is looked
    for at ``weights``, then in PyTorch's download cache, and then downloaded to there.

    Parameters
    ----------
    weights : Path or str, optional
        The file ``weights-inception-2015-12-05-6726825d.pth`` of torch-fidelity.
    device : torch.device or str
        Where it runs.
    batch_size : int
        Images computed at once.

    Raises
    ------
    InputError
        If torch-fidelity is not installed, or its weights cannot be had or are not the published ones.
    """

    name = "Inception features"
    dimension = 2048
    provenance = (
        "pooled features (2048 numbers) of the Inception-v3 of 2015-12-05, trained on ImageNet, as torch-fidelity "
        "converts it; input 299x299, resized bilinearly as in the original graph, grey repeated in three channels"
    )

    def __init__(
        self, weights: Path | str | None = None, device: torch.device | str = "cpu", batch_size: int = 64
    ) -> None:
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
        except ImportError:
            raise InputError("InceptionFeatures: torch-fidelity is not installed; pip install torch-fidelity") from None
        weights = Path(weights) if weights else _download(URL_INCEPTION_V3)
        _check_inception(weights)
        network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(weights))
        self._network = network.to(device)
        self._device, self._batch_size = device, batch_size

    def __call__(self, images: Tensor) -> Tensor:
        """Return float32 ``(N, 2048)`` on the CPU for images uint8 ``(N, 1 or 3, H, W)``.

        Raises
        ------
        InputError
            If the images are not uint8, or have neither 1 nor 3 channels.
        """
        return _in_batches(self._features, as_colour(images), self._batch_size, self.dimension)

    def _features(self, images: Tensor) -> Tensor:
        return self._network(images.to(self._device))[0]  # (B, 2048)


def check_images(images: Tensor, name: str) -> None:
    """Raise `InputError` unless images are uint8 ``(N, C, H, W)`` with at least one image."""
    if images.dtype != torch.uint8 or images.ndim != 4:
        shape = tuple(images.shape)
        raise InputError(f"{name}: expected uint8 (N, C, H, W), got {images.dtype} {shape}; see gencore.data.to_uint8")
    if len(images) == 0:
        raise InputError(f"{name}: no images; give at least one")


def as_colour(images: Tensor) -> Tensor:
    """Return uint8 images with three channels; grey is repeated.

    Raises
    ------
    InputError
        If the images are not uint8, or have neither 1 nor 3 channels.
    """
    check_images(images, "images")
    if images.shape[1] not in (1, 3):
        raise InputError(f"images: {images.shape[1]} channels; grey (1) or RGB (3) is needed")
    return images.expand(-1, 3, -1, -1)


@torch.inference_mode()
def _in_batches(network, images: Tensor, batch_size: int, dimension: int) -> Tensor:
    """Apply a network piece by piece, into one array on the CPU; under torchrun each process looks at its share."""
    mine, count = distributed.share(len(images)), len(images)
    images = images[mine.start : mine.stop]
    features = torch.empty(len(images), dimension)
    # Shown to a person only, and only once it has taken three seconds.
    with tqdm(total=len(images), unit="img", desc="looking at images", leave=False, delay=3, disable=None) as bar:
        for rows, piece in zip(features.split(batch_size), images.split(batch_size), strict=True):
            rows.copy_(network(piece))
            bar.update(len(piece))
    return distributed.gather(features, count)


def _resize(x: Tensor, size: int) -> Tensor:
    """Return float images at ``size`` x ``size``; untouched if they have that size."""
    if x.shape[2:] == (size, size):
        return x
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def squeezenet() -> nn.Sequential:
    """Return SqueezeNet 1.1 up to its last fire module, in evaluation mode, with the shipped weights.

    Its input is ``(B, 3, H, W)``: blue, green and red from 0 to 255, less `MEAN_COLOUR`.
    """
    with np.load(check_file(SQUEEZENET), allow_pickle=False) as file:
        weights = {key: torch.from_numpy(file[key]).float() for key in file.files}
    with torch.random.fork_rng(devices=[]):  # torchvision draws first weights that are at once replaced
        network = torchvision.models.squeezenet1_1(weights=None)
    network.load_state_dict(weights)
    return network.features.eval().requires_grad_(False)


def _download(url: str) -> Path:
    """Return torch-fidelity's weights file in PyTorch's download cache, fetched if it is not there."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=INCEPTION_HASH, progress=False)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{path}: Inception weights could not be downloaded ({error}); put {path.name} of torch-fidelity there, "
                "or use SqueezeNetFeatures"
            ) from None
    return path


def _check_inception(path: Path) -> None:
    """Make sure of a file that torch-fidelity will unpickle: the published one, and free of code."""
    if not path.is_file():
        raise InputError(f"{path}: file is missing; give the path of torch-fidelity's Inception weights")
    if not sha256(path).startswith(INCEPTION_HASH):
        raise InputError(f"{path}: not torch-fidelity's Inception weights (checksum differs); download the file again")
    try:
        torch.load(path, weights_only=True, mmap=True)  # refuses anything but tensors and plain values
    except Exception as error:
        raise InputError(f"{path}: not a plain file of weights ({type(error).__name__}); download it again") from None
