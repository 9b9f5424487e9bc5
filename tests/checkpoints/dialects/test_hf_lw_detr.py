"""LW-DETR of transformers against ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hf_reference import LABELS, NAMES, SIZES, images, photo, read_bare, theirs_of
from torch import nn

from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.config import to_dict
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.nn.block import BlockConfig
from vitrail.nn.deformable_decoder import DeformableConfig
from vitrail.nn.joined_maps import JoinConfig
from vitrail.nn.windows import SplitConfig
from vitrail.ops.boxes import xyxy_to_cxcywh
from vitrail.predictor import Predictor
from vitrail.tasks.detection_deformable import Config, Task
from vitrail.vit import ViTConfig

BACKBONE = {
    **SIZES, "model_type": "lw_detr_vit", "pretrain_image_size": 32, "num_windows": 4, "window_block_indices": [0, 2],
    "out_indices": [1, 3], "mlp_ratio": 2, "num_hidden_layers": 3,
}  # fmt: skip
DECODER = {
    "d_model": 32, "decoder_ffn_dim": 48, "num_queries": 5, "group_detr": 3, "decoder_self_attention_heads": 4,
    "decoder_cross_attention_heads": 8, "decoder_n_points": 3, "c2f_num_blocks": 2, "decoder_layers": 2,
    "projector_scale_factors": [0.5, 1.0, 2.0],
}  # fmt: skip


def model(backbone: dict[str, Any] | None = None, **more: Any) -> Any:
    config = transformers.LwDetrConfig(
        backbone_config={**BACKBONE, **(backbone or {})}, **{**DECODER, **LABELS, **more}
    )
    return transformers.LwDetrForObjectDetection(config)


def drawn(theirs: Any, randomise: Any) -> Any:
    theirs = randomise(theirs)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return theirs


def ours(**more: Any) -> Task:
    vit: dict[str, Any] = {"image_size": (32, 32), "patch_size": 8, "dim": 32, "depth": 3, "heads": 4, "mlp_dim": 64}
    block = {"key_bias": False, "layer_scale": 0.1}
    vit |= {"class_token": False, "final_norm": False, "resampling": "bicubic", **more.pop("vit", {})}
    vit["block"] = BlockConfig(**(block | vit.get("block", {})))
    decoder = DeformableConfig(dim=32, heads=4, reading_heads=4, mlp_dim=48, num_queries=5, groups=2)
    settings = {
        "layers": (0, -1),
        "join": JoinConfig(norm="batch"),
        "window": SplitConfig(parts=2, layers=(1,)),
        **more,
    }
    task = Task(Config(model=ViTConfig(**vit), classes=NAMES, decoder=decoder, **settings))
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    for name, buffer in task.named_buffers():
        if name.endswith((".mean", ".variance")):
            buffer.uniform_(0.5, 2)
    return task.eval()


@torch.no_grad()
def agree(close: Any, task: Task, theirs: Any, height: int = 32, width: int = 32) -> None:
    x = images(height, width)
    outputs, wanted = task(x), theirs(x)
    close(outputs[..., :3], wanted.logits.sigmoid())
    close(xyxy_to_cxcywh(outputs[..., 3:]) / torch.tensor([width, height, width, height]), wanted.pred_boxes)


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (32, 64)])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"projector_scale_factors": [1.0], "backbone": {"qkv_bias": False, "layer_norm_eps": 1e-3}},
        {"projector_scale_factors": [2.0], "activation_function": "relu", "decoder_activation_function": "gelu"},
        {"hidden_expansion": 0.75, "batch_norm_eps": 1e-3, "backbone": {"hidden_act": "gelu_new", "num_windows": 1}},
    ],
    ids=["plain", "one map", "enlarged", "options"],
)
def test_the_same_objects_at_any_size(
    more: dict[str, Any], size: tuple[int, int], randomise: Any, close: Any, tmp_path: Path
) -> None:
    theirs = drawn(model(**more), randomise)
    theirs.save_pretrained(tmp_path / "m")
    found = open_checkpoint(tmp_path / "m")
    assert found.dialect == "hf_lw_detr"
    task = found.load().eval()
    assert task.config.classes == NAMES
    agree(close, task, theirs, *size)


def test_wide_encoders_are_narrowed_before_they_are_enlarged(randomise: Any, close: Any, tmp_path: Path) -> None:
    wide = {"hidden_size": 520, "num_hidden_layers": 1, "out_indices": [1], "window_block_indices": []}
    theirs = drawn(model(wide, projector_scale_factors=[2.0]), randomise)
    for parameter in theirs.parameters():
        parameter.data *= 0.2
    theirs.save_pretrained(tmp_path / "m")
    agree(close, open_checkpoint(tmp_path / "m").load().eval(), theirs)


@pytest.mark.parametrize("scales", [("1",), ("1/2", "2")])
def test_what_we_write_the_library_reads(scales: Any, close: Any, tmp_path: Path) -> None:
    task = ours(scales=scales)
    preprocess = PreprocessConfig(size=(32, 32), mean=(0.4, 0.5, 0.6), std=(0.2,) * 3)
    foreign.save("hf_lw_detr", tmp_path / "m", Description.of(task, preprocess), task.state_dict())
    theirs = theirs_of("LwDetrForObjectDetection", tmp_path / "m")  # nothing missing, nothing left over
    agree(close, task, theirs)
    again = open_checkpoint(tmp_path / "m")
    loaded = again.load()
    assert again.preprocess == preprocess
    assert to_dict(loaded.config) == to_dict(task.config) | {"layers": [0, 2]}
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in task.state_dict().items())
    theirs.save_pretrained(tmp_path / "again")
    state = open_checkpoint(tmp_path / "again").load().state_dict()
    assert all(torch.equal(state[name], value) for name, value in task.state_dict().items())


def test_preprocessing_is_the_processor_s(randomise: Any, tmp_path: Path) -> None:
    randomise(model()).save_pretrained(tmp_path)
    processor = transformers.DeformableDetrImageProcessor(size={"height": 64, "width": 64})
    processor.save_pretrained(tmp_path)
    found = open_checkpoint(tmp_path)
    assert (found.preprocess.size, found.preprocess.resize) == ((64, 64), "square")
    picture = photo(50, 90)
    pixels = Predictor(found.load(), found.preprocess, device="cpu").tensor(picture)
    theirs = processor(picture, return_tensors="pt")["pixel_values"]
    assert (pixels - theirs).abs().max() < 2e-2


def test_without_a_config_it_is_refused(randomise: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json beside it"):
        read_bare(randomise(model()), tmp_path / "m", "hf_lw_detr")


def test_what_it_cannot_hold_is_named(tmp_path: Path) -> None:
    for more, missing in (
        ({"vit": {"class_token": True}}, "class token"),
        ({"vit": {"final_norm": True}}, "final norm"),
        ({"vit": {"block": {"key_bias": True}}}, "bias of keys"),
        ({"vit": {"block": {"layer_scale": None}}}, "model without LayerScale"),
        ({"join": JoinConfig()}, "norm of this kind between convolutions"),
        ({"layers": (2, 0)}, "joining of layers out of order"),
    ):
        task = ours(**more)
        with pytest.raises(UserError, match=missing):
            foreign.save("hf_lw_detr", tmp_path / "m", Description.of(task), task.state_dict())
    assert not list(tmp_path.iterdir())


def test_a_folder_that_says_nonsense(randomise: Any, tmp_path: Path) -> None:
    randomise(model()).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for part, change in (
        ("", {"decoder_activation_function": "tanh"}),
        ("", {"decoder_cross_attention_heads": 5}),
        ("", {"decoder_n_points": 2}),
        ("", {"group_detr": "x", "id2label": {"0": "a"}}),
        ("backbone_config", {"out_indices": [0, 2]}),
        ("backbone_config", {"out_indices": [1, 2, 3]}),
        ("backbone_config", {"num_windows": "many"}),
        ("backbone_config", {"window_block_indices": 3}),
    ):
        changed = {**config, part: {**config[part], **change}} if part else {**config, **change}
        (tmp_path / "config.json").write_text(json.dumps(changed))
        with pytest.raises(UserError) as caught:
            open_checkpoint(tmp_path)
        assert "\n" not in str(caught.value)
