"""``vitrail generate``, its Python twin and its route: the same pictures, marked, and one line for bad input."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from vitrail import registry, sampler_graph
from vitrail.checkpoints import native
from vitrail.cli import main
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.defaults import Facts
from vitrail.errors import UserError
from vitrail.generate import flow_matching
from vitrail.predictions.synthetic import EDITED, TRAINED
from vitrail.sampling import SamplerConfig
from vitrail.vit import ViTConfig

NAMES = ("ant", "bee/wasp", "cat")
MODEL = ViTConfig(image_size=(8, 8), patch_size=(4, 4), dim=16, depth=2, heads=2, mlp_dim=32, class_token=False)
SAMPLER = SamplerConfig(name="euler", steps=3)


def saved(folder: Path, model: ViTConfig, sampler: SamplerConfig) -> Path:
    """A weights file."""
    task = flow_matching.Task(flow_matching.Config(model=model, classes=NAMES, sampler=sampler))
    for parameter in task.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    path = folder / "drawer.safetensors"
    native.save(path, task.state_dict(), native.meta_of(task, PreprocessConfig(size=(8, 8))))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A weights file."""
    return saved(tmp_path, MODEL, SAMPLER)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "given.png"
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_the_verb_writes_what_python_draws(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "drawn"
    assert main(["generate", str(run), "--count", "4", "--seed", "7", "--out", str(out), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    drawn = vitrail.load_generator(run).draw(count=4, seed=7, batch_size=3)
    assert [row["class"] for row in rows] == ["ant", "bee/wasp", "cat", "ant"]
    assert (rows[0]["steps"], rows[0]["guidance"], rows[0]["size"]) == (3, 1.0, [8, 8])
    for row, mine in zip(rows, drawn, strict=True):
        assert row["key"] == mine.key
        with Image.open(row["file"]) as image:
            assert TRAINED in image.text["XML:com.adobe.xmp"]
            np.testing.assert_allclose(np.asarray(image, int), np.asarray(mine.image, int), atol=1)
    assert (tmp_path / "drawn-sheet.png").is_file()
    assert sorted(path.name for path in (out / "ant").iterdir()) == ["0000.png", "0003.png"]
    assert main(["generate", str(run), "--count", "1", "--class", "bee/wasp", "--out", str(out)]) == 0
    assert (out / "bee_wasp/0000.png").is_file()


def test_a_part_of_a_picture_is_drawn(run: Path, picture: Path, tmp_path: Path) -> None:
    hole = np.zeros((8, 8), np.uint8)
    hole[:, 5:] = 255
    Image.fromarray(hole).save(tmp_path / "hole.png")
    given = ["--inpaint", str(picture), "--mask", str(tmp_path / "hole.png"), "--out", str(tmp_path / "drawn")]
    assert main(["generate", str(run), "--class", "cat", "--count", "1", *given]) == 0
    with Image.open(picture) as truth, Image.open(tmp_path / "drawn/cat/0000.png") as found:
        assert EDITED in found.text["XML:com.adobe.xmp"]
        np.testing.assert_array_equal(np.asarray(found)[:, :5], np.asarray(truth)[:, :5])
        assert (np.asarray(found)[:, 5:] != np.asarray(truth)[:, 5:]).any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--class", "dog"], "the model draws no 'dog'"),
        (["--steps", "0"], "--steps"),
        (["--guidance", "-1"], "guidance"),
        (["--guidance", "nan"], "guidance"),
        (["--count", "0"], "--count"),
        (["--count", "1000000"], "draw from 1 to 100,000 pictures"),
        (["--inpaint", "given.png"], "--inpaint and --mask go together"),
        (["--inpaint", "given.png", "--mask", "other.png"], r"8 × 4 pixels and the picture 8 × 8"),
        (["--inpaint", "none.png", "--mask", "given.png"], "none.png"),
        (["--vary", "given.png", "--strength", "0"], "strength is above 0"),
        (["--enlarge", "other.png"], "a picture of 8 × 4 pixels does not fit"),
        (["--vary", "given.png", "--colour", "given.png"], "exclude each other"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str], said: str, run: Path, picture: Path, tmp_path: Path, capfd: Any, monkeypatch: Any
) -> None:
    Image.new("L", (8, 4)).save(tmp_path / "other.png")
    monkeypatch.chdir(tmp_path)
    assert main(["generate", str(run), *options]) == 2
    error = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("device")]
    assert len(error) == 1, error
    assert said in error[0]
    assert not (tmp_path / "drawn").exists()


def test_a_model_that_draws_nothing_is_told(tiny_predictor: Any, tmp_path: Path) -> None:
    tiny_predictor().save(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="draws no pictures; train one with"):
        vitrail.load_generator(tmp_path / "other.safetensors")


def test_the_server_draws_the_same(run: Path, tiny_predictor: Any) -> None:
    pytest.importorskip("fastapi")
    from in_process import speaking

    served = {"drawer": vitrail.load(run), "other": tiny_predictor()}

    async def ask() -> list[Any]:
        async with speaking(served, None, None) as (client, _):
            urls = ("class=cat&count=3&seed=5&steps=2", "class=dog", "model=other", "count=17", "class=ant&format=png")
            return [await client.post(f"/v1/generate?{url}") for url in urls]

    drawn, unknown, other, many, png = asyncio.run(asyncio.wait_for(ask(), 60))
    generator = vitrail.load_generator(run)
    mine = generator.draw("cat", 3, seed=5, sampler=generator.sampler(steps=2))
    for theirs, own in zip(drawn.json()["pictures"], mine, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(theirs["png"]))), int)
        np.testing.assert_allclose(pixels, np.asarray(own.image, int), atol=1)
        assert int(theirs["key"]) == own.key
    assert [each.status_code for each in (unknown, other, many, png)] == [422, 422, 422, 200]
    assert Image.open(io.BytesIO(png.content)).size == (8, 8)


