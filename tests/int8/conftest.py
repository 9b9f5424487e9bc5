from __future__ import annotations

import pytest
import torch
from exported_once import SIMPLE


@pytest.fixture
def images(request):
    """The same in every test: a model that is smoothed for them becomes the same program."""
    generator = torch.Generator().manual_seed(request.config.getoption("--draw"))
    return list(torch.randint(256, (12, 3, 20, 30), generator=generator, dtype=torch.uint8))


@pytest.fixture
def weights(tiny_predictor, tmp_path):
    tiny_predictor(**SIMPLE).save(tmp_path / "weights.safetensors")
    return str(tmp_path / "weights.safetensors")
