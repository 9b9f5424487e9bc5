"""TIFFs of more pixels than are allowed, trained on, evaluated and predicted tile by tile: only what a tile shows is
read (webknossos-libs#892).

Siblings looked at: strips and tiles, planes apart, compressed, BigTIFF, 16 bits with a range, bands, transparency,
pages, grey for a model of three channels, other layouts, and no extra.
"""

from __future__ import annotations

import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from wild_files import opened, picture, png

from vitrail.cli import main
from vitrail.data.loading.loader import Loader, LoaderConfig
from vitrail.data.media import limits
from vitrail.data.media.decode import BadImage, decode
from vitrail.data.media.image_like import windows_of
from vitrail.data.media.read import read_size
from vitrail.data.media.reading import Reading
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.data.transforms.scene_config import SceneAugmentConfig
from vitrail.data.transforms.tile_augment import TileAugment
from vitrail.data.transforms.tiles import TiledEvaluation
from vitrail.errors import UserError
from vitrail.ops.tiles import TileConfig
from vitrail.terminal.options import MAX_PIXELS_VARIABLE

PIXELS = picture(5, (70, 90), 4)


def saved(folder: Path, pixels: np.ndarray, **options: Any) -> Path:
    tifffile = pytest.importorskip("tifffile")
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    (folder / "a.tif").write_bytes(stream.getvalue())
    return folder / "a.tif"


@pytest.fixture(autouse=True)
def _few_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "1000")


@pytest.mark.parametrize(
    "options",
    [
        {"rowsperstrip": 7},
        {"tile": (32, 16)},
        {"tile": (32, 16), "compression": "zlib", "predictor": True},
        {"rowsperstrip": 16, "planarconfig": "separate"},
        {"tile": (16, 32), "planarconfig": "separate", "bigtiff": True},
    ],
)
def test_a_window_is_what_the_picture_holds(tmp_path: Path, options: dict[str, Any]) -> None:
    rgb = PIXELS[..., :3]
    stored = rgb.transpose(2, 0, 1) if "planarconfig" in options else rgb
    path = saved(tmp_path, np.ascontiguousarray(stored), photometric="rgb", **options)
    windows = windows_of(path, 3, Reading())
    assert windows is not None
    assert windows.shape == (3, 70, 90)
    for rows, columns in ((slice(0, 70), slice(0, 90)), (slice(13, 57), slice(31, 90)), (slice(69, 70), slice(0, 1))):
        np.testing.assert_array_equal(windows[:, rows, columns].numpy(), rgb[rows, columns].transpose(2, 0, 1))
    windows.close()


def test_bands_bits_and_transparency(tmp_path: Path) -> None:
    def window(pixels: np.ndarray, channels: int, reading: Reading = Reading(), **options: Any) -> np.ndarray:  # noqa: B008
        windows = windows_of(saved(tmp_path, pixels, **options), channels, reading)
        assert windows is not None
        try:
            return windows[:, slice(2, 40), slice(3, 50)].numpy().transpose(1, 2, 0)
        finally:
            windows.close()

    part = PIXELS[2:40, 3:50]
    np.testing.assert_array_equal(window(PIXELS, 4, photometric="rgb", extrasamples=(0,)), part)
    shares = part[..., 3:] / 255
    white = part[..., :3] * shares + 255 * (1 - shares)
    assert np.abs(window(PIXELS, 3, photometric="rgb", extrasamples=("unassalpha",)) - white).max() < 1
    grey = window(PIXELS[..., 0], 3, photometric="miniswhite")
    np.testing.assert_array_equal(grey, 255 - np.repeat(part[..., :1], 3, axis=2))
    deep = PIXELS[..., 0].astype(np.uint16) * 16
    shown = window(deep, 1, Reading(value_range=(0, 4080)), photometric="minisblack")
    np.testing.assert_array_equal(shown, part[..., :1])
    pages = np.stack([PIXELS[..., 0], PIXELS[..., 1]])
    np.testing.assert_array_equal(window(pages, 1, Reading(page=1), photometric="minisblack"), part[..., 1:2])
    with pytest.raises(UserError, match="has 4 channels, where 3 are wanted"):
        window(PIXELS, 3, photometric="rgb", extrasamples=(0,))
    with pytest.raises(BadImage, match="range"):
        window(PIXELS[..., 0].astype(np.float32), 1, photometric="minisblack")


