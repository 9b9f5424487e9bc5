"""Triton's model repository: its config as the server parses it, and a model file that does what the config says.

The server itself is not here. What it checks of a config is written down from its sources, so far as we write it; the
fields and numbers are those of tritonclient 2.73, too.
https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
https://github.com/triton-inference-server/core/blob/main/src/model_config_utils.cc
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_once import SIMPLE
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

import vitrail
from vitrail.cli import main
from vitrail.config import from_dict
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.engines.comparing import TOLERANCES
from vitrail.engines.libraries import onnxruntime, openvino_core
from vitrail.errors import UserError
from vitrail.predictor import Predictor

pytestmark = pytest.mark.usefixtures("exported_once")
ENUMS = {
    "DataType": {"TYPE_INVALID": 0, "TYPE_UINT8": 2, "TYPE_FP16": 10, "TYPE_FP32": 11},
    "Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3},
}
MESSAGES = {  # field: (number, type); a star marks a repeated one
    "Latest": {"num_versions": (1, "uint32")},
    "ModelVersionPolicy": {"latest": (1, "Latest")},
    "ModelInstanceGroup": {"name": (1, "string"), "count": (2, "int32"), "gpus": (3, "int32*"), "kind": (4, "Kind")},
    "ModelInput": {"name": (1, "string"), "data_type": (2, "DataType"), "dims": (4, "int64*")},
    "ModelOutput": {
        "name": (1, "string"),
        "data_type": (2, "DataType"),
        "dims": (3, "int64*"),
        "label_filename": (4, "string"),
    },
    "ModelDynamicBatching": {
        "preferred_batch_size": (1, "int32*"),
        "max_queue_delay_microseconds": (2, "uint64"),
    },
    "ModelParameter": {"string_value": (1, "string")},
    "ParametersEntry": {"key": (1, "string"), "value": (2, "ModelParameter")},  # which is how a map is sent
    "ModelConfig": {
        "name": (1, "string"),
        "platform": (2, "string"),
        "version_policy": (3, "ModelVersionPolicy"),
        "max_batch_size": (4, "int32"),
        "input": (5, "ModelInput*"),
        "output": (6, "ModelOutput*"),
        "instance_group": (7, "ModelInstanceGroup*"),
        "dynamic_batching": (11, "ModelDynamicBatching"),
        "parameters": (14, "ParametersEntry*"),
        "backend": (17, "string"),
    },
}
SMALL = {"depth": 1, "embed": {"kind": "patch", "drop": True}, "image_size": (17, 26)}  # of one size: fast to trace


@pytest.fixture(scope="module")
def model_config() -> Any:
    """The class of Triton's message ``ModelConfig``, with the fields that a model of ours can need."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            added = message.field.add(name=field, number=number, label=3 if kind.endswith("*") else 1)
            kind = kind.rstrip("*")
            if kind in ENUMS or kind in MESSAGES:
                added.type, added.type_name = (14 if kind in ENUMS else 11), f".inference.{kind}"
            else:
                added.type = descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


@pytest.fixture
def load(model_config: Any) -> Any:
    """``load(folder)``: the model's config, as Triton finds it good, and the file of its version to serve."""

    def read(folder: Path) -> tuple[Any, Path]:
        config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config())  # unknown fields are errors
        assert config.name == folder.name
        assert config.version_policy.latest.num_versions == 1
        assert all(0 < size <= config.max_batch_size for size in config.dynamic_batching.preferred_batch_size)
        assert config.HasField("dynamic_batching") is (config.max_batch_size > 1)
        for tensor in (*config.input, *config.output):
            assert tensor.data_type == ENUMS["DataType"]["TYPE_FP32"]
            assert all(size == -1 or size > 0 for size in tensor.dims)
        versions = [int(path.name) for path in folder.iterdir() if path.name.isdigit() and path.name[0] != "0"]
        name = {"onnxruntime": "model.onnx", "openvino": "model.xml"}[config.backend]
        return config, folder / str(max(versions)) / name

    return read


def weights(folder: Path, predictor: Predictor) -> str:
    predictor.save(folder / "model.safetensors")
    return str(folder / "model.safetensors")


