"""DINOv2 of transformers, with registers and without, against ours."""

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

from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.errors import UserError

FAMILIES = {"Dinov2": "hf_dinov2", "Dinov2WithRegisters": "hf_dinov2_registers"}
SWIGLU = {"use_swiglu_ffn": True, "mlp_ratio": 3}
SCALE = {"layer_scale": 0.1}


def model(kind: str, **more: Any) -> Any:
    family = "Dinov2WithRegisters" if "Registers" in kind else "Dinov2"
    sizes = {name: value for name, value in SIZES.items() if name != "intermediate_size"}
    if "Registers" in kind:
        sizes["num_register_tokens"] = 3
    return getattr(transformers, kind)(getattr(transformers, family + "Config")(**{**sizes, **LABELS, **more}))


@pytest.mark.parametrize("more", [{}, {"layer_norm_eps": 1e-3, "hidden_act": "gelu_new"}, SWIGLU, {"mlp_ratio": 2}])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_logits(family: str, more: dict[str, Any], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(model(f"{family}ForImageClassification", **more)), images()
    task = read(theirs, tmp_path / "m", FAMILIES[family])
    close(task(x), theirs(x).logits)
    assert task.config.classes == NAMES
    bare = read_bare(theirs, tmp_path / "bare", FAMILIES[family]).load()
    for name, value in task.state_dict().items():
        assert torch.equal(bare.state_dict()[name], value)


@pytest.mark.parametrize("more", [{}, SWIGLU])
@pytest.mark.parametrize("kind", ["Model", "Backbone"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_backbone(family: str, kind: str, more: dict[str, Any], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(model(family + kind, **more)), images()
    task = read(theirs, tmp_path / "m", FAMILIES[family])
    if kind == "Model":
        close(task(x), theirs(x).pooler_output)
    else:
        close(task.vit(x).map, theirs(x).feature_maps[-1])
    read_bare(theirs, tmp_path / "bare", FAMILIES[family]).load()


@pytest.mark.parametrize("family", FAMILIES)
def test_inside(family: str, randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs = randomise(model(f"{family}ForImageClassification", attn_implementation="eager"))
    agree_inside(read(theirs, tmp_path / "m", FAMILIES[family]), theirs, close)


@pytest.mark.parametrize("size", [(48, 48), (24, 40), (16, 16)])
@pytest.mark.parametrize("family", FAMILIES)
def test_another_size(family: str, size: tuple[int, int], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(model(f"{family}ForImageClassification")), images(*size)
    close(read(theirs, tmp_path / "m", FAMILIES[family])(x), theirs(x).logits)


@pytest.mark.parametrize("mlp", [{"mlp_dim": 96}, {"mlp_dim": 64, "mlp": "swiglu"}, {"mlp_dim": 88, "mlp": "swiglu"}])
@pytest.mark.parametrize("registers", [0, 2])
def test_what_we_write_the_library_reads(registers: int, mlp: dict[str, Any], close: Any, tmp_path: Path) -> None:
    family = "Dinov2WithRegisters" if registers else "Dinov2"
    sizes = {"mlp_dim": mlp["mlp_dim"], "registers": registers}
    block = {**SCALE, "mlp": mlp.get("mlp", "gelu"), "norm_eps": 1e-5}
    task = build(pool="cls_mean", block=block, **sizes)
    write(FAMILIES[family], task, tmp_path / "m")
    close(theirs_of(f"{family}ForImageClassification", tmp_path / "m")(images()).logits, task(images()))
    task = build(labels=False, block=block, **sizes)
    write(FAMILIES[family], task, tmp_path / "backbone")
    close(theirs_of(f"{family}Model", tmp_path / "backbone")(images()).pooler_output, task(images()))


@pytest.mark.parametrize(
    ("vit", "lacking"),
    [
        ({"mlp_dim": 80}, "MLP of this width"),
        ({"mlp_dim": 80, "block": {**SCALE, "mlp": "swiglu"}}, "MLP of this width"),
        ({"image_size": (32, 48), "mlp_dim": 64}, "oblong images"),
        ({"block": {}, "mlp_dim": 64}, "blocks without LayerScale"),
        ({"pool": "cls", "mlp_dim": 64}, "cls pooling"),
    ],
)
def test_what_the_library_cannot_hold_is_named(vit: dict[str, Any], lacking: str, tmp_path: Path) -> None:
    task = build(**{"block": SCALE, "pool": "cls_mean", **vit})
    with pytest.raises(UserError, match=f"hf_dinov2 has no {lacking}"):
        foreign.save("hf_dinov2", tmp_path / "m", Description.of(task, None), task.state_dict())


@pytest.mark.parametrize("registers", [0, 2])
def test_the_pipeline_of_the_library(registers: int, tmp_path: Path) -> None:
    task = build(pool="cls_mean", block=SCALE, mlp_dim=64, registers=registers)
    write("hf_dinov2_registers" if registers else "hf_dinov2", task, tmp_path / "m", resize="crop", crop_pct=0.8)
    pipeline_agrees(tmp_path / "m")
