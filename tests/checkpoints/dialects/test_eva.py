"""timm's Eva class (EVA, EVA-02, rope ViTs, Perception Encoder, DINOv3) against ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hf_reference import NAMES, build, photo
from safetensors.torch import save_file
from timm.layers import apply_rot_embed_cat
from timm.models import _registry
from timm_models import images, stored

import vitrail
from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign, pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.dialects import eva
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.ops.rope import rope_2d, rotate
from vitrail.sizes import resize

SMALL: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 5}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "eva": ("eva_giant_patch14_224", {}),
    "eva_clip": ("eva_giant_patch14_clip_224", {}),
    "eva02_tiny": ("eva02_tiny_patch14_224", {}),
    "eva02_base": ("eva02_base_patch14_224", {"ref_feat_shape": (3, 5)}),
    "eva02_clip": ("eva02_base_patch16_clip_224", {}),
    "eva02_enormous": ("eva02_enormous_patch14_clip_224", {}),
    "rope_gap": ("vit_medium_patch16_rope_reg1_gap_256", {}),
    "rope_gap_no_bias": ("vit_mediumd_patch16_rope_reg1_gap_256", {"img_size": (32, 48)}),
    "axial": ("vit_small_patch16_rope_224", {}),
    "axial_learned": ("vit_small_patch16_rope_ape_224", {}),
    "mixed": ("vit_small_patch16_rope_mixed_224", {"img_size": (32, 48)}),
    "mixed_rows_first": ("vit_small_patch16_rope_mixed_ape_224", {"rope_grid_indexing": "ij"}),
    "pe_core": ("vit_pe_core_base_patch16_224", {"attn_pool_num_heads": 4, "attn_pool_mlp_ratio": 3.0}),
    "pe_core_gigantic": ("vit_pe_core_gigantic_patch14_448", {"num_classes": 0}),
    "pe_lang": ("vit_pe_lang_large_patch14_448", {}),
    "pe_spatial": ("vit_pe_spatial_base_patch16_512", {"num_classes": 0, "global_pool": "token"}),
    "dinov3": ("vit_small_patch16_dinov3", {}),
    "dinov3_bias": ("vit_small_patch16_dinov3_qkvb", {"global_pool": "token"}),
    "dinov3_plus": ("vit_small_plus_patch16_dinov3", {"num_classes": 0}),
    "lingbot": ("vit_base_patch16_lingbot", {"qk_norm": True}),
}


def create(name: str, **changes: Any) -> Any:
    architecture, args = MODELS[name]
    return timm.create_model(architecture, **{**SMALL, **args, **changes})


@pytest.mark.parametrize("name", MODELS)
def test_the_same_numbers_both_ways(
    name: str, tmp_path: Path, randomise: Callable[..., Any], close: Callable[..., None]
) -> None:
    model = randomise(create(name))
    found = open_checkpoint(stored(model, tmp_path / "theirs"))
    assert found.dialect == "eva"
    assert not [line for line in found.assumed if not line.startswith("classes")]
    task = found.load().eval()
    x = images(model)
    with torch.inference_mode():
        expected = model(x)
        close(task(x), expected)
        foreign.save("eva", tmp_path / "ours", Description.of(task, found.preprocess), task.state_dict())
        again = timm.create_model(f"local-dir:{tmp_path / 'ours'}", pretrained=True).eval()
        close(again(x), expected)
    back = open_checkpoint(tmp_path / "ours").load().state_dict()
    assert all(torch.equal(back[key], value) for key, value in task.state_dict().items())


@pytest.mark.parametrize("name", ["eva02_base", "mixed", "dinov3", "pe_core", "eva02_enormous"])
def test_inside(name: str, tmp_path: Path, randomise: Callable[..., Any], close: Callable[..., None]) -> None:
    model = randomise(create(name))
    task = open_checkpoint(stored(model, tmp_path)).load().eval()
    x = images(model)
    with torch.inference_mode():
        layers = model.forward_intermediates(x, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True)
        for (patches, prefix), mine in zip(layers, task.vit.intermediates(x), strict=True):
            close(mine.tokens, torch.cat((prefix, patches), dim=1))


@pytest.mark.parametrize("size", [(48, 48), (48, 80)])
@pytest.mark.parametrize("name", ["eva02_base", "axial_learned", "mixed", "dinov3", "pe_core"])
def test_another_size(
    name: str, size: tuple[int, int], tmp_path: Path, randomise: Callable[..., Any], close: Callable[..., None]
) -> None:
    """As they are, and after a resize for fine-tuning; rotations follow the grid of the image."""
    model = randomise(create(name, dynamic_img_size=True))
    task = open_checkpoint(stored(model, tmp_path)).load().eval()
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = model(x)
        close(task(x), expected)
        resize(task, size)
        close(task(x), expected)


def _families() -> list[str]:
    names = [name for name in timm.list_models() if _registry._model_to_module[name] == "eva"]
    return [name for name in names if "sapiens2" not in name]


def test_an_architectures_name_tells_what_its_tensors_do_not() -> None:
    """The hub's configs have no ``model_args``: the full-size models, without a number of theirs."""
    for name in _families():
        with torch.device("meta"):
            model = timm.create_model(name, depth=1)
        cfg = {k: v for k, v in model.pretrained_cfg.items() if v is not None}
        config = {"architecture": name, "global_pool": model.global_pool, "pretrained_cfg": cfg}
        shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        assert eva.matches(shapes.keys(), Beside(config=config)), name
        ours = pooled.read(eva.describe(shapes, Beside(config=json.loads(json.dumps(config)))))
        vit, rope = ours.vit, model.rope
        assert vit.heads == model.blocks[0].attn.num_heads, name
        assert vit.block.norm_eps == model.blocks[0].norm1.eps, name
        assert vit.image_size == model.patch_embed.img_size, name
        assert vit.class_position == (not model.no_embed_class) or vit.positions != "learned", name
        assert (vit.rotation is None) == (rope is None), name
        if vit.rotation is None:
            assert (vit.block.order == "branch") == hasattr(model.blocks[0], "drop_path1") & ("enormous" in name)
            continue
        assert vit.rotation.theta == rope.temperature or vit.rotation.mixed, name
        assert vit.rotation.mixed == hasattr(rope, "freqs"), name
        assert (vit.rotation.coordinates == "centred") == hasattr(rope, "periods"), name
        assert vit.rotation.reference == getattr(rope, "ref_feat_shape", None), name
        assert vit.rotation.offset == getattr(rope, "grid_offset", 0), name
        if ours.pool == "attention":
            assert ours.attention_pool is not None
            assert ours.attention_pool.heads == model.attn_pool.num_heads, name