def dims(config: Any) -> dict[str, list[int]]:
    """Of each tensor with the batch, as Triton takes them to be."""
    batch = [-1] if config.max_batch_size else []
    return {tensor.name: batch + list(tensor.dims) for tensor in (*config.input, *config.output)}


def test_onnx_runtime_gets_what_the_config_says(load: Any, tiny_predictor: Any, tmp_path: Path, capsys: Any) -> None:
    predictor = tiny_predictor(**SIMPLE)
    out = tmp_path / "models" / "bugs.v1"
    assert main(["export", weights(tmp_path, predictor), str(out), "--to", "triton", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["path"] == str(out)
    assert max(row["relative_error"] for row in said["rows"]) < 1e-5
    assert {tuple(row["size"]) for row in said["rows"]} == {(16, 24), (24, 40)}
    assert sorted(path.relative_to(out.parent).as_posix() for path in out.parent.rglob("*")) == [
        *("bugs.v1", "bugs.v1/1", "bugs.v1/1/model.onnx", "bugs.v1/config.pbtxt", "bugs.v1/labels.txt")
    ]
    config, file = load(out)
    assert (config.backend, config.max_batch_size) == ("onnxruntime", 16)
    assert config.instance_group[0].kind == ENUMS["Kind"]["KIND_AUTO"]
    assert config.dynamic_batching.max_queue_delay_microseconds == 5000
    assert [output.label_filename for output in config.output] == ["labels.txt", ""]
    (parameter,) = config.parameters
    assert parameter.key == "preprocess"
    assert from_dict(PreprocessConfig, json.loads(parameter.value.string_value)) == predictor.preprocess.config
    assert tuple((out / "labels.txt").read_text().splitlines()) == predictor.classes

    session = onnxruntime().InferenceSession(file, providers=["CPUExecutionProvider"])
    tensors = [*session.get_inputs(), *session.get_outputs()]
    assert {tensor.type for tensor in tensors} == {"tensor(float)"}
    known = {tensor.name: [size if isinstance(size, int) else -1 for size in tensor.shape] for tensor in tensors}
    assert dims(config) == known == {"images": [-1, 3, -1, -1], "outputs": [-1, 4], "embedding": [-1, 32]}
    requests = [torch.randn(count, 3, 32, 24) for count in (1, 3, 2)]  # which Triton puts together
    found = session.run(["outputs", "embedding"], {"images": torch.cat(requests).numpy()})
    with torch.inference_mode():
        for images, outputs, embedding in zip(requests, *(np.split(rows, [1, 4]) for rows in found), strict=True):
            np.testing.assert_allclose(outputs, predictor.task(images), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(embedding, predictor.task.embed(images), rtol=1e-4, atol=1e-5)


def test_openvino_gets_what_the_config_says(load: Any, tiny_predictor: Any, tmp_path: Path) -> None:
    predictor = tiny_predictor(**SIMPLE)
    result = vitrail.export(weights(tmp_path, predictor), tmp_path / "bugs", to="triton-openvino")
    assert max(row.relative_error for row in result.rows) < 1e-5
    config, file = load(tmp_path / "bugs")
    assert (config.backend, config.max_batch_size) == ("openvino", 0)
    assert config.instance_group[0].kind == ENUMS["Kind"]["KIND_CPU"]
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.bin", "model.xml"]

    model = openvino_core().read_model(file)
    known = {}
    for tensor in (*model.inputs, *model.outputs):
        assert tensor.get_element_type().get_type_name() == "f32"
        known[tensor.get_any_name()] = [
            size.get_length() if size.is_static else -1 for size in tensor.get_partial_shape()
        ]
    assert dims(config) == known == {"images": [-1, 3, -1, -1], "outputs": [-1, 4], "embedding": [-1, 32]}
    images = torch.randn(3, 3, 32, 24)
    compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.inference_mode():
        np.testing.assert_allclose(compiled(images.numpy())["outputs"], predictor.task(images), rtol=1e-4, atol=1e-5)


def test_one_image_size_and_outputs_that_are_no_classes(load: Any, tiny_predictor: Any, tmp_path: Path) -> None:
    predictor = tiny_predictor("regression", **SMALL)
    vitrail.export(weights(tmp_path, predictor), tmp_path / "sizes", to="triton")
    config, _ = load(tmp_path / "sizes")
    assert dims(config) == {"images": [-1, 3, 17, 26], "outputs": [-1, 2], "embedding": [-1, 32]}
    assert [output.label_filename for output in config.output] == ["", ""]
    assert not (tmp_path / "sizes" / "labels.txt").exists()


def test_a_model_gets_its_next_version(load: Any, tiny_predictor: Any, tmp_path: Path, capsys: Any) -> None:
    predictor, out = tiny_predictor(**SMALL), tmp_path / "bugs"
    vitrail.export(weights(tmp_path, predictor), out, to="triton")
    config = out / "config.pbtxt"
    config.write_text(config.read_text().replace("count: 1", "count: 2"))  # as people do
    (out / "6").mkdir()
    (out / "configs").mkdir()
    torch.nn.init.ones_(predictor.task.head.output.weight)
    vitrail.export(weights(tmp_path, predictor), out, to="triton")
    assert f"version 7 of {out}" in capsys.readouterr().err
    served, file = load(out)
    assert file == out / "7" / "model.onnx"
    assert served.instance_group[0].count == 2
    images = torch.randn(2, 3, 17, 26)
    with torch.inference_mode():
        expected = predictor.task(images)
        first, last = (vitrail.load(out / each / "model.onnx").engine(images) for each in "17")
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(first, expected, atol=1e-2)


def test_what_is_no_place_for_a_model_is_one_line(tiny_predictor: Any, tmp_path: Path, capsys: Any) -> None:
    source, model = weights(tmp_path, tiny_predictor(**SMALL)), tmp_path / "repository" / "bugs"
    vitrail.export(source, model, to="triton")
    wider = weights(tmp_path / "repository", tiny_predictor(**SMALL, dim=48))
    other = tiny_predictor(**SMALL)
    other = Predictor(other.task, replace(other.preprocess.config, mean=(0.25, 0.5, 0.5)))
    paler = weights(tmp_path / "repository" / "bugs", other)
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    for arguments, message in (
        ([source, tmp_path / "my bugs", "--to", "triton"], "'my bugs' cannot name a model; take letters, digits"),
        ([source, tmp_path / ".bugs", "--to", "triton"], "'.bugs' cannot name a model"),
        ([source, tmp_path / 'a"b', "--to", "triton"], "cannot name a model"),
        ([source, tmp_path / "käfer", "--to", "triton"], "cannot name a model"),
        ([source, tmp_path / "a\nb", "--to", "triton"], "cannot name a model"),
        ([source, model.parent, "--to", "triton"], "repository is there and is no model of Triton's (it has no config"),
        ([source, tmp_path / "file", "--to", "triton"], "file is there and is no model of Triton's"),
        ([wider, model, "--to", "triton"], "bugs holds a model of other tensors, classes or preprocessing"),
        ([paler, model, "--to", "triton"], "bugs holds a model of other tensors, classes or preprocessing"),
        ([source, model, "--to", "triton-openvino"], "bugs holds a model of other tensors, classes or preprocessing"),
        ([model / "1" / "model.onnx", tmp_path / "bugs", "--to", "triton"], "cannot be looked into or converted"),
        ([source, tmp_path / "file" / "bugs", "--to", "triton"], "cannot write"),
        ([source, tmp_path / "bugs", "--to", "tritn"], "unknown format 'tritn'; did you mean 'triton'?"),
    ):
        assert main(["export", *map(str, arguments)]) == 2, arguments
        err = capsys.readouterr().err
        assert message in err, err
        assert "Traceback" not in err
        assert err.count("error:") == 1
    assert sorted(tmp_path.rglob("*")) == before
    (model / "labels.txt").write_text("ant\ncat\nbee\ndog\n")  # else its outputs would get other names
    with pytest.raises(UserError, match="other tensors, classes or preprocessing"):
        vitrail.export(source, model, to="triton")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_graph_that_disagrees_leaves_nothing(tiny_predictor: Any, tmp_path: Path, monkeypatch: Any) -> None:
    source = weights(tmp_path, tiny_predictor(**SMALL))
    monkeypatch.setitem(TOLERANCES, "fp32", -1.0)
    with pytest.raises(UserError, match="the triton file differs from the model"):
        vitrail.export(source, tmp_path / "models" / "bugs", to="triton")
    assert list((tmp_path / "models").iterdir()) == []
