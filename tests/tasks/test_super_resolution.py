"""Pictures out of a ViT: bicubic at first, seen no further than it says, by tiles the same, in the input's form."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

import vitrail
from vitrail.data.transforms.degrade import DegradeConfig
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.nn.patch_embed import PatchEmbedConfig
from vitrail.nn.windows import WindowConfig
from vitrail.ops.bicubic import enlarged, imresize
from vitrail.ops.tiles import TileConfig
from vitrail.predictions import PicturePrediction
from vitrail.tasks.super_resolution import Config, Prediction, Task, exact_tiles, light
from vitrail.tta import average_views

WINDOW = WindowConfig(size=4, num_global=0, shifted=True)


def small(scale: int = 2, depth: int = 2, window: WindowConfig | None = WINDOW, *, trained: bool = True) -> Task:
    model = dataclasses.replace(light(), dim=8, heads=2, mlp_dim=16, depth=depth, image_size=(12, 12))
    torch.manual_seed(0)
    task = Task(Config(model=model, scale=scale, window=window, group=2)).eval()
    if trained:
        for parameter in task.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return task


def predictor(task: Task, tiles: TileConfig | None = None) -> vitrail.Predictor[Prediction]:
    preprocess = PreprocessConfig(
        size=12, resize="none", mean=(0,), std=(1,), tiles=tiles or exact_tiles(task.config, 64),
        degrade=DegradeConfig(scale=task.config.scale),
    )  # fmt: skip
    return vitrail.Predictor(task, preprocess, device="cpu")


def photo(height: int = 45, width: int = 70) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_an_untrained_model_gives_the_bicubic_picture() -> None:
    images = torch.rand(2, 3, 9, 11)
    for scale in (1, 2, 3, 4):
        task = small(scale, trained=False)
        torch.testing.assert_close(task(images), enlarged(images, scale))
        assert task.predict(images)[0].size == (9 * scale, 11 * scale)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_model_sees_no_further_than_its_reach(depth: int) -> None:
    task = small(depth=depth)
    reach = task.config.reach
    assert reach is not None
    size = 4 * reach
    plain = torch.rand(1, 3, size, size)
    for middle in range(size // 2, size // 2 + WINDOW.size):
        changed = plain.clone()
        changed[..., middle] += 1
        moved = (task(changed) - task(plain)).abs().amax(dim=(0, 1, 2)) > 1e-6
        columns = moved.nonzero()[:, 0] // 2
        assert (columns - middle).abs().max() <= reach
    assert dataclasses.replace(task.config, window=None).reach is None


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_tiles_give_the_picture_that_the_whole_gives(scale: int) -> None:
    task = small(scale)
    tiles = exact_tiles(task.config, 40)
    assert tiles.align == 4
    image = photo(83, 131)
    by_tiles = predictor(task, tiles).predict(image).levels.astype(int)
    whole = predictor(task, dataclasses.replace(tiles, size=(256, 256))).predict(image).levels.astype(int)
    assert by_tiles.shape == (83 * scale, 131 * scale, 3)
    assert np.abs(by_tiles - whole).max() <= 65535 / 255 / 16
    apart = dataclasses.replace(tiles, overlap=0)
    rough = predictor(task, apart).predict(image).levels.astype(int)
    assert np.abs(rough - whole).max() > 65535 / 255


def test_a_model_with_global_blocks_blends_its_tiles() -> None:
    task = small(window=WindowConfig(size=4, num_global=1))
    assert task.config.reach is None
    assert exact_tiles(task.config, 32) == TileConfig(size=(32, 32))
    assert predictor(task).predict(photo()).size == (90, 140)
    coarse = dataclasses.replace(
        task.config.model, patch_size=(4, 4), embed=PatchEmbedConfig(stride=(2, 2), centre=True)
    )
    task = Task(dataclasses.replace(task.config, model=coarse)).eval()
    assert predictor(task).predict(photo()).size == (90, 140)  # of an odd height, which 2 × 2 pixels do not cover


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (5, 3)])
def test_pictures_smaller_than_a_window(size: tuple[int, int]) -> None:
    assert predictor(small()).predict(photo(*size)).size == (2 * size[0], 2 * size[1])


def read_again(prediction: object) -> Image.Image:
    assert isinstance(prediction, PicturePrediction)
    return Image.open(io.BytesIO(prediction.png_bytes()))


@pytest.fixture
def bicubic() -> vitrail.Predictor[Prediction]:
    return predictor(small(trained=False))


def test_transparency_grey_and_profiles_survive(bicubic: vitrail.Predictor[Prediction], tmp_path: Path) -> None:
    colours = photo()
    alpha = np.zeros(colours.shape[:2], np.uint8)
    alpha[:, 30:] = 255
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(np.dstack((colours, alpha))).save(tmp_path / "clear.png", icc_profile=profile)
    Image.fromarray(colours[..., 0]).save(tmp_path / "grey.png")
    clear = read_again(bicubic.predict(tmp_path / "clear.png"))
    assert (clear.mode, clear.info["icc_profile"]) == ("RGBA", profile)
    np.testing.assert_array_equal(np.asarray(clear)[..., 3], imresize(torch.from_numpy(alpha), 2).numpy())
    opaque = np.asarray(read_again(bicubic.predict(colours)))
    np.testing.assert_array_equal(np.asarray(clear)[..., :3], opaque)  # colours behind transparency are kept
    grey = read_again(bicubic.predict(tmp_path / "grey.png"))
    assert grey.mode == "L"
    assert np.abs(np.asarray(grey).astype(int) - opaque[..., 0]).max() <= 1


def test_sixteen_bits_survive(bicubic: vitrail.Predictor[Prediction], tmp_path: Path) -> None:
    from vitrail.data.media.png16 import encoded

    levels = np.random.default_rng(0).integers(20000, 20300, (20, 24, 3), dtype=np.uint16)  # about one level of 8 bits
    expected = enlarged(torch.from_numpy(levels.astype(np.float32)).permute(2, 0, 1)[None], 2)[0].permute(1, 2, 0)
    (tmp_path / "deep.png").write_bytes(encoded(levels))
    deep = bicubic.predict(tmp_path / "deep.png")
    assert deep.form.bits == 16
    np.testing.assert_allclose(deep.levels, expected, atol=1)
    (tmp_path / "again.png").write_bytes(deep.png_bytes())
    again = bicubic.predict(tmp_path / "again.png")
    assert again.form.bits == 16
    Image.fromarray(levels[..., 0]).save(tmp_path / "grey.png")
    grey = read_again(bicubic.predict(tmp_path / "grey.png"))
    assert grey.mode.startswith("I;16")
    np.testing.assert_allclose(np.asarray(grey), expected[..., 0], atol=1)


def test_pictures_are_turned_upright(bicubic: vitrail.Predictor[Prediction], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo(20, 30)).save(tmp_path / "turned.png", exif=exif)
    expected = bicubic.predict(np.ascontiguousarray(np.rot90(photo(20, 30), 3)))
    np.testing.assert_array_equal(bicubic.predict(tmp_path / "turned.png").levels, expected.levels)


@pytest.mark.filterwarnings("ignore:The image decoding")
def test_sixteen_bit_files_are_those_that_others_read() -> None:
    from torchvision.io import ImageReadMode, decode_image

    from vitrail.data.media.png16 import encoded

    levels = np.random.default_rng(0).integers(0, 65536, (9, 7, 4), dtype=np.uint16)
    for samples in (1, 3, 4):
        data = torch.frombuffer(bytearray(encoded(levels[..., :samples])), dtype=torch.uint8)
        read = decode_image(data, ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(read, levels[..., :samples])


def test_evaluation_puts_bicubic_beside_the_model() -> None:
    task = small(trained=False)
    images = torch.rand(2, 3, 16, 16)
    rows = task.evaluate_batch({"images": images, "index": torch.arange(2)})
    family = task.metrics()
    family.update(rows, [row[1] for row in rows])
    found = family.compute()
    assert found["bicubic_psnr_y"] == 100
    assert found["psnr_y"] > 45  # edges are made a little otherwise
    assert family.conventions.border == 2


def test_views_are_averaged() -> None:
    task = small()
    images = torch.rand(1, 3, 10, 14)
    views = average_views(predictor(task)).engine
    expected = torch.zeros(1, 3, 20, 28)
    for turns in range(4):
        for mirrored in (False, True):
            seen = images.flip(-1) if mirrored else images
            found = task(seen.rot90(turns, (2, 3))).rot90(-turns, (2, 3))
            expected += (found.flip(-1) if mirrored else found) / 8
    torch.testing.assert_close(views(images), expected)
    assert not torch.allclose(expected, task(images), atol=1e-3)


def test_losses_are_of_pixels_and_spectra() -> None:
    images, truth = torch.rand(2, 3, 12, 12), torch.randint(256, (2, 3, 24, 24), dtype=torch.uint8)
    batch = {"images": images, "targets": truth}
    task = small()
    error = (task(images) - truth / 255).abs()
    for loss, expected in (("l1", error.mean()), ("mse", error.square().mean())):
        other = Task(dataclasses.replace(task.config, loss=loss))
        other.load_state_dict(task.state_dict())
        torch.testing.assert_close(other.loss(batch)["loss"], expected)
    both = Task(dataclasses.replace(task.config, fourier=0.5))
    parts = both.loss(batch)
    torch.testing.assert_close(parts["loss"], parts["pixels"] + 0.5 * parts["fourier"])


def test_values_are_from_0_to_1() -> None:
    with pytest.raises(UserError, match=r"set data\.preprocess\.mean=0 and data\.preprocess\.std=1"):
        Task.derived_options(PreprocessConfig())
    given = PreprocessConfig(size=8, mean=(0,), std=(1,), degrade=DegradeConfig(scale=3))
    assert Task.derived_options(given) == {"scale": 3}
