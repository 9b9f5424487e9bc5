"""Graphs are written once into the user's cache, which several processes share and which stays small."""

from __future__ import annotations

import json
import shutil
import time

import pytest
import torch
from exported_once import SIMPLE

import vitrail
from vitrail.compress import apply
from vitrail.engines import cache, choose
from vitrail.engines.fingerprint import cache_key, fingerprint
from vitrail.engines.graph import writing
from vitrail.errors import UserError

pytestmark = pytest.mark.usefixtures("exported_once", "own_cache")


@pytest.fixture
def weights(tiny_predictor, tmp_path):
    tiny_predictor(**SIMPLE).save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def written(monkeypatch):
    """The names of the engines for which a graph was written."""
    names = []

    def count(task, preprocess, name, out, metrics=None):
        names.append(name)
        return writing(task, preprocess, name, out, metrics)

    monkeypatch.setattr(choose, "writing", count)
    return names


def entries():
    return sorted(path.name for path in cache.folder().iterdir())


def outputs(predictor):
    return predictor.engine(torch.linspace(-1, 1, 3 * 16 * 24).reshape(1, 3, 16, 24))


def test_a_file_is_exported_once(weights, written, capsys):
    first, second = (vitrail.load(weights, device="cpu", engine="openvino") for _ in range(2))
    assert written == ["openvino"]
    torch.testing.assert_close(outputs(first), outputs(second), rtol=0, atol=0)
    (entry,) = entries()
    kept = ["differences-fp32.json", "model.bin", "model.xml"]
    assert sorted(path.name for path in (cache.folder() / entry).iterdir()) == kept
    vitrail.load(weights, device="cpu", engine="openvino", image_size=32)
    assert written == ["openvino"] * 2, "another size is another model"
    capsys.readouterr()


def test_a_run_folder_keeps_what_it_has(weights, written, tmp_path):
    plain = vitrail.load(weights, device="cpu")
    run = tmp_path / "run"
    (run / "weights").mkdir(parents=True)
    shutil.copy(weights, run / "weights" / "best.safetensors")
    (run / "config.yaml").write_text("{}")
    kept = run / "engines" / f"onnxruntime-{fingerprint(plain.task, plain.preprocess.config)}.onnx"
    with writing(plain.task, plain.preprocess.config, "onnxruntime", kept):
        pass
    for _ in range(2):
        vitrail.load(run, device="cpu", engine="onnxruntime")
    assert written == []
    (entry,) = entries()
    assert entry.startswith("onnxruntime-of-run-")
    assert [path.name for path in (cache.folder() / entry).iterdir()] == ["differences-fp32.json"]


def test_pickled_formats_are_never_cached(weights, written):
    for _ in range(2):
        vitrail.load(weights, device="cpu", engine="pt2")
    assert written == ["pt2"] * 2
    assert not cache.folder().exists()


@pytest.mark.parametrize(("engine", "part"), [("onnxruntime", "model.onnx"), ("openvino", "model.xml"),
                                              ("openvino", "model.bin")])  # fmt: skip
def test_a_damaged_entry_is_written_again(engine, part, weights, written, capsys):
    expected = outputs(vitrail.load(weights, device="cpu", engine=engine))
    (entry,) = entries()
    file = cache.folder() / entry / part
    file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(outputs(vitrail.load(weights, device="cpu", engine=engine)), expected)
    assert written == [engine] * 2
    assert f"engine {engine}: written again, because" in capsys.readouterr().err
    assert torch.equal(outputs(vitrail.load(weights, device="cpu", engine=engine)), expected)
    assert written == [engine] * 2


def test_a_cache_that_cannot_be_written_is_done_without(weights, written, monkeypatch, capsys):
    monkeypatch.setenv("VITRAIL_CACHE", "/proc/none")
    expected = outputs(vitrail.load(weights, device="cpu"))
    found = outputs(vitrail.load(weights, device="cpu", engine="onnxruntime"))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert "/proc/none/engines cannot be written" in capsys.readouterr().err


def test_merged_tokens_are_no_plain_model(tiny_predictor, written):
    plain = tiny_predictor(image_size=(24, 32), depth=1)
    merged = apply(plain, "tome", r=2)
    config = plain.preprocess.config
    assert cache_key(plain.task, fingerprint(plain.task, config)) is not None
    assert cache_key(merged.task, fingerprint(merged.task, config)) is None


def add(key, size):
    with cache.adding(key) as entry:
        (entry / "model").write_bytes(bytes(size))
    time.sleep(0.01)


def test_the_least_recently_used_go_first(monkeypatch):
    monkeypatch.setenv("VITRAIL_CACHE_GIB", str(250 / 2**30))
    add("a", 100)
    add("b", 100)
    assert cache.find("a") is not None
    time.sleep(0.01)
    add("c", 100)
    assert entries() == ["a", "c"]
    add("d", 300)
    assert entries() == ["d"], "the newest stays even where it is too large by itself"
    monkeypatch.setenv("VITRAIL_CACHE_GIB", "many")
    with pytest.raises(UserError, match="VITRAIL_CACHE_GIB='many' is no size"):
        add("e", 1)


def test_the_faster_of_two_writers_stays():
    with cache.adding("a") as slow:
        (slow / "model").write_text("slow")
        with cache.adding("a") as fast:
            (fast / "model").write_text("fast")
    entry = cache.find("a")
    assert entry is not None
    assert (entry / "model").read_text() == "fast"
    assert entries() == ["a"]


def test_a_failure_leaves_nothing():
    def fail():
        with cache.adding("a") as entry:
            (entry / "model").write_text("half")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert cache.find("a") is None
    assert entries() == []


def test_a_damaged_choice_is_measured_again(tiny_predictor, monkeypatch, capsys):
    monkeypatch.setattr(choose, "measure", lambda found, *_: dict.fromkeys(found, 1.0))
    predictor = tiny_predictor(**SIMPLE)
    predictor.running("auto")
    (choice,) = cache.folder().glob("auto-*/choice.json")
    assert json.loads(choice.read_text()) == {"engine": "eager"}
    choice.write_text("{")
    predictor.running("auto")
    assert "engine auto: measured again, because" in capsys.readouterr().err
    predictor.running("auto")
    assert "engine auto: eager (measured before)" in capsys.readouterr().err
