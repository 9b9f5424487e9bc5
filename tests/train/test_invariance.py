"""The gradient of a batch is that of its pieces, and of its halves on two ranks; what lies on padding does not matter.

Every task and every method is here the moment its file exists.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ranks import on_two_ranks, share
from tiny import tiny_run
from torch import Tensor

from vitrail import registry
from vitrail.build import REGISTRIES
from vitrail.config import override
from vitrail.data.objects import Objects, ObjectsBatch
from vitrail.data.segments import Segments, SegmentsBatch
from vitrail.errors import UserError
from vitrail.train.distributed import Parallel, World, gather
from vitrail.train.loop import fit
from vitrail.train.step import TrainStep
from vitrail.trainable import Trainable
from vitrail.vit import ViTConfig

MODEL = ViTConfig(image_size=16, patch_size=4, dim=16, depth=2, heads=2, mlp_dim=32)
NAMES = ("ant", "bee", "cat")
NUM_OBJECTS = (10, 0, 1, 9, 2, 0, 1, 1)  # of the 8 images; the ranks have every second one
SIZES = ((16, 16), (12, 16), (16, 10), (8, 8), (16, 16), (9, 13), (16, 4), (4, 16))  # of what is image on each canvas
TOLERANCE = 2e-5  # share of the largest gradient
PROCESS = World(torch.device("cpu"))

DECODER = {"decoder": {"dim": 16, "depth": 2, "heads": 2, "mlp_dim": 32, "num_queries": 12}}
STILL = {**DECODER, "denoising": {"groups": 2, "box": 0.0, "label": 0.0}}  # ranks draw noise of their own
MANY = {"class_loss": "softmax", "one_to_many": {"num_queries": 20, "repeats": 2}}
HEADS = {"num_prototypes": 24, "hidden_dim": 20, "bottleneck_dim": 8, "freeze_prototypes": 0.0}
PROJECTOR = {"hidden_dim": 24, "output_dim": 8}
HYBRID = {"embed": {"kind": "resnet", "layers": (1,), "width": 32}}
OPTIONS: dict[str, dict[str, dict[str, Any]]] = {  # by name, then by variant
    "classification": {"": {}, "bce": {"loss": "bce", "label_smoothing": 0.1}},
    "detection": {
        "": STILL,
        "softmax": {**STILL, **MANY},
        "dense": {**STILL, "decoder": {**DECODER["decoder"], "relation": True}, "dense": {"per_object": 4}},
        "distributions": {
            "decoder": {**DECODER["decoder"], "depth": 3, "separate_heads": True, "distribution": {"intervals": 8}},
            "denoising": {**STILL["denoising"], "contrastive": True},
            "learned_content": True,
        },
        "learned queries": {**STILL, "proposals": False, "class_loss": "softmax", "scales": ("2", "1/2")},
    },
    "instances": {
        "": STILL,
        "masks": {**STILL, "mask_losses": {"in_matching": True, "every_layer": True}},
        "points": {**STILL, "mask_losses": {"in_matching": True, "every_layer": True, "points": 12}},
    },
    "panoptic": {"": {"num_queries": 12, "num_blocks": 1, "num_upscale": 1, "things": NAMES[:2]}},
    "segmentation": {
        "": {"coarse": 0.3},
        "multilevel": {"decoder": "multilevel", "hidden": 8, "dice": 0.2},
        "detail": {"decoder": "detail", "hidden": 8},
        "transunet": {"decoder": "transunet", "hidden": 8},
    },
    "mae": {"": {"decoder_dim": 16, "decoder_depth": 1, "decoder_heads": 2, "decoder_mlp_dim": 32}},
    "simmim": {"": {"mask_size": 12}},  # blocks are cut, so that some images hide more patches
    "colorize": {"": {}, "regression": {"target": "regression"}},
    "rotation": {"": {}, "one": {"all_rotations": False}},
    "dino": {"": HEADS},
    "ibot": {"": HEADS, "two heads": {**HEADS, "share_head": False}},
    "simclr": {"": PROJECTOR},
    "moco_v3": {"": PROJECTOR},
}


def kind_of(name: str) -> Any:
    return registry.load_from(REGISTRIES, name).Task


LEARNING = [
    (name, variant)
    for folder in ("tasks", "pretrain", "generate")
    for name in registry.names(folder)
    if registry.load(folder, name).Task.takes
    for variant in OPTIONS.get(name, {"": {}})
]
SEPARATE = [each for each in LEARNING if not kind_of(each[0]).whole_batch]
SPATIAL = [each for each in LEARNING if kind_of(each[0]).spatial() and each[0] != "super_resolution"]  # parts have none


def cases(learning: list[tuple[str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("name", "variant"), learning, ids=[" ".join(each).strip() for each in learning])


def build(name: str, variant: str = "") -> tuple[Any, dict[str, Any]]:
    """A task with weights that are larger than usual, in training mode, and a batch of 8 images; always the same."""
    torch.manual_seed(0)
    kind, images = kind_of(name), torch.randn(8, 3, 16, 16)
    batch: dict[str, Any] = {"images": images, "keys": torch.arange(8) * 7919}
    targets = TARGETS[kind.takes[0]]()
    if targets is not None:
        batch["targets"] = targets
    if kind.spatial():
        batch["padding"] = ~inside()
    for view in range(kind.num_views):
        batch[f"view{view}"] = images + 0.5 * torch.randn_like(images)
    model = ViTConfig(**{**vars(MODEL), **HYBRID}) if variant == "transunet" else MODEL
    column = targets.numpy() if isinstance(targets, Tensor) else torch.empty(0).numpy()
    task = kind(kind.configure(model, NAMES, column, OPTIONS.get(name, {"": {}})[variant]))
    for module in task.children():
        for parameter in module.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    if name == "colorize" and not variant:
        task.head.shares.copy_(torch.rand(313).softmax(0))
    if name == "panoptic":
        task.annealing.probabilities.fill_(0.5)
    return task.train(), batch


def inside() -> Tensor:
    """bool (8, 16, 16), the pixels of the images on their canvases."""
    rows, columns = (torch.tensor(sides)[:, None] > torch.arange(16) for sides in zip(*SIZES, strict=True))
    return rows[:, :, None] & columns[:, None, :]


def objects() -> ObjectsBatch:
    found = []
    for count, (height, width) in zip(NUM_OBJECTS, SIZES, strict=True):
        start = torch.rand(count, 2) * 0.5
        boxes = torch.cat((start, start + 0.2 + torch.rand(count, 2) * 0.3), dim=1)
        boxes = boxes * torch.tensor([width, height, width, height])
        masks = torch.zeros(count, 16, 16, dtype=torch.bool)
        for mask, (left, top, right, bottom) in zip(masks, boxes.tolist(), strict=True):
            mask[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = True
        crowd = torch.arange(count) == 5
        found.append(Objects(boxes, torch.randint(3, (count,)), crowd, (16, 16), masks=masks & inside()[len(found)]))
    return ObjectsBatch.of(found)


def classes_of_pixels() -> Tensor:
    labels = torch.randint(3, (8, 16, 16)).masked_fill(~inside(), 255)
    labels[0, 1:] = labels[4] = 255  # little is known of one image, and nothing of another
    return labels


def segments() -> SegmentsBatch:
    found = []
    for count, image in zip(NUM_OBJECTS, inside(), strict=True):
        numbers = torch.randint(count + 1, (16, 16), dtype=torch.int32) * image
        found.append(Segments(numbers, torch.randint(3, (count,)), torch.arange(count) == 3))
    return SegmentsBatch.of(found)


TARGETS: dict[str, Any] = {
    "class": lambda: torch.randint(3, (8,)),
    "multilabel": lambda: torch.rand(8, 3).round(),
    "number": lambda: torch.randn(8, 3),
    "boxes": objects,
    "masks": objects,
    "semantic": classes_of_pixels,
    "panoptic": segments,
    "image": lambda: torch.randint(256, (8, 3, 16, 16), dtype=torch.uint8),
    "none": lambda: None,
}


def gradients(task: Trainable) -> dict[str, Tensor]:
    return {name: gather(p.grad) for name, p in task.named_parameters() if p.grad is not None}


def alone(name: str, variant: str, **entries: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of the batch, computed without a training, and its gradients."""
    task, batch = build(name, variant)
    loss = task.loss(batch | entries)["loss"]
    loss.backward()
    return loss.detach(), gradients(task)


