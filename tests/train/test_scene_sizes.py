"""Training on batches of several sizes: every spatial task learns from them, with whatever positions its model has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import untried

from vitrail.checkpoints import native
from vitrail.config import override
from vitrail.data import DataConfig, LoaderConfig, SourceConfig, open_data
from vitrail.data.batch import Batch
from vitrail.errors import UserError
from vitrail.tasks.detection import Task
from vitrail.train.loop import fit
from vitrail.train.opening import build_task
from vitrail.train.run import Run
from vitrail.trainable import Losses, image_encoder
from vitrail.vit import ViTConfig

TASKS = ("detection", "detection_deformable", "detection_tokens", "instances", "panoptic", "segmentation")
SMALL = {"decoder": {"dim": 16, "depth": 2, "heads": 2, "mlp_dim": 32, "num_queries": 5}}
OPTIONS: dict[str, dict[str, Any]] = {
    "detection": SMALL,
    "detection_tokens": {"num_queries": 5, "mid_positions": True},
    "detection_deformable": {
        "decoder": {"dim": 16, "depth": 2, "heads": 2, "reading_heads": 4, "mlp_dim": 32, "num_queries": 5, "groups": 2}
    },
    "instances": SMALL,
    "segmentation": {},
    "panoptic": {"num_queries": 5, "num_blocks": 1, "num_upscale": 1},
}
SIZES = {(side, side) for side in (24, 32, 40)}


def scene_run(task: str, folder: Path, positions: str = "learned", **changes: Any) -> Run:
    """Twelve scenes of digits in batches of two, at 24, 32 or 40 pixels of nominal 32."""
    kind = {
        "detection": "boxes",
        "detection_tokens": "boxes",
        "detection_deformable": "boxes",
        "instances": "masks",
        "segmentation": "semantic",
        "panoptic": "panoptic",
    }[task]
    spec = "digit_scenes_panoptic" if task == "panoptic" else "digit_scenes"
    shape = {"image_size": 32, "channels": 1, "patch_size": 8, "dim": 32, "depth": 2, "heads": 2, "mlp_dim": 32}
    scenes = {"scale": (0.5, 1.5), "mosaic": 0.5, "batch_scale": (0.75, 1.25), "multiple": 8, "close": 0.5}
    run = Run(
        data=DataConfig(
            source=SourceConfig(spec=spec, kind=kind, train_fraction=0.006, root=str(folder)),
            loader=LoaderConfig(batch_size=2, workers=0),
            scenes=scenes,  # type: ignore[arg-type]
        ),
        model=ViTConfig(**shape, positions=positions),  # type: ignore[arg-type]
        task=task,
        task_options=OPTIONS[task],
        epochs=2,
        precision="fp32",
        device="cpu",
        evaluate_every=100,
    )
    return override(run.resolved, changes)


@pytest.mark.parametrize(
    ("task", "positions"),
    [*((task, "learned") for task in TASKS), *(("detection", kind) for kind in ("sincos_2d", "rope_2d", "none"))],
)
def test_every_size_of_batch_has_gradients(own_cache: Path, tmp_path: Path, task: str, positions: str) -> None:
    run = scene_run(task, tmp_path, positions)
    data = open_data(run.data)
    model = build_task(run, data)
    seen: set[tuple[int, ...]] = set()
    loader = data.train_loader(seed=0)
    for batch in (batch for epoch in range(4) for batch in loader.batches(epoch)):
        size = tuple(batch["images"].shape[-2:])
        if size in seen:
            continue
        seen.add(size)
        model.zero_grad()
        model.loss(batch)["loss"].backward()
        for name, parameter in image_encoder(model).named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
        embedding = image_encoder(model).positions
        if positions == "learned":
            assert embedding.embedding.grad.abs().sum() > 0
    assert seen == SIZES


def test_a_run_ends_with_images_as_its_model_will_see_them(own_cache: Path, tmp_path: Path, monkeypatch: Any) -> None:
    seen: list[tuple[int, ...]] = []
    loss = Task.loss

    def watched(self: Task, batch: Batch) -> Losses:
        seen.append(tuple(batch["images"].shape[-2:]))
        return loss(self, batch)

    untried(monkeypatch)
    monkeypatch.setattr(Task, "loss", watched)
    fit(scene_run("detection", tmp_path), tmp_path / "run")
    steps = len(seen) // 2
    assert set(seen[:steps]) <= SIZES
    assert len(set(seen[:steps])) > 1
    assert set(seen[steps:]) == {(32, 32)}
    assert native.read_meta(tmp_path / "run" / "weights" / "last.safetensors")["preprocess"]["size"] == [32, 32]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.scenes.multiple": 4}, r"batch_scale makes 28×28 pixels, which patches of 8×8 .*multiple=8"),
        ({"data.scenes.multiple": 64}, r"no multiple of 64 pixels is between 24 and 40"),
        ({"data.scenes.mixup": 0.5}, None),
        ({"data.scenes.copy_paste": 0.5}, r"copy_paste cannot combine images by boxes alone"),
    ],
)
def test_what_cannot_be_is_said_before_training(own_cache: Path, tmp_path: Path, changes: Any, words: str) -> None:
    run = scene_run("detection", tmp_path, **changes)
    data = open_data(run.data)

    def start() -> None:
        build_task(run, data)
        next(data.train_loader().batches())

    if words is None:
        start()
        return
    with pytest.raises(UserError, match=words) as caught:
        start()
    assert "\n" not in str(caught.value)
