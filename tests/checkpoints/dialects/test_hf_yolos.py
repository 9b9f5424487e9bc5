"""YOLOS of transformers against ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hf_reference import LABELS, NAMES, SIZES, images, photo, read_bare, theirs_of

import vitrail
from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.config import to_dict
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.ops.boxes import xyxy_to_cxcywh
from vitrail.predictor import Predictor
from vitrail.sizes import resize
from vitrail.tasks.detection_tokens import Config, Task
from vitrail.vit import ViTConfig

MID = {"use_mid_position_embeddings": True}


def model(**more: Any) -> Any:
    settings = {**SIZES, **LABELS, "image_size": [32, 48], "num_detection_tokens": 5, **more}
    return transformers.YolosForObjectDetection(
        transformers.YolosConfig(**{"use_mid_position_embeddings": False, **settings})
    )


def ours(mid_positions: bool = True, no_object: float = 0.2, **vit: Any) -> Task:
    base = {"image_size": (32, 48), "patch_size": 8, "dim": 32, "depth": 3, "heads": 4, "mlp_dim": 64}
    config = ViTConfig(**{**base, "resampling": "bicubic", **vit})
    task = Task(Config(model=config, classes=NAMES, num_queries=5, mid_positions=mid_positions, no_object=no_object))
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return task.eval()


@torch.no_grad()
def agree(close: Any, task: Task, theirs: Any, height: int = 32, width: int = 48) -> None:
    x = images(height, width)
    outputs, wanted = task(x), theirs(x)
    tokens = task._run(x, None)
    close(torch.cat((tokens[:, 5:], tokens[:, :5]), dim=1), wanted.last_hidden_state)
    close(task._objects(tokens)[0], wanted.logits)
    close(outputs[..., :3], wanted.logits.softmax(dim=-1)[..., :3])
    close(xyxy_to_cxcywh(outputs[..., 3:]) / torch.tensor([width, height, width, height]), wanted.pred_boxes)


@pytest.mark.parametrize("size", [(32, 48), (48, 32), (24, 64)])
@pytest.mark.parametrize(
    "more",
    [
        {},
        MID,
        {**MID, "layer_norm_eps": 1e-3, "hidden_act": "gelu_new", "qkv_bias": False},
        {"image_size": [37, 55]},
        {"image_size": [32, 32], **MID},
    ],
    ids=["plain", "mid", "options", "uncovered", "square"],
)
def test_the_same_objects_at_any_size(
    more: dict[str, Any], size: tuple[int, int], randomise: Any, close: Any, tmp_path: Path
) -> None:
    theirs = randomise(model(**more))
    theirs.save_pretrained(tmp_path / "m")
    found = open_checkpoint(tmp_path / "m")
    assert found.dialect == "hf_yolos"
    task = found.load().eval()
    assert task.config.classes == NAMES
    assert task.config.mid_positions == ("use_mid_position_embeddings" in more)
    agree(close, task, theirs, *size)


def test_a_bare_state_dict(randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs = randomise(model(image_size=[32, 32], hidden_size=192, num_attention_heads=3, **MID, layer_norm_eps=1e-12))
    task = read_bare(theirs, tmp_path / "m", "hf_yolos").load().eval()
    assert task.config.classes == ("class 0", "class 1", "class 2")
    agree(close, task, theirs, 32, 32)


@pytest.mark.parametrize(
    ("mid_positions", "vit"), [(True, {}), (False, {}), (True, {"image_size": (32, 32), "block": {"mlp": "gelu_tanh"}})]
)
def test_what_we_write_the_library_reads(mid_positions: bool, vit: Any, close: Any, tmp_path: Path) -> None:
    task = ours(mid_positions, **vit)
    preprocess = PreprocessConfig(size=(32, 48), resize="pad", mean=(0.4, 0.5, 0.6), std=(0.2,) * 3)
    foreign.save("hf_yolos", tmp_path / "m", Description.of(task, preprocess), task.state_dict())
    theirs = theirs_of("YolosForObjectDetection", tmp_path / "m")
    agree(close, task, theirs, *task.config.model.image_size)
    assert (theirs.config.eos_coefficient, theirs.config.id2label) == (0.2, dict(enumerate(NAMES)))
    again = open_checkpoint(tmp_path / "m")
    loaded = again.load()
    assert to_dict(loaded.config) == to_dict(task.config)
    assert again.preprocess == preprocess
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in task.state_dict().items())
    # and back, as the library writes it
    theirs.save_pretrained(tmp_path / "again")
    state = open_checkpoint(tmp_path / "again").load().state_dict()
    assert all(torch.equal(state[name], value) for name, value in task.state_dict().items())


@pytest.mark.parametrize("size", [(32, 32), (16, 64)])
def test_another_native_size_is_the_library_s_at_that_size(
    size: tuple[int, int], randomise: Any, close: Any, tmp_path: Path
) -> None:
    theirs = randomise(model(**MID))
    theirs.save_pretrained(tmp_path / "m")
    task = open_checkpoint(tmp_path / "m").load().eval()
    before = task.mid.embedding.shape
    resize(task, size)
    assert task.mid.embedding.shape == (2, 5 + 1 + size[0] * size[1] // 64, 32) != before
    agree(close, task, theirs, *size)


def test_preprocessing_is_the_processor_s_on_a_canvas(randomise: Any, tmp_path: Path) -> None:
    randomise(model()).save_pretrained(tmp_path)
    processor = transformers.YolosImageProcessor(size={"shortest_edge": 32, "longest_edge": 48})
    processor.save_pretrained(tmp_path)
    found = open_checkpoint(tmp_path)
    assert (found.preprocess.size, found.preprocess.resize) == ((32, 48), "pad")
    picture = photo(64, 96)  # of the canvas's aspect, so without a border
    pixels = Predictor(found.load(), found.preprocess, device="cpu").tensor(picture)
    theirs = processor(picture, return_tensors="pt")["pixel_values"]
    assert pixels.shape == theirs.shape
    assert (pixels - theirs).abs().max() < 2e-2
    for own, expected in (
        ({"size": 50, "max_size": 70}, ((48, 64), "pad")),  # patches of 8 cover it
        ({"size": {"height": 40, "width": 24}}, ((40, 24), "square")),
        ({}, ((800, 1328), "pad")),
    ):
        text = json.dumps({"feature_extractor_type": "YolosFeatureExtractor", **own})
        (tmp_path / "preprocessor_config.json").write_text(text)
        made = open_checkpoint(tmp_path).preprocess
        assert (made.size, made.resize) == expected
        assert made.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("resize", ["pad", "square"])
def test_the_library_s_pipeline_finds_the_same_objects(resize: Any, tmp_path: Path) -> None:
    task = ours(image_size=(64, 96))
    with torch.no_grad():
        task.head.fc3.bias.copy_(torch.tensor([3.0, 2, 1, -10]))
    preprocess = PreprocessConfig(size=(64, 96), resize=resize, mean=(0.5,) * 3, std=(0.25,) * 3)
    foreign.save("hf_yolos", tmp_path / "m", Description.of(task, preprocess), task.state_dict())
    picture = photo(96, 144)  # fills the canvas
    found = vitrail.load(tmp_path / "m", device="cpu").predict(picture)
    run = transformers.pipeline("object-detection", str(tmp_path / "m"), device="cpu")
    said = sorted(run(picture, threshold=0.5), key=lambda each: -each["score"])
    assert len(said) == len(found) > 0
    for each, label, score, box in zip(said, found.names, found.scores, found.boxes_xyxy, strict=True):
        assert each["label"] == label
        assert each["score"] == pytest.approx(score, abs=2e-2)
        np.testing.assert_allclose([each["box"][side] for side in ("xmin", "ymin", "xmax", "ymax")], box, atol=2)


def test_what_it_cannot_hold_is_named(tmp_path: Path) -> None:
    for more, missing in (
        ({"registers": 2}, "register tokens"),
        ({"class_token": False}, "model without class token"),
        ({"patch_size": (8, 16)}, "oblong patches"),
        ({"block": {"head_dim": 16}}, "heads of this width"),
        ({"image_size": (37, 55), "embed": {"kind": "patch", "drop": True}}, "images that patches do not"),
    ):
        task = ours(**more)
        with pytest.raises(UserError, match=missing):
            foreign.save("hf_yolos", tmp_path / "m", Description.of(task), task.state_dict())
    task = ours()
    crop = PreprocessConfig(size=(32, 48), resize="crop")
    with pytest.raises(UserError, match="crops nothing"):
        foreign.save("hf_yolos", tmp_path / "m", Description.of(task, crop), task.state_dict())
    assert not list(tmp_path.iterdir())


def test_a_folder_that_says_nonsense(randomise: Any, tmp_path: Path) -> None:
    randomise(model()).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change in ({"hidden_act": "relu"}, {"image_size": [32, 40]}, {"eos_coefficient": 7}, {"id2label": {"0": "a"}}):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(UserError):
            open_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    for size in ({"shortest_edge": "x", "longest_edge": 48}, {"shortest_edge": 2, "longest_edge": 3}, [], "x"):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": size}))
        with pytest.raises(UserError) as caught:
            open_checkpoint(tmp_path)
        assert "\n" not in str(caught.value)
