"""A restoration model through the verbs: predict, evaluate, export, serve."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

import vitrail
from vitrail.cli import main
from vitrail.data.transforms.degrade import DegradeConfig
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.int8.scores import left
from vitrail.tasks.super_resolution import Config, Task, exact_tiles, light


@pytest.fixture
def predictor() -> vitrail.Predictor:
    torch.manual_seed(0)
    model = vitrail.config.override(light(), {"dim": 8, "heads": 2, "mlp_dim": 16, "depth": 2, "image_size": 12})
    task = Task(vitrail.config.override(Config(model=model, scale=2), {"window.size": 4})).eval()
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    tiles = exact_tiles(task.config, 40)
    preprocess = PreprocessConfig(
        size=12, resize="none", mean=(0,), std=(1,), tiles=tiles, degrade=DegradeConfig(scale=2)
    )
    return vitrail.Predictor(task, preprocess, device="cpu")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (30 + 20 * number, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_pictures_are_predicted_and_measured(
    predictor: vitrail.Predictor, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "model.safetensors"
    predictor.save(weights)
    assert main(["predict", str(weights), str(photos), "--out", str(tmp_path / "big")]) == 0
    assert sorted(each.name for each in (tmp_path / "big").iterdir()) == ["0.png", "1.png"]
    with Image.open(tmp_path / "big" / "1.png") as image:
        expected = predictor.predict(photos / "1.png").image
        np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))
    assert main(["predict", str(weights), str(photos), "--out", str(tmp_path / "big.json")]) == 2
    assert "choose a folder" in capsys.readouterr().err
    assert main(["evaluate", str(weights), str(photos), "--out", str(tmp_path / "scores")]) == 0
    said = capsys.readouterr().out
    assert "PSNR of the luma (dB)" in said
    assert "of bicubic enlargement (dB)" in said
    (scores,) = (tmp_path / "scores").glob("*.json")
    found = json.loads(scores.read_text())
    assert found["conventions"]["border"] == 2
    assert len(found["pictures"]) == 2
    assert found["metrics"]["bicubic_psnr_y"] > found["metrics"]["psnr_y"]  # its weights are random


@pytest.mark.parametrize(("format", "suffix"), [("onnx", "onnx"), ("openvino", "xml")])
def test_an_exported_model_takes_tiles_of_any_size(
    predictor: vitrail.Predictor,
    format: str,
    suffix: str,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(format, format))
    pytest.importorskip("onnxscript")
    vitrail.export(predictor, tmp_path / f"model.{suffix}", to=format)
    exported = vitrail.load(tmp_path / f"model.{suffix}")
    for photo in sorted(photos.iterdir()):
        one, other = (each.predict(photo).levels.astype(int) for each in (predictor, exported))
        assert np.abs(one - other).max() <= 65535 / 255 / 16
    if format == "onnx":
        by_the_page_without_vitrail(predictor, tmp_path, monkeypatch)


def by_the_page_without_vitrail(predictor: vitrail.Predictor, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of docs/restoring.md that show tiles to an exported model, with smaller tiles."""
    page = (Path(__file__).parents[2] / "docs" / "restoring.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "InferenceSession" in block)
    tiles = predictor.preprocess.config.tiles
    assert tiles is not None
    margin = round(tiles.overlap * tiles.size[0] / 2)
    code, count = re.subn(
        "^TILE, MARGIN, .*$", f"TILE, MARGIN, ALIGN, SCALE = 40, {margin}, {tiles.align}, 2", code, flags=re.MULTILINE
    )
    assert count == 1
    assert margin % tiles.align == 0
    monkeypatch.chdir(folder)
    (folder / "model.onnx").rename("larger.onnx")
    pixels = np.random.default_rng(5).integers(0, 256, (71, 90, 3), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(pixels).save("larger.png", exif=turned, icc_profile=profile)
    exec(code, {"np": np})
    with Image.open("restored.png") as image:
        expected = predictor.predict("larger.png").image
        assert image.size == expected.size == (142, 180)
        assert np.abs(np.asarray(image).astype(int) - np.asarray(expected)).max() <= 1
        assert image.info["icc_profile"] == profile


def test_int8_is_measured_in_decibels(
    predictor: vitrail.Predictor, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript")
    images = sorted(photos.iterdir())
    result = vitrail.quantize(predictor, tmp_path / "int8.onnx", images, weights_only=True)
    assert (result.unit, result.budget) == ("dB", 0.1)
    assert result.rows[0].points == pytest.approx(40, abs=0.01)
    assert 0 < result.rows[0].points - result.rows[-1].points <= 0.1
    assert "dB lost" in capsys.readouterr().err
    assert vitrail.load(result.path).predict(images[0]).size == (60, 120)
    assert left(40.0) == pytest.approx(40 - 10 * np.log10(2))


def test_a_server_answers_with_pictures(predictor: vitrail.Predictor, photos: Path) -> None:
    pytest.importorskip("fastapi")
    from in_process import speaking

    async def ask() -> list[str]:
        async with speaking({"larger": predictor}, None, None) as (client, _):
            bodies = [photo.read_bytes() for photo in sorted(photos.iterdir())]
            posts = (client.post("/v1/predict", content=body, headers={"Content-Type": "image/png"}) for body in bodies)
            answers = await asyncio.gather(*posts)
            return [answer.json()["predictions"][0]["restored"] for answer in answers]

    for photo, picture in zip(sorted(photos.iterdir()), asyncio.run(ask()), strict=True):
        with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
            expected = np.asarray(predictor.predict(photo).image).astype(int)
            assert np.abs(np.asarray(image).astype(int) - expected).max() <= 1


def test_a_server_makes_no_more_pixels_than_it_may(predictor: vitrail.Predictor, photos: Path) -> None:
    pytest.importorskip("fastapi")
    from in_process import speaking

    body, kind = next(photos.iterdir()).read_bytes(), {"Content-Type": "image/png"}
    with Image.open(io.BytesIO(body)) as image:
        pixels = image.width * image.height

    async def ask(images: int, most: int, route: str = "predict") -> tuple[int, str, list[int]]:
        async with speaking({"larger": predictor}, None, None, max_restored=most) as (client, service):
            if images == 1:
                answer = await client.post(f"/v1/{route}", content=body, headers=kind)
            else:
                answer = await client.post(f"/v1/{route}", files=[("images", body)] * images)
            return answer.status_code, answer.text, service.worker.sizes

    assert asyncio.run(ask(1, 4 * pixels))[0] == 200
    status, text, _ = asyncio.run(ask(1, 4 * pixels - 4))
    assert status == 413
    assert "--max-restored" in text
    assert asyncio.run(ask(2, 4 * pixels))[0] == 413
    assert asyncio.run(ask(2, 8 * pixels))[2] == [1, 1]  # each alone, since each may take as long as a batch of others
    for route in ("embed", "explain", "attention", "merge"):  # attention costs the square of the pixels
        status, text, _ = asyncio.run(ask(1, 4 * pixels, route))
        assert (status, "12 × 12" in text) == (413, True), route
