"""Rows, what is left out, files and errors of ``vitrail benchmark``; most tests run the workers in this process."""

from __future__ import annotations

import json
import statistics

import numpy as np
import pytest
import torch
from exported_once import SIMPLE
from PIL import Image

import vitrail
from vitrail import benchmarking, compress, engines
from vitrail.benchmarking import roofline
from vitrail.benchmarking.candidates import Candidate, Way, ways
from vitrail.benchmarking.process import Lost, Opening, Process
from vitrail.benchmarking.result import Row, compared
from vitrail.benchmarking.roofline import Roofline
from vitrail.benchmarking.turns import ROUNDS
from vitrail.benchmarking.worker import Worker
from vitrail.cli import main
from vitrail.compress.curve import cost
from vitrail.report.figures.throughput import throughput

pytestmark = pytest.mark.usefixtures("exported_once")
EAGER = Way("eager", "fp32")


@pytest.fixture(autouse=True)
def _small_products(monkeypatch):
    monkeypatch.setattr(roofline, "SIZES", {"cpu": 64})
    monkeypatch.setattr(roofline, "SECONDS", 0.001)


@pytest.fixture
def weights(tiny_predictor, tmp_path):
    tiny_predictor(pool="mean", **SIMPLE).save(tmp_path / "weights.safetensors")
    return str(tmp_path / "weights.safetensors")


@pytest.fixture
def inline(monkeypatch):
    """Workers without processes; ``broken`` names the engine of one that ends when it is asked for a turn."""
    broken: set[str] = set()

    class Inline(Process):
        def __init__(self, candidate, model, opening):
            self.worker, self.engine = Worker(), candidate.way.engine
            self.answer = None
            super().__init__(candidate, model, opening)

        def _start(self):
            return None

        def __exit__(self, *_):
            pass

        def _say(self, name, *arguments):
            if self.engine in broken and name == "turn":
                raise Lost("its process ended with code -9")
            self.answer = getattr(self.worker, name)(*json.loads(json.dumps(arguments)))

        def _hear(self):
            return json.loads(json.dumps(self.answer))

    monkeypatch.setattr(benchmarking, "Process", Inline)
    return broken


def row(way=EAGER, seconds=(0.1,), batch=2, macs=10**6, size=(16, 24)):
    return Row(Candidate(way, "weights", size, macs), batch, tuple(seconds), 10**6, None)


def test_percentiles_are_those_of_the_steps():
    seconds = (torch.rand(57) + 0.01).tolist()
    found = row(seconds=seconds, batch=4)
    hundredths = statistics.quantiles(seconds, n=100, method="inclusive")
    assert found.percentiles == pytest.approx([1e3 * hundredths[place - 1] for place in (50, 90, 99)])
    assert found.images_per_second == pytest.approx(4 / statistics.median(seconds))


def test_rows_are_compared_with_the_reference_and_the_best_roofline():
    fast = Way("torch", "bf16")
    rows = [row(), row(fast, (0.05,)), row(fast, (0.02,), batch=8), row(Way("x", "int8"))]
    rooflines = [Roofline("torch", "fp32", 50.0), Roofline("openvino", "fp32", 100.0), Roofline("torch", "bf16", 200.0)]
    found = compared(rows, EAGER, rooflines)
    assert [each.speedup for each in found] == [1, pytest.approx(2), None, 1]
    assert found[0].share == pytest.approx(2 * 1e6 * 20 / 100e9)
    assert found[1].share == pytest.approx(2 * 1e6 * 40 / 200e9)
    assert found[3].share is None


def test_the_reference_comes_first_and_once():
    assert ways("run", ("torch", "eager"), ("bf16", "fp32"), (0,)) == [
        EAGER,
        Way("torch", "bf16"),
        Way("torch", "fp32"),
        Way("eager", "bf16"),
    ]
    assert ways("run", ("torch",), ("bf16",), (3,)) == [EAGER, Way("torch", "bf16", 3)]
    assert {way.engine for way in ways("run", (), ("fp32",), (0,))} == set(engines.names())
    assert ways("model.onnx", (), ("fp32",), (0,)) == [Way("onnxruntime", "fp32")]


