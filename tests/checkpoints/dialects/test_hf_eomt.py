"""EoMT of transformers against ours."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hf_reference import LABELS, NAMES, SIZES, images

from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.config import to_dict
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.ops.mask_outputs import unpack
from vitrail.tasks.panoptic import Config, Task
from vitrail.vit import ViTConfig

HEAD = {"num_queries": 5, "num_blocks": 2, "num_upscale_blocks": 2, "num_register_tokens": 3}


def model(**more: Any) -> Any:
    sizes = {name: value for name, value in SIZES.items() if name != "intermediate_size"}
    config = transformers.EomtConfig(**{**sizes, **HEAD, **LABELS, "mlp_ratio": 2, **more})
    return transformers.EomtForUniversalSegmentation(config)


def ours(**vit: Any) -> Task:
    base = {"image_size": 32, "patch_size": 8, "dim": 32, "depth": 3, "heads": 4, "mlp_dim": 64, "registers": 3}
    block = {"layer_scale": 0.5, **vit.pop("block", {})}
    config = ViTConfig(**{**base, "class_position": False, "block": block, **vit})
    task = Task(Config(model=config, classes=NAMES, things=NAMES[:2], num_queries=5, num_blocks=2, no_object=0.2))
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return task.eval()


def agree(close: Any, task: Task, theirs: Any) -> None:
    x = images()
    logits, masks = unpack(task(x), len(NAMES) + 1)
    wanted = theirs(x)
    close(logits, wanted.class_queries_logits)
    close(masks, wanted.masks_queries_logits)


@pytest.mark.parametrize("share", [1.0, 0.0])  # of the queries that are masked in attention
@pytest.mark.parametrize("more", [{}, {"use_swiglu_ffn": True, "mlp_ratio": 3}, {"layer_norm_eps": 1e-3}])
def test_the_same_logits(more: dict[str, Any], share: float, randomise: Any, close: Any, tmp_path: Path) -> None:
    theirs = randomise(model(**more))
    theirs.attn_mask_probs.fill_(share)
    theirs.save_pretrained(tmp_path / "m")
    found = open_checkpoint(tmp_path / "m")
    assert found.dialect == "hf_eomt"
    task = found.load().eval()
    agree(close, task, theirs)
    assert task.config.classes == NAMES
    assert task.annealing.probabilities.tolist() == [share, share]
    assert [line for line in found.assumed if line.startswith("things: the first 3 of 3")]


@pytest.mark.parametrize("more", [{}, {"block": {"mlp": "swiglu"}, "mlp_dim": 88}])
def test_what_we_write_the_library_reads(more: dict[str, Any], close: Any, tmp_path: Path) -> None:
    task = ours(**more)
    preprocess = PreprocessConfig(size=32, resize="pad")
    foreign.save("hf_eomt", tmp_path / "m", Description.of(task, preprocess), task.state_dict())
    theirs, report = transformers.EomtForUniversalSegmentation.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    agree(close, task, theirs.eval())
    torch.testing.assert_close(theirs.criterion.empty_weight, torch.tensor([1, 1, 1, 0.2]))
    again = open_checkpoint(tmp_path / "m")
    loaded = again.load()
    assert to_dict(loaded.config) | {"model": None} == to_dict(task.config) | {"model": None}
    assert again.preprocess == dataclasses.replace(preprocess, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in task.state_dict().items())


def test_what_it_cannot_hold_is_named(tmp_path: Path) -> None:
    for more, missing in (({"registers": 0}, "model without register"), ({"class_position": True}, "with a position")):
        task = ours(**more)
        with pytest.raises(UserError, match=missing):
            foreign.save("hf_eomt", tmp_path / "m", Description.of(task), task.state_dict())


def test_a_config_that_says_nonsense(randomise: Any, tmp_path: Path) -> None:
    randomise(model()).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change in ({"hidden_act": "relu"}, {"stuff_classes": [7]}, {"stuff_classes": "sky"}):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(UserError, match=next(iter(change))):
            open_checkpoint(tmp_path)
