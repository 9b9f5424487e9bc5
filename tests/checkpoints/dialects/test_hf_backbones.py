"""Backbones of transformers against ours: I-JEPA, DPT, TIPSv2, SigLIP 2 of variable aspect ratio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hf_reference import LABELS, NAMES, SIZES, build, config_of, images, read, read_bare, theirs_of
from safetensors.torch import load_file, save_file
from torch import Tensor

from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError

SCALE = {"block": {"layer_scale": 0.1}}
NAFLEX = {key: value for key, value in SIZES.items() if key != "image_size"} | {"num_patches": 16}
TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 20}


def ijepa(kind: str, **more: Any) -> Any:
    return getattr(transformers, kind)(transformers.IJepaConfig(**{**SIZES, **LABELS, **more}))


def dpt(kind: str, **more: Any) -> Any:
    sizes = {**SIZES, "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 8, 8, 8]}
    return getattr(transformers, kind)(transformers.DPTConfig(**{**sizes, "fusion_hidden_size": 8, **more}))


def tips(**more: Any) -> Any:
    return transformers.Tipsv2VisionModel(transformers.Tipsv2VisionConfig(**{**SIZES, **more}))


def naflex(x: Tensor) -> dict[str, Tensor]:
    """Images of one size as NaFlex's processor hands them over."""
    batch, _, height, width = x.shape
    rows, columns = height // 8, width // 8
    patches = x.unflatten(2, (rows, 8)).unflatten(4, (columns, 8)).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    shapes = torch.tensor([[rows, columns]] * batch)
    return {
        "pixel_values": patches,
        "pixel_attention_mask": torch.ones(batch, rows * columns, dtype=torch.long),
        "spatial_shapes": shapes,
    }


