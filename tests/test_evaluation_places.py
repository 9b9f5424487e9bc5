"""Answers that have places are compared with the truth in the pixels of each image, however it was prepared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vitrail.data import DataConfig, LoaderConfig, PreprocessConfig, SourceConfig, open_data
from vitrail.data.transforms.preprocess import Preprocess
from vitrail.evaluation import evaluate
from vitrail.metrics import detection, instances, segmentation
from vitrail.ops.mask_outputs import pack
from vitrail.report.families import family_of
from vitrail.tasks import Task

SIZE = (96, 80)
METRICS = {"boxes": detection.Metrics, "masks": instances.Metrics, "semantic": segmentation.Metrics}


class Knowing(Task):
    """Says the truth, in the pixels of its input; ``padding`` it is told of must be that of the images."""

    def __init__(self, source, kind, resize):
        super().__init__()
        self.source, self.kind, self.next = source, kind, 0
        self.preprocess = Preprocess(PreprocessConfig(size=SIZE, resize=resize))

    names = ()

    def embed(self, images):
        raise AssertionError("only outputs are asked for")

    def forward_with_embedding(self, images):
        raise AssertionError("only outputs are asked for")

    def loss(self, batch):
        raise AssertionError("nothing is trained")

    def decode(self, outputs, geometries):
        raise AssertionError("only outputs are asked for")

    def metrics(self):
        return METRICS[self.kind](self.source.classes)

    def forward(self, images, padding=None):
        rows = []
        for number in range(len(images)):
            target = self.source.targets[self.next]
            self.next += 1
            size = target.size if self.kind != "semantic" else target.shape
            geometry = self.preprocess.geometry(tuple(size))
            if padding is not None:
                assert torch.equal(padding[number], geometry.padding())
            rows.append(self.answer(target, geometry))
        return torch.stack(rows)

    def answer(self, target, geometry):
        names = self.source.classes
        if self.kind == "semantic":
            map_ = geometry.maps(torch.from_numpy(target), 0).long()
            return torch.nn.functional.one_hot(map_, len(names)).movedim(-1, 0).float()
        objects = torch.zeros(4, len(names) + 4)
        count = len(target)
        objects[torch.arange(count), target.labels] = 0.9
        objects[:count, -4:] = geometry.boxes(target.boxes_xyxy)
        if self.kind == "boxes":
            return objects
        logits = torch.full((4, *SIZE), -1.0)
        logits[:count] = geometry.maps(target.masks).float() * 2 - 1
        return pack(objects[None], logits[None])[0]


@pytest.mark.parametrize("resize", ["square", "pad"])
@pytest.mark.parametrize("kind", METRICS)
def test_who_knows_the_truth_makes_no_mistake(scene_folder: Path, kind: str, resize: str) -> None:
    data = open_data(
        DataConfig(
            source=SourceConfig(spec=str(scene_folder), kind=kind, val_fraction=0),
            preprocess=PreprocessConfig(size=SIZE, resize=resize),
            loader=LoaderConfig(batch_size=5, workers=0),
        )
    )
    source = data.split("train")
    found = evaluate(Knowing(source, kind, resize), data.eval_loader("train"), progress=False)
    best = {"boxes": ("ap",), "masks": ("ap", "mask_ap50"), "semantic": ("miou", "pixel_accuracy")}[kind]
    assert all(found.metrics[name] > 0.999 for name in best), found.metrics
    assert len(found.targets) == len(found.outputs) == len(source)
    shown = family_of(found)
    assert max(shown.columns(found)["loss"]) == 0
    assert all(shown.caption(found, row).right for row in range(len(source)))
    if kind == "semantic":
        for said, true in zip(found.outputs, found.targets, strict=True):
            np.testing.assert_array_equal(said, true)


def test_what_was_cut_away_counts_as_wrong(scene_folder: Path) -> None:
    preprocess = PreprocessConfig(size=SIZE, resize="crop", crop_pct=0.7)
    data = open_data(
        DataConfig(
            source=SourceConfig(spec=str(scene_folder), kind="semantic", val_fraction=0),
            preprocess=preprocess,
            loader=LoaderConfig(batch_size=5, workers=0),
        )
    )
    task = Knowing(data.split("train"), "semantic", "square")
    task.preprocess = Preprocess(preprocess)
    found = evaluate(task, data.eval_loader("train"), progress=False)
    seen = [float((np.asarray(said) != 255).mean()) for said in found.outputs]
    sizes = [np.asarray(said).size for said in found.outputs]
    assert found.metrics["pixel_accuracy"] == pytest.approx(np.average(seen, weights=sizes), abs=0.02)
    assert found.metrics["pixel_accuracy"] < 0.8