def test_rows_hold_what_was_measured_and_the_rest_is_named(weights, class_folder, inline):
    data = str(class_folder(2))
    found = vitrail.benchmark(weights, data, engines=("openvino", "pt2"), batches=(2, 1), seconds=0.01, device="cpu")
    (left_out,) = found.left_out
    assert str(left_out.way) == "pt2 bf16"
    assert "has no precision 'bf16'" in left_out.reason
    named = ["eager fp32", "openvino fp32", "openvino bf16", "pt2 fp32"]
    assert [(str(each.candidate.way), each.batch) for each in found.rows] == [(n, b) for b in (1, 2) for n in named]
    model = vitrail.load(weights, device="cpu")
    macs = cost(model.task).macs
    expected = vitrail.evaluate(model.task, loader(model, data)).metrics
    for each in found.rows:
        p50, p90, p99 = each.percentiles
        assert 0 < p50 <= p90 <= p99 < 60e3
        assert len(each.seconds) >= ROUNDS
        assert each.candidate.macs == macs
        assert each.share > 0
        assert each.memory >= 0
        near = 1e-4 if each.candidate.way.precision == "fp32" else 0.1
        assert each.accuracy.metrics["loss"] == pytest.approx(expected["loss"], rel=near)
    assert found.rows[0].speedup == 1
    assert {each.library for each in found.rooflines} == {"torch", "onednn", "openvino"}
    assert all(len(cells) == len(found.table.headings) for cells in found.table.cells())
    json.dumps(found.to_dict(), allow_nan=False)


def test_merged_tokens_are_another_dimension(weights, class_folder, inline):
    data = str(class_folder(2))
    found = vitrail.benchmark(
        weights, data, engines=("torch", "onnxruntime"), precisions=("fp32",), batches=(2,), merges=(1, 9),
        seconds=0.01, device="cpu",
    )  # fmt: skip
    assert [str(each.candidate.way) for each in found.rows] == ["eager fp32", "torch fp32 r=1", "onnxruntime fp32 r=1"]
    ((reason, those),) = found.reasons().items()
    assert "at most half of its 6 patches" in reason
    assert [str(each.way) for each in those] == ["torch fp32 r=9", "onnxruntime fp32 r=9"]
    merged = compress.apply(vitrail.load(weights, device="cpu"), "tome", r=1)
    expected = vitrail.evaluate(merged.task, loader(merged, data)).metrics["loss"]
    plain, *rest = found.rows
    assert plain.accuracy.metrics["loss"] != pytest.approx(expected, rel=3e-4)
    for each in rest:
        assert each.accuracy.metrics["loss"] == pytest.approx(expected, rel=1e-4)
        assert each.candidate.macs == cost(merged.task).macs < plain.candidate.macs


def loader(model, data):
    from vitrail.data import SourceConfig
    from vitrail.data.loading.loader import Loader, LoaderConfig
    from vitrail.report.evaluated import find_split

    source, _ = find_split(model, SourceConfig(spec=data, val_fraction=0))
    return Loader(source, model.preprocess, LoaderConfig(batch_size=8), train=False)


def test_sizes_are_native_ones_and_a_lost_candidate_is_named(weights, inline):
    inline.add("torch")
    sizes = [(16, 24), (32, 24)]
    found = vitrail.benchmark(
        weights, engines=("torch",), precisions=("fp32",), batches=(1,), image_sizes=sizes, seconds=0.01, device="cpu"
    )
    assert [(str(each.candidate.way), each.candidate.size) for each in found.rows] == [("eager fp32", s) for s in sizes]
    assert found.rows[1].candidate.macs > 1.5 * found.rows[0].candidate.macs
    assert {reason: len(each) for reason, each in found.reasons().items()} == {"its process ended with code -9": 2}


