"""BEiT and DiT of transformers against ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
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

import vitrail
from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.errors import UserError

RELATIVE = {"use_relative_position_bias": True}
SHARED = {"use_shared_relative_position_bias": True}
DIT = {"use_absolute_position_embeddings": True}
BLOCK = {"key_bias": False, "layer_scale": 0.1}
MEAN = {"pool": "mean", "final_norm": False, "head": {"norm": True}}


def model(kind: str = "BeitForImageClassification", **more: Any) -> Any:
    return getattr(transformers, kind)(transformers.BeitConfig(**{**SIZES, **LABELS, **more}))


@pytest.mark.parametrize(
    "more",
    [
        RELATIVE,
        SHARED,
        DIT,
        {},
        {**RELATIVE, "use_mean_pooling": False},
        {**SHARED, "layer_scale_init_value": 0.0, "layer_norm_eps": 1e-3},
        {**RELATIVE, "head_dim": 12, "hidden_act": "gelu_new"},
    ],
)
def test_the_same_logits(more: dict[str, Any], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(model(**more)), images()
    task = read(theirs, tmp_path / "m", "hf_beit")
    close(task(x), theirs(x).logits)
    assert task.config.classes == NAMES
    if more:
        bare = read_bare(theirs, tmp_path / "bare", "hf_beit").load()
        for name, value in task.state_dict().items():
            assert torch.equal(bare.state_dict()[name], value)


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("kind", ["BeitModel", "BeitForMaskedImageModeling"])
def test_the_backbone(kind: str, mean: bool, randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(model(kind, use_mean_pooling=mean, use_mask_token=True, **SHARED)), images()
    task = read(theirs, tmp_path / "m", "hf_beit")
    if kind == "BeitModel":
        close(task(x), theirs(x).pooler_output)
    else:
        tokens = theirs.beit(x).last_hidden_state
        close(task.vit(x).tokens, theirs.layernorm(tokens) if mean else tokens)
    read_bare(theirs, tmp_path / "bare", "hf_beit").load()


@pytest.mark.parametrize("more", [RELATIVE, SHARED])
def test_inside(more: dict[str, Any], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs = randomise(model(attn_implementation="eager", **more))
    agree_inside(read(theirs, tmp_path / "m", "hf_beit"), theirs, close)


@pytest.mark.parametrize("size", [(48, 48), (24, 40), (16, 32)])
@pytest.mark.parametrize("more", [RELATIVE, SHARED, DIT])
def test_another_size(more: Any, size: tuple[int, int], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(model(**more)), images(*size)
    task, expected = read(theirs, tmp_path / "m", "hf_beit"), theirs(x).logits
    close(task(x), expected)
    task.vit.resize(size)
    close(task(x), expected)


@pytest.mark.parametrize("vit", [{"positions": "relative"}, {"positions": "none"}, {}])
@pytest.mark.parametrize("how", [MEAN, {}])
@pytest.mark.parametrize("labels", [True, False])
def test_what_we_write_the_library_reads(
    labels: bool, how: dict[str, Any], vit: dict[str, Any], close: Any, tmp_path: Path
) -> None:
    task = build(labels=labels, block={**BLOCK, "norm_eps": 1e-5}, **how, **vit)
    write("hf_beit", task, tmp_path / "m")
    theirs = theirs_of("BeitForImageClassification" if labels else "BeitModel", tmp_path / "m")
    out = theirs(images())
    close(out.logits if labels else out.pooler_output, task(images()))
    again = open_checkpoint(tmp_path / "m").load()
    assert all(torch.equal(again.state_dict()[name], value) for name, value in task.state_dict().items())


def test_without_layer_scale(close: Any, tmp_path: Path) -> None:
    task = build(block={"key_bias": False}, positions="relative", **MEAN)
    write("hf_beit", task, tmp_path / "m")
    close(theirs_of("BeitForImageClassification", tmp_path / "m")(images()).logits, task(images()))


@pytest.mark.parametrize(
    ("options", "lacking"),
    [
        ({"block": {}}, "bias of keys"),
        ({"block": {"key_bias": False, "qkv_bias": False}}, "attention without bias"),
        ({"image_size": (32, 48)}, "oblong images"),
        ({"pool": "mean"}, "mean pooling after the final norm"),
        ({"pool": "mean", "final_norm": False}, "mean pooling without a norm"),
        ({"head": {"norm": True}}, "head with a norm"),
    ],
)
def test_what_the_library_cannot_hold_is_named(options: dict[str, Any], lacking: str, tmp_path: Path) -> None:
    task = build(**{"block": BLOCK, "positions": "relative", **options})
    with pytest.raises(UserError, match=f"hf_beit has no {lacking}"):
        foreign.save("hf_beit", tmp_path / "m", Description.of(task, None), task.state_dict())


def test_two_kinds_of_positions_are_refused(randomise: Any, tmp_path: Path) -> None:
    randomise(model(**RELATIVE, **DIT)).save_pretrained(tmp_path / "m")
    with pytest.raises(UserError, match="positions of more than one kind"):
        vitrail.inspect(tmp_path / "m")


@pytest.mark.parametrize("positions", ["relative", "learned"])
def test_the_pipeline_of_the_library(positions: str, tmp_path: Path) -> None:
    task = build(positions=positions, block=BLOCK, **MEAN)
    write("hf_beit", task, tmp_path / "m", interpolation="bicubic")
    pipeline_agrees(tmp_path / "m")