@pytest.mark.parametrize(("to", "suffix"), [("onnx", ".onnx"), ("openvino", ".xml")])
def test_the_whole_sampler_is_one_graph(to: str, suffix: str, tmp_path: Path) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[to])
    run = saved(tmp_path, dataclasses.replace(MODEL, depth=1), SamplerConfig(name="euler", steps=2, guidance=1.5))
    out = tmp_path / f"drawer{suffix}"
    written = vitrail.export(run, out, to=to)
    assert max(row.max_error for row in written.rows) <= 1
    task, noise, labels = vitrail.load_generator(run).task, np.random.default_rng(0), np.array([2, 0, 1])
    given = noise.standard_normal((3, 3, 8, 8)).astype(np.float32)
    if to == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(out)
        (pictures,) = session.run(None, {"noise": given, "class": labels})
    else:
        import openvino

        pictures = openvino.compile_model(out, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([given, labels])[0]
    with torch.inference_mode():
        images = task.draw(torch.from_numpy(given), torch.from_numpy(labels))
    expected = ((images * 0.5 + 0.5) * 255).round().clamp(0, 255).permute(0, 2, 3, 1)
    np.testing.assert_allclose(pictures.astype(int), expected.numpy().astype(int), atol=1)


def test_the_model_card_says_that_pictures_are_synthetic(tmp_path: Path) -> None:
    small = ["--set", "model.dim=16", "--set", "model.heads=2", "--set", "model.depth=1", "--set", "model.mlp_dim=32"]
    given = ["digits", "--task", "generation", "--workers", "0", "--batch-size", "512", "--epochs", "1", *small]
    assert main(["train", *given, "--out", str(tmp_path / "run"), "--set", "task_options.sampler.steps=2"]) == 0
    card = (tmp_path / "run/model_card.md").read_text()
    assert "no camera took them" in card
    assert 'vitrail.load_generator("weights/last.safetensors").draw' in card
    assert (tmp_path / "run/plots/drawn.png").is_file()
    assert len(list((tmp_path / "run/samples").iterdir())) == 1  # as many as evaluations
    assert (tmp_path / "run/plots/film.png").is_file()
    generator = vitrail.load_generator(tmp_path / "run")
    assert generator.classes == tuple("0123456789")
    assert generator.draw("7")[0].image.size == (8, 8)


@pytest.mark.parametrize("method", registry.names("generate"))
def test_every_method_has_defaults_for_the_data(method: str, tmp_path: Path, capfd: Any) -> None:
    assert (
        main(["train", "digits", "--task", method, "--dry-run", "--workers", "0", "--out", str(tmp_path / "run")]) == 0
    )
    said = capfd.readouterr().err
    assert "grey images of 8 × 8 pixels in 16 patches of 2 × 2" in said
    assert "averaged over about" in said


def test_few_pictures_are_said_whatever_the_start() -> None:
    kind = registry.load("generate", "adversarial").Task
    given: dict[str, Any] = {"image_sizes": np.empty((0, 2)), "objects": None, "model": MODEL}
    for pretrained in (False, True):
        assert "90 images are few" in str(kind.too_few(Facts(num_images=90, pretrained=pretrained, **given), "photos"))
    assert kind.too_few(Facts(num_images=5000, pretrained=False, **given), "photos") is None


def test_writing_a_graph_leaves_the_model_as_it_was(run: Path, tmp_path: Path) -> None:
    model = vitrail.load(run)
    with pytest.raises(UserError, match=r"end with \.onnx"):
        vitrail.export(model, tmp_path / "drawer.xyz", to="onnx")
    with sampler_graph.writing(model.task, model.preprocess.config, "pt2", tmp_path / "drawer.pt2"):
        pass
    assert all(parameter.requires_grad for parameter in model.task.parameters())


def test_the_current_folder_takes_pictures(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["generate", str(run), "--count", "1", "--out", "."]) == 0
    assert {path.name for path in Path().iterdir()} == {"ant", "here-sheet.png"}
