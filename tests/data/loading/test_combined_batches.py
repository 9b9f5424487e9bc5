"""Batches of combined scenes depend on (seed, epoch, step) alone, end in time, and leave their source as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.config import override
from vitrail.data import (
    Combine,
    DataConfig,
    Loader,
    LoaderConfig,
    PreprocessConfig,
    SceneAugment,
    SceneAugmentConfig,
    SourceConfig,
    open_data,
)
from vitrail.data.batch import Batch
from vitrail.data.storage.arrays import Arrays
from vitrail.errors import UserError

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
ALL = {"scale": (0.5, 1.5), "horizontal_flip": 0.5, "mosaic": 0.5, "batch_scale": (0.5, 1.5), "multiple": 8}
SCENES: dict[str, dict[str, Any]] = {
    "boxes": {**ALL, "mixup": 0.5},
    "masks": {**ALL, "mixup": 0.5, "copy_paste": 0.5},
    "semantic": ALL,
    "panoptic": {**ALL, "copy_paste": 0.5},
}


def config(folder: Path | str, kind: str, **settings: Any) -> DataConfig:
    made = DataConfig(
        source=SourceConfig(spec=str(folder), kind=kind, val_fraction=0.25),
        preprocess=PreprocessConfig(size=32),
        loader=LoaderConfig(batch_size=2, workers=0),
    )
    return override(made, {f"scenes.{name}": value for name, value in {**SCENES[kind], **settings}.items()})


@pytest.fixture
def data_of(scene_folder: Path, own_cache: Path) -> Any:
    """The data of a kind: twelve scenes in a folder, or some of digits as segments."""

    def open_it(kind: str, **settings: Any) -> Any:
        loader = {f"loader.{name}": settings.pop(name) for name in ("workers", "on_bad") if name in settings}
        if kind != "panoptic":
            return open_data(override(config(scene_folder, kind, **settings), loader))
        made = override(config("digit_scenes_panoptic", kind, **settings), {"source.train_fraction": 0.006, **loader})
        return open_data(override(made, {"preprocess.channels": 1}))

    return open_it


def flat(batch: Batch) -> list[Any]:
    """All that a batch holds, in order."""
    found = batch["targets"]
    tensors = [found] if isinstance(found, torch.Tensor) else list(vars(found).values())
    return [batch["images"], batch.get("padding"), batch["index"], *tensors]


def assert_same(one: Batch, other: Batch) -> None:
    for a, b in zip(flat(one), flat(other), strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("kind", SCENES)
def test_workers_restarts_and_epochs_in_another_order_change_nothing(data_of: Any, kind: str) -> None:
    loader = data_of(kind).train_loader(seed=4)
    expected = {epoch: list(loader.batches(epoch)) for epoch in (0, 1)}
    assert len(expected[0]) >= 4
    for workers in (1, 2) if kind == "masks" else (2,):
        other = data_of(kind, workers=workers).train_loader(seed=4)
        for epoch, start in ((1, 0), (0, 2)):
            batches = list(other.batches(epoch, start))
            assert len(batches) == len(expected[epoch]) - start
            for one, again in zip(expected[epoch][start:], batches, strict=True):
                assert_same(one, again)
        other.close()
    changed = data_of(kind).train_loader(seed=5).batches(0)
    assert any(not torch.equal(one["index"], b["index"]) for one, b in zip(expected[0], changed, strict=True))


@pytest.mark.parametrize("kind", ["masks", "semantic"])
def test_ranks_share_sizes_and_make_the_batch_of_one_process(data_of: Any, kind: str) -> None:
    data = data_of(kind)
    alone = list(data.train_loader(seed=1).batches(3))
    shares = [list(data.train_loader(seed=1, rank=rank, world_size=2).batches(3)) for rank in range(2)]
    sizes = {tuple(batch["images"].shape[-2:]) for batch in alone}
    assert sizes <= {(side, side) for side in (16, 24, 32, 40, 48)}
    assert len(sizes) > 1
    for batch, *parts in zip(alone, *shares, strict=True):
        for rank, part in enumerate(parts):
            assert torch.equal(batch["images"][rank::2], part["images"])
            assert torch.equal(batch["padding"][rank::2], part["padding"])
            targets = batch["targets"][rank::2] if kind == "semantic" else batch["targets"][rank].masks
            own = part["targets"] if kind == "semantic" else part["targets"].masks
            assert torch.equal(targets, own)
            assert part["padding"].shape[-2:] == part["images"].shape[-2:]


def test_the_last_epochs_show_images_one_by_one_at_the_nominal_size(data_of: Any) -> None:
    off = {"mosaic": 0, "mixup": 0, "copy_paste": 0, "batch_scale": None}
    combined = data_of("masks", close=0.25).train_loader(seed=2, epochs=8)
    plain = data_of("masks", **off).train_loader(seed=2, epochs=8)
    for epoch in (0, 5, 6, 7):
        pairs = list(zip(combined.batches(epoch), plain.batches(epoch), strict=True))
        same = [
            one["images"].shape == b["images"].shape and torch.equal(one["images"], b["images"]) for one, b in pairs
        ]
        assert all(same) if epoch >= 6 else not any(same)
        if epoch >= 6:
            for pair in pairs:
                assert_same(*pair)


def test_evaluation_has_the_nominal_size_and_combines_nothing(data_of: Any) -> None:
    data = data_of("masks")
    plain = open_data(override(data.config, {"scenes": {}}))
    for one, other in zip(data.eval_loader("val").batches(), plain.eval_loader("val").batches(), strict=True):
        assert one["images"].shape[-2:] == (32, 32)
        assert torch.equal(one["images"], other["images"])


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_partners_are_left_out_or_named(scene_folder: Path, workers: int) -> None:
    settings = {"scenes.mosaic": 1.0, "scenes.mixup": 1.0, "source.val_fraction": 0, "loader.workers": workers}
    made = override(config(scene_folder, "boxes"), settings)
    broken = scene_folder / "JPEGImages" / "07.png"
    broken.write_bytes(b"no image")
    loader = open_data(made).train_loader()
    with pytest.raises(UserError, match=r"07\.png .*; repair or remove it"):
        list(loader.batches())
    loader.close()
    loader = open_data(override(made, {"loader.on_bad": "skip"})).train_loader()
    batches = [*loader.batches(0), *loader.batches(1)]
    loader.close()
    assert [len(batch["index"]) for batch in batches].count(1) == 2  # where its own turn has come
    assert {bad[0] for batch in batches for bad in batch.get("bad", ())} == {7}
    # annotations of another size are as bad as no image
    Image.open(scene_folder / "JPEGImages" / "06.png").resize((9, 9)).save(broken)
    loader = open_data(made).train_loader()
    with pytest.raises(UserError, match=r"07\.png has 9 × 9 pixels, and its annotations are of"):
        list(loader.batches())
    loader.close()


def test_the_source_stays_as_it_is() -> None:
    """Arrays in memory are neither written to nor handed out."""
    images = np.random.default_rng(0).integers(0, 255, (8, 32, 32), np.uint8)
    maps = np.random.default_rng(1).integers(0, 3, (8, 32, 32), np.uint8)
    before = images.copy(), maps.copy()
    source = Arrays(images=images, label="x", channels=1, targets=maps, kind="semantic", classes=("a", "b", "c"))
    for settings in ({"mosaic": 1.0}, {"mosaic": 0.5}, {"mosaic": 1.0, "scale": (2.0, 2.0)}):
        size = PreprocessConfig(size=32, channels=1)
        augment = SceneAugment(SceneAugmentConfig(**settings), size, source.target_kind)
        loader = Loader(source, augment, LoaderConfig(batch_size=4, workers=0), train=True, combine=Combine(augment, 8))
        first = list(loader.batches())
        for batch in first:
            batch["images"].zero_()
            batch["targets"].zero_()
        assert np.array_equal(images, before[0])
        assert np.array_equal(maps, before[1])
        assert all(batch["images"].any() for batch in loader.batches())


def test_a_preset_by_name(scene_folder: Path) -> None:
    made = override(config(scene_folder, "boxes"), {"scenes": "dense"})
    batches = [batch for epoch in range(4) for batch in open_data(made).train_loader().batches(epoch)]
    assert made.scenes.mosaic == made.scenes.mixup == 0.5
    plain = [
        batch for e in range(4) for batch in open_data(override(made, {"scenes": "light"})).train_loader().batches(e)
    ]
    objects = [sum(sum(batch["targets"].counts) for batch in each) for each in (batches, plain)]
    assert objects[0] > 2 * objects[1]  # what "dense" means
