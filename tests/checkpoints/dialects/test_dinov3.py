"""DINOv3 of transformers and Meta's own names against ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from hf_reference import SIZES, agree_inside, build, images, read, read_bare, theirs_of, write
from safetensors.torch import load_file, save_file
from timm.models.eva import checkpoint_filter_fn

from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.errors import UserError
from vitrail.sizes import resize

BLOCK = {"layer_scale": 0.1, "key_bias": False, "norm_eps": 1e-5}
OURS = {"positions": "rope_2d", "rotary": {"coordinates": "centred"}, "block": BLOCK, "labels": False}


def model(kind: str = "DINOv3ViTModel", **more: Any) -> Any:
    sizes = {**SIZES, "num_register_tokens": 3}
    return getattr(transformers, kind)(transformers.DINOv3ViTConfig(**{**sizes, **more}))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"num_register_tokens": 0, "layer_norm_eps": 1e-3, "rope_theta": 30.0},
        {"use_gated_mlp": True, "hidden_act": "silu"},
        {"query_bias": False, "value_bias": False, "proj_bias": False},
        {"key_bias": True, "image_size": [32, 48]},
    ],
)
def test_the_same_features(more: dict[str, Any], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(model(**more)), images()
    task = read(theirs, tmp_path / "m", "hf_dinov3")
    close(task(x), theirs(x).pooler_output)
    close(task.vit(x).tokens, theirs(x).last_hidden_state)
    assert read_bare(theirs, tmp_path / "bare", "hf_dinov3").assumed


def test_the_backbone(randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(model("DINOv3ViTBackbone")), images()
    close(read(theirs, tmp_path / "m", "hf_dinov3").vit(x).map, theirs(x).feature_maps[-1])


def test_inside(randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs = randomise(model(attn_implementation="eager"))
    agree_inside(read(theirs, tmp_path / "m", "hf_dinov3"), theirs, close)


@pytest.mark.parametrize("size", [(48, 48), (24, 40)])
def test_another_size(size: tuple[int, int], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(model()), images(*size)
    task = read(theirs, tmp_path / "m", "hf_dinov3")
    close(task(x), theirs(x).pooler_output)
    resize(task, size)
    close(task(x), theirs(x).pooler_output)


@pytest.mark.parametrize(
    "more",
    [
        {"registers": 2},
        {"rotary": {"coordinates": "centred", "theta": 20.0}, "block": {**BLOCK, "mlp": "swiglu", "qkv_bias": False}},
    ],
)
def test_what_we_write_the_library_reads(more: dict[str, Any], close: Any, tmp_path: Path) -> None:
    task, x = build(**{**OURS, **more}), images()
    write("hf_dinov3", task, tmp_path / "m")
    close(theirs_of("DINOv3ViTModel", tmp_path / "m")(x).pooler_output, task(x))
    again = open_checkpoint(tmp_path / "m").load()
    assert all(torch.equal(again.state_dict()[name], value) for name, value in task.state_dict().items())


@pytest.mark.parametrize("mlp", ["gelu", "swiglu"])
@pytest.mark.parametrize("bias", [True, False])
def test_metas_names_are_those_that_timm_converts(bias: bool, mlp: str, close: Any, tmp_path: Path) -> None:
    task, x = build(**{**OURS, "registers": 4, "block": {**BLOCK, "mlp": mlp, "qkv_bias": bias}}), images()
    foreign.save("dinov3", tmp_path / "m", Description.of(task, None), task.state_dict())
    found = open_checkpoint(tmp_path / "m")
    assert found.dialect == "dinov3"
    state = found.load().state_dict()
    assert all(torch.equal(state[name], value) for name, value in task.state_dict().items())
    args = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 4, "mlp_ratio": 2.5}
    args |= {"swiglu_mlp": mlp == "swiglu", "swiglu_align_to": 8, "qkv_bias": bias, "global_pool": "token"}
    theirs = timm.create_model("vit_small_patch16_dinov3", **args, num_classes=0).eval()
    theirs.load_state_dict(checkpoint_filter_fn(load_file(tmp_path / "m" / "model.safetensors"), theirs))
    close(task(x), theirs(x))


def test_metas_file_alone(randomise: Any, close: Any, tmp_path: Path) -> None:
    """With what pretraining leaves in it, a bias of keys that a mask removes, and periods in bfloat16."""
    task = build(**{**OURS, "image_size": 224, "registers": 4, "heads": 1})
    foreign.save("dinov3", tmp_path / "m", Description.of(task, None), task.state_dict())
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    assert tensors["rope_embed.periods"].tolist() == pytest.approx([100 ** (i / 8) for i in range(8)])
    tensors["blocks.0.attn.qkv.bias"][32:64] = 7.0
    tensors["rope_embed.periods"] = tensors["rope_embed.periods"].bfloat16()
    tensors |= {f"local_cls_norm.{part}": torch.ones(32) for part in ("weight", "bias")}
    save_file(tensors, tmp_path / "dinov3.safetensors")
    found = open_checkpoint(tmp_path / "dinov3.safetensors")
    assert found.dialect == "dinov3"
    assert found.assumed[0].startswith("heads: 1, usual for width 32")
    close(found.load().eval()(images(224, 224)), task(images(224, 224)))


@pytest.mark.parametrize("dialect", ["hf_dinov3", "dinov3"])
@pytest.mark.parametrize(
    ("options", "lacking"),
    [
        ({"rotary": None}, "rope_2d positions|rotation of this kind"),
        ({"positions": "learned"}, "learned positions"),
        ({"block": {**BLOCK, "qk_norm": True}}, "QK-norm"),
        ({"labels": True}, "head"),
        ({"block": {**BLOCK, "mlp_norm": True}}, "norm inside of MLPs"),
    ],
)
def test_what_they_cannot_hold_is_named(options: dict[str, Any], lacking: str, dialect: str, tmp_path: Path) -> None:
    task = build(**{**OURS, **options})
    with pytest.raises(UserError, match=f"{dialect} has no ({lacking})"):
        foreign.save(dialect, tmp_path / "m", Description.of(task, None), task.state_dict())
