"""An image has one prediction: alone, among others, in every engine, from a server, and by the documented code."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from decoders import DEFORMABLE, DETR
from PIL import Image

pytest.importorskip("fastapi")

from in_process import speaking

import vitrail
from vitrail import engines, registry
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.predictor import Predictor
from vitrail.tasks import Task
from vitrail.vit import ViTConfig

pytestmark = pytest.mark.usefixtures("exported_once", "own_cache")
MODEL = ViTConfig(image_size=(16, 24), patch_size=8, dim=16, depth=1, heads=2, mlp_dim=32)
SIDES = {**DETR, "depth": 2, "separate_heads": True, "distribution": {"intervals": 8}}
OPTIONS = {
    "detection": {"decoder": DETR, "threshold": 0.005},
    "detection_deformable": {"decoder": DEFORMABLE, "scales": ("1", "2"), "threshold": 0.005},
    "instances": {
        "decoder": SIDES,
        "threshold": 0.005,
        "masks": {"stride": 4, "dim": 8},
        "learned_content": True,
    },
    "segmentation": {"decoder": "multilevel", "hidden": 8},
    "panoptic": {"num_queries": 6, "num_blocks": 1, "num_upscale": 1, "threshold": 0.005, "overlap_threshold": 0.3},
}
TARGETS = np.array([[3, 100], [4, 250]], np.float32)
SIZES = [(50, 70), (33, 48), (16, 24), (81, 64)]
DOUBLE = (32, 48)

TOLERANCE = 1e-4
"""Of numbers, as a share of the largest or of 1; fp32 sums in another order differ by 1e-6 to 1e-5."""
PIXELS = 0.002
LEVELS = 16  # of 65,535: a sixteenth of a grey level
"""Share of an image's pixels that may be of another class: where two are equally likely to a rounding error."""


def build(name: str, draw: int, resize: str = "square") -> Predictor[Any]:
    """The same weights for a name in every test."""
    torch.manual_seed(draw)
    module = registry.load("tasks", name)
    if issubclass(module.Task, Task):
        config = module.Task.configure(MODEL, ("ant", "bee"), TARGETS, OPTIONS.get(name, {}))
    else:
        config = module.Config(model=MODEL)
    task = module.Task(config)
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    preprocess = PreprocessConfig(size=MODEL.image_size, resize=resize, interpolation="bicubic")
    return Predictor(task, preprocess, device="cpu")


@pytest.fixture
def pictures(tmp_path: Path) -> list[Image.Image]:
    """Smooth ones, of several sizes."""
    made = [np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8) for seed in range(len(SIZES))]
    return [
        Image.fromarray(a).resize(size[::-1], Image.Resampling.BICUBIC) for a, size in zip(made, SIZES, strict=True)
    ]


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module that the page on deploying gives to users of exported files."""
    page = (Path(__file__).parents[1] / "docs" / "deploying.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python title=plain\.py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    file = tmp_path_factory.mktemp("page") / "plain.py"
    file.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("plain", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def same(found: Any, expected: Any) -> None:
    """Numbers, texts, and what is made of them, within the tolerances."""
    if isinstance(expected, np.ndarray):
        assert np.shape(found) == expected.shape
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(found, expected, atol=TOLERANCE * max(1, np.abs(expected).max(initial=0)))
        elif expected.dtype == np.uint16:  # levels of a picture
            assert np.abs(found.astype(np.int64) - expected).max() <= LEVELS
        elif expected.ndim > 1:
            assert (found != expected).mean() <= PIXELS
        else:
            np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, Mapping):
        for name, value in expected.items():
            same(found[name], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-3, abs=PIXELS)  # shares of pixels too
    else:
        assert found == expected


@pytest.mark.parametrize("resize", ["square", "pad", "crop"])
@pytest.mark.parametrize("name", registry.names("tasks"))
def test_an_image_alone_and_among_others(
    name: str, resize: str, pictures: list[Image.Image], pytestconfig: Any
) -> None:
    predictor = build(name, pytestconfig.getoption("--draw"), resize)
    together = predictor.predict(pictures, batch_size=3)
    streamed = [result for _, result in predictor.stream(pictures)]
    for one, *others in zip(pictures, together, streamed, strict=True):
        for other in others:
            same(vars(other), vars(predictor.predict(one)))


@pytest.mark.parametrize("name", [each for each in registry.names("tasks") if each != "super_resolution"])
def test_in_every_engine_from_a_server_and_by_the_pages_code(
    name: str, pictures: list[Image.Image], plain: Any, tmp_path: Path, pytestconfig: Any
) -> None:
    """Pictures are restored by tiles in their own size, in engines too: tests/restoration/test_restoring_verbs.py."""
    predictor = build(name, pytestconfig.getoption("--draw"))
    expected = [vars(predictor.predict(each)) for each in pictures]
    task = predictor.task
    if task.spatial():
        assert [(*size,) for size in SIZES] == [predictor.predict(each).size for each in pictures]
        doubled = Predictor(task, PreprocessConfig(size=DOUBLE, interpolation="bicubic"), device="cpu")

    for engine in set(engines.names()) - set(engines.with_files()):
        same([vars(each) for each in predictor.running(engine).predict(pictures)], expected)

    predictor.save(tmp_path / "model.safetensors")
    for runtime in engines.with_files().values():
        file = tmp_path / f"model{runtime.suffix}"
        written = vitrail.export(tmp_path / "model.safetensors", file, to=runtime.format)
        assert max(row.relative_error for row in written.rows) < TOLERANCE
        opened = vitrail.load(file, allow_pickle=True)
        same([vars(each) for each in opened.predict(pictures)], expected)
        if task.spatial():
            larger = vitrail.load(file, image_size=DOUBLE, allow_pickle=True)
            same(vars(larger.predict(pictures[0])), vars(doubled.predict(pictures[0])))

    for picture, fields in zip(pictures[:2], expected, strict=False):
        found = plain.predict(tmp_path / "model.onnx", picture)
        assert found
        same(found, {field: fields[field] for field in found})

    served = asyncio.run(_served(name, predictor, pictures))
    for answer, picture in zip(served, pictures, strict=True):
        answer.pop("map", None)
        same(answer, predictor.predict(picture).to_dict())


async def _served(name: str, predictor: Predictor[Any], pictures: list[Image.Image]) -> list[dict[str, Any]]:
    """What a server says of several pictures in one request."""
    texts = []
    for each in pictures:
        file = io.BytesIO()
        each.save(file, "PNG")
        texts.append(base64.b64encode(file.getvalue()).decode())
    async with speaking({name: predictor}) as (client, _):
        answer = await client.post("/v1/predict", json={"images": texts})
    found: list[dict[str, Any]] = answer.json()["predictions"]
    return found
