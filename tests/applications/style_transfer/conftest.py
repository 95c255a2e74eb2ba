"""What these tests share: pictures and the fixed network are read once, since some sixty trainings begin with them."""

import functools

import pytest

from gencore.applications.style_transfer import features
from gencore.data import photos


@pytest.fixture(scope="package", autouse=True)
def read_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photos, "_read_gallery", functools.cache(photos._read_gallery))
        patch.setattr(features, "squeezenet", functools.cache(features.squeezenet))
        yield
