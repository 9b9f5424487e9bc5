"""What timm's files say: config.json, names of files, and what is assumed where it is not given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.layers import SwiGLU, SwiGLUPacked
from timm.models import save_for_hf
from timm.models.vision_transformer import VisionTransformer
from timm_models import BASE, OURS, SMALL, create, images, task_of

from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign, pooled, timm_config
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.dialects import timm as dialect
from vitrail.data.transforms.preprocess import Preprocess, PreprocessConfig
from vitrail.errors import UserError
from vitrail.vit import ViTConfig


def _file(model: Any, path: Path, **more: torch.Tensor) -> Path:
    """The tensors alone, with nothing next to them."""
    path.parent.mkdir(exist_ok=True)
    save_file({**{key: value.contiguous() for key, value in model.state_dict().items()}, **more}, path)
    return path


def _said(path: Path, **changes: Any) -> None:
    """A config.json of timm's layout."""
    path.write_text(json.dumps({"architecture": BASE, **changes}))


SELF_SUPERVISED: dict[str, tuple[dict[str, Any], dict[str, tuple[int, ...]]]] = {
    "dino": ({"num_classes": 0}, {"head.mlp.0.weight": (8, 64), "head.last_layer.weight_v": (9, 8)}),
    "mae": ({"num_classes": 0}, {"mask_token": (1, 1, 8), "decoder_pos_embed": (1, 5, 8), "decoder_norm.bias": (8,)}),
    "deit3": ({"no_embed_class": True, "init_values": 1e-4}, {}),
    "swiglu_of_two": ({"mlp_layer": SwiGLU, "act_layer": "silu"}, {}),
    "packed": ({"mlp_layer": SwiGLUPacked, "act_layer": "silu"}, {}),
}


@pytest.mark.parametrize("name", SELF_SUPERVISED)
def test_files_of_tensors_alone(
    name: str, tmp_path: Path, randomise: Callable[..., Any], close: Callable[..., None]
) -> None:
    """At a width whose heads are the usual ones."""
    args, more = SELF_SUPERVISED[name]
    model = randomise(VisionTransformer(**{**SMALL, "embed_dim": 64, "num_heads": 1, "num_classes": 5, **args}))
    file = _file(model, tmp_path / f"{name}.safetensors", **{key: torch.randn(shape) for key, shape in more.items()})
    if name == "deit3":
        state = {
            key.replace(".ls1.gamma", ".gamma_1").replace(".ls2.gamma", ".gamma_2"): v
            for key, v in load_file(file).items()
        }
        assert "blocks.0.gamma_1" in state
        save_file(state, file)
    found = open_checkpoint(file)
    task = found.load().eval()
    with torch.inference_mode():
        close(task(images(model)), model(images(model)))
    said = "\n".join(found.assumed)
    assert "1 heads" in said
    assert "preprocessing" in said
    imagenet = name in ("dino", "mae", "deit3")
    assert found.preprocess.mean == ((0.485, 0.456, 0.406) if imagenet else (0.5,))
    assert (found.preprocess.resize, found.preprocess.crop_pct, found.preprocess.interpolation) == (
        "crop",
        0.9,
        "bicubic",
    )


def test_old_files_have_pre_logits(tmp_path: Path, randomise: Callable[..., Any], close: Callable[..., None]) -> None:
    model = randomise(VisionTransformer(**{**SMALL, "embed_dim": 64, "num_heads": 1}))
    hidden = randomise(torch.nn.Linear(64, 24))
    head = randomise(torch.nn.Linear(24, 5))
    more = {
        "pre_logits.fc.weight": hidden.weight.data,
        "pre_logits.fc.bias": hidden.bias.data,
        "head.weight": head.weight.data,
    }
    task = (
        open_checkpoint(_file(model, tmp_path / "old.safetensors", **more, **{"head.bias": head.bias.data}))
        .load()
        .eval()
    )
    x = images(model)
    with torch.inference_mode():
        close(task(x), head(torch.tanh(hidden(model.forward_head(model.forward_features(x), pre_logits=True)))))


@pytest.mark.parametrize(
    ("size", "crop_pct"), [(224, 0.9), (384, 1.0)]
)  # fmt: skip
def test_a_plain_imagenet_file_is_augregs(size: int, crop_pct: float, tmp_path: Path) -> None:
    model = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=size)
    found = open_checkpoint(_file(model, tmp_path / "weights.safetensors"))
    assert found.preprocess == PreprocessConfig(
        size=size, resize="crop", crop_pct=crop_pct, interpolation="bicubic", mean=0.5, std=0.5
    )
    assert found.task.vit.config.heads == 3
    assert any("timm's usual for augreg models" in line for line in found.assumed)


