"""Models that say where things are, in exported files: the same answers on the same picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import vitrail
from vitrail import registry
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.predictor import Predictor
from vitrail.vit import ViTConfig

pytestmark = pytest.mark.usefixtures("exported_once")
MODEL = ViTConfig(image_size=(16, 24), patch_size=8, dim=16, depth=2, heads=2, mlp_dim=32)
DECODER = {"dim": 16, "depth": 1, "heads": 2, "mlp_dim": 16, "num_queries": 4}
OPTIONS = {
    "detection": {"decoder": DECODER, "threshold": 0.005},
    "detection_tokens": {"num_queries": 4, "mid_positions": True, "threshold": 0.005},
    "instances": {"decoder": DECODER, "threshold": 0.005, "masks": {"stride": 4, "dim": 8}},
    "segmentation": {"decoder": "multilevel", "hidden": 8},
    "panoptic": {"num_queries": 4, "num_blocks": 1, "num_upscale": 1, "threshold": 0.005},
}
OUT = {"onnx": "model.onnx", "openvino": "model.xml"}


@pytest.fixture
def build(request):
    """``build(task, resize="square")``: the same weights in every test, whose files share one program."""

    def make(name, resize="square"):
        torch.manual_seed(request.config.getoption("--draw"))
        module = registry.load("tasks", name)
        task = module.Task(module.Task.configure(MODEL, ("ant", "bee"), None, OPTIONS[name]))
        return Predictor(task, PreprocessConfig(size=(16, 24), resize=resize), device="cpu")

    return make


@pytest.mark.parametrize("name", OPTIONS)
def test_graphs_say_what_the_model_does(name, build, tmp_path):
    predictor = build(name)
    predictor.save(tmp_path / "model.safetensors")
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    for to, file in OUT.items():
        written = vitrail.export(tmp_path / "model.safetensors", tmp_path / file, to=to)
        assert {row.size for row in written.rows} == {(16, 24), (24, 40)}  # any size of image
        assert max(row.relative_error for row in written.rows) < 1e-5
        for size in ((16, 24), (32, 48)):
            eager = Predictor(predictor.task, PreprocessConfig(size=size), device="cpu")
            same(name, vitrail.load(tmp_path / file, image_size=size).predict(picture), eager.predict(picture))


def same(name, found, expected):
    """The same answer, in the pixels of the picture."""
    assert found.to_dict()["size"] == expected.to_dict()["size"] == [50, 70]
    if name in ("segmentation", "panoptic"):
        assert (found.map == expected.map).mean() > 0.999
        return
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-3)
    np.testing.assert_array_equal(found.labels, expected.labels)
    if name == "instances":
        assert found.masks.shape == expected.masks.shape == (len(expected), 50, 70)
        assert (found.masks == expected.masks).mean() > 0.999


def test_a_border_that_a_graph_cannot_be_told_of_is_refused(build, tmp_path):
    build("detection", resize="pad").save(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"the border .*resize=square"):
        vitrail.export(tmp_path / "model.safetensors", tmp_path / "model.onnx", to="onnx")
