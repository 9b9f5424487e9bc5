"""RADIO of transformers against ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hf_reference import SIZES, build, images, theirs_of

from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError

OURS: dict[str, Any] = {
    "labels": False, "image_size": 64, "embed": {"kind": "patch", "bias": False}, "class_position": False,
    "registers": 4, "final_norm": False, "resampling": "bilinear_crop", "mlp_dim": 64,
}  # fmt: skip
MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.25, 0.3)


def model(**more: Any) -> Any:
    sizes = {**SIZES, "max_img_size": 64, "norm_mean": list(MEAN), "norm_std": list(STD)}
    return transformers.RadioModel(transformers.RadioConfig(**{**sizes, **more}))


def normalised(x: torch.Tensor) -> torch.Tensor:
    return (x - torch.tensor(MEAN).reshape(-1, 1, 1)) / torch.tensor(STD).reshape(-1, 1, 1)


@pytest.mark.parametrize("size", [(64, 64), (32, 32), (48, 24)])
@pytest.mark.parametrize(
    "more", [{}, {"summary_idxs": [0, 2], "num_registers": 1}, {"use_swiglu_ffn": True, "mlp_ratio": 3.0}]
)
def test_the_same_summary(
    more: dict[str, Any], size: tuple[int, int], randomise: Any, close: Any, tmp_path: Path
) -> None:
    """Positions are resampled to a square and cropped, as their generator of patches does."""
    theirs, x = randomise(model(**more)), images(*size)
    theirs.save_pretrained(tmp_path / "m")
    found = open_checkpoint(tmp_path / "m")
    assert found.dialect == "hf_radio"
    assert found.preprocess.mean == MEAN
    assert found.preprocess.size == (32, 32)
    task, out = found.load().eval(), theirs(x)
    close(task(normalised(x)), out.summary)
    close(task.vit(normalised(x)).tokens, out.last_hidden_state)


@pytest.mark.parametrize("scale", [None, 0.1])
def test_what_we_write_the_library_reads(scale: float | None, close: Any, tmp_path: Path) -> None:
    task, x = build(**OURS, block={"layer_scale": scale}), images(32, 48)
    preprocess = PreprocessConfig(size=(32, 32), interpolation="bicubic", mean=MEAN, std=STD)
    foreign.save("hf_radio", tmp_path / "m", Description.of(task, preprocess), task.state_dict())
    if scale is None:  # NVIDIA's files have none, and the library then scales by one
        theirs = transformers.RadioModel.from_pretrained(tmp_path / "m").eval()
    else:
        theirs = theirs_of("RadioModel", tmp_path / "m")
    close(theirs(x).summary, task(normalised(x)))
    again = open_checkpoint(tmp_path / "m")
    state = again.load().state_dict()
    assert all(torch.equal(state[name], value) for name, value in task.state_dict().items())
    assert again.preprocess == preprocess


@pytest.mark.parametrize(
    ("options", "lacking"),
    [({"final_norm": True}, "final norm"), ({"resampling": "bicubic"}, "resampling of positions by bicubic")],
)
def test_what_the_library_cannot_hold_is_named(options: dict[str, Any], lacking: str, tmp_path: Path) -> None:
    task = build(**{**OURS, **options})
    with pytest.raises(UserError, match=f"hf_radio has no {lacking}"):
        foreign.save("hf_radio", tmp_path / "m", Description.of(task, None), task.state_dict())
