"""SigLIP's vision tower of transformers against ours."""

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

from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.errors import UserError

TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 20,
    "max_position_embeddings": 8,
}


def tower(**more: Any) -> Any:
    return transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**{**SIZES, **more}))


def whole(kind: str, **more: Any) -> Any:
    config = transformers.SiglipConfig(text_config=TEXT, vision_config={**SIZES, **more}, **LABELS)
    return getattr(transformers, kind)(config)


@pytest.mark.parametrize("more", [{}, {"hidden_act": "gelu"}, {"layer_norm_eps": 1e-3}, {"patch_size": 9}])
def test_the_same_features(more: dict[str, Any], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(tower(**more)), images()
    close(read(theirs, tmp_path / "m", "hf_siglip")(x), theirs(x).pooler_output)
    found = read_bare(theirs, tmp_path / "bare", "hf_siglip")
    assert any(line.startswith("hidden_act: gelu_pytorch_tanh") for line in found.assumed)


def test_the_tower_of_the_whole_model(randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(whole("SiglipModel")), images()
    close(read(theirs, tmp_path / "m", "hf_siglip")(x), theirs.get_image_features(x).pooler_output)
    read_bare(theirs, tmp_path / "bare", "hf_siglip").load()


@pytest.mark.parametrize("head", [True, False])
def test_the_classifier_sees_the_mean(head: bool, randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(whole("SiglipForImageClassification", vision_use_head=head)), images()
    task = read(theirs, tmp_path / "m", "hf_siglip")
    close(task(x), theirs(x).logits)
    assert task.config.classes == NAMES


def test_a_tower_without_a_head_is_pooled_by_the_mean(randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(tower(vision_use_head=False)), images()
    theirs.save_pretrained(tmp_path / "m")
    found = open_checkpoint(tmp_path / "m")
    assert found.assumed[0] == "pooling: the mean of the patches, because the file has no pooling head"
    close(found.load().eval()(x), theirs(x).last_hidden_state.mean(dim=1))


def test_inside(randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs = randomise(tower(attn_implementation="eager"))
    agree_inside(read(theirs, tmp_path / "m", "hf_siglip"), theirs, close)


@pytest.mark.parametrize("size", [(48, 48), (24, 40)])
def test_another_size(size: tuple[int, int], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = randomise(tower()), images(*size)
    task = read(theirs, tmp_path / "m", "hf_siglip")
    close(task(x), theirs(x, interpolate_pos_encoding=True).pooler_output)


def test_what_we_write_the_library_reads(close: Any, tmp_path: Path) -> None:
    x = images()
    task = build(labels=False, pool="attention", class_token=False, block={"mlp": "gelu_tanh", "norm_eps": 1e-5})
    write("hf_siglip", task, tmp_path / "features")
    close(theirs_of("SiglipVisionModel", tmp_path / "features")(x).pooler_output, task(x))
    again = open_checkpoint(tmp_path / "features").load()
    assert all(torch.equal(again.state_dict()[name], value) for name, value in task.state_dict().items())
    task = build(pool="mean", class_token=False)
    write("hf_siglip", task, tmp_path / "classes")
    close(theirs_of("SiglipForImageClassification", tmp_path / "classes")(x).logits, task(x))


@pytest.mark.parametrize(
    ("options", "lacking"),
    [
        ({"pool": "attention"}, "attention pooling"),
        ({"pool": "max"}, "max pooling"),
        ({"class_token": True, "pool": "mean"}, "model with class token"),
        ({"labels": False, "projection": 8}, "projection of its features"),
    ],
)
def test_what_the_library_cannot_hold_is_named(options: dict[str, Any], lacking: str, tmp_path: Path) -> None:
    task = build(**{"class_token": False, **options})
    with pytest.raises(UserError, match=f"hf_siglip has no {lacking}"):
        foreign.save("hf_siglip", tmp_path / "m", Description.of(task, None), task.state_dict())


def test_the_pipeline_of_the_library(tmp_path: Path) -> None:
    write("hf_siglip", build(pool="mean", class_token=False), tmp_path / "m", interpolation="bicubic")
    pipeline_agrees(tmp_path / "m")
