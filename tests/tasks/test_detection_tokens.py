"""YOLOS: detection tokens among the patches, their positions, and what fine-tuning keeps of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss

import vitrail
from vitrail import compress
from vitrail.config import to_dict
from vitrail.data.objects import Objects, ObjectsBatch
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.explain import explain_all
from vitrail.ops.boxes import xyxy_to_cxcywh
from vitrail.predictor import Predictor
from vitrail.tasks.detection_tokens import Config, Task
from vitrail.train.init_weights import initialise_from
from vitrail.vit import ViTConfig

NAMES = ("ant", "bee", "cat")
MODEL = {"image_size": (24, 32), "patch_size": 8, "dim": 32, "depth": 3, "heads": 2, "mlp_dim": 48}


def build(
    model: dict[str, Any] | None = None, classes: tuple[str, ...] = NAMES, std: float = 0.2, **options: Any
) -> Task:
    settings = {"num_queries": 6, "mid_positions": True, **options}
    task = Task(Config(model=ViTConfig(**{**MODEL, **(model or {})}), classes=classes, **settings))
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return task.eval()


def objects(count: int, crowd: tuple[int, ...] = ()) -> Objects:
    start = torch.rand(count, 2) * 12
    flags = torch.zeros(count, dtype=torch.bool)
    flags[list(crowd)] = True
    return Objects(
        torch.cat((start, start + 1 + torch.rand(count, 2) * 11), 1), torch.randint(3, (count,)), flags, (24, 32)
    )


def test_queries_are_tokens_of_every_block_and_vectors_are_added_between() -> None:
    task, images = build({"registers": 2}), torch.randn(2, 3, 24, 32)
    tokens, grid, _ = task.vit.tokenise(images)
    x = torch.cat((task.queries.expand(2, -1, -1), tokens), dim=1)
    for layer, block in enumerate(task.vit.blocks):
        x = block(x)
        if layer < 2:
            x = x + task.mid.embedding[layer]
    x = task.vit.norm(x)
    outputs = task(images)
    torch.testing.assert_close(outputs[..., :3], task.head(x[:, :6]).softmax(-1)[..., :3])
    centres, sizes = task.box(x[:, :6]).sigmoid().chunk(2, dim=-1)
    pixels = torch.tensor([32.0, 24.0])
    torch.testing.assert_close(outputs[..., 3:5], (centres - sizes / 2) * pixels, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(outputs[..., 5:], (centres + sizes / 2) * pixels, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(task.embed(images), x[:, -grid[0] * grid[1] :].mean(dim=1))


def test_the_loss_is_the_library_s() -> None:
    import transformers

    task, images = build(), torch.randn(3, 3, 24, 32)
    targets = [objects(2), objects(0), objects(4, crowd=(1,))]
    ours = task.loss({"images": images, "targets": targets})
    logits, boxes = task._objects(task._run(images, None))
    pixels = torch.tensor([32.0, 24, 32, 24])
    labels = [
        {"class_labels": each.labels[~each.crowd], "boxes": xyxy_to_cxcywh(each.boxes_xyxy[~each.crowd] / pixels)}
        for each in targets
    ]
    config = transformers.YolosConfig(num_labels=3)
    loss, parts, _ = ForObjectDetectionLoss(logits, labels, torch.device("cpu"), boxes, config)
    torch.testing.assert_close(ours["loss"], loss)
    for own, theirs in (("label", "loss_ce"), ("l1", "loss_bbox"), ("giou", "loss_giou")):
        torch.testing.assert_close(ours[own], parts[theirs])


def test_what_is_padding_is_not_read() -> None:
    task = build()
    padding = torch.zeros(1, 24, 32, dtype=torch.bool)
    padding[..., 16:] = True
    canvases = torch.randn(2, 3, 24, 32)
    canvases[1, :, :, :16] = canvases[0, :, :, :16]
    first, second = (task(canvas[None], padding) for canvas in canvases)
    torch.testing.assert_close(first, second)
    assert not torch.allclose(task(canvases[:1]), first, atol=1e-3)


def test_one_image_can_be_learned() -> None:
    torch.manual_seed(0)
    task = build(std=0.05).train()
    batch = {"images": torch.randn(2, 3, 24, 32), "targets": [objects(2), objects(3)]}
    optimizer = torch.optim.Adam(task.parameters(), 3e-3)
    for _ in range(200):
        loss = task.loss(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    metrics = task.eval().metrics()
    with torch.no_grad():
        metrics.update(task(batch["images"]), batch["targets"])
    assert metrics.compute()["ap50"] > 0.9


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UserError, match="relative positions"):
        build({"positions": "relative"})
    with pytest.raises(UserError, match="mid_positions come between blocks"):
        build({"depth": 1})


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A trained detector of ants, bees and cats."""
    path = tmp_path / "coco.safetensors"
    Predictor(build(), PreprocessConfig(size=(24, 32)), device="cpu").save(path)
    return path


