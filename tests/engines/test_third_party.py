"""A runtime and a task from outside of Vitrail: found by dotted names, with the outputs that the task declares."""

from __future__ import annotations

import json
import sys
import textwrap

import numpy as np
import pytest
import torch
from exported_once import SIMPLE

import vitrail
from vitrail import engines
from vitrail.engines.graph import Graph, open_file, writing
from vitrail.errors import UserError
from vitrail.tasks import classification

pytestmark = pytest.mark.usefixtures("exported_once")
RUNTIME = """
import dataclasses
from vitrail.engines import FileFormat
from vitrail.engines.runtimes import onnxruntime

RUNTIME = dataclasses.replace(onnxruntime.RUNTIME, format="theirs", suffix=".theirs")
"""
TASK = """
from vitrail.tasks import classification
from vitrail.tasks.classification import Config, Prediction


class Task(classification.Task):
    def graph_outputs(self, images):
        return super().graph_outputs(images) | {"scores": self(images).softmax(dim=-1)}
"""


@pytest.fixture(autouse=True)
def _package(tmp_path, monkeypatch, own_cache):
    folder = tmp_path / "python" / "their_house"
    folder.mkdir(parents=True)
    for name, text in (("__init__", ""), ("runtime", RUNTIME), ("three", TASK), ("empty", "")):
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(folder.parent))
    yield
    for name in [each for each in sys.modules if each.startswith("their_house")]:
        del sys.modules[name]


def test_a_runtime_by_its_dotted_name(tiny_predictor, tmp_path):
    predictor = tiny_predictor(**SIMPLE)
    name = "their_house.runtime"
    images = torch.randn(2, 3, 16, 24)
    with torch.inference_mode():
        expected = predictor.task(images)
    torch.testing.assert_close(predictor.running(name).engine(images), expected, atol=1e-5, rtol=1e-4)
    result = vitrail.export(predictor, tmp_path / "model.theirs", to=name)
    assert max(row.relative_error for row in result.rows) < 1e-5
    opened = vitrail.load(result.path, engine=name)
    torch.testing.assert_close(opened.engine(images), expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(UserError, match=r"'their_house\.empty' is no engine; it must define RUNTIME"):
        engines.load("their_house.empty")
    with pytest.raises(UserError, match="the engine 'eager' has no files"):
        engines.load_format("eager")


@pytest.mark.parametrize("name", engines.with_files())
def test_a_graph_has_the_outputs_that_the_task_declares(name, tiny_predictor, tmp_path):
    from their_house import three

    plain = tiny_predictor(**SIMPLE)
    task = three.Task(plain.task.config).eval()
    task.load_state_dict(plain.task.state_dict())
    images = torch.randn(2, 3, 16, 24)
    file = tmp_path / f"model{engines.load_format(name).suffix}"
    with writing(task, plain.preprocess.config, name, file):
        pass
    graph = open_file(file, allow_pickle=True).engine
    assert graph.outputs == ("outputs", "embedding", "scores")
    with torch.inference_mode():
        for output, expected in task.graph_outputs(images).items():
            torch.testing.assert_close(graph.output(images, output), expected, atol=1e-5, rtol=1e-4)


def test_files_of_the_usual_outputs_do_not_name_them(tiny_predictor, tmp_path):
    plain = tiny_predictor(**SIMPLE)
    assert type(plain.task) is classification.Task
    with writing(plain.task, plain.preprocess.config, "onnxruntime", tmp_path / "model.onnx") as file:
        opened = engines.load_format("onnxruntime").read(file, "fp32")
        assert "outputs" not in opened.meta
        assert Graph(plain.task, opened).outputs == ("outputs", "embedding")
        assert json.loads(json.dumps(opened.meta))["version"] == 1
    assert np.isfinite(opened.run(torch.zeros(1, 3, 16, 24), "outputs").numpy()).all()
