"""Models that say where things are, in exported files."""

from __future__ import annotations

import pytest

import vitrail
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.predictor import Predictor
from vitrail.tasks.segmentation import Config, Task
from vitrail.vit import ViTConfig


def test_a_border_that_a_graph_cannot_be_told_of_is_refused(tmp_path):
    model = ViTConfig(image_size=16, patch_size=8, dim=16, depth=1, heads=2, mlp_dim=32)
    task = Task(Config(model=model, classes=("ant", "bee")))
    Predictor(task, PreprocessConfig(size=16, resize="pad"), device="cpu").save(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"the border .*resize=square"):
        vitrail.export(tmp_path / "model.safetensors", tmp_path / "model.onnx", to="onnx")
