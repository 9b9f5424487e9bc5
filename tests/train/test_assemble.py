"""Starting from other weights: another image size, other classes, a frozen backbone."""

from __future__ import annotations

import dataclasses
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch
from decoders import DEFORMABLE, DETR
from tiny import tiny_run, write_data

from vitrail import loading, registry
from vitrail.checkpoints import native
from vitrail.config import override
from vitrail.data import PreprocessConfig, open_data
from vitrail.errors import UserError
from vitrail.predictor import Predictor
from vitrail.train.init_weights import initialise_from
from vitrail.train.loop import fit
from vitrail.train.opening import build_task, task_for
from vitrail.vit import ViT, ViTConfig


@pytest.fixture(scope="module")
def trained(bands: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    run = tiny_run(bands, epochs=2, optimizer={"lr": 0.01}, model={"positions": "learned"})
    fit(run, folder)
    return folder


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], prefix: str = "") -> bool:
    names = [name for name in a if name.startswith(prefix)]
    return bool(names) and all(torch.equal(a[name], b[name]) for name in names)


def test_same_data_keeps_everything(trained: Path, bands: Path, capsys: Any) -> None:
    run = tiny_run(bands, init=str(trained))
    task = build_task(run, open_data(run.data))
    assert same(task.state_dict(), native.load(trained / "weights" / "best.safetensors").state)
    assert "backbone kept, head kept" in capsys.readouterr().err


def test_other_classes_get_a_fresh_head(trained: Path, tmp_path: Path, capsys: Any) -> None:
    run = tiny_run(write_data(tmp_path / "four", num_classes=4), init=str(trained))
    task = build_task(run, open_data(run.data))
    before = native.load(trained / "weights" / "best.safetensors").state
    assert same({k: v for k, v in task.state_dict().items() if k.startswith("vit.")}, before)
    assert task.head.output.weight.shape == (4, 16)
    assert not task.head.output.weight.any()
    assert "fresh head for 4 outputs" in capsys.readouterr().err


def test_equally_many_but_other_classes_get_a_fresh_head(trained: Path, bands: Path, tmp_path: Path) -> None:
    import numpy as np

    data = write_data(tmp_path / "named")
    for split in ("train", "val"):
        with np.load(data / f"{split}.npz") as file:
            arrays = dict(file)
        np.savez(data / f"{split}.npz", **arrays, classes=np.array(["x", "y", "z"]))
    run = tiny_run(data, init=str(trained))
    assert not build_task(run, open_data(run.data)).head.output.weight.any()
    run = tiny_run(bands, init=str(trained))
    assert build_task(run, open_data(run.data)).head.output.weight.any()


DECODER = DETR | {"depth": 2, "separate_heads": True}
BY_CLASS: dict[str, dict[str, Any]] = {
    "detection": {"decoder": DECODER},
    "instances": {"decoder": DECODER, "class_loss": "softmax"},
    "panoptic": {"num_queries": 4, "num_blocks": 1, "num_upscale": 1},
    "detection_tokens": {"num_queries": 4},
    "detection_deformable": {"decoder": DEFORMABLE},
}


def is_of_classes(part: str, task: Any) -> bool:
    return any(fnmatchcase(part, pattern) for pattern in task.class_rows)


def by_class(name: str, classes: tuple[str, ...], value: float, **more: Any) -> Any:
    """A task all of whose parameters are ``value`` and, in a row of a class, its place."""
    module = registry.load("tasks", name)
    model = ViTConfig(image_size=16, patch_size=8, dim=16, depth=1, heads=2, mlp_dim=16)
    task = module.Task(module.Task.configure(model, classes, None, BY_CLASS[name] | more))
    for part, parameter in task.named_parameters():
        torch.nn.init.constant_(parameter, value)
        if is_of_classes(part, task):
            with torch.no_grad():
                parameter += torch.arange(len(parameter)).view(-1, *[1] * (parameter.ndim - 1))
    return task


def test_every_task_with_rows_of_classes_is_known() -> None:
    tasks = {name: registry.load("tasks", name).Task for name in registry.names("tasks")}
    assert {name for name, task in tasks.items() if getattr(task, "class_rows", ())} == set(BY_CLASS)


