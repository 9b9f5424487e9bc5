"""Batches of scenes: what they hold, that they hang on their keys alone, and how they move and split."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from vitrail.config import override
from vitrail.data import DataConfig, LoaderConfig, ObjectsBatch, Preprocess, PreprocessConfig, SourceConfig, open_data
from vitrail.errors import UserError

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def config(scene_folder: Path, **settings: object) -> DataConfig:
    source = SourceConfig(spec=str(scene_folder), val_fraction=0.25, **settings)
    loader = LoaderConfig(batch_size=4, workers=0)
    size = PreprocessConfig(size=32, resize="pad")
    return DataConfig(source=source, preprocess=size, scenes="light", loader=loader)


def test_evaluation_leaves_every_object_in_its_images_pixels(scene_folder: Path) -> None:
    data = open_data(config(scene_folder, kind="masks"))
    source = data.split("train")
    seen = 0
    for batch in data.eval_loader("train").batches():
        assert batch["images"].shape[1:] == (3, 32, 32)
        assert batch["padding"].shape == (*batch["images"].shape[:1], 32, 32)
        rows = zip(batch["index"].tolist(), batch["targets"], batch["geometries"], batch["padding"], strict=True)
        for image, objects, geometry, padding in rows:
            original = source.targets[image]
            assert torch.equal(objects.boxes_xyxy, original.boxes_xyxy)
            assert torch.equal(objects.masks, original.masks)
            assert geometry.original == original.size
            assert torch.equal(geometry.padding(), padding)
            back = geometry.original_boxes(geometry.boxes(objects.boxes_xyxy))
            torch.testing.assert_close(back, original.boxes_xyxy, atol=1e-3, rtol=0)
            seen += 1
    assert seen == len(source)


def test_training_shows_objects_in_the_inputs_pixels(scene_folder: Path) -> None:
    data = open_data(override(config(scene_folder, kind="masks"), {"scenes": "none"}))
    source = data.split("train")
    batch = next(data.train_loader().batches())
    assert isinstance(batch["targets"], ObjectsBatch)
    for image, objects in zip(batch["index"].tolist(), batch["targets"], strict=True):
        original = source.targets[image]
        geometry = Preprocess(data.config.preprocess).geometry(original.size)
        torch.testing.assert_close(objects.boxes_xyxy, geometry.objects(original).boxes_xyxy, atol=1e-3, rtol=0)
        assert objects.masks.shape[1:] == (32, 32)


@pytest.mark.parametrize("kind", ["boxes", "masks", "semantic"])
def test_workers_change_nothing(scene_folder: Path, kind: str) -> None:
    batches = []
    for workers in (0, 2):
        data = open_data(override(config(scene_folder, kind=kind), {"loader.workers": workers}))
        loader = data.train_loader(seed=4)
        batches.append(list(loader.batches(epoch=1)))
        loader.close()
    assert len(batches[0]) == 2
    for alone, with_workers in zip(*batches, strict=True):
        assert torch.equal(alone["images"], with_workers["images"])
        assert torch.equal(alone["padding"], with_workers["padding"])
        if kind == "semantic":
            assert torch.equal(alone["targets"], with_workers["targets"])
            assert alone["targets"].dtype == torch.int64
            assert torch.equal(alone["targets"] == 255, alone["padding"])
            continue
        assert alone["targets"].counts == with_workers["targets"].counts
        assert torch.equal(alone["targets"].boxes_xyxy, with_workers["targets"].boxes_xyxy)
        assert (alone["targets"].masks is None) == (kind == "boxes")


def test_a_batch_splits_moves_and_travels(scene_folder: Path) -> None:
    data = open_data(config(scene_folder, kind="masks"))
    batch = next(data.train_loader().batches())["targets"]
    pieces = batch.chunk(3)
    assert [len(piece) for piece in pieces] == [2, 2]
    assert [piece.counts for piece in batch.to("cpu").chunk(4)] == [(count,) for count in batch.counts]
    copy = pickle.loads(pickle.dumps(batch))
    for whole, part in zip(copy, [each for piece in pieces for each in piece], strict=True):
        assert torch.equal(whole.boxes_xyxy, part.boxes_xyxy)
        assert torch.equal(whole.masks, part.masks)
        assert whole.image_id == part.image_id
    assert len(batch[-1]) == batch.counts[-1]
    with pytest.raises(IndexError):
        batch[4]


def test_annotations_of_another_size_name_the_image(scene_folder: Path) -> None:
    data = open_data(config(scene_folder, kind="boxes"))
    data.split("train").targets.sizes[:] += np.array([1, 0], np.int32)
    with pytest.raises(UserError, match=r"\.png has \d+ × \d+ pixels, and its annotations are of"):
        next(data.train_loader().batches())


def test_kinds_that_the_data_does_not_have(class_folder) -> None:
    with pytest.raises(UserError, match="has no boxes but class labels"):
        open_data(DataConfig(source=SourceConfig(spec=str(class_folder(3)), kind="boxes")))


@pytest.mark.parametrize("kind", ["masks", "semantic"])
def test_a_batch_is_drawn_as_the_model_sees_it(scene_folder: Path, kind: str) -> None:
    from vitrail.report.pictures import denormalised

    data = open_data(config(scene_folder, kind=kind))
    batch = next(data.train_loader().batches())
    for i, image in enumerate(denormalised(batch["images"], data.config.preprocess)):
        drawn = data.target_kind.draw(image, batch["targets"][i], data.classes)
        assert drawn.width >= 32
        assert not np.array_equal(np.asarray(drawn.resize((32, 32))), np.asarray(image))