def test_other_files_are_decoded_as_ever(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a.png").write_bytes(png(0, (40, 50)))
    assert windows_of(tmp_path / "a.png", 3, Reading()) is None
    path = saved(tmp_path, PIXELS[:20, :20, :3], photometric="rgb")
    assert windows_of(path, 3, Reading()) is None  # small enough
    assert windows_of(PIXELS, 3, Reading()) is None
    large = saved(tmp_path, PIXELS[..., :3], photometric="rgb")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(UserError, match=r"a\.tif is a TIFF that needs an extra; run: pip install 'vitrail\[tiff\]'"):
        windows_of(large, 3, Reading())


def test_predictions_are_those_of_the_picture_in_memory(tmp_path: Path, monkeypatch) -> None:
    from vitrail.predictor import Predictor
    from vitrail.tasks import segmentation
    from vitrail.vit import ViTConfig

    model = ViTConfig(image_size=(16, 16), patch_size=8, dim=16, depth=1, heads=2, mlp_dim=16)
    task = segmentation.Task(segmentation.Config(model=model, classes=("sky", "sea")))
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, 0.05, 0.3)
    predictor = Predictor(task, PreprocessConfig(size=(16, 16)), device="cpu").tiled(16)
    path = saved(tmp_path, PIXELS[..., :3], photometric="rgb", tile=(32, 32))
    by_windows = predictor.predict(str(path))
    (streamed,) = [found for _, found in predictor.stream([str(path)])]
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "100000")
    in_memory = predictor.predict(str(path))
    for found in (by_windows, streamed):
        np.testing.assert_array_equal(np.asarray(found.label_map()), np.asarray(in_memory.label_map()))


def of_boxes(folder: Path, *, compression: str | None = None, bigtiff: bool = False) -> Path:
    """A data set of three large TIFFs with a bright object each, as COCO has it."""
    tifffile = pytest.importorskip("tifffile")
    folder.mkdir()
    images, objects = [], []
    for number in range(3):
        pixels = picture(number, (70, 90)) // 4
        left, top = 10 + 20 * number, 8 + 15 * number
        pixels[top : top + 12, left : left + 12] = 255
        options: dict[str, Any] = {"tile": (32, 32), "compression": compression} if compression else {}
        tifffile.imwrite(folder / f"{number}.tif", pixels, photometric="rgb", bigtiff=bigtiff, **options)
        images.append({"id": number, "file_name": f"{number}.tif", "height": 70, "width": 90})
        box = {"bbox": [left, top, 12, 12], "area": 144, "iscrowd": 0, "category_id": 1}
        objects.append({"id": number + 1, "image_id": number, **box})
    coco = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "spot"}]}
    (folder / "a.json").write_text(json.dumps(coco))
    return folder


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"bigtiff": True}])
def test_samples_of_training_and_evaluation_are_those_of_the_picture_in_memory(
    tmp_path: Path, monkeypatch, options: dict[str, Any]
) -> None:
    source = opened(of_boxes(tmp_path / "d", **options) / "a.json", val_fraction=0.0).split("train")
    config = PreprocessConfig(size=(16, 16), tiles=TileConfig(size=(32, 32)))
    augment = TileAugment(SceneAugmentConfig(), config, source.target_kind)
    evaluation = TiledEvaluation(config, source.target_kind, 4)

    def seen() -> tuple[Any, list[Any]]:
        training = Loader(source, augment, LoaderConfig(batch_size=3, workers=0), train=True)
        whole = Loader(source, evaluation, LoaderConfig(batch_size=3, workers=0), train=False)
        outputs = [
            [found.outputs for found in tiled.outputs(lambda images: images.flatten(1))]
            for batch in whole.batches()
            for tiled in pickle.loads(pickle.dumps(batch["tiled"]))  # as a loader's process hands it over
        ]
        return next(iter(training.batches())), outputs

    batch, outputs = seen()
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "100000")
    in_memory, all_in_memory = seen()
    torch.testing.assert_close(batch["images"], in_memory["images"], rtol=0, atol=0)
    assert len(batch["targets"].boxes_xyxy) > 0
    torch.testing.assert_close(batch["targets"].boxes_xyxy, in_memory["targets"].boxes_xyxy, rtol=0, atol=0)
    assert [len(each) for each in outputs] == [len(each) for each in all_in_memory] == [12] * 3
    for own, other in zip(outputs, all_in_memory, strict=True):
        torch.testing.assert_close(torch.stack(own), torch.stack(other), rtol=0, atol=0)


