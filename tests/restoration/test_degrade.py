"""Degradations: keyed, in the order that they are named, and parts that equal those of the whole picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.data import DataConfig, SourceConfig, open_data, open_source
from vitrail.data.media.decode import BadImage
from vitrail.data.transforms.degrade import Degrade, DegradeConfig, blurred, compressed, gaussian
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.data.transforms.restoration import RestorationCrops, RestorationEvaluation, filling
from vitrail.errors import UserError
from vitrail.ops.bicubic import imresize
from vitrail.ops.tiles import TileConfig

TILES = TileConfig(size=(32, 32))


def photo(height: int = 60, width: int = 82, channels: int = 3) -> torch.Tensor:
    rows, columns = np.mgrid[:height, :width]
    base = 127 + 60 * np.sin(rows / 5)[None] + 50 * np.cos(columns / np.array([3.0, 4.0, 6.0])[:, None, None])
    return torch.from_numpy(base.clip(0, 255).astype(np.uint8))[:channels]


def settings(degrade: DegradeConfig, size: int = 16, channels: int = 3) -> PreprocessConfig:
    return PreprocessConfig(
        size=size, channels=channels, resize="none", mean=(0,), std=(1,), tiles=TILES, degrade=degrade
    )


def test_by_default_nothing_changes() -> None:
    assert torch.equal(Degrade(DegradeConfig())(photo(), 3), photo())
    assert not DegradeConfig(scale=4).changes_pixels
    assert torch.equal(Degrade(DegradeConfig(scale=2))(photo(), 3), imresize(photo(), 0.5))


def test_noise_depends_on_the_key_alone_and_has_its_deviation() -> None:
    noisy = Degrade(DegradeConfig(noise=10))
    flat = torch.full((1, 200, 200), 128, dtype=torch.uint8)
    assert torch.equal(noisy(flat, 1), noisy(flat, 1))
    assert not torch.equal(noisy(flat, 1), noisy(flat, 2))
    assert noisy(flat, 1).double().std() == pytest.approx(10, rel=0.02)
    some = Degrade(DegradeConfig(noise=(0, 50)))
    assert len({round(float(some(flat, key).double().std())) for key in range(8)}) > 4


def test_blur_keeps_the_mean_and_is_turned() -> None:
    kernel = gaussian(2.0, 3.0, np.pi / 2)
    assert float(kernel.sum()) == pytest.approx(1)
    assert kernel[:, 6].sum() > kernel[6].sum()  # along the rows
    torch.testing.assert_close(gaussian(2.0, 3.0), kernel.T)
    flat = torch.full((3, 9, 9), 7, dtype=torch.float64)
    torch.testing.assert_close(blurred(flat, 3.0), flat)


def test_jpeg_is_pillows_and_of_colours_alone() -> None:
    coarse, fine = (compressed(photo(), quality).int() for quality in (5, 95))
    error = [(each - photo()).abs().double().mean() for each in (coarse, fine)]
    assert error[0] > 2 * error[1]
    assert compressed(photo(channels=1), 50).shape == (1, 60, 82)
    with pytest.raises(UserError, match=r"leave data\.preprocess\.degrade\.jpeg out"):
        compressed(photo().repeat(2, 1, 1)[:4], 50)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_a_part_is_that_of_the_whole_degraded_picture(scale: int) -> None:
    crops = RestorationCrops(settings(DegradeConfig(scale=scale), size=8))
    height, width = (side - side % scale for side in (96, 120))
    picture = photo(height, width)
    small = imresize(picture, 1 / scale)
    for key in range(12):
        made = crops.scene(picture, None, key)
        assert made.pixels.shape == (3, 8, 8)
        assert made.target.shape == (3, 8 * scale, 8 * scale)
        turned = [
            each if not transposed else each.transpose(-1, -2)
            for transposed in (False, True)
            for each in (made.pixels, made.pixels.flip(-1), made.pixels.flip(-2), made.pixels.flip(-1, -2))
        ]
        spots = small.unfold(1, 8, 1).unfold(2, 8, 1).permute(1, 2, 0, 3, 4).flatten(0, 1).int()
        assert min(int((spots - each.int()).abs().amax(dim=(1, 2, 3)).min()) for each in turned) <= 1


def test_what_is_not_drawn_is_degraded_once() -> None:
    crops, picture = RestorationCrops(settings(DegradeConfig(scale=3, blur=1, jpeg=40))), photo(62, 83)
    small, truth = crops.kept(picture, None)
    assert truth is not None
    assert torch.equal(truth, picture[:, :60, :81])
    assert torch.equal(small, crops.degrade(truth, 7))  # whatever the key
    for drawn in ({"noise": 5}, {"blur": (0, 1)}, {"blur": 1, "stretch": 2}, {"detour": (0.5, 1)}, {"jpeg": (40, 50)}):
        assert DegradeConfig(**drawn).draws
        assert RestorationCrops(settings(DegradeConfig(**drawn))).kept(picture, None) == (picture, None)


def test_small_pictures_are_continued_by_their_mirror_image() -> None:
    tiny = photo(1, 1)
    assert filling(tiny, (8, 8), 3).shape == (3, 24, 24)
    assert RestorationCrops(settings(DegradeConfig(scale=3))).scene(tiny, None, 0).target.shape == (3, 48, 48)
    with pytest.raises(BadImage, match="too few to be made 3 times smaller"):
        RestorationEvaluation(settings(DegradeConfig(scale=3)), 8).scene(tiny, None)


def test_evaluation_cuts_off_what_the_scale_does_not_divide() -> None:
    evaluation = RestorationEvaluation(settings(DegradeConfig(scale=4)), 8)
    made = evaluation.scene(photo(62, 83), None)
    assert made.target.shape == (3, 60, 80)
    assert torch.equal(made.tiled.pixels, imresize(made.target, 0.25))


def test_pictures_keep_their_size_only_by_tiles() -> None:
    with pytest.raises(UserError, match=r"set tiles\.size"):
        PreprocessConfig(size=16, resize="none")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for name, factor in (("HR", 1.0), ("LR_bicubic", 0.5)):
            folder = tmp_path / f"{split}_{name}"
            folder.mkdir()
            for number in range(3):
                pixels = imresize(photo(40 + 2 * number, 60), factor).permute(1, 2, 0).numpy()
                mark = "x2" if factor < 1 else ""
                Image.fromarray(pixels).save(folder / f"{number:04}{mark}.png")
    return tmp_path


def test_pairs_are_found_by_the_names_of_benchmarks(pairs: Path) -> None:
    splits = open_source(SourceConfig(spec=str(pairs), kind="image"))
    assert (len(splits.split("train")), len(splits.split("val"))) == (3, 3)
    source = splits.split("train")
    target = source.target_kind.read(source.targets, 1)
    assert target.shape == (3, 42, 60)
    config = DataConfig(
        source=SourceConfig(spec=str(pairs), kind="image"),
        preprocess=settings(DegradeConfig(scale=2)).options(),
        loader={"batch_size": 3, "workers": 0},
    )
    (batch,) = open_data(config).train_loader().batches()
    assert batch["images"].shape == (3, 3, 16, 16)
    assert batch["targets"].shape == (3, 3, 32, 32)
    wrong = open_data(dataclasses.replace(config, preprocess=settings(DegradeConfig(scale=4)).options()))
    with pytest.raises(UserError, match=r"has 30 × 2\d pixels.*which is not 4 times that"):
        next(iter(wrong.train_loader().batches()))


def test_a_picture_without_a_true_one_is_named(pairs: Path) -> None:
    (pairs / "train_HR" / "0001.png").unlink()
    with pytest.raises(UserError, match=r"1 pictures have no true one .*0001x2\.png"):
        open_source(SourceConfig(spec=str(pairs), kind="image"))


def test_pictures_that_lie_together(tmp_path: Path) -> None:
    for number in range(2):
        Image.fromarray(photo().permute(1, 2, 0).numpy()).save(tmp_path / f"img_00{number}_SRF_2_HR.png")
        Image.fromarray(imresize(photo(), 0.5).permute(1, 2, 0).numpy()).save(tmp_path / f"img_00{number}_SRF_2_LR.png")
    (_, source), *_ = open_source(SourceConfig(spec=str(tmp_path), kind="image", val_fraction=0)).items()
    assert [Path(source.name(i)).name for i in range(2)] == ["img_000_SRF_2_LR.png", "img_001_SRF_2_LR.png"]


def test_any_images_are_their_own_targets() -> None:
    splits = open_source(SourceConfig(spec="digits", kind="image"))
    source = splits.split("train")
    assert (source.kind, source.classes) == ("image", ())
    assert source.target_kind.read(source.targets, 0) is None
    assert source.target_kind.text(source.targets, 0, ()) == "itself"


def test_few_pictures_come_several_times_in_an_epoch() -> None:
    config = DataConfig(
        source=SourceConfig(spec="sample_photos", kind="image"),
        preprocess=settings(DegradeConfig(scale=2), size=8).options(),
        loader={"batch_size": 4, "workers": 0, "passes": 8},
    )
    loader = open_data(config).train_loader()
    batches = list(loader.batches())
    assert len(batches) == len(loader) == 2
    parts = torch.cat([batch["images"] for batch in batches])
    assert len({part.numpy().tobytes() for part in parts}) == 8
    with pytest.raises(UserError, match="goes with neither balanced nor repeats"):
        open_data(dataclasses.replace(config, loader={"batch_size": 1, "passes": 2, "balanced": True})).train_loader()
