"""CLIP's vision tower of transformers against ours."""

from __future__ import annotations

import json
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
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.errors import UserError

TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 20,
    "max_position_embeddings": 8,
}
VIT = {"embed": {"kind": "patch", "bias": False}, "pre_norm": True}
QUICK = {"mlp": "quick_gelu", "norm_eps": 1e-5}


def tower(kind: str, **more: Any) -> Any:
    return getattr(transformers, kind)(transformers.CLIPVisionConfig(**SIZES, projection_dim=24, **more))


def whole(kind: str = "CLIPModel", **more: Any) -> Any:
    config = transformers.CLIPConfig(text_config=TEXT, vision_config={**SIZES, **more}, projection_dim=24, **LABELS)
    return getattr(transformers, kind)(config)


@pytest.mark.parametrize("more", [{}, {"hidden_act": "gelu"}, {"layer_norm_eps": 1e-3}])
def test_the_same_features(more: dict[str, Any], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(tower("CLIPVisionModel", **more)), images()
    close(read(theirs, tmp_path / "m", "hf_clip")(x), theirs(x).pooler_output)
    found = read_bare(theirs, tmp_path / "bare", "hf_clip")
    assert any(line.startswith("hidden_act: quick_gelu") for line in found.assumed)


def test_the_same_projection(randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(tower("CLIPVisionModelWithProjection")), images()
    close(read(theirs, tmp_path / "m", "hf_clip")(x), theirs(x).image_embeds)


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_the_tower_of_the_whole_model(act: str, randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(whole(hidden_act=act)), images()
    task = read(theirs, tmp_path / "m", "hf_clip")
    close(task(x), theirs.get_image_features(x).pooler_output)
    assert read_bare(theirs, tmp_path / "bare", "hf_clip").task.config.projection == 24
    config = config_of(tmp_path / "m")
    config["vision_config_dict"] = config.pop("vision_config")  # as the first conversions had it
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    close(open_checkpoint(tmp_path / "m").load().eval()(x), task(x))


def test_the_classifier_sees_the_mean_before_the_norm(randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(whole("CLIPForImageClassification")), images()
    task = read(theirs, tmp_path / "m", "hf_clip")
    close(task(x), theirs(x).logits)
    assert task.config.classes == NAMES


def test_inside(randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs = randomise(tower("CLIPVisionModel", attn_implementation="eager"))
    agree_inside(read(theirs, tmp_path / "m", "hf_clip"), theirs, close)


@pytest.mark.parametrize("size", [(48, 48), (24, 40)])
def test_another_size(size: tuple[int, int], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(tower("CLIPVisionModelWithProjection")), images(*size)
    task = read(theirs, tmp_path / "m", "hf_clip")
    close(task(x), theirs(x, interpolate_pos_encoding=True).image_embeds)


def test_what_we_write_the_library_reads(close: Any, tmp_path: Path) -> None:
    x = images()
    task = build(labels=False, block=QUICK, **VIT)
    write("hf_clip", task, tmp_path / "features")
    close(theirs_of("CLIPVisionModel", tmp_path / "features")(x).pooler_output, task(x))
    task = build(labels=False, projection=24, head={"bias": False}, block=QUICK, **VIT)
    write("hf_clip", task, tmp_path / "projection")
    close(theirs_of("CLIPVisionModelWithProjection", tmp_path / "projection")(x).image_embeds, task(x))
    again = open_checkpoint(tmp_path / "projection")
    assert again.task.config == task.config or again.task.vit.config.resampling == "bicubic"
    close(again.load().eval()(x), task(x))
    task = build(pool="mean", final_norm=False, block={"norm_eps": 1e-5}, **VIT)
    write("hf_clip", task, tmp_path / "classes")
    close(theirs_of("CLIPForImageClassification", tmp_path / "classes")(x).logits, task(x))


@pytest.mark.parametrize(
    ("options", "lacking"),
    [
        ({}, "cls pooling"),
        ({"pool": "mean"}, "classifier after the final norm"),
        ({"labels": False, "pool": "mean"}, "mean pooling"),
        ({"labels": False, "projection": 8}, "projection with bias"),
        ({"labels": False, "embed": {"kind": "patch"}}, "patches with bias"),
        ({"labels": False, "pre_norm": False}, "model without a norm before the blocks"),
        ({"labels": False, "image_size": (32, 48)}, "oblong images"),
        ({"labels": False, "block": {"qkv_bias": False}}, "attention without bias"),
    ],
)
def test_what_the_library_cannot_hold_is_named(options: dict[str, Any], lacking: str, tmp_path: Path) -> None:
    task = build(**{**VIT, **options})
    with pytest.raises(UserError, match=f"hf_clip has no {lacking}"):
        foreign.save("hf_clip", tmp_path / "m", Description.of(task, None), task.state_dict())


def test_preprocessing_of_the_first_conversions(randomise: Any, tmp_path: Path) -> None:
    """Sizes that were plain numbers meant the shortest edge."""
    randomise(tower("CLIPVisionModel")).save_pretrained(tmp_path / "m")
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 40, "crop_size": 32, "resample": 3}
    (tmp_path / "m" / "preprocessor_config.json").write_text(json.dumps({**old, "do_center_crop": True}))
    found = vitrail.inspect(tmp_path / "m")["preprocess"]
    assert found["resize"] == "crop"
    assert found["crop_pct"] == pytest.approx(0.8)
    assert found["interpolation"] == "bicubic"
    assert found["mean"][0] == pytest.approx(0.48145466)


def test_the_pipeline_of_the_library(tmp_path: Path) -> None:
    task = build(pool="mean", final_norm=False, block=QUICK, **VIT)
    write("hf_clip", task, tmp_path / "m", resize="crop", crop_pct=0.8, interpolation="bicubic")
    pipeline_agrees(tmp_path / "m")


def test_the_text_tower_alone_is_no_vit(randomise: Any, tmp_path: Path) -> None:
    theirs = randomise(transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT)))
    theirs.save_pretrained(tmp_path / "m")
    with pytest.raises(UserError, match="no dialect"):
        vitrail.inspect(tmp_path / "m")