def trained(task: Any, batch: Any, world: World, accumulate: int, strategy: Any = "ddp") -> Any:
    """The same of a training's step."""
    run = SimpleNamespace(epochs=1, accumulate=accumulate, precision="fp32")
    parallel, state = Parallel(task, world, strategy), SimpleNamespace(scaler=None)
    context: Any = SimpleNamespace(run=run, world=world, parallel=parallel, model=task, state=state, loader=[None])
    names, losses = TrainStep(context).gradients(batch)
    assert names[0] == "loss"
    return world.mean(losses[0]), gradients(task)


def assert_same(found: tuple[Tensor, dict[str, Tensor]], expected: tuple[Tensor, dict[str, Tensor]]) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=TOLERANCE, atol=TOLERANCE)
    assert found[1].keys() == expected[1].keys()
    largest = max(float(gradient.abs().max()) for gradient in expected[1].values())
    far = {name: float((found[1][name] - gradient).abs().max()) / largest for name, gradient in expected[1].items()}
    assert max(far.values()) < TOLERANCE, {name: value for name, value in far.items() if value >= TOLERANCE}


@cases(SEPARATE)
def test_pieces_are_the_batch(name: str, variant: str) -> None:
    expected = alone(name, variant)
    for accumulate in (2, 3):  # 4 + 4, 3 + 3 + 2 images
        task, batch = build(name, variant)
        assert_same(trained(task, batch, PROCESS, accumulate), expected)


