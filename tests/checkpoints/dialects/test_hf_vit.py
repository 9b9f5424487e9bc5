"""ViT, ViTMAE and the masked-image ViT of transformers against ours."""

from __future__ import annotations

import json
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
    config_of,
    images,
    pipeline_agrees,
    read,
    read_bare,
    theirs_of,
    write,
)

import vitrail
from vitrail.build import open_checkpoint
from vitrail.errors import UserError

OTHERS = {
    "ViTModel": transformers.ViTConfig,
    "ViTMSNModel": transformers.ViTMSNConfig,
    "ViTMAEModel": transformers.ViTMAEConfig,
}
DECODER = {
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 24,
    "mask_ratio": 0.0,
}


def classifier(**more: Any) -> Any:
    return transformers.ViTForImageClassification(transformers.ViTConfig(**{**SIZES, **LABELS, **more}))


def backbone(kind: str) -> Any:
    decoder = DECODER if kind.startswith("ViTMAE") else {"encoder_stride": 8}
    return getattr(transformers, kind)(OTHERS[kind](**SIZES, **decoder))


def class_token(model: Any, x: torch.Tensor, **options: Any) -> torch.Tensor:
    model = getattr(model, "vit", model)
    return model(x, **options).last_hidden_state[:, 0]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"layer_norm_eps": 1e-3},
        {"hidden_act": "gelu_pytorch_tanh"},
        {"hidden_act": "gelu_new"},
        {"hidden_act": "quick_gelu"},
        {"qkv_bias": False},
        {"head_dim": 12},
        {"num_channels": 1},
        {"image_size": [32, 48]},
        {"patch_size": [8, 16]},
        {"num_attention_heads": 2},
    ],
)
def test_the_same_logits(more: dict[str, Any], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs = randomise(classifier(**more))
    task = read(theirs, tmp_path / "m", "hf_vit")
    size = more.get("image_size", [32, 32])
    x = images(*size, channels=more.get("num_channels", 3))
    close(task(x), theirs(x).logits)
    assert task.config.classes == NAMES


@pytest.mark.parametrize("kind", OTHERS)
def test_the_encoders_of_the_others(kind: str, randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(backbone(kind)), images()
    close(read(theirs, tmp_path / "m", "hf_vit")(x), class_token(theirs, x))
    bare = read_bare(theirs, tmp_path / "bare", "hf_vit")
    assert len(bare.assumed) >= 3


def test_inside(randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs = randomise(classifier(attn_implementation="eager"))
    agree_inside(read(theirs, tmp_path / "m", "hf_vit"), theirs, close)


@pytest.mark.parametrize("size", [(48, 48), (24, 40)])
def test_another_size(size: tuple[int, int], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(classifier()), images(*size)
    task, expected = read(theirs, tmp_path / "m", "hf_vit"), theirs(x, interpolate_pos_encoding=True).logits
    close(task(x), expected)
    task.vit.resize(size)
    close(task(x), expected)


def test_a_file_alone_is_settled_by_the_librarys_defaults(randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs = randomise(classifier(hidden_size=64, num_attention_heads=1))
    found = read_bare(theirs, tmp_path / "bare", "hf_vit")
    said = "\n".join(found.assumed)
    assert "num_attention_heads: 1," in said
    assert "hidden_act: gelu," in said
    assert "layer_norm_eps: 1e-12," in said
    assert "classes: 3 without names" in said
    close(found.load().eval()(images()), theirs(images()).logits)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_we_write_the_library_reads(channels: int, close: Any, tmp_path: Path) -> None:
    block = {"norm_eps": 1e-5, "mlp": "gelu_tanh", "head_dim": 12}
    task = build(channels=channels, block=block, image_size=(32, 48))
    write("hf_vit", task, tmp_path / "m")
    theirs, x = theirs_of("ViTForImageClassification", tmp_path / "m"), images(32, 48, channels)
    close(theirs(x).logits, task(x))
    assert theirs.config.id2label == dict(enumerate(NAMES))
    assert open_checkpoint(tmp_path / "m").task.config.model.block == task.config.model.block


def test_a_backbone_too(close: Any, tmp_path: Path) -> None:
    task = build(labels=False)
    write("hf_vit", task, tmp_path / "m")
    theirs = theirs_of("ViTModel", tmp_path / "m", add_pooling_layer=False)
    close(theirs(images()).last_hidden_state[:, 0], task(images()))


@pytest.mark.parametrize(
    "preprocess",
    [
        {"interpolation": "bicubic", "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)},
        {"crop_pct": 32 / 40},
        {"crop_pct": 32 / 40, "resize": "crop", "interpolation": "bicubic"},
    ],
)
def test_the_pipeline_of_the_library(preprocess: dict[str, Any], tmp_path: Path) -> None:
    write("hf_vit", build(), tmp_path / "m", **preprocess)
    pipeline_agrees(tmp_path / "m")


def test_what_cannot_be_computed_is_refused(randomise: Any, tmp_path: Path) -> None:
    randomise(classifier(hidden_act="silu")).save_pretrained(tmp_path / "m")
    with pytest.raises(UserError, match="hidden_act 'silu' is none of"):
        vitrail.inspect(tmp_path / "m")


@pytest.mark.parametrize("heads", [0, "4", None, 2.0])
def test_what_is_no_number_of_heads_is_refused(heads: Any, randomise: Any, tmp_path: Path) -> None:
    randomise(classifier(head_dim=12)).save_pretrained(tmp_path / "m")
    config = {**config_of(tmp_path / "m"), "num_attention_heads": heads}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="is no number of heads"):
        vitrail.inspect(tmp_path / "m")


def test_labels_that_are_not_numbered_are_refused(randomise: Any, tmp_path: Path) -> None:
    randomise(classifier()).save_pretrained(tmp_path / "m")
    config = config_of(tmp_path / "m")
    for labels in ({"0": "ant", "1": "bee"}, ["ant", "bee", "cat"], {"a": "ant"}):
        (tmp_path / "m" / "config.json").write_text(json.dumps({**config, "id2label": labels}))
        with pytest.raises(UserError, match="does not number the 3 outputs"):
            vitrail.inspect(tmp_path / "m")
    equal = {"0": "crane", "1": "bee", "2": "crane"}
    (tmp_path / "m" / "config.json").write_text(json.dumps({**config, "id2label": equal}))
    assert vitrail.inspect(tmp_path / "m")["classes"] == ["crane (0)", "bee", "crane (2)"]
