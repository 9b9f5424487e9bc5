"""DeiT of transformers against ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers
from hf_reference import (
    LABELS,
    NAMES,
    SIZES,
    agree_inside,
    build,
    images,
    pipeline_agrees,
    read,
    read_bare,
    theirs_of,
    write,
)

KINDS = {"DeiTForImageClassification": "cls", "DeiTForImageClassificationWithTeacher": "cls_distillation"}


def model(kind: str, **more: Any) -> Any:
    return getattr(transformers, kind)(transformers.DeiTConfig(**{**SIZES, **LABELS, **more}))


@pytest.mark.parametrize("more", [{}, {"layer_norm_eps": 1e-3, "hidden_act": "gelu_new"}, {"qkv_bias": False}])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_logits(kind: str, more: dict[str, Any], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(model(kind, **more)), images()
    task = read(theirs, tmp_path / "m", "hf_deit")
    close(task(x), theirs(x).logits)
    assert task.config.classes == NAMES
    assert task.config.pool == KINDS[kind]
    found = read_bare(theirs, tmp_path / "bare", "hf_deit")
    assert len(found.assumed) == 5


@pytest.mark.parametrize("kind", ["DeiTModel", "DeiTForMaskedImageModeling"])
def test_the_backbone(kind: str, randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(model(kind, encoder_stride=8)), images()
    task = read(theirs, tmp_path / "m", "hf_deit")
    close(task(x), getattr(theirs, "deit", theirs)(x).last_hidden_state[:, 0])
    read_bare(theirs, tmp_path / "bare", "hf_deit")


def test_inside(randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs = randomise(model("DeiTForImageClassificationWithTeacher", attn_implementation="eager"))
    agree_inside(read(theirs, tmp_path / "m", "hf_deit"), theirs, close)


@pytest.mark.parametrize("size", [(48, 48), (24, 40)])
def test_another_size(size: tuple[int, int], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(model("DeiTForImageClassification")), images(*size)
    task = read(theirs, tmp_path / "m", "hf_deit")
    close(task(x), theirs(x, interpolate_pos_encoding=True).logits)


@pytest.mark.parametrize(("kind", "pool"), KINDS.items())
def test_what_we_write_the_library_reads(kind: str, pool: str, close: Any, tmp_path: Path) -> None:
    head = {"distilled": True} if pool == "cls_distillation" else None
    task = build(pool=pool, head=head, distillation_token=True, block={"norm_eps": 1e-5})
    write("hf_deit", task, tmp_path / "m", crop_pct=0.8)
    close(theirs_of(kind, tmp_path / "m")(images()).logits, task(images()))


def test_a_backbone_too(close: Any, tmp_path: Path) -> None:
    task = build(labels=False, distillation_token=True)
    write("hf_deit", task, tmp_path / "m")
    theirs = theirs_of("DeiTModel", tmp_path / "m", add_pooling_layer=False)
    close(theirs(images()).last_hidden_state[:, 0], task(images()))


def test_the_pipeline_of_the_library(tmp_path: Path) -> None:
    for head, pool in ((None, "cls"), ({"distilled": True}, "cls_distillation")):
        write("hf_deit", build(pool=pool, head=head, distillation_token=True), tmp_path / pool, crop_pct=0.8)
    pipeline_agrees(tmp_path / "cls")
    pipeline_agrees(tmp_path / "cls_distillation")