def test_names_of_files_tell_what_nothing_else_does(tmp_path: Path) -> None:
    model = timm.create_model("vit_tiny_patch16_224", depth=1)
    deit = open_checkpoint(_file(model, tmp_path / "deit_tiny_patch16_224-a1311bcf.safetensors"))
    assert deit.preprocess.mean == (0.485, 0.456, 0.406)
    clip = timm.create_model("vit_base_patch32_clip_quickgelu_224", depth=1, embed_dim=64, num_heads=1)
    found = open_checkpoint(_file(clip, tmp_path / "vit_base_patch32_clip_quickgelu_224.safetensors"))
    block = found.task.vit.config.block
    assert (block.mlp, block.norm_eps) == ("quick_gelu", 1e-5)
    assert found.task.name == "features"
    assert found.preprocess.mean == (0.48145466, 0.4578275, 0.40821073)
    assert any("quick_gelu" in line for line in found.assumed)
    with pytest.raises(UserError, match="by its name it is timm's"):
        open_checkpoint(_file(model, tmp_path / "vit_relpos_base_patch16_224.safetensors"))


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_preprocessing_and_labels_survive_both_ways(
    crop_mode: str, tmp_path: Path, randomise: Callable[..., Any]
) -> None:
    cfg = {
        "crop_pct": 0.95,
        "crop_mode": crop_mode,
        "interpolation": "bilinear",
        "mean": (0.1, 0.2, 0.3),
        "std": (0.4, 0.5, 0.6),
    }
    model = randomise(create("token"))
    names = ["n1", "n2", "n3", "n4", "n5"]
    told = {"n1": "crane", "n2": "bee", "n3": "crane", "n4": "dog"}
    save_for_hf(
        model,
        str(tmp_path / "theirs"),
        model_config={"label_names": names, "label_descriptions": told, "pretrained_cfg": cfg},
        safe_serialization=True,
    )
    found = open_checkpoint(tmp_path / "theirs")
    classes = ("crane (n1)", "bee", "crane (n3)", "dog", "n5")
    assert found.task.config.classes == classes
    foreign.save("timm", tmp_path / "ours", Description.of(found.task, found.preprocess), found.load().state_dict())
    written = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert tuple(written["label_names"]) == classes
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    for folder in ("theirs", "ours"):
        again = timm.create_model(f"local-dir:{tmp_path / folder}", pretrained=True)
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(again))
        assert torch.equal(Preprocess(found.preprocess)(picture), transform(picture))
    assert open_checkpoint(tmp_path / "ours").task.config.classes == classes
    assert open_checkpoint(tmp_path / "ours").preprocess == found.preprocess


def test_the_first_layout_of_configs(tmp_path: Path) -> None:
    model = timm.create_model("vit_base_patch16_224", depth=1, embed_dim=64, num_heads=1, num_classes=2)
    _file(model, tmp_path / "model.safetensors")
    _said(tmp_path / "config.json", num_classes=2, input_size=[3, 224, 224], mean=[0.1, 0.2, 0.3], std=[1, 1, 1],
          crop_pct=0.8, interpolation="bilinear", labels=["ant", "bee"])  # fmt: skip
    found = open_checkpoint(tmp_path)
    assert found.task.config.classes == ("ant", "bee")
    assert found.preprocess.mean == (0.1, 0.2, 0.3)
    assert found.preprocess.crop_pct == 0.8
    assert not found.assumed


def test_published_shapes_get_their_published_names(tmp_path: Path, close: Callable[..., None]) -> None:
    size = {"dim": 192, "depth": 12, "heads": 3, "mlp_dim": 768, "image_size": 224}
    task = task_of(size)
    file = foreign.save("timm", tmp_path / "tiny.safetensors", Description.of(task, None), task.state_dict())
    theirs = timm.create_model("vit_tiny_patch16_224", checkpoint_path=file, num_classes=3).eval()
    x = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        close(theirs(x), task(x))
    scaled = {"block": {"layer_scale": 0.1}}
    small = {"dim": 384, "heads": 6, "mlp_dim": 1536, "image_size": 224}
    clip = {"pre_norm": True, "embed": {"kind": "patch", "bias": False}}
    wanted = {
        "vit_tiny_patch16_224": {},
        "vit_tiny_patch16_384": {"image_size": 384},
        "deit3_small_patch16_384": {**small, **scaled, "class_position": False, "image_size": 384},
        "vit_small_patch14_dinov2": {**small, **scaled, "patch_size": 14, "image_size": 518},
        "vit_small_patch14_reg4_dinov2": {**small, **scaled, "patch_size": 14, "registers": 4},
        "vit_base_patch32_clip_quickgelu_224": {
            **small, **clip, "dim": 768, "heads": 12, "mlp_dim": 3072, "patch_size": 32,
            "block": {"mlp": "quick_gelu", "norm_eps": 1e-5},
        },
        "vit_base_patch16_224": {"mlp_dim": 700},
        "vit_base_patch16_clip_224": {**clip, "block": {"norm_eps": 1e-5}},
    }  # fmt: skip
    for name, changes in wanted.items():
        config = ViTConfig(**{**size, **changes})
        written = dialect.sidecars(pooled.describe_encoder(config, None))["config.json"]
        assert written["architecture"] == name
        assert timm.is_model(name)