@pytest.mark.parametrize(("source", "name"), [*((name, name) for name in BY_CLASS), ("detection", "instances")])
def test_rows_of_the_same_classes_and_all_that_is_of_none_are_kept(source: str, name: str, tmp_path: Path) -> None:
    loss = {"class_loss": "focal"} if "detection" == source != name else {}
    before = by_class(source, ("ant", "bee", "cat"), 100.0)
    Predictor(before, PreprocessConfig(size=16), device="cpu").save(tmp_path / "before.safetensors")
    task = by_class(name, ("cat", "dog", "ant", "eel"), -100.0, **loss)
    initialise_from(task, str(tmp_path / "before.safetensors"))
    rows, of_classes = 0, {part for part, _ in task.named_parameters() if is_of_classes(part, task)}
    for part, value in task.named_parameters():
        first = value.detach().reshape(len(value), -1)[:, 0].tolist()
        if is_of_classes(part, task):
            rows += 1
            assert first == [102, -99, 100, -97, 103][: len(first)]
        else:
            assert set(first) == {-100.0 if part.startswith("masks") and source != name else 100.0}
    assert rows == len(of_classes) >= 2


def test_another_image_size_resizes_the_backbone(trained: Path, tmp_path: Path, capsys: Any) -> None:
    run = tiny_run(write_data(tmp_path / "large", size=16), size=16, init=str(trained))
    task = build_task(run, open_data(run.data))
    expected: ViT = loading.load(trained, device="cpu").task.vit
    expected.resize(16)
    assert same(task.vit.state_dict(), expected.state_dict())
    assert task.vit.config.image_size == (16, 16)
    assert "backbone resized from (8, 8) pixels to (16, 16)" in capsys.readouterr().err
    assert fit(dataclasses.replace(run, epochs=1), tmp_path / "run").exit_code == 0


def test_a_weights_file_will_do(trained: Path, bands: Path) -> None:
    file = trained / "weights" / "last.safetensors"
    run = tiny_run(bands, init=str(file))
    assert same(build_task(run, open_data(run.data)).state_dict(), native.load(file).state)


def test_another_architecture_is_refused(trained: Path, bands: Path) -> None:
    run = tiny_run(bands, init=str(trained), model={"dim": 32})
    with pytest.raises(UserError, match=r"for another model \(vit\..* differs\); give the same --model"):
        build_task(run, open_data(run.data))


def test_a_frozen_backbone_stays_and_the_head_learns(trained: Path, bands: Path, tmp_path: Path) -> None:
    run = tiny_run(bands, init=str(trained), freeze=("backbone",), epochs=2, optimizer={"lr": 0.01})
    fit(run, tmp_path / "run")
    before = native.load(trained / "weights" / "best.safetensors").state
    after = native.load(tmp_path / "run" / "weights" / "last.safetensors").state
    assert same({k: v for k, v in after.items() if k.startswith("vit.")}, before)
    assert not torch.equal(after["head.output.weight"], before["head.output.weight"])


def test_resuming_needs_no_initial_weights(trained: Path, bands: Path, tmp_path: Path) -> None:
    import shutil

    moved = shutil.copytree(trained, tmp_path / "moved")
    run = tiny_run(bands, init=str(moved), epochs=1)
    fit(run, tmp_path / "run")
    shutil.rmtree(moved)
    assert fit(dataclasses.replace(run, epochs=2), tmp_path / "run", extend=True).exit_code == 0


def test_the_seed_decides_the_first_weights(bands: Path) -> None:
    data = open_data(tiny_run(bands).data)
    first, again, other = (build_task(tiny_run(bands, seed=seed), data).state_dict() for seed in (0, 0, 1))
    assert same(first, again)
    assert not same(first, other, "vit.blocks")


def test_the_task_must_suit_the_labels(bands: Path) -> None:
    run = tiny_run(bands, task="regression")
    with pytest.raises(UserError, match="learns from number labels and the data has class"):
        build_task(run, open_data(run.data))
    assert [task_for(kind) for kind in ("class", "multilabel", "number")] == [
        "classification",
        "multilabel",
        "regression",
    ]
    with pytest.raises(UserError, match="give labels"):
        task_for("none")


def test_preprocessing_takes_size_and_channels_from_the_model_unless_they_are_set(bands: Path) -> None:
    run = tiny_run(bands, optimizer={"lr": 1e-3})
    derived = override(run, {"data.preprocess.size": None, "data.preprocess.channels": None, "optimizer.lr": None})
    assert derived.resolved == run.resolved == run
    assert override(derived, {"model.image_size": 16}).preprocess.size == (16, 16)
    larger = override(run, {"data.preprocess.size": 16})
    assert (larger.resolved.data.preprocess.size, larger.preprocess.size) == ((16, 16), (16, 16))
    build_task(larger, open_data(larger.data))
    with pytest.raises(UserError, match=r"channels 1 and model\.channels 3 differ; set model\.channels alone"):
        build_task(override(run, {"model.channels": 3}), open_data(run.data))
    with pytest.raises(UserError, match=r"patch"):
        build_task(override(run, {"data.preprocess.size": 9}), open_data(run.data))
    with pytest.raises(UserError, match=r"preprocess\.size is not set and no model gives it"):
        open_data(derived.data).train_loader()
