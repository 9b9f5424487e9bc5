"""Every engine of the registry answers as the task does, for every option of the model; for every task:
tests/test_same_prediction.py."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from exported_once import SIMPLE

from vitrail import engines
from vitrail.compress import apply
from vitrail.engines import choose
from vitrail.engines.choose import start
from vitrail.errors import UserError
from vitrail.nn.mlp import Mlp

pytestmark = pytest.mark.usefixtures("exported_once", "own_cache")
NAMES = engines.names()
GRAPHS = list(engines.with_files())
SIZES = [(1, 16, 24), (3, 32, 48), (2, 16, 64)]


MODELS = {
    "two tokens and registers": {
        "registers": 2,
        "distillation_token": True,
        "class_position": False,
        "block": {"layer_scale": 0.1, "qk_norm": True, "key_bias": False, "out_bias": False, "drop_path": 0.1},
        "resampling": "bicubic_corners",
    },
    "rotary": {"positions": "rope_2d", "block": {"mlp": "swiglu"}, "channels": 4},
    "rotary and learned, several class tokens": {
        "rotary": {"theta": 50.0, "reference": (3, 4), "offset": 1.0},
        "registers": 2,
        "block": {"mlp": "swiglu", "mlp_norm": True, "attention_norm": True, "key_bias": False},
        "class_position": False,
        "pool": "prefix",
        "pooling": {"pool_tokens": (0, 2)},
        "resampling": "bilinear_crop",
        "final_norm": False,
    },
    "centred rotary": {"positions": "rope_2d", "rotary": {"coordinates": "centred"}, "registers": 1},
    "mixed rotary": {
        "positions": "rope_2d",
        "rotary": {"mixed": True},
        "block": {"order": "branch", "mlp_norm": True},
        "pool": "attention",
        "pooling": {"attention_pool": {"heads": 4, "mlp_dim": 24, "prefix": True}},
    },
    "relative": {"positions": "relative", "resampling": "bicubic", "block": {"mlp": "quick_gelu"}},
    "attention pool": {
        "positions": "sincos_2d",
        "block": {"mlp": "gelu_tanh"},
        "class_token": False,
        "pool": "attention",
        "embed": {"kind": "conv"},
    },
    "post-norm": {
        "positions": "sincos_1d",
        "block": {"order": "post"},
        "final_norm": False,
        "pre_norm": True,
        "pool": "max",
    },
    "resnet stem": {"embed": {"kind": "resnet", "layers": (1,), "width": 32}, "positions": "none"},
    "overlapping": {
        "embed": {"kind": "patch", "stride": 4, "norm": True},
        "resampling": "bilinear_antialias",
        "pool": "cls_mean",
    },
}
FIXED = {
    "padded": {"embed": {"kind": "patch", "pad": True}, "image_size": (15, 22)},
    "dropped": {"embed": {"kind": "patch", "drop": True}, "image_size": (17, 26)},
    "offset": {"resampling": "bicubic_offset"},
    "windows": {"decomposed": {"window": 2}, "class_token": False},
    "one row": {"image_size": (8, 24)},
}


def engine_of(name, predictor, precision="fp32"):
    return start(name, predictor.task, predictor.preprocess.config, precision)


@torch.inference_mode()
def worst(engine, task, images):
    """The largest error of outputs and features, each over its largest magnitude."""
    pairs = [(engine(images), task(images)), (engine.embed(images), task.embed(images))]
    assert all(got.dtype == torch.float32 and got.shape == expected.shape for got, expected in pairs)
    return max(float((got - expected).abs().max() / expected.abs().max()) for got, expected in pairs)


@pytest.fixture(scope="module")
def plain():
    """Filled with the engines of one model, which most tests share."""
    return {}


@pytest.fixture(params=NAMES)
def running(request, tiny_predictor, plain):
    """(name, engine, task) of each engine on a plain model."""
    predictor = tiny_predictor(**SIMPLE)
    if request.param not in plain:
        plain[request.param] = engine_of(request.param, predictor)
    return request.param, plain[request.param], predictor.task


@pytest.mark.parametrize("model", MODELS)
def test_engines_answer_as_the_task_at_any_batch_and_size(model, tiny_predictor):
    predictor = tiny_predictor(depth=1, **MODELS[model])
    for name in NAMES:
        engine = engine_of(name, predictor)
        for batch, *size in SIZES:
            images = torch.randn(batch, predictor.task.vit.config.channels, *size)
            assert worst(engine, predictor.task, images) < 1e-5, (name, batch, size)


@pytest.mark.parametrize("model", FIXED)
def test_a_graph_of_one_size_says_why(model, tiny_predictor):
    predictor = tiny_predictor(depth=1, **FIXED[model])
    engine = engine_of("onnxruntime", predictor)
    height, width = predictor.preprocess.config.size
    for batch in (1, 3):
        assert worst(engine, predictor.task, torch.randn(batch, 3, height, width)) < 1e-5
    with pytest.raises(UserError, match=f"{height}×{width} pixels only, not 32×48, because .+; export it again"):
        engine(torch.randn(1, 3, 32, 48))


@torch.inference_mode()
def test_merged_tokens_run_in_every_engine(tiny_predictor):
    plain = tiny_predictor(pool="mean", image_size=(24, 32), **SIMPLE)
    merged = apply(plain, "tome", r=2)
    images = torch.randn(3, 3, 24, 32)
    for name in ("torch", *GRAPHS):
        outputs = merged.running(name).engine(images)
        torch.testing.assert_close(outputs, merged.task(images), atol=1e-5, rtol=1e-4, msg=f"{name}: {{}}".format)
        assert not torch.allclose(outputs, plain.task(images), atol=1e-4), name


def test_images_that_do_not_fit_are_refused(running):
    name, engine, _ = running
    with pytest.raises(UserError, match="17×24 pixels is not covered by patches"):
        engine(torch.randn(1, 3, 17, 24))
    if name in GRAPHS:
        with pytest.raises(UserError, match="two patches a side or more, not 8×24"):
            engine(torch.randn(1, 3, 8, 24))
        with pytest.raises(UserError, match="takes images of shape"):
            engine(torch.randn(1, 4, 16, 24))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", NAMES)
def test_a_precision_is_near_or_refused(name, precision, tiny_predictor):
    predictor = tiny_predictor(**SIMPLE)
    if precision not in engines.load(name).precisions:
        with pytest.raises(UserError, match=f"the engine '{name}' has no precision '{precision}'"):
            engine_of(name, predictor, precision)
        return
    engine = engine_of(name, predictor, precision)
    error = worst(engine, predictor.task, torch.randn(3, 3, 16, 24))
    assert error < 0.05
    if name != "openvino":  # which takes bf16 where the processor has it
        assert error > 1e-6, "it was computed in fp32"


def test_torch_packs_a_copy_and_leaves_the_task_alone(tiny_predictor):
    predictor = tiny_predictor()
    before = {name: value.clone() for name, value in predictor.task.state_dict().items()}
    engine = engine_of("torch", predictor)
    assert engine is not predictor.task
    assert not [m for m in engine.modules() if type(m) in (torch.nn.Linear, Mlp)]
    assert [type(m) for m in predictor.task.modules()].count(torch.nn.Linear) == 9
    assert all(p.requires_grad for p in predictor.task.parameters())
    after = predictor.task.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_an_unknown_engine_is_named(tiny_predictor):
    with pytest.raises(UserError, match="unknown engine 'openvin'; did you mean 'openvino'"):
        engine_of("openvin", tiny_predictor())


@pytest.mark.parametrize(("name", "library"), [("onnxruntime", "onnxruntime"), ("openvino", "openvino"),
                                              ("onnxruntime", "onnxscript")])  # fmt: skip
def test_a_missing_library_names_the_command(name, library, tiny_predictor, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    extra = "openvino" if name == "openvino" else "onnx"
    with pytest.raises(UserError, match=rf"this engine needs {library}; run: pip install 'vitrail\[{extra}\]'"):
        engine_of(name, tiny_predictor())


def test_auto_takes_the_fastest_and_remembers(tiny_predictor, monkeypatch, capsys):
    predictor = tiny_predictor(**SIMPLE)
    task, preprocess = predictor.task, predictor.preprocess.config
    seconds = dict.fromkeys(("eager", "onnxruntime", "openvino", "torch"), 1.0) | {"onnxruntime": 0.5}
    asked = []

    def measure(found, task, preprocess):
        asked.append(set(found))
        return {name: seconds[name] for name in found}

    monkeypatch.setattr(choose, "measure", measure)
    images = torch.randn(2, 3, 16, 24)
    for line in ("engine auto: onnxruntime (8 images take: ", "engine auto: onnxruntime (measured before)"):
        engine = start("auto", task, preprocess, "fp32")
        assert worst(engine, task, images) < 1e-5
        assert line in capsys.readouterr().err
    assert asked == [{"eager", "onnxruntime", "openvino", "torch"}], "pt2 files can run code and are not kept"
    seconds["onnxruntime"] = 0.9
    assert start("auto", task, preprocess, "bf16") is not None
    assert "engine auto: eager" in capsys.readouterr().err, "the gain is small"
    assert asked[1] == {"eager", "openvino", "torch"}
    torch.nn.init.normal_(task.head.output.bias)
    start("auto", task, preprocess, "fp32")
    assert len(asked) == 3, "another model is measured anew"


def test_auto_measures(tiny_predictor, capsys):
    predictor = tiny_predictor(**SIMPLE)
    engine = engine_of("auto", predictor)
    assert worst(engine, predictor.task, torch.randn(2, 3, 16, 24)) < 1e-5
    said = capsys.readouterr().err
    assert all(f"{name} " in said for name in ("eager", "onnxruntime", "openvino", "torch"))
    assert np.count_nonzero([line.startswith("engine auto: ") for line in said.splitlines()]) == 1