@pytest.mark.parametrize(
    ("name", "file"), [("mixed", "x"), ("dinov3", "vit_small_patch16_dinov3"), ("eva02_base", "eva02_base_patch14_224")]
)
def test_a_file_alone(
    name: str, file: str, tmp_path: Path, randomise: Callable[..., Any], close: Callable[..., None]
) -> None:
    """What is assumed is said; a file's name tells what its tensors do not."""
    size = 32 if name == "eva02_base" else 112
    model = randomise(create(name, img_size=size, ref_feat_shape=(16, 16), num_heads=1, num_classes=0))
    save_file(model.state_dict(), tmp_path / f"{file}.safetensors")
    found = open_checkpoint(tmp_path / f"{file}.safetensors")
    assert found.dialect == "eva"
    assert "1 heads" in found.assumed[0]
    assert "rotary positions" in found.assumed[0]
    task, x = found.load().eval(), images(model)
    close(task.vit(x).tokens, model.forward_features(x))


@pytest.mark.parametrize("file", ["vit_small_patch16_dinov3", "vit_pe_spatial_tiny_patch16_512"])
def test_a_file_alone_is_pooled_as_its_architecture(
    file: str, tmp_path: Path, randomise: Callable[..., Any], close: Callable[..., None]
) -> None:
    model = randomise(timm.create_model(file, img_size=224, depth=1, num_classes=5))
    save_file(model.state_dict(), tmp_path / f"{file}.safetensors")
    x = torch.randn(1, 3, 224, 224)
    close(open_checkpoint(tmp_path / f"{file}.safetensors").load().eval()(x), model(x))


@pytest.mark.parametrize(
    ("options", "lacking"),
    [
        ({}, "model that timm's VisionTransformer computes"),
        ({"positions": "rope_2d", "block": {"norm_eps": 1e-4}}, "LayerNorm eps 0.0001"),
        ({"positions": "rope_2d", "pool": "attention"}, "attention pool over patches alone"),
        ({"positions": "rope_2d", "pool": "cls_mean"}, "cls_mean pooling"),
    ],
)
def test_what_timm_cannot_hold_is_named(options: dict[str, Any], lacking: str, tmp_path: Path) -> None:
    task = build(**options)
    with pytest.raises(UserError, match=f"eva has no {lacking}"):
        foreign.save("eva", tmp_path / "m", Description.of(task, None), task.state_dict())


def test_our_rotary_model_there(close: Callable[..., None], tmp_path: Path) -> None:
    """The classes and the preprocessing go with it."""
    block = {"layer_scale": 0.1, "mlp": "swiglu", "mlp_norm": True, "attention_norm": True}
    task = build(positions="rope_2d", rotary={"theta": 50.0}, registers=2, block=block)
    described = Description.of(task, PreprocessConfig(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3))
    assert foreign.dialect_for("timm", described) == "eva"
    foreign.save("eva", tmp_path / "m", described, task.state_dict())
    theirs = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs))
    ours = vitrail.load(tmp_path / "m", device="cpu")
    assert ours.task.config.classes == NAMES
    with torch.no_grad():
        expected = theirs(transform(photo())[None]).softmax(1)
    close(torch.from_numpy(ours.predict(photo()).probabilities)[None], expected, 2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rotation_in_low_precision_is_theirs_to_the_bit(dtype: torch.dtype) -> None:
    """timm since 2026: angles and their products in float32, and the completed rotation is rounded once."""
    rope = timm.layers.RotaryEmbeddingCat(16, in_pixels=False, temperature=100.0, grid_indexing="xy")
    x = torch.randn(2, 3, 20, 16).to(dtype)
    theirs = apply_rot_embed_cat(x, rope.get_embed((4, 5)))
    assert theirs.dtype == dtype
    assert torch.equal(rotate(x, rope_2d((4, 5), 16)), theirs)


@pytest.mark.parametrize("name", ["eva02_base", "mixed", "dinov3"])
def test_autocast_agrees(name: str, tmp_path: Path, randomise: Callable[..., Any]) -> None:
    """Their outputs under bfloat16 differ from ours by its rounding, not by that of angles."""
    model = randomise(create(name, num_classes=0))
    task = open_checkpoint(stored(model, tmp_path)).load().eval()
    x = images(model)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        ours, theirs = task(x).float(), model(x).float()
    assert (ours - theirs).abs().max() <= 2e-2 * theirs.abs().max()
