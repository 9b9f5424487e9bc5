"""timm's Beit, and Microsoft's files of the same names, against ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hf_reference import NAMES, build, images, photo
from safetensors.torch import save_file

import vitrail
from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError

SIZES = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 32,
    "depth": 3,
    "num_heads": 4,
    "mlp_ratio": 2.5,
    "num_classes": 3,
    "init_values": 0.1,
}
OWN = {"use_abs_pos_emb": False, "use_rel_pos_bias": True}
SHARED = {"use_abs_pos_emb": False, "use_shared_rel_pos_bias": True}
BLOCK = {"key_bias": False, "layer_scale": 0.1}
MEAN = {"pool": "mean", "final_norm": False, "head": {"norm": True}}


def model(randomise: Any, **more: Any) -> Any:
    from timm.models.beit import Beit

    return randomise(Beit(**{**SIZES, **more}))


def saved(theirs: Any, folder: Path, more: dict[str, Any] | None = None, **extra: torch.Tensor) -> Path:
    folder.mkdir()
    save_file({**theirs.state_dict(), **extra}, folder / "model.safetensors")
    if more is not None:
        cfg = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 0.9}
        config = {"architecture": "beit_base_patch16_224", "model_args": {**SIZES, **more}, "pretrained_cfg": cfg}
        (folder / "config.json").write_text(json.dumps({**config, "label_names": list(NAMES)}))
    return folder


@pytest.mark.parametrize(
    "more",
    [
        OWN,
        SHARED,
        {},
        {"use_abs_pos_emb": False},
        {**OWN, "global_pool": "token"},
        {**OWN, "use_fc_norm": False},
        {**OWN, "init_values": None, "qkv_bias": False},
        {**OWN, "img_size": (32, 48)},
    ],
)
def test_the_same_logits(more: dict[str, Any], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = model(randomise, **more), images(*more.get("img_size", (32, 32)))
    found = open_checkpoint(saved(theirs, tmp_path / "m", more))
    assert found.dialect == "beit"
    assert found.assumed == () or found.assumed[0].startswith("preprocessing: to the")
    task = found.load().eval()
    close(task(x), theirs(x))
    assert task.config.classes == NAMES


@pytest.mark.parametrize("more", [OWN, SHARED, {}, {**OWN, "global_pool": "token"}])
def test_a_file_alone(more: dict[str, Any], randomise: Any, close: Any, tmp_path: Path) -> None:
    """As Microsoft's: with a mask token and the indices that nobody needs."""
    theirs = model(randomise, num_heads=1 if not more else 4, **more)
    index = {"blocks.0.attn.relative_position_index": torch.zeros(17, 17, dtype=torch.int64)}
    found = open_checkpoint(saved(theirs, tmp_path / "m", None, mask_token=torch.zeros(1, 1, 32), **index))
    assert "heads, gelu, LayerNorm eps 1e-06" in found.assumed[0]
    close(found.load().eval()(images()), theirs(images()))


def test_inside(randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = model(randomise, **OWN), images()
    task = open_checkpoint(saved(theirs, tmp_path / "m", OWN)).load().eval()
    for ours, their in zip(task.vit.intermediates(x), theirs.forward_intermediates(x)[1], strict=True):
        close(ours.map, their)


def test_another_size(randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = model(randomise), images(48, 48)
    task = open_checkpoint(saved(theirs, tmp_path / "m", {})).load().eval()
    theirs.set_input_size((48, 48))
    close(task(x), theirs(x))


def test_tables_are_resampled_evenly(randomise: Any, close: Any, tmp_path: Path) -> None:
    """As timm's simple rule does; its other one takes finer steps in the middle."""
    from timm.layers import resize_rel_pos_bias_table_simple

    theirs = model(randomise, **OWN)
    task = open_checkpoint(saved(theirs, tmp_path / "m", OWN)).load()
    old = theirs.blocks[1].attn.relative_position_bias_table
    new = resize_rel_pos_bias_table_simple(old, (6, 6), (11 * 11 + 3, 4))
    close(task.vit.blocks[1].attention.relative.on_grid((6, 6)), new)


@pytest.mark.parametrize(
    "options",
    [
        {"positions": "relative", **MEAN},
        {"positions": "relative", "image_size": (32, 48)},
        {"positions": "relative", "pool": "mean"},
        {"positions": "relative", "block": {"qkv_bias": False, "key_bias": False}},
        MEAN,
        {"positions": "none"},
    ],
)
@pytest.mark.parametrize("labels", [True, False])
def test_what_we_write_timm_reads(labels: bool, options: dict[str, Any], close: Any, tmp_path: Path) -> None:
    task = build(labels=labels, **{"block": BLOCK, **options})
    size = task.vit.config.image_size
    preprocess = PreprocessConfig(size=size, crop_pct=0.8, resize="crop", mean=(0.5,) * 3, std=(0.5,) * 3)
    described = Description.of(task, preprocess)
    assert foreign.dialect_for("timm", described) == "beit"
    foreign.save("beit", tmp_path / "m", described, task.state_dict())
    theirs = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True).eval()
    close(theirs(images(*size)), task(images(*size)))
    again = open_checkpoint(tmp_path / "m")
    assert again.preprocess == preprocess
    assert again.task.config.model.block == task.config.model.block
    if labels and size == (32, 32):
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs))
        expected = theirs(transform(photo())[None]).softmax(1)
        ours = vitrail.load(tmp_path / "m", device="cpu").predict(photo())
        close(torch.from_numpy(ours.probabilities)[None], expected)


@pytest.mark.parametrize(
    ("options", "lacking"),
    [
        ({"block": {}}, "bias of keys"),
        ({"block": {**BLOCK, "norm_eps": 1e-12}}, "LayerNorm eps 1e-12"),
        ({"block": {**BLOCK, "mlp": "gelu_tanh"}}, "gelu_tanh in its MLPs"),
        ({"pool": "mean", "final_norm": False}, "model without a norm"),
        ({"pool": "max"}, "max pooling"),
    ],
)
def test_what_timm_cannot_hold_is_named(options: dict[str, Any], lacking: str, tmp_path: Path) -> None:
    task = build(**{"block": BLOCK, "positions": "relative", **options})
    with pytest.raises(UserError, match=f"beit has no {lacking}"):
        foreign.save("beit", tmp_path / "m", Description.of(task, None), task.state_dict())


def test_two_kinds_of_positions_are_refused(randomise: Any, tmp_path: Path) -> None:
    theirs = model(randomise, use_rel_pos_bias=True)
    with pytest.raises(UserError, match="positions of more than one kind"):
        open_checkpoint(saved(theirs, tmp_path / "m"))