@pytest.mark.parametrize("name", sorted({name for name, _ in LEARNING if kind_of(name).whole_batch}))
def test_pieces_of_what_is_compared_are_refused(name: str, bands: Path, tmp_path: Path) -> None:
    run = tiny_run(bands, task=name, accumulate=2)
    with pytest.raises(UserError, match=r"compares the images of a batch.*leave accumulate out") as refused:
        fit(override(run, {"data.views": [{"count": 2}]}), tmp_path / "run")
    assert "\n" not in str(refused.value)


def on_a_rank(rank: int) -> dict[tuple[str, str, str], Any]:
    world = World(torch.device("cpu"), rank, 2)
    found = {}
    for name, variant in LEARNING:
        for strategy, accumulate in (("ddp", 1 if kind_of(name).whole_batch else 2), ("fsdp", 1)):
            if strategy == "fsdp" and not kind_of(name).shardable:
                continue
            task, batch = build(name, variant)
            targets = batch.pop("targets", None)
            own = share(batch, rank)
            if targets is not None:
                own["targets"] = (
                    share(targets, rank) if isinstance(targets, Tensor) else targets.of([*targets][rank::2])
                )
            found[name, variant, strategy] = trained(task, own, world, accumulate, strategy)
    return found


@pytest.fixture(scope="module")
def ranks() -> list[dict[tuple[str, str, str], Any]]:
    return on_two_ranks(on_a_rank)


@cases(LEARNING)
def test_two_ranks_are_the_batch(name: str, variant: str, ranks: list[dict[tuple[str, str, str], Any]]) -> None:
    expected = alone(name, variant)
    for found in ranks:
        for strategy in ("ddp", "fsdp") if kind_of(name).shardable else ("ddp",):
            assert_same(found[name, variant, strategy], expected)


def test_whole_weights_are_asked_for(bands: Path, tmp_path: Path) -> None:
    for name in sorted({name for name, _ in LEARNING if not kind_of(name).shardable}):
        with pytest.raises(UserError, match="needs whole weights in every process: choose strategy=ddp"):
            fit(tiny_run(bands, task=name, strategy="fsdp"), tmp_path / "run")


@cases(SPATIAL)
def test_what_lies_on_padding_does_not_matter(name: str, variant: str) -> None:
    _, batch = build(name, variant)
    noise = torch.where(batch["padding"].unsqueeze(1), torch.randn_like(batch["images"]), batch["images"])
    assert not torch.equal(noise, batch["images"])
    assert_same(alone(name, variant, images=noise), alone(name, variant))
