"""Weights in and out of every library, from Python and from the command line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign, pooled
from vitrail.cli import main


@pytest.fixture
def folder(tiny_predictor, tmp_path: Path) -> str:
    """A Hugging Face folder of a model of 32 pixels, and the same model natively next to it."""
    predictor = tiny_predictor(image_size=(32, 32), resize="square")
    # A margin of 32 / 0.9 − 32 = 3 pixels is halved differently there.
    preprocess = dataclasses.replace(predictor.preprocess.config, crop_pct=1.0)
    vitrail.Predictor(predictor.task, preprocess, device="cpu").save(tmp_path / "own.safetensors")
    vitrail.convert(tmp_path / "own.safetensors", tmp_path / "hf", to="huggingface")
    return str(tmp_path / "hf")


@pytest.fixture
def photo(tmp_path: Path) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def test_a_folder_of_another_library_is_a_model_for_every_verb(
    folder: str, photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", folder, photo, "--json", "--device", "cpu"]) == 0
    said = json.loads(capsys.readouterr().out)
    own = vitrail.load(tmp_path / "own.safetensors", device="cpu").predict(photo)
    assert json.dumps(own.to_dict(5)["top"]) in json.dumps(said)
    assert main(["explain", folder, photo, "--out", str(tmp_path / "maps"), "--device", "cpu"]) == 0
    (tmp_path / "photos").mkdir()
    Path(photo).rename(tmp_path / "photos" / "photo.png")
    photos, out = str(tmp_path / "photos"), str(tmp_path / "v.npz")
    assert main(["embed", folder, photos, "--out", out, "--no-labels", "--device", "cpu"]) == 0


def test_a_backbone_without_a_head_is_looked_into_and_embeds(
    tiny_predictor, photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor = tiny_predictor(image_size=(32, 32), resize="square")
    described = pooled.describe_encoder(predictor.task.vit.config, predictor.preprocess.config)
    state = {name: value for name, value in predictor.task.state_dict().items() if name.startswith("vit.")}
    foreign.save("hf_vit", tmp_path / "bare", described, state)
    bare = vitrail.load(tmp_path / "bare", device="cpu")
    assert bare.embed(photo).shape == (32,)
    assert bare.classes == ()
    assert (
        main(["explain", str(tmp_path / "bare"), photo, "--each", "--out", str(tmp_path / "maps"), "--device", "cpu"])
        == 0
    )
    assert "rollout" in capsys.readouterr().out
    assert not list((tmp_path / "maps").glob("*grad-cam*"))
    assert main(["predict", str(tmp_path / "bare"), photo, "--json", "--device", "cpu"]) == 0
    assert len(json.loads(capsys.readouterr().out)[0]["features"]) == 32


def test_evaluate_needs_data_and_a_place(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", folder]) == 2
    assert "give DATA and --out" in capsys.readouterr().err


def test_another_size_is_adapted_and_said(folder: str, photo: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", folder, photo, "--image-size", "48x64", "--device", "cpu"]) == 0
    assert "adapted: image size (32, 32) → (48, 64); positions resampled (bicubic)" in capsys.readouterr().err
    assert main(["predict", folder, photo, "--patch-size", "16", "--device", "cpu"]) == 0
    assert "patch size (8, 8) → (16, 16)" in capsys.readouterr().err
    assert main(["predict", folder, photo, "--image-size", "big"]) == 2
    assert "'big' is no size" in capsys.readouterr().err


def test_a_resized_model_saves_and_opens_at_its_size(folder: str, photo: str, tmp_path: Path) -> None:
    large = vitrail.load(folder, image_size=64, patch_size=16, device="cpu")
    large.save(tmp_path / "large.safetensors")
    again = vitrail.load(tmp_path / "large.safetensors", device="cpu")
    assert again.task.vit.config.image_size == (64, 64)
    assert again.task.vit.config.patch_size == (16, 16)
    assert np.array_equal(again.predict(photo).probabilities, large.predict(photo).probabilities)


def test_convert_and_back(folder: str, photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", folder, str(tmp_path / "timm"), "--to", "timm"]) == 0
    assert main(["convert", str(tmp_path / "timm"), str(tmp_path / "again.safetensors"), "--to", "native"]) == 0
    first, again = (
        open_checkpoint(tmp_path / name).load().state_dict() for name in ("own.safetensors", "again.safetensors")
    )
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    capsys.readouterr()
    assert main(["convert", folder, str(tmp_path / "x"), "--to", "tim"]) == 2
    assert "did you mean 'timm'" in capsys.readouterr().err
    assert main(["convert", folder, str(tmp_path / "timm"), "--to", "timm"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_library_that_cannot_hold_the_model_is_told_why(
    tiny_predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_predictor(positions="rope_2d").save(tmp_path / "rope.safetensors")
    # Eva has such positions; the others hold no classification
    for library in foreign.libraries().keys() - {"timm", "swinir", "diffusers"}:
        assert main(["convert", str(tmp_path / "rope.safetensors"), str(tmp_path / "out"), "--to", library]) == 2
        assert "rope_2d" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_inspect_reads_no_tensor(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(folder) / "model.safetensors"
    begin = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    with file.open("r+b") as opened:  # NaN everywhere: reading would refuse it
        opened.seek(begin)
        opened.write(b"\xff" * (file.stat().st_size - begin))
    facts = vitrail.inspect(folder, image_size=48)
    assert facts["dialect"] == "hf_vit"
    assert facts["classes"] == ["ant", "bee", "cat", "dog"]
    assert "image_size: 32×32 → 48×48, resampled (bicubic)" in facts["adapted"]
    assert vitrail.inspect(folder)["parameters"] == sum(p.numel() for p in open_checkpoint(folder).task.parameters())
    assert main(["inspect", folder]) == 0
    text = capsys.readouterr().out
    assert "hf_vit" in text
    assert "timm" in text
    assert main(["inspect", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["writes_as"]["huggingface"] == "hf_vit"
    with pytest.raises(vitrail.UserError, match="NaN"):
        vitrail.load(folder, device="cpu")


def test_training_starts_from_foreign_weights(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "export", "digits", "--limit", "40", "--out", "photos"]) == 0
    train = ["train", "photos", "--init", folder, "--epochs", "1", "--name", "x", "--no-report", "--device", "cpu"]
    assert main([*train, "--precision", "fp32", "--batch-size", "8"]) == 0
    assert "backbone kept, fresh head for 10 outputs" in capsys.readouterr().err
    assert main(["inspect", "runs/x", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dialect"] == "native"