@pytest.mark.parametrize("name", ["plain", "distilled", "hybrid"])
def test_timm_can_give_what_we_write_another_head(name: str, tmp_path: Path) -> None:
    task = task_of(**OURS[name])
    foreign.save("timm", tmp_path / "out", Description.of(task, None), task.state_dict())
    changed = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=7, in_chans=1).eval()
    assert changed(torch.randn(1, 1, *task.vit.config.image_size)).shape == (1, 7)
    weight = task.state_dict()["vit.blocks.0.mlp.fc1.weight"]
    assert torch.equal(changed.state_dict()["blocks.0.mlp.fc1.weight"], weight)


def test_class_names_beside_make_a_classifier_of_a_clip_tower(tmp_path: Path) -> None:
    model = create("clip_projection")
    _file(model, tmp_path / "clip" / "model.safetensors")
    assert open_checkpoint(tmp_path / "clip").task.name == "features"
    (tmp_path / "clip" / "classes.json").write_text(json.dumps([f"kind {i}" for i in range(512)]))
    assert open_checkpoint(tmp_path / "clip").task.config.classes[1] == "kind 1"


def test_every_name_that_we_write_is_registered() -> None:
    assert all(timm.is_model(name) for name in timm_config._NAMES.split())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"act_layer": "mish"}, "act_layer 'mish' is none of"),
        ({"act_layer": "silu"}, "SiLU without a gate"),
        ({"norm_layer": "rmsnorm"}, "is no LayerNorm"),
        ({"global_pool": "avgmax"}, "global_pool 'avgmax' is none of"),
        ({"global_pool": "prr"}, "global_pool 'prr' is none of"),
        ({"pool_include_prefix": True, "global_pool": "avg"}, "pool_include_prefix"),
        ({"num_heads": 5}, "not a multiple of heads 5"),
        ({"img_size": [1, 2, 3]}, "do not tell a model"),
    ],
)
def test_what_we_cannot_compute_is_refused(args: dict[str, Any], message: str, tmp_path: Path) -> None:
    _file(create("token"), tmp_path / "model.safetensors")
    _said(tmp_path / "config.json", model_args={"num_heads": 2, **args})
    with pytest.raises(UserError, match=message):
        open_checkpoint(tmp_path)


def test_an_attention_pool_may_see_the_class_token(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pool_include_prefix to false"):
        open_checkpoint(_file(create("siglip", class_token=True), tmp_path / "a.safetensors"))


@pytest.mark.parametrize(
    ("vit", "what"),
    [
        ({"block": {"norm_eps": 1e-12}}, "LayerNorm eps 1e-12"),
        ({"block": {"norm_eps": 1e-5, "mlp": "swiglu"}}, "LayerNorm eps 1e-05 in such a model"),
        ({"distillation_token": True}, "by one token"),
        ({"pre_norm": True}, "bias of patches before a norm"),
        ({"patch_size": 32, "embed": {"kind": "resnet", "layers": ()}}, "ResNet of these layers or eps"),
        ({"embed": {"kind": "patch", "stride": 8}}, "overlapping patches"),
    ],
)
def test_what_timm_cannot_be_is_named(vit: dict[str, Any], what: str) -> None:
    task = task_of(vit)
    assert what in str(dialect.lacks(Description.of(task, None)))


@pytest.mark.real_data
def test_the_real_imagenet_file_needs_no_hand_holding(real_data: Path) -> None:
    file = real_data / "vit_tiny_imagenet" / "model.safetensors"
    model = timm.create_model("vit_tiny_patch16_224", checkpoint_path=str(file)).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    found = open_checkpoint(file)
    task = found.load().eval()
    assert task.config.classes[0] == "tench"
    preprocess = Preprocess(found.preprocess)
    for photo in sorted((real_data / "imagenet_samples").glob("*.JPEG"))[::12]:
        with Image.open(photo) as opened:
            image = opened.convert("RGB")
        x = preprocess(image)
        assert torch.equal(x, transform(image))
        with torch.inference_mode():
            ours, theirs = task(x[None]), model(x[None])
        assert (ours - theirs).abs().max() < 1e-4
        assert ours.argmax() == theirs.argmax()
