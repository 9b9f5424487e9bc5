"""Pictures that a restoration model cannot use as they are: each is said in one line, or simply works."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from vitrail.cli import main
from vitrail.data.transforms.degrade import DegradeConfig
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.nn.windows import WindowConfig
from vitrail.ops.bicubic import imresize
from vitrail.tasks.super_resolution import Config, Task, exact_tiles, light


@pytest.fixture(scope="module")
def predictor() -> vitrail.Predictor:
    torch.manual_seed(0)
    model = dataclasses.replace(light(), dim=8, heads=2, mlp_dim=16, depth=2, image_size=(12, 12))
    task = Task(Config(model=model, scale=2, window=WindowConfig(size=4, num_global=0, shifted=True))).eval()
    preprocess = PreprocessConfig(
        size=12, resize="none", mean=(0,), std=(1,), tiles=exact_tiles(task.config, 64), degrade=DegradeConfig(scale=2)
    )
    return vitrail.Predictor(task, preprocess, device="cpu")


def smooth(seed: int, height: int = 48, width: int = 64) -> torch.Tensor:
    """A picture of large shapes."""
    coarse = torch.randint(256, (3, height // 8, width // 8), dtype=torch.uint8, generator=torch.manual_seed(seed))
    return imresize(coarse, 8)


def written(folder: Path, large: list[torch.Tensor], factors: list[float], order: list[int]) -> Path:
    """Pairs, the small ones of pictures in another order."""
    for name in ("hr", "lr"):
        (folder / name).mkdir(parents=True)
    for number, (own, factor) in enumerate(zip(order, factors, strict=True)):
        Image.fromarray(large[number].permute(1, 2, 0).numpy()).save(folder / "hr" / f"{number}.png")
        small = imresize(large[own], factor)
        Image.fromarray(small.permute(1, 2, 0).numpy()).save(folder / "lr" / f"{number}.png")
    return folder


def one_line(err: str) -> str:
    said = [line for line in err.splitlines() if line.startswith("vitrail: error: ")]
    assert len(said) == 1
    return said[0]


def test_pairs_of_other_content_and_of_other_ratios_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = [smooth(seed) for seed in range(4)]
    folder = written(tmp_path / "pairs", large, [0.5, 0.5, 0.5, 0.25], [0, 2, 1, 3])
    (folder / "lr" / "3.png").unlink()
    Image.fromarray(imresize(large[3], 0.3).permute(1, 2, 0).numpy()).save(folder / "lr" / "3.png")
    assert main(["data", "check", str(folder), "--set", "kind=image", "--workers", "0"]) == 2
    both = capsys.readouterr()
    said = " ".join(both.out.split())
    assert "1.png shows another picture than its true one" in said
    assert "2.png shows another picture than its true one" in said
    assert "3.png has 20 × 15 pixels, and its true picture 64 × 48, which is not 1, 2, 3 or 4 times that" in said
    assert "0.png" not in said
    assert "1.png shows another picture" in one_line(both.err)


def test_a_scale_that_the_file_does_not_have(
    predictor: vitrail.Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor.save(tmp_path / "model.safetensors")
    folder = written(tmp_path / "pairs", [smooth(1), smooth(2)], [0.25, 0.25], [0, 1])
    assert main(["evaluate", str(tmp_path / "model.safetensors"), str(folder), "--out", str(tmp_path / "scores")]) == 2
    said = one_line(capsys.readouterr().err)
    assert "16 × 12 pixels, and its true picture 64 × 48, which is not 2 times that" in said
    assert main(["train", str(folder), "--task", "super_resolution", "--scale", "5", "--runs", str(tmp_path)]) == 2
    assert "scale" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (64, 5)])
def test_pictures_smaller_than_a_tile_or_a_window(predictor: vitrail.Predictor, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    expected = imresize(torch.from_numpy(pixels).permute(2, 0, 1), 2).permute(1, 2, 0).numpy()
    found = predictor.predict(pixels)
    assert found.size == (2 * size[0], 2 * size[1])
    far = np.abs(np.asarray(found.image, int) - expected)  # the model is untrained
    assert far[2:-2, 2:-2].max(initial=0) <= 1  # at edges bicubic mirrors, and ours repeats


@pytest.mark.parametrize("mode", ["CMYK", "L", "LA", "1", "P", "I;16"])
def test_pictures_of_other_colours(predictor: vitrail.Predictor, mode: str) -> None:
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 10), np.uint8))
    picture = Image.fromarray(np.asarray(grey, np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    file = io.BytesIO()
    picture.save(file, "JPEG" if mode == "CMYK" else "PNG")
    found = predictor.predict(file.getvalue())
    assert found.size == (16, 20)
    assert found.form.bits == (16 if mode == "I;16" else 8)
    assert found.form.grey == (mode in ("L", "LA", "1", "I;16"))


def test_bands_that_the_model_does_not_have(predictor: vitrail.Predictor) -> None:
    with pytest.raises(vitrail.UserError, match=r"5 channels") as caught:
        predictor.predict(np.zeros((8, 8, 5), np.uint8))
    assert "\n" not in str(caught.value)