def test_ijepa(randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(ijepa("IJepaForImageClassification")), images()
    task = read(theirs, tmp_path / "m", "hf_ijepa")
    close(task(x), theirs(x).logits)
    assert task.config.classes == NAMES
    theirs = randomise(ijepa("IJepaModel", layer_norm_eps=1e-6))
    task = read(theirs, tmp_path / "bare_model", "hf_ijepa")
    close(task.vit(x).tokens, theirs(x).last_hidden_state)
    wide = images(48, 40)
    close(task.vit(wide).tokens, theirs(wide, interpolate_pos_encoding=True).last_hidden_state)
    read_bare(theirs, tmp_path / "memory", "hf_ijepa").load()


def test_ijepa_written(close: Any, tmp_path: Path) -> None:
    task = build(class_token=False, pool="mean")
    foreign.save("hf_ijepa", tmp_path / "m", Description.of(task, None), task.state_dict())
    close(theirs_of("IJepaForImageClassification", tmp_path / "m")(images()).logits, task(images()))
    task = build(class_token=False, labels=False)
    foreign.save("hf_ijepa", tmp_path / "features", Description.of(task, None), task.state_dict())
    close(theirs_of("IJepaModel", tmp_path / "features")(images()).last_hidden_state.mean(1), task(images()))


def test_dpt(randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(dpt("DPTModel")), images()
    task = read(theirs, tmp_path / "m", "hf_dpt")
    close(task.vit(x).tokens, theirs(x).last_hidden_state)
    wide = images(48, 40)
    close(task.vit(wide).tokens, theirs(wide).last_hidden_state)
    for kind in ("DPTForDepthEstimation", "DPTForSemanticSegmentation"):
        theirs = randomise(dpt(kind))
        theirs.save_pretrained(tmp_path / kind)
        found = open_checkpoint(tmp_path / kind)
        assert found.dialect == "hf_dpt"
        assert "the neck and head of DPT are left out" in found.assumed[0]
        close(found.load().eval().vit(x).tokens, theirs.dpt(x).last_hidden_state)
        assert read_bare(theirs, tmp_path / f"{kind}-bare", "hf_dpt").load()


def test_dpt_written(close: Any, tmp_path: Path) -> None:
    task = build(labels=False, resampling="bilinear")
    foreign.save("hf_dpt", tmp_path / "m", Description.of(task, None), task.state_dict())
    theirs = theirs_of("DPTModel", tmp_path / "m", add_pooling_layer=False)
    close(theirs(images()).last_hidden_state, task.vit(images()).tokens)


@pytest.mark.parametrize("more", [{}, {"use_swiglu_ffn": True}, {"num_register_tokens": 3, "layer_norm_eps": 1e-3}])
def test_tips(more: dict[str, Any], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(tips(**more)), images()
    task = read(theirs, tmp_path / "m", "hf_tipsv2")
    close(task(x), theirs(x).pooler_output)
    wide = images(48, 40)
    close(task.vit(wide).tokens, theirs(wide).last_hidden_state)


def test_the_tower_of_a_whole_tips(randomise: Any, close: Any, tmp_path: Path) -> None:
    config = transformers.Tipsv2Config(text_config=TEXT, vision_config=dict(SIZES))
    theirs, x = randomise(transformers.Tipsv2Model(config)), images()
    theirs.save_pretrained(tmp_path / "m")
    found = open_checkpoint(tmp_path / "m")
    assert found.dialect == "hf_tipsv2"
    close(found.load().eval()(x), theirs.vision_model(x).pooler_output)
    tensors = load_file(tmp_path / "m" / "model.safetensors")  # Google's own have the other names of the MLP
    save_file(
        {n.replace("c_fc", "fc1").replace("c_proj", "fc2"): t for n, t in tensors.items()}, tmp_path / "g.safetensors"
    )
    found = open_checkpoint(tmp_path / "g.safetensors")
    assert found.dialect == "hf_tipsv2"
    assert any(line.startswith("num_attention_heads") for line in found.assumed)


@pytest.mark.parametrize("mlp", ["gelu", "swiglu"])
def test_tips_written(mlp: str, close: Any, tmp_path: Path) -> None:
    block = {"layer_scale": 0.1, "mlp": mlp}
    task = build(labels=False, registers=1, resampling="bilinear_antialias", mlp_dim=64, block=block)
    foreign.save("hf_tipsv2", tmp_path / "m", Description.of(task, None), task.state_dict())
    close(theirs_of("Tipsv2VisionModel", tmp_path / "m")(images()).pooler_output, task(images()))


@pytest.mark.parametrize("size", [(32, 32), (48, 40), (16, 24)])
def test_naflex(size: tuple[int, int], randomise: Any, close: Any, tmp_path: Path) -> None:
    x = images(*size)
    theirs = randomise(transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(**NAFLEX)))
    task = read(theirs, tmp_path / "m", "hf_siglip2")
    close(task(x), theirs(**naflex(x)).pooler_output)
    config = transformers.Siglip2Config(text_config=TEXT, vision_config=NAFLEX, **LABELS)
    theirs = randomise(transformers.Siglip2ForImageClassification(config))
    task = read(theirs, tmp_path / "classes", "hf_siglip2")
    close(task(x), theirs(**naflex(x)).logits)


def test_naflex_written(close: Any, tmp_path: Path) -> None:
    x = images()
    more = {"class_token": False, "resampling": "bilinear_antialias"}
    task = build(labels=False, pool="attention", block={"mlp": "gelu_tanh"}, **more)
    foreign.save("hf_siglip2", tmp_path / "features", Description.of(task, None), task.state_dict())
    close(theirs_of("Siglip2VisionModel", tmp_path / "features")(**naflex(x)).pooler_output, task(x))
    task = build(pool="mean", **more)
    preprocess = PreprocessConfig(size=(32, 32))
    foreign.save("hf_siglip2", tmp_path / "classes", Description.of(task, preprocess), task.state_dict())
    close(theirs_of("Siglip2ForImageClassification", tmp_path / "classes")(**naflex(x)).logits, task(x))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "classes")
    assert (processor.patch_size, processor.max_num_patches) == (8, 16)
    assert open_checkpoint(tmp_path / "classes").preprocess.size == (32, 32)
    assert config_of(tmp_path / "classes")["vision_config"]["num_patches"] == 16


def test_naflex_without_its_config_is_named(randomise: Any, tmp_path: Path) -> None:
    theirs = transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(**NAFLEX))
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="SigLIP 2 of variable aspect ratio, whose patch size"):
        open_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("dialect", "options", "lacking"),
    [
        ("hf_ijepa", {"pool": "mean"}, "class token"),
        ("hf_ijepa", {"class_token": False, "pool": "max"}, "max pooling"),
        ("hf_dpt", {"labels": False}, "resampling of positions by bicubic_antialias"),
        ("hf_dpt", {}, "format for the task 'classification'"),
        ("hf_tipsv2", {"labels": False}, "blocks without LayerScale"),
        ("hf_tipsv2", {"labels": False, "mlp_dim": 64, **SCALE}, "resampling of positions by bicubic_antialias"),
        ("hf_siglip2", {"class_token": False, "pool": "mean"}, "resampling of positions by bicubic_antialias"),
    ],
)
def test_what_they_cannot_hold_is_named(dialect: str, options: dict[str, Any], lacking: str, tmp_path: Path) -> None:
    task = build(**options)
    with pytest.raises(UserError, match=f"{dialect} has no {lacking}"):
        foreign.save(dialect, tmp_path / "m", Description.of(task, None), task.state_dict())