def test_an_exported_file_runs_in_its_own_engine(weights, inline, tmp_path, capsys):
    file = str(tmp_path / "model.onnx")
    vitrail.export(weights, file, to="onnx")
    found = vitrail.benchmark(file, precisions=("fp32",), batches=(2,), image_sizes=[(32, 24)], seconds=0.01)
    (only,) = found.rows
    assert only.candidate.way == found.reference == Way("onnxruntime", "fp32")
    assert only.speedup == 1
    assert only.candidate.macs == cost(vitrail.load(weights, image_size=(32, 24), device="cpu").task).macs
    for arguments, message in (
        (["--engine", "openvino"], "runs in onnxruntime, as it is"),
        (["--merge", "1"], "runs in onnxruntime, as it is"),
        (["--precision", "bf16"], "no engine here has the precision 'bf16'"),
        (["--precision", "fp32", "--image-size", "8"], "takes two patches a side or more"),
    ):
        assert main(["benchmark", file, *arguments]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


def test_the_verb_measures_in_processes(weights, class_folder, tmp_path, capsys):
    out = tmp_path / "speed"
    call = ["benchmark", weights, str(class_folder(2)), "--engine", "eager,onnxruntime", "--precision", "fp32"]
    assert (
        main([*call, "--batch-size", "1,2", "--seconds", "0.05", "--out", str(out), "--device", "cpu", "--json"]) == 0
    )
    said = json.loads(capsys.readouterr().out)
    assert json.loads((out / "benchmark.json").read_text()) == said
    rows = said["rows"]
    assert [(each["engine"], each["batch"]) for each in rows] == [
        ("eager", 1),
        ("onnxruntime", 1),
        ("eager", 2),
        ("onnxruntime", 2),
    ]
    for each in rows:
        assert 0 < each["p50_ms"] <= each["p90_ms"] <= each["p99_ms"]
        assert each["images_per_second"] == pytest.approx(1e3 * each["batch"] / each["p50_ms"], rel=1e-4)
        assert 10**5 < each["memory"] < 2**30
        assert each["device_memory"] is None
        assert each["metrics"]["top1"] == rows[0]["metrics"]["top1"]
    assert said["threads"] == torch.get_num_threads()
    with Image.open(out / "benchmark.png") as drawn:
        assert np.asarray(drawn.convert("L")).std() > 10


def test_a_process_that_cannot_go_on_says_why(tiny_predictor, tmp_path):
    candidate = Candidate(EAGER, str(tmp_path / "none.safetensors"), (16, 24), 1)
    with Process(candidate, tiny_predictor(), Opening(False, None)) as process:
        with pytest.raises(Lost, match="there is no"):
            process.ready()
        process.child.kill()
        with pytest.raises(Lost, match="its process ended with code -9"):
            process.memory()


def test_a_bar_for_each_candidate_and_batch():
    speeds = {"16×24": {"eager fp32": {1: 10.0, 8: 30.0}, "torch bf16": {1: 20.0}}, "32×32": {"eager fp32": {1: 5.0}}}
    figure = throughput(speeds, "cpu")
    assert [[bar.get_width() for bar in axes.patches] for axes in figure.axes] == [[10, 20, 30], [5]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "openvin"], "unknown engine 'openvin'; did you mean 'openvino'?"),
        (["--precision", "bf61"], "no engine here has the precision 'bf61'; did you mean 'bf16'?"),
        (["--image-size", "17"], "is not covered by patches"),
        (["--image-size", "big"], "'big' is no size in pixels"),
        (["--batch-size", "0"], "batches and seconds are positive"),
        (["--batch-size", "one"], "--batch-size 'one' are no integers"),
        (["--seconds", "0"], "batches and seconds are positive"),
        (["--merge", "-1"], "merges are 0 or more"),
        (["--split", "test", "{data}"], "has no split 'test'"),
        (["no-such-folder"], "no-such-folder"),
    ],
)
def test_bad_input(arguments, message, weights, class_folder, capsys):
    data = class_folder(1)
    given = [each.format(data=data) for each in arguments]
    assert main(["benchmark", weights, *given, "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
