"""SAM's image encoder of transformers against ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hf_reference import build, images, read
from PIL import Image

from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.data.transforms.preprocess import Preprocess
from vitrail.data.transforms.processors import from_sam, to_sam
from vitrail.errors import UserError
from vitrail.sizes import resize

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 2}

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "mlp_dim": 80, "image_size": 64,
    "patch_size": 8, "window_size": 3, "global_attn_indexes": [1], "output_channels": 16,
}  # fmt: skip
OURS: dict[str, Any] = {
    "labels": False, "class_token": False, "final_norm": False, "image_size": 64,
    "decomposed": {"window": 3, "global_layers": (1,)},
}  # fmt: skip


def tokens(theirs: Any, x: torch.Tensor) -> torch.Tensor:
    """After the last block, before the neck."""
    found = []
    hook = theirs.vision_encoder.layers[-1].register_forward_hook(lambda module, args, output: found.append(output))
    theirs(x) if isinstance(theirs, transformers.SamVisionModel) else theirs.vision_encoder(x)
    hook.remove()
    return found[0].flatten(1, 2)


@pytest.mark.parametrize("more", [{}, {"window_size": 8, "global_attn_indexes": []}, {"qkv_bias": False}])
def test_the_same_features(more: dict[str, Any], randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs, x = (
        randomise(transformers.SamVisionModel(transformers.SamVisionConfig(**{**SIZES, **more}))),
        images(64, 64),
    )
    task = read(theirs, tmp_path / "m", "hf_sam")
    close(task.vit(x).tokens, tokens(theirs, x))
    close(task(x), tokens(theirs, x).mean(1))


def test_the_encoder_of_the_whole_model(randomise: Any, close: Any, tmp_path: Path) -> None:
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 16}
    prompts = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "image_embedding_size": 8}
    vision = {**SIZES, "num_pos_feats": 8}
    config = transformers.SamConfig(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config={**small, "iou_head_hidden_dim": 16}
    )
    theirs, x = randomise(transformers.SamModel(config)), images(64, 64)
    close(read(theirs, tmp_path / "m", "hf_sam").vit(x).tokens, tokens(theirs, x))


def test_what_we_write_the_library_reads(close: Any, tmp_path: Path) -> None:
    task, x = build(**OURS), images(64, 64)
    foreign.save("hf_sam", tmp_path / "m", Description.of(task, None), task.state_dict())
    theirs, info = transformers.SamVisionModel.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert all(".neck." in name for name in info["missing_keys"])
    assert not info["unexpected_keys"]
    close(task.vit(x).tokens, tokens(theirs.eval(), x))
    again = open_checkpoint(tmp_path / "m").load().state_dict()
    assert all(torch.equal(again[name], value) for name, value in task.state_dict().items())


def test_another_size() -> None:
    """Learned and relative positions both move to the grid of the image."""
    task, x = build(**OURS), images(48, 80)
    with torch.no_grad():
        before = task(x)
        resize(task, (48, 80))
        torch.testing.assert_close(task(x), before)
    assert task.vit.blocks[1].attention.rows.shape == (11, 8)
    assert task.vit.blocks[0].attention.rows.shape == (5, 8)


def test_attention_maps_are_of_global_layers() -> None:
    task, x = build(**OURS), images(64, 64)
    (maps,) = task.vit.attentions(x, [1])
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 4, 64))
    with pytest.raises(UserError, match="take a layer of decomposed"):
        task.vit.attentions(x, [0])


def test_what_goes_with_it_is_said() -> None:
    with pytest.raises(UserError, match="decomposed positions go with patches alone"):
        build(**{**OURS, "class_token": True})


@pytest.mark.parametrize(
    ("options", "lacking"), [({"final_norm": True}, "final norm"), ({"decomposed": None}, "plain")]
)
def test_what_the_library_cannot_hold_is_named(options: dict[str, Any], lacking: str, tmp_path: Path) -> None:
    task = build(**{**OURS, **options})
    with pytest.raises(UserError, match=f"hf_sam has no {lacking}"):
        foreign.save("hf_sam", tmp_path / "m", Description.of(task, None), task.state_dict())


@pytest.mark.parametrize("size", [(30, 50), (50, 30), (7, 64)])
def test_images_have_their_border_where_sam_has_it(size: tuple[int, int], tmp_path: Path) -> None:
    theirs = transformers.AutoImageProcessor.from_pretrained
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    settings = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}, "do_pad": True}
    config = from_sam({"image_processor_type": "SamImageProcessor", **IMAGENET, **settings})
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(to_sam(config)))
    wanted = torch.as_tensor(theirs(tmp_path)(Image.fromarray(pixels), return_tensors="pt")["pixel_values"][0])
    found = Preprocess(config)(Image.fromarray(pixels))
    assert (found - wanted).abs().mean() < 0.01  # theirs is resampled in float
    assert (found - wanted).abs()[:, wanted.abs().sum(0) == 0].max() < 0.01
    assert from_sam(to_sam(config)) == config