def test_fine_tuning_keeps_all_but_the_rows_of_classes_that_are_new(weights: Path, capsys: Any) -> None:
    before = vitrail.load(weights, device="cpu").task
    task = build(classes=("dog", "cat", "eel", "ant"), std=7.0)
    fresh = task.head.fc3.weight.detach().clone()
    initialise_from(task, str(weights))
    rows, own = before.head.fc3.weight, task.head.fc3.weight
    assert torch.equal(own[[1, 3, 4]], rows[[2, 0, 3]])  # cat, ant, no object
    assert torch.equal(own[[0, 2]], fresh[[0, 2]])
    assert torch.equal(task.head.fc3.bias[[1, 3, 4]], before.head.fc3.bias[[2, 0, 3]])
    kept = {name: value for name, value in before.state_dict().items() if not name.startswith("head.fc3")}
    assert all(torch.equal(task.state_dict()[name], value) for name, value in kept.items())
    assert "backbone kept, head kept, its rows for 2 of 4 classes fresh\n" in capsys.readouterr().err


def test_fine_tuning_at_another_size_moves_the_vectors_between_blocks_too(weights: Path, capsys: Any) -> None:
    task = build({"image_size": (40, 16)}, classes=NAMES[::-1])
    initialise_from(task, str(weights))
    wanted = vitrail.load(weights, device="cpu", image_size=(40, 16)).task
    assert wanted.mid.embedding.shape == (2, 6 + 1 + 10, 32)
    assert torch.equal(task.mid.embedding, wanted.mid.embedding)
    assert torch.equal(task.vit.positions.embedding, wanted.vit.positions.embedding)
    images = torch.randn(1, 3, 40, 16)
    torch.testing.assert_close(task(images)[..., [2, 1, 0, 3, 4, 5, 6]], wanted(images))
    note = capsys.readouterr().err
    assert "backbone resized from (24, 32) pixels to (40, 16), head kept, its rows for 0 of 3 classes fresh" in note


def test_what_does_not_fit_is_fresh_and_named(weights: Path, capsys: Any) -> None:
    task = build(num_queries=9, mid_positions=False)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    initialise_from(task, str(weights))
    assert torch.equal(task.queries, before["queries"])
    assert not torch.equal(task.box.fc1.weight, before["box.fc1.weight"])
    assert "its rows for 0 of 3 classes fresh, and fresh queries\n" in capsys.readouterr().err


def test_a_foreign_detector_is_fine_tuned_by_its_name_alone(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from vitrail.cli import main

    monkeypatch.chdir(tmp_path)
    task = build({"resampling": "bicubic"}, classes=("cow", "cat"))
    Predictor(task, PreprocessConfig(size=(24, 32), resize="pad"), device="cpu").save("ours.safetensors")
    vitrail.convert("ours.safetensors", "yolos", to="huggingface")
    tiny = [
        "--epochs",
        "1",
        "--batch-size",
        "4",
        "--device",
        "cpu",
        "--workers",
        "0",
        "--precision",
        "fp32",
        "--no-report",
    ]
    assert main(["train", str(scene_folder), "--init", "yolos", "--name", "finder", *tiny, "--lr", "1e-3"]) == 0
    assert "task: detection_tokens" in Path("runs/finder/config.yaml").read_text()
    assert "head kept, its rows for " in capsys.readouterr().err
    predictor = vitrail.load("runs/finder", device="cpu")
    made = to_dict(predictor.task.config)
    assert (made["num_queries"], made["mid_positions"], predictor.preprocess.config.resize) == (6, True, "pad")
    found = predictor.predict(np.zeros((20, 50, 3), np.uint8))
    assert found.size == (20, 50)


def test_it_is_explained_and_pruned_and_its_tokens_are_not_merged() -> None:
    predictor = Predictor(build({"mlp_dim": 64}), PreprocessConfig(size=(24, 32)), device="cpu")
    images = torch.randn(1, 3, 24, 32)
    found = explain_all(predictor.task, images)
    assert {each.values.shape[:2] for each in found} == {(3, 4)}
    assert all(np.isfinite(each.values).all() for each in found)
    batch = {"images": images, "targets": ObjectsBatch.of([objects(2)]), "index": torch.arange(1)}
    smaller = compress.apply(predictor, "prune", calibration=[batch], share=0.5).task
    assert (smaller.config.model.heads, smaller.config.model.mlp_dim) == (1, 32)
    assert smaller(images).shape == (1, 6, 7)
    merged = compress.apply(predictor, "tome", r=1).task
    with pytest.raises(UserError, match="need all tokens"):
        merged(images)