def test_damaged_tiles_are_named(tmp_path: Path) -> None:
    folder = of_boxes(tmp_path / "d", compression="zlib")
    data = bytearray((folder / "1.tif").read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    (folder / "1.tif").write_bytes(data)
    source = opened(folder / "a.json", val_fraction=0.0).split("train")
    config = PreprocessConfig(size=(16, 16), tiles=TileConfig(size=(32, 32)))
    loader = Loader(source, TiledEvaluation(config, source.target_kind, 4), LoaderConfig(workers=0), train=False)
    tiled = [each for batch in loader.batches() for each in batch["tiled"]]
    with pytest.raises(UserError, match=r"1\.tif is damaged: .*; repair or remove it"):
        list(tiled[1].outputs(lambda images: images.flatten(1)))


def test_a_long_strip_is_not_read_as_a_whole(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(limits, "MEMORY", limits.Limit("VITRAIL_MAX_IMAGE_MEMORY", 5000))
    rgb = PIXELS[..., :3]
    path = saved(tmp_path, rgb, photometric="rgb", rowsperstrip=70)
    windows = windows_of(path, 3, Reading())
    assert windows is not None
    window = windows[:, slice(13, 57), slice(31, 90)]
    np.testing.assert_array_equal(window.numpy(), rgb[13:57, 31:90].transpose(2, 0, 1))
    windows.close()
    with pytest.raises(UserError, match="needs about"):
        windows_of(saved(tmp_path, rgb, photometric="rgb", rowsperstrip=70, compression="zlib"), 3, Reading())


def test_the_refusal_names_tiles(tmp_path: Path) -> None:
    path = saved(tmp_path, PIXELS[..., :3], photometric="rgb")
    assert read_size(path) == (70, 90)
    with pytest.raises(BadImage, match="read it by tiles with --tile"):
        decode(path.read_bytes())


def test_a_training_by_tiles_ends_with_its_report(tmp_path: Path, monkeypatch) -> None:
    """Its pictures are those that are decoded as a whole: here none."""
    of_boxes(tmp_path / "d")
    monkeypatch.chdir(tmp_path)
    tiny = ["model.depth=1", "model.dim=16", "model.heads=2", "model.mlp_dim=16", "data.loader.workers=0"]
    settings = [part for each in (*tiny, "model.image_size=32") for part in ("--set", each)]
    command = ["train", "d/a.json", "--task", "detection", "--tile", "32", "--epochs", "1", "--batch-size", "2"]
    assert main([*command, "--model", "Ti/16", "--device", "cpu", "--precision", "fp32", "--name", "r", *settings]) == 0
    assert (tmp_path / "runs" / "r" / "report.html").is_file()


def of_maps(folder: Path, *, compression: str | None = None, value: int = 1, count: int = 3) -> Path:
    """The same with a map of its two classes, or of a strange ``value``, each."""
    tifffile = pytest.importorskip("tifffile")
    of_boxes(folder)
    (folder / "a.json").unlink()
    (folder / "classes.json").write_text('["ground", "spot"]')
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for number in range(count):
        (folder / f"{number}.tif").rename(folder / "images" / f"{number}.tif")
        left, top = 10 + 20 * number, 8 + 15 * number
        pixels = np.zeros((70, 90), np.uint8)
        pixels[top : top + 12, left : left + 12] = value
        options: dict[str, Any] = {"tile": (16, 32), "compression": compression} if compression else {}
        tifffile.imwrite(folder / "masks" / f"{number}.tif", pixels, **options)
    return folder


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_maps_are_read_by_windows_too(tmp_path: Path, monkeypatch, compression: str | None) -> None:
    splits = opened(of_maps(tmp_path / "d", compression=compression), val_fraction=0.0)
    source = splits.split("train")
    assert splits.classes == ("ground", "spot")
    config = PreprocessConfig(size=(32, 32), tiles=TileConfig(size=(32, 32)))
    augment = TileAugment(SceneAugmentConfig(), config, source.target_kind)
    evaluation = TiledEvaluation(config, source.target_kind, 4)

    def seen() -> tuple[Any, list[Any]]:
        training = Loader(source, augment, LoaderConfig(batch_size=3, workers=0), train=True)
        whole = Loader(source, evaluation, LoaderConfig(batch_size=3, workers=0), train=False)
        return next(iter(training.batches())), [each for batch in whole.batches() for each in batch["targets"]]

    batch, maps = seen()
    windows = source.target_kind.opened(source.targets, 0)
    assert not isinstance(windows, torch.Tensor)
    windows = pickle.loads(pickle.dumps(windows))
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "100000")
    in_memory, all_maps = seen()
    torch.testing.assert_close(batch["images"], in_memory["images"], rtol=0, atol=0)
    torch.testing.assert_close(batch["targets"], in_memory["targets"], rtol=0, atol=0)
    for own, other in zip(maps, all_maps, strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=0)
    np.testing.assert_array_equal(windows[5:40, 3:60], all_maps[0][5:40, 3:60])


def test_strange_numbers_and_other_maps_are_named(tmp_path: Path) -> None:
    source = opened(of_maps(tmp_path / "d", value=7), val_fraction=0.0).split("train")
    config = PreprocessConfig(size=(32, 32), tiles=TileConfig(size=(32, 32)))
    augment = TileAugment(SceneAugmentConfig(), config, source.target_kind)
    loader = Loader(source, augment, LoaderConfig(batch_size=3, workers=0), train=True)
    with pytest.raises(UserError, match=r"has a map, .*\.tif, that holds the unknown class 7 of 2"):
        list(loader.batches())
    colours = np.zeros((70, 90, 3), np.uint8)
    import tifffile

    for number in range(3):
        tifffile.imwrite(tmp_path / "d" / "masks" / f"{number}.tif", colours, photometric="rgb")
    with pytest.raises(UserError, match=r"has a map, .*\.tif, that has 3 channels, where 1 are wanted"):
        list(loader.batches())


def test_training_and_evaluation_on_maps(tmp_path: Path, monkeypatch) -> None:
    of_maps(tmp_path / "d")
    monkeypatch.chdir(tmp_path)
    assert main(["data", "check", "d"]) == 2  # pictures too large to be decoded
    tiny = ["model.depth=1", "model.dim=16", "model.heads=2", "model.mlp_dim=16", "data.loader.workers=0"]
    settings = [part for each in (*tiny, "model.image_size=32") for part in ("--set", each)]
    command = ["train", "d", "--task", "segmentation", "--tile", "32", "--epochs", "1", "--batch-size", "2"]
    options = ["--model", "Ti/16", "--device", "cpu", "--precision", "fp32", "--name", "r", "--no-report"]
    assert main([*command, *options, *settings]) == 0
    assert main(["evaluate", "runs/r", "d", "--split", "train", "--device", "cpu"]) == 0
