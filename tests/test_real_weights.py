"""The real ImageNet ViT-Ti/16: what timm computes with the same file and photos, we compute."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import vitrail
from vitrail import compress
from vitrail.cli import main
from vitrail.data.source import SourceConfig, open_source
from vitrail.engines import Engine
from vitrail.engines.runtimes import openvino

pytestmark = pytest.mark.real_data
SIZES = {(224, 224): 10, (384, 384): 40, (224, 320): 40}
"""Of images, and one of how many photos is compared: at other sizes, enough to show that positions are resampled as by
timm."""


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real images and weights are not on this machine (looked for {folder})")
    return folder


@pytest.fixture(scope="module")
def photos(place: Path) -> list[Path]:
    return sorted((place / "imagenet_samples").glob("*.JPEG"))


@pytest.fixture(scope="module")
def truth(place: Path, photos: list[Path]) -> list[int]:
    """The class of each photo: its name begins with the wnid."""
    wnids = [entry["wnid"] for entry in json.loads((place / "vit_tiny_imagenet" / "classes.json").read_text())]
    return [wnids.index(photo.name.split("_")[0]) for photo in photos]


@pytest.fixture(scope="module")
def predictor(place: Path) -> vitrail.Predictor:
    return vitrail.load(place / "vit_tiny_imagenet", device="cpu")


@pytest.fixture(scope="module")
def batches(predictor: vitrail.Predictor, photos: list[Path]) -> tuple[torch.Tensor, ...]:
    """All photos, decoded once."""
    return torch.cat([predictor.tensor(photo) for photo in photos]).split(25)


@pytest.fixture(scope="module")
def labelled(predictor: vitrail.Predictor, photos: list[Path], truth: list[int], tmp_path_factory: Any) -> Path:
    """The photos with their class names as a data set."""
    table: Path = tmp_path_factory.mktemp("labelled") / "photos.csv"
    names = [predictor.classes[label] for label in truth]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label"], *zip(map(str, photos), names, strict=True)])
    return table


@pytest.fixture(scope="module")
def evaluated(place: Path, labelled: Path) -> dict[str, float]:
    """``vitrail evaluate`` on all photos; the predictions of each photo lie beside the table."""
    arguments = ["evaluate", str(place / "vit_tiny_imagenet" / "model.safetensors"), str(labelled)]
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout):
        assert main([*arguments, "--out", str(labelled.with_name("out")), "--json", "--device", "cpu"]) == 0
    metrics: dict[str, float] = json.loads(stdout.getvalue())["metrics"]
    return metrics


@pytest.fixture(scope="module")
def plain(predictor: vitrail.Predictor, labelled: Path, evaluated: dict[str, float]) -> torch.Tensor:
    """The class that the model gives each photo, of the one evaluation of all of them."""
    (table,) = labelled.with_name("out").glob("*.csv")
    with table.open(encoding="utf-8", newline="") as file:
        return torch.tensor([predictor.classes.index(row["predicted"]) for row in csv.DictReader(file)])


@torch.inference_mode()
def _said(engine: Engine, batches: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.cat([engine(batch).argmax(1) for batch in batches])


def _cost(plain: torch.Tensor, other: torch.Tensor, truth: list[int]) -> float:
    """Points of accuracy lost."""
    before, after = (float((said == torch.tensor(truth)).double().mean()) for said in (plain, other))
    return 100 * (before - after)


def _logits(predictor: vitrail.Predictor, photos: list[Path]) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([predictor.task(predictor.tensor(photo)) for photo in photos])


@pytest.mark.parametrize("size", SIZES)
def test_every_prediction_is_timms(place: Path, photos: list[Path], size: tuple[int, int]) -> None:
    timm = pytest.importorskip("timm")
    weights = place / "vit_tiny_imagenet" / "model.safetensors"
    chosen = photos[:: SIZES[size]]  # of all kinds; all photos are counted by the evaluation
    ours = _logits(vitrail.load(weights, image_size=size, device="cpu"), chosen)
    model = timm.create_model("vit_tiny_patch16_224", checkpoint_path=str(weights), dynamic_img_size=True).eval()
    transform = timm.data.create_transform(
        (3, *size), interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=0.9
    )
    with torch.inference_mode():
        theirs = torch.cat([model(transform(Image.open(photo).convert("RGB"))[None]) for photo in chosen])
    assert (ours - theirs).abs().max() < 1e-4
    assert torch.equal(ours.argmax(1), theirs.argmax(1))


def test_evaluate_measures_it(
    predictor: vitrail.Predictor, evaluated: dict[str, float], plain: torch.Tensor, truth: list[int]
) -> None:
    assert len(set(predictor.classes)) == 1000
    assert 0.78 < evaluated["top1"] < 0.88
    assert evaluated["top5"] > 0.93
    assert evaluated["top1"] == pytest.approx(float((plain == torch.tensor(truth)).double().mean()))


def test_predict_names_the_right_thing(predictor: vitrail.Predictor, photos: list[Path]) -> None:
    tench = next(photo for photo in photos if photo.name.startswith("n01440764"))
    assert predictor.predict(tench).label == "tench"


def test_merging_costs_at_most_a_point(
    predictor: vitrail.Predictor, batches: tuple[torch.Tensor, ...], plain: torch.Tensor, truth: list[int]
) -> None:
    fewer = _said(compress.apply(predictor, "tome", r=8).task, batches)
    assert _cost(plain, fewer, truth) < 1 + 1e-9
    assert 0.9 < float((plain == fewer).double().mean()) < 1


@pytest.mark.timeout(600)  # it calibrates and measures a real model
def test_int8_costs_at_most_a_point(
    predictor: vitrail.Predictor,
    photos: list[Path],
    batches: tuple[torch.Tensor, ...],
    plain: torch.Tensor,
    truth: list[int],
    labelled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Calibrated on a tenth of the photos, measured on all of them; most layers compute in int8."""
    fp32_only = dataclasses.replace(openvino.RUNTIME, precisions=("fp32",))
    monkeypatch.setattr(openvino, "RUNTIME", fp32_only)  # bf16 would be measured on all photos for its row alone
    config = SourceConfig(spec=str(labelled), classes=predictor.classes, val_fraction=0)
    source = open_source(config).split("train")
    result = vitrail.quantize(predictor, tmp_path / "model.xml", list(photos[::10]), labelled=source, budget=1.0)
    assert result.layers >= 32
    whole = _said(vitrail.load(result.path).engine, batches)
    assert _cost(plain, whole, truth) < 1 + 1e-9
    assert 0.9 < float((plain == whole).double().mean()) < 1
