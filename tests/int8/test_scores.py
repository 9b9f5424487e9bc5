"""What a quantised model is measured by: labels, or the predictions of the model before."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
import torch
from decoders import DETR
from exported_once import SIMPLE

from vitrail import registry
from vitrail.config import from_dict
from vitrail.data.source import SourceConfig, open_source
from vitrail.errors import UserError
from vitrail.int8 import scores
from vitrail.tasks.detection import Detector


def test_what_is_measured(tiny_predictor, class_folder, images):
    predictor = tiny_predictor(**SIMPLE)
    source = dict(open_source(SourceConfig(spec=str(class_folder(3)), val_fraction=0)).items())["train"]
    right = scores.accuracy(predictor.task, predictor.preprocess, source)
    labels = [predictor.classes.index(os.path.basename(os.path.dirname(source.name(i)))) for i in range(12)]

    def engine(batch):
        """Always the first class."""
        return torch.eye(4)[torch.tensor([0] * len(batch))]

    assert right.measure(engine) == pytest.approx(100 * np.mean(np.array(labels) == 0))
    tensors = [predictor.tensor(image) for image in images]
    same = scores.agreement(predictor.task, tensors)
    assert same.measure(predictor.task) == 100
    with torch.inference_mode():
        firsts = predictor.task(torch.cat(tensors)).argmax(1)
    assert same.measure(engine) == pytest.approx(100 * float((firsts == 0).double().mean()))
    with pytest.raises(UserError, match="of kind 'none'"):
        scores.accuracy(predictor.task, predictor.preprocess, source.unlabelled())


def test_numbers_are_compared_by_their_variance(tiny_predictor):
    predictor = tiny_predictor("regression", **SIMPLE)
    tensors = [torch.randn(1, 3, 16, 24) for _ in range(6)]
    score = scores.agreement(predictor.task, tensors)
    assert score.name == "r2 as before of 6 images"
    assert score.measure(predictor.task) == pytest.approx(100)
    other = tiny_predictor("regression", **SIMPLE).task
    torch.nn.init.normal_(other.vit.blocks[0].mlp.fc2.weight)
    with torch.inference_mode():
        found, expected = (task(torch.cat(tensors)).double() for task in (other, predictor.task))
    residual, spread = (found - expected).square().sum(0), (expected - expected.mean(0)).square().sum(0)
    assert score.measure(other) == pytest.approx(100 * float((1 - residual / spread).mean()), rel=1e-4)


def test_a_model_of_features_is_compared_by_their_direction(tiny_predictor):
    first, other = (build_task("features", std) for std in (0.1, 0.2))
    tensors = [torch.randn(1, 3, 16, 24) for _ in range(3)]
    score = scores.agreement(first, tensors)
    assert score.measure(first) == pytest.approx(100)
    with torch.inference_mode():
        pair = [task.embed(torch.cat(tensors)) for task in (other, first)]
    expected = 100 * float(torch.nn.functional.cosine_similarity(*pair).mean())
    assert score.measure(other) == pytest.approx(expected)
    assert expected < 99


MODEL = {"image_size": (16, 24), "patch_size": 8, "dim": 16, "depth": 1, "heads": 2, "mlp_dim": 32}
DECODER = {"decoder": DETR, "threshold": 0.4}
SPATIAL = {
    "features": {},
    "multilabel": {"classes": ["ant", "bee"]},
    "segmentation": {"classes": ["ant", "bee"]},
    "detection": DECODER | {"classes": ["ant", "bee"]},
    "instances": DECODER | {"classes": ["ant", "bee"], "masks": {"stride": 4, "dim": 8}},
    "panoptic": {"num_queries": 4, "num_blocks": 1, "num_upscale": 1, "classes": ["ant", "bee"], "things": ["ant"],
                 "threshold": 0.3, "overlap_threshold": 0.1},
}  # fmt: skip


def build_task(name, std=0.2):
    module = registry.load("tasks", name)
    task = module.Task(from_dict(module.Config, {"model": MODEL, **SPATIAL[name]})).eval()
    generator = torch.Generator().manual_seed(3)
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=std, generator=generator)
    if name == "multilabel":  # some images have a class, others not
        task.head.output.bias.data = -task(torch.randn(9, 3, 16, 24, generator=generator)).mean(dim=0).detach()
    return task


def wrong(outputs, name):
    """Outputs whose features would be the same: each decoded part is made wrong by itself."""
    changed = outputs.clone()
    if name in ("multilabel", "segmentation"):
        yield -changed
    elif name == "panoptic":
        yield torch.cat((-changed[..., :3], changed[..., 3:]), dim=-1)
        yield torch.cat((changed[..., :4], -changed[..., 4:]), dim=-1)
    else:
        yield torch.cat((1 - changed[..., :2], changed[..., 2:]), dim=-1)
        if name == "instances":
            yield torch.cat((changed[..., :7], -changed[..., 7:]), dim=-1)
        else:
            yield torch.cat((changed[..., :2], changed[..., 2:] + 12), dim=-1)


@pytest.mark.parametrize("name", [name for name in SPATIAL if name != "features"])
def test_predictions_are_compared_after_they_are_decoded(name):
    """The decoder counts: an engine whose features are the model's and whose predictions are not is found out."""
    task = build_task(name)
    tensors = [torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(i)) for i in range(11)]
    with torch.inference_mode():
        all_outputs = task(torch.cat(tensors))
    if isinstance(task, Detector):  # half of what it could find is not found
        task.config = dataclasses.replace(task.config, threshold=all_outputs[..., :2].median().item())
    score = scores.agreement(task, tensors)
    assert score.name == f"{task.monitor} as before of 11 images"
    assert score.measure(task) == pytest.approx(100)
    for outputs in wrong(all_outputs, name):
        rows = iter(outputs.split(scores.BATCH))
        assert score.measure(lambda images, rows=rows: next(rows)) < 80


def test_what_finds_nothing_cannot_be_compared():
    task = build_task("detection")
    torch.nn.init.zeros_(task.head.weight)
    torch.nn.init.constant_(task.head.bias, -9)
    score = scores.agreement(task, [torch.randn(1, 3, 16, 24)])
    with pytest.raises(UserError, match="there is nothing in these images that ap could be measured on; give others"):
        score.measure(task)
