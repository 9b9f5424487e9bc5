from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.config import from_dict, to_dict
from vitrail.data import (
    Augment,
    AugmentConfig,
    DataConfig,
    LoaderConfig,
    Preprocess,
    PreprocessConfig,
    SourceConfig,
    ViewConfig,
    Views,
    keyed_random,
    open_data,
    views_of,
)
from vitrail.data.transforms.colour import ColourConfig

INPUT = PreprocessConfig(size=(24, 32))
COLOUR = ColourConfig(jitter=(0.4, 0.4, 0.2, 0.1), grey=0.2, blur=0.5, solarise=0.2)
KEYS = keyed_random.keys(0, "sample", 0, np.arange(6))


def several(crop: str) -> tuple[ViewConfig, ...]:
    """Two global views and three local ones, of a third of the side in multiples of 4: (8, 12)."""
    large, small = ({"crop": crop, "colour": COLOUR, "area": area} for area in ((0.4, 1.0), (0.05, 0.4)))
    return (
        ViewConfig(augment=AugmentConfig(**large, horizontal_flip=0.5), count=2),
        ViewConfig(augment=AugmentConfig(**small), count=3, scale=1 / 3, multiple=4),
    )


def images(num: int = 6) -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 256, (num, 40, 50, 3), dtype=np.uint8)
    return [Image.fromarray(each).resize((60 + i, 45)) for i, each in enumerate(noise)]


def made(views: Views, keys: keyed_random.Keys = KEYS, rows: slice = slice(None)) -> list[torch.Tensor]:
    pixels = [views.pixels(image, int(key)) for image, key in zip(images()[rows], keys[rows], strict=True)]
    return views_of(views.finish(torch.stack(pixels), keys[rows]))


crops = pytest.mark.parametrize("crop", ["window", "resized"])


@crops
def test_the_views_of_an_image_hang_on_its_key_alone(crop: str) -> None:
    views = Views(several(crop), INPUT)
    together = made(views)
    assert [tuple(view.shape) for view in together] == [(6, 3, 24, 32)] * 2 + [(6, 3, 8, 12)] * 3
    assert all(view.dtype == torch.float32 for view in together)
    for i in range(6):
        alone = made(views, rows=slice(i, i + 1))
        for view, own in zip(together, alone, strict=True):
            torch.testing.assert_close(view[i, None], own, atol=1e-4, rtol=0)
    for view, other in zip(together, made(views, keyed_random.keys(0, "sample", 1, np.arange(6))), strict=True):
        assert (view != other).flatten(1).any(dim=1).all()


@crops
def test_the_views_of_an_image_differ(crop: str) -> None:
    views = made(Views(several(crop), INPUT))
    for same in (views[:2], views[2:]):
        for i, first in enumerate(same):
            for second in same[i + 1 :]:
                assert ((first - second).abs().flatten(1).mean(dim=1) > 0.01).all()


@pytest.mark.parametrize(
    ("view", "whole", "size"),
    [
        ({}, (224, 160), (224, 160)),
        ({"multiple": 16}, (30, 30), (30, 30)),  # the whole size is the input's own
        ({"scale": 96 / 224, "multiple": 16}, (224, 224), (96, 96)),
        ({"scale": 98 / 224, "multiple": 14}, (224, 448), (98, 196)),
        ({"scale": 0.4, "multiple": 16}, (224, 224), (96, 96)),  # 89.6
        ({"scale": 0.5}, (28, 28), (14, 14)),
        ({"scale": 0.01, "multiple": 7}, (28, 56), (7, 7)),
    ],
)
def test_sizes(view: dict[str, Any], whole: tuple[int, int], size: tuple[int, int]) -> None:
    assert ViewConfig(**view).size(whole) == size


def test_windows_share_one_image_that_may_stay_in_memory() -> None:
    views = Views(several("window"), INPUT)
    assert views.deterministic
    image = images()[0]
    pixels = views.pixels(image, 1)
    assert torch.equal(pixels, Preprocess(INPUT).pixels(image))
    assert torch.equal(pixels, views.pixels(image, 2))


def test_crops_are_cut_from_the_original_and_packed() -> None:
    views = Views(several("resized"), INPUT)
    assert not views.deterministic
    packed = torch.stack([views.pixels(image, int(key)) for image, key in zip(images(), KEYS, strict=True)])
    assert packed.dtype == torch.uint8
    assert packed.shape == (6, 3 * (2 * 24 * 32 + 3 * 8 * 12))
    finished = views_of(views.finish(packed, KEYS))
    large, small = several("resized")
    made_by = [large] * 2 + [small] * 3
    for number, (view, config) in enumerate(zip(finished, made_by, strict=True)):
        size = (8, 12) if config is small else (24, 32)
        single = Augment(config.augment, PreprocessConfig(size=size))
        keys = keyed_random.salted(KEYS, f"view {number}")
        expected = [single(image, int(key)) for image, key in zip(images(), keys, strict=True)]
        torch.testing.assert_close(view, torch.stack(expected), atol=1e-4, rtol=0)


def test_windows_and_crops_together() -> None:
    views = Views((*several("window"), *several("resized")), INPUT)
    assert not views.deterministic
    assert [tuple(view.shape[2:]) for view in made(views)] == ([(24, 32)] * 2 + [(8, 12)] * 3) * 2


@crops
def test_pickled_views_are_the_same(crop: str) -> None:
    views = Views(several(crop), INPUT)
    for ours, other in zip(made(views), made(pickle.loads(pickle.dumps(views))), strict=True):
        assert torch.equal(ours, other)


def test_views_come_in_order() -> None:
    views = [torch.full((1,), float(i)) for i in range(12)]
    batch = {"keys": torch.zeros(1), **{f"view{i}": views[i] for i in reversed(range(12))}}
    assert torch.equal(torch.cat(views_of(batch)), torch.arange(12.0))
    assert views_of({"images": torch.zeros(1)}) == []


def digits(crop: str, workers: int) -> DataConfig:
    return DataConfig(
        source=SourceConfig(spec="digits"),
        preprocess=PreprocessConfig(size=16, channels=1),
        views=several(crop),
        loader=LoaderConfig(batch_size=32, workers=workers),
    )


def batches(config: DataConfig, num: int, **ranks: int) -> list[dict[str, torch.Tensor]]:
    loader = open_data(config).train_loader(seed=3, **ranks)
    try:
        return [batch for batch, _ in zip(loader.batches(1), range(num), strict=False)]
    finally:
        loader.close()


@crops
def test_a_loader_gives_the_same_views_whoever_makes_them(crop: str) -> None:
    ours = batches(digits(crop, workers=0), 3)
    for one, other in zip(ours, batches(digits(crop, workers=2), 3), strict=True):
        assert one.keys() == other.keys() == {*(f"view{i}" for i in range(5)), "targets", "index", "keys"}
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert one["view0"].shape == (32, 1, 16, 16)
        assert one["view4"].shape == (32, 1, 4, 4)
    rank = batches(digits(crop, workers=0), 3, rank=1, world_size=2)
    for whole, half in zip(ours, rank, strict=True):
        for mine, theirs in zip(views_of(half), views_of(whole), strict=True):
            torch.testing.assert_close(mine, theirs[1::2], atol=1e-4, rtol=0)


@crops
def test_the_config_survives_json(crop: str) -> None:
    config = digits(crop, workers=0)
    assert from_dict(DataConfig, json.loads(json.dumps(to_dict(config)))) == config
    assert ViewConfig(augment="light").augment == AugmentConfig(crop="resized", area=(0.35, 1.0), horizontal_flip=0.5)
