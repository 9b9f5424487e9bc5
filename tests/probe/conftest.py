from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrail.probe import Sets
from vitrail.probe.features import Stored


@pytest.fixture
def bands(tmp_path):
    """A folder with train.npz (90 images) and test.npz (45): noise with a bright band whose place is the class."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 90), ("test", 45)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 120, (count, 16, 24, 3), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[5 * label : 5 * label + 5] += 120
        np.savez(tmp_path / f"{split}.npz", images=images, labels=labels)
    return tmp_path


@pytest.fixture
def stored():
    """``stored(values, labels)``: features in memory, of values (N, …) or (V, N, …) with ``views=True``."""

    def build(values, labels, *, views=False):
        values = values if views else values[None]
        return Stored(values=values, labels=labels, num_views=len(values), device=torch.device("cpu"))

    return build


@pytest.fixture
def clouds(stored):
    """``clouds(spread, dim, num_classes)``: sets of 300, 200 and 1000 features around centres equally far apart."""

    def build(spread=1.0, dim=12, num_classes=4):
        centres, scale = 3.5 * torch.linalg.qr(torch.randn(dim, num_classes)).Q.T, torch.rand(dim) * 5 + 0.1

        def some(num):
            labels = torch.randint(num_classes, (num,))
            return stored((centres[labels] + spread * torch.randn(num, dim)) * scale + 3, labels)

        return Sets(some(300), some(200), some(1000), num_classes, dim, torch.device("cpu"))

    return build
