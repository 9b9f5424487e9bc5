"""Every method of compression on every task of the registry: it works, with padding too, or says in a line why not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from decoders import DEFORMABLE, DETR

from vitrail import compress, registry
from vitrail.compress.curve import cost, measure
from vitrail.compress.methods import prune
from vitrail.config import from_dict
from vitrail.data import keyed_random
from vitrail.data.batch import chunks, single
from vitrail.data.loading.loader import Loader, LoaderConfig
from vitrail.data.objects import Objects, ObjectsBatch
from vitrail.data.segments import Segments, SegmentsBatch
from vitrail.data.source import SourceConfig, open_source
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.data.transforms.scene import ScenePreprocess
from vitrail.errors import UserError
from vitrail.predictor import Predictor
from vitrail.trainable import Trainable

MODEL = {"image_size": (16, 24), "patch_size": 4, "dim": 32, "depth": 2, "heads": 4, "mlp_dim": 12}
DECODER = {"decoder": DETR}
NAMES = ["circle", "square", "triangle"]
TASKS = {
    "classification": {"classes": NAMES},
    "multilabel": {"classes": NAMES},
    "regression": {"targets": NAMES, "mean": [0, 0, 0], "std": [1, 1, 1]},
    "features": {},
    "segmentation": {"classes": NAMES},
    "detection": DECODER | {"classes": NAMES},
    "detection_tokens": {"classes": NAMES, "num_queries": 5, "mid_positions": True},
    "detection_deformable": {"decoder": DEFORMABLE, "classes": NAMES},
    "instances": DECODER | {"classes": NAMES, "masks": {"stride": 4, "dim": 8}},
    "panoptic": {"classes": NAMES, "things": NAMES[:2], "num_queries": 5, "num_blocks": 1, "num_upscale": 1},
    "super_resolution": {"scale": 2},
}
WITH_ALL_TOKENS = ("panoptic", "detection_tokens", "super_resolution")  # none may be merged
IN_WINDOWS = {"window": {"size": 2, "num_global": 1}}
IN_PARTS = {"window": {"parts": 2, "layers": [0]}}
OPTIONS = {"tome": {"r": 3}, "evit": {"keep": 0.5, "layers": (0,)}, "prune": {"share": 0.5}}
LEARNING = [name for name in TASKS if name != "features"]


def build(name, resize="square", **options):
    module = registry.load("tasks", name)
    task = module.Task(from_dict(module.Config, {"model": MODEL, **TASKS[name], **options}))
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return Predictor(task, PreprocessConfig(size=(16, 24), resize=resize), device="cpu")


def objects(image):
    """None, one or two of them, with masks."""
    count = image % 3
    boxes = torch.tensor([[1.0, 2, 9, 8], [4, 3, 20, 15]])[:count]
    masks = torch.zeros(count, 16, 24, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = True
    return Objects(boxes, torch.arange(count), torch.zeros(count, dtype=torch.bool), (16, 24), masks=masks)


def segments(image):
    numbers = (torch.arange(16)[:, None] // 6).expand(16, 24).int()
    return Segments(numbers, torch.tensor([0, 2]), torch.zeros(2, dtype=torch.bool), image)


def labelled(name, count=5, padded=False):
    images = torch.randn(count, 3, 16, 24)
    targets = {
        "classification": lambda: torch.arange(count) % 3,
        "multilabel": lambda: torch.randint(2, (count, 3)).float(),
        "regression": lambda: torch.randn(count, 3),
        "segmentation": lambda: torch.randint(3, (count, 16, 24)),
        "super_resolution": lambda: torch.randint(256, (count, 3, 32, 48), dtype=torch.uint8),
        "panoptic": lambda: SegmentsBatch.of([segments(i) for i in range(count)]),
    }.get(name, lambda: ObjectsBatch.of([objects(i) for i in range(count)]))()
    batch = {"images": images, "targets": targets, "index": torch.arange(count), "keys": torch.arange(count)}
    if padded:
        batch["padding"] = torch.zeros(count, 16, 24, dtype=torch.bool)
        batch["padding"][:, 10:] = True
    return batch


def test_every_task_is_here():
    assert set(TASKS) == set(registry.names("tasks"))
    assert set(OPTIONS) == set(compress.method_names())


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("method", ["tome", "evit"])
def test_fewer_tokens(method, name):
    predictor, images = build(name), torch.randn(2, 3, 16, 24)
    small = compress.apply(predictor, method, **OPTIONS[method])
    plain = predictor.task(images)
    if name in WITH_ALL_TOKENS:
        with pytest.raises(
            UserError, match="queries among the tokens, padding and attention in windows need all tokens"
        ):
            small.task(images)
        return
    found = small.task(images)
    assert found.shape == plain.shape
    assert found.isfinite().all()
    assert not torch.allclose(found, plain, atol=1e-4)
    assert len(small.task.predict(images)) == 2
    assert cost(small.task).tokens < cost(predictor.task).tokens
    if predictor.task.spatial():
        with pytest.raises(UserError, match="padding and attention in windows need all tokens; take the plain model"):
            small.task(images, torch.zeros(2, 16, 24, dtype=torch.bool))
        with pytest.raises(UserError, match="padding and attention in windows need all tokens; take the plain model"):
            compress.apply(
                build(name, **(IN_PARTS if name == "detection_deformable" else IN_WINDOWS)), method, **OPTIONS[method]
            ).task(images)


def closed(task, importance):
    """Hooks that let nothing of the less important half of the heads and units through."""
    hooks = []
    for layer, block in enumerate(task.vit.blocks):
        for module, count, values in (
            (block.attention.out, 4, importance.heads[layer]),
            (block.mlp.fc2, 12, importance.units[layer]),
        ):
            places = values.argsort()[: count // 2]

            def close(_, inputs, count=count, places=places):
                parts = inputs[0].unflatten(-1, (count, -1)).clone()
                parts[..., places, :] = 0
                return (parts.flatten(-2),)

            hooks.append(module.register_forward_pre_hook(close))
    return hooks


WITH_PADDING = ["segmentation", "detection", "detection_tokens", "detection_deformable", "instances", "panoptic"]
SPATIAL = [*WITH_PADDING, "super_resolution"]


@pytest.mark.parametrize(
    ("name", "padded"), [*((name, False) for name in LEARNING), *((name, True) for name in WITH_PADDING)]
)
def test_fewer_heads_and_units(name, padded):
    predictor = build(name)
    assert predictor.task.spatial() == (name in SPATIAL)
    batch = labelled(name, padded=padded)
    inputs = (batch["images"], batch["padding"]) if padded else (batch["images"],)
    before = predictor.task(*inputs)
    importance = prune.calibrate(predictor.task, [batch])
    small = compress.apply(predictor, "prune", calibration=[batch], **OPTIONS["prune"]).task
    assert (small.vit.config.heads, small.vit.config.mlp_dim) == (2, 6)
    hooks = closed(predictor.task, importance)
    torch.testing.assert_close(small(*inputs), predictor.task(*inputs), rtol=1e-3, atol=1e-3)
    for hook in hooks:
        hook.remove()
    assert torch.equal(predictor.task(*inputs), before)
    assert small.loss({key: value for key, value in batch.items() if key != "index"})["loss"].isfinite()
    assert cost(small).parameters < cost(predictor.task).parameters


@pytest.mark.parametrize("options", [{}, IN_WINDOWS], ids=["plain", "windows"])
@pytest.mark.parametrize("name", ["segmentation", "detection"])
def test_padding_is_part_of_the_importance(name, options):
    """What lies under the padding changes nothing, so it was not read."""
    task, batch = build(name, **options).task, labelled(name, padded=True)
    other = batch | {"images": batch["images"].masked_fill(batch["padding"][:, None], 9.0)}
    without = {key: value for key, value in batch.items() if key != "padding"}
    first, second, third = (prune.calibrate(task, [each]) for each in (batch, other, without))
    for a, b in zip(first.heads + first.units, second.heads + second.units, strict=True):
        torch.testing.assert_close(a, b)
    assert not torch.allclose(first.units[0], third.units[0], rtol=1e-3)


@pytest.mark.parametrize("name", LEARNING)
def test_the_importance_is_that_of_single_images(name):
    """The mean over images of |∂L/∂ξ|, L being the loss of one image, by differences; however they are batched."""
    task, batch = build(name).task, labelled(name, count=3)
    whole = prune.calibrate(task, [batch])
    parts = prune.calibrate(task, chunks(batch, 2))
    for a, b in zip(whole.heads + whole.units, parts.heads + parts.units, strict=True):
        torch.testing.assert_close(a, b)
    module, place = task.vit.blocks[0].mlp.fc2, 4

    def loss(image, gate):
        def scale(_, inputs):
            x = inputs[0].clone()
            x[..., place] *= gate
            return (x,)

        hook = module.register_forward_pre_hook(scale)
        with torch.no_grad(), keyed_random.torch_seeded(image):  # the noise of the denoising
            value = task.loss(single(batch, image))["loss"]
        hook.remove()
        return float(value.double())

    slopes = [abs(loss(i, 1.01) - loss(i, 0.99)) / 0.02 for i in range(3)]
    assert float(whole.units[0][place]) == pytest.approx(np.mean(slopes), rel=0.05, abs=2e-3)


@pytest.mark.parametrize("resize", ["square", "pad"])
@pytest.mark.parametrize(
    ("name", "kind"), [("detection", "boxes"), ("instances", "masks"), ("segmentation", "semantic")]
)
def test_batches_of_an_evaluation_do_as_well(name, kind, resize, scene_folder: Path):
    """As ``docs/compressing.md`` makes them: the loader of a plain Preprocess gives targets in other pixels."""
    splits = open_source(SourceConfig(spec=str(scene_folder), kind=kind, val_fraction=0))
    source = dict(splits.items())["train"]
    predictor = build(name, resize, classes=list(splits.classes))
    config = LoaderConfig(batch_size=4, workers=0, cache=False)
    evaluated = Loader(source, predictor.preprocess, config, train=False)
    learned = Loader(source, ScenePreprocess(predictor.preprocess.config, source.target_kind), config, train=False)
    first, second = (prune.calibrate(predictor.task, each.batches()) for each in (evaluated, learned))
    for a, b in zip(first.heads + first.units, second.heads + second.units, strict=True):
        torch.testing.assert_close(a, b)
    models = compress.variants(predictor, "prune", (0.5,), calibration=evaluated.batches())
    points = measure(models, source, batch_size=4, rounds=1)
    assert [point.name for point in points] == ["plain", "share=0.5"]
    assert points[1].cost.macs < points[0].cost.macs


@pytest.mark.parametrize("name", TASKS)
def test_a_curve_of_every_method(name):
    """What ``vitrail compress`` asks of every method: its levels, and the cost without running anything."""
    predictor = build(name)
    for method in compress.method_names():
        if compress.calibrates(method) and not isinstance(predictor.task, Trainable):
            with pytest.raises(UserError, match="has no trained head"):
                compress.variants(predictor, method, calibration=[{"images": torch.randn(1, 3, 16, 24)}])
            continue
        batches = [labelled(name)] if compress.calibrates(method) else None
        models = compress.variants(predictor, method, calibration=batches)
        assert len(models) > 2
        if name not in WITH_ALL_TOKENS or method == "prune":
            costs = [cost(model.task) for model in models.values()]
            assert costs[-1].macs != costs[0].macs


def test_the_batch_of_one_image_of_any_kind():
    for name in LEARNING:
        batch = labelled(name, count=3)
        one = single(batch, 1)
        assert len(one["images"]) == len(one["targets"]) == 1
        first, second = one["targets"][0], batch["targets"][1]
        if dataclasses.is_dataclass(first):
            assert torch.equal(first.labels, second.labels)
        else:
            assert torch.equal(first, second)
