import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch.nn import functional as F

from gencore.data import Emoji, to_float
from gencore.errors import InputError
from gencore.metrics import PerceptualDistance, SqueezeNetFeatures, psnr, ssim


@pytest.fixture(scope="module")
def pairs():
    x = to_float(Emoji(styles=("noto",)).load("heldout").images[:6])
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return x, (x + 0.1 * torch.arange(1, 7).view(-1, 1, 1, 1) * noise).clamp(-1, 1)


def test_psnr_and_ssim_are_those_of_scikit_image(pairs):
    x, y = pairs
    for a, b, ratio, similarity in zip(*(each.double().numpy() for each in pairs), psnr(x, y), ssim(x, y)):
        assert ratio == pytest.approx(peak_signal_noise_ratio(a, b, data_range=2), rel=1e-5)
        assert similarity == pytest.approx(structural_similarity(a, b, data_range=2, channel_axis=0), rel=1e-4)
    assert (psnr(x, x) == torch.inf).all() and ssim(x, x).allclose(torch.ones(6))


def test_ssim_needs_room():
    with pytest.raises(InputError, match="window 7"):
        ssim(torch.zeros(1, 1, 5, 5), torch.zeros(1, 1, 5, 5))


def test_perceptual_distance_written_out(pairs):
    x, y = pairs
    distance = PerceptualDistance(layers=2, size=64)
    w = distance.network.state_dict()

    def features(image):
        image = F.interpolate(image, (64, 64), mode="bilinear")
        h = 127.5 * (image[:, [2, 1, 0]] + 1) - torch.tensor([104.006, 116.669, 122.679]).view(3, 1, 1)
        first = h = F.relu(F.conv2d(h, w["0.weight"], w["0.bias"], 2))
        h = F.max_pool2d(h, 3, 2, ceil_mode=True)
        for fire in ("3", "4"):
            s = F.relu(F.conv2d(h, w[f"{fire}.squeeze.weight"], w[f"{fire}.squeeze.bias"]))
            h = torch.cat(
                [
                    F.relu(F.conv2d(s, w[f"{fire}.expand1x1.weight"], w[f"{fire}.expand1x1.bias"])),
                    F.relu(F.conv2d(s, w[f"{fire}.expand3x3.weight"], w[f"{fire}.expand3x3.bias"], padding=1)),
                ],
                1,
            )
        return [each / each.norm(dim=1, keepdim=True) for each in (first, h)]

    first, second = (
        2 - 2 * F.cosine_similarity(a, b).flatten(1).mean(1) for a, b in zip(features(x), features(y))
    )  # unit vectors: |a - b|² = 2 - 2 cos
    torch.testing.assert_close(distance(x, y), (first + second) / 2, rtol=1e-4, atol=1e-5)
    assert distance(x, x).abs().max() == 0


def test_the_perceptual_distance_can_be_minimised(pairs):
    x, y = pairs
    distance = PerceptualDistance(layers=3)
    z = y.clone().requires_grad_()
    before = distance(z, x).mean()
    (gradient,) = torch.autograd.grad(before, z)
    assert distance(y - 1e-3 * gradient / gradient.square().mean().sqrt(), x).mean() < before
    assert not any(p.requires_grad for p in distance.parameters())


def test_more_layers_see_more(pairs):
    x, y = pairs
    one, all_ = PerceptualDistance(1), PerceptualDistance(7)
    distances = torch.stack([all_(x, x + share * (y - x)) for share in (0.25, 0.5, 1.0)])
    assert (distances.diff(dim=0) > 0).all(), "more noise is further away"
    assert not torch.allclose(one(x, y), distances[-1])
    assert len(all_.network) == len(SqueezeNetFeatures()._network)


@pytest.mark.parametrize("layers", [0, 8])
def test_layers_that_are_not_there(layers):
    with pytest.raises(InputError, match="layers"):
        PerceptualDistance(layers)
