"""DiT's files against diffusers: read, written and read there again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import vitrail
from vitrail.build import open_checkpoint
from vitrail.conversion import convert
from vitrail.errors import UserError
from vitrail.generate.diffusion import Task

diffusers = pytest.importorskip("diffusers")
SIZES: dict[str, Any] = {
    "num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 3, "out_channels": 6, "num_layers": 2,
    "sample_size": 8, "patch_size": 2, "num_embeds_ada_norm": 4, "norm_type": "ada_norm_zero",
    "norm_elementwise_affine": False,
}  # fmt: skip


def theirs(**changes: Any) -> Any:
    torch.manual_seed(0)
    model = diffusers.DiTTransformer2DModel(**{**SIZES, **changes}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    for block in model.transformer_blocks[1:]:  # as in all published files
        block.norm1.emb.load_state_dict(model.transformer_blocks[0].norm1.emb.state_dict())
    return model


@pytest.mark.parametrize("changes", [{}, {"out_channels": 3, "norm_eps": 1e-6}], ids=["variances", "noise alone"])
@torch.inference_mode()
def test_a_folder_gives_what_diffusers_computes_and_so_does_what_we_write(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    model = theirs(**changes)
    model.save_pretrained(tmp_path / "theirs")
    found = open_checkpoint(tmp_path / "theirs")
    task = found.load().eval()
    assert isinstance(task, Task)
    convert(tmp_path / "theirs", tmp_path / "again", to="diffusers")
    again = diffusers.DiTTransformer2DModel.from_pretrained(tmp_path / "again").eval()
    noisy, steps, labels = torch.randn(3, 3, 8, 8), torch.tensor([0, 400, 999]), torch.tensor([0, 3, 4])
    expected = model(noisy, timestep=steps, class_labels=labels).sample
    near: dict[str, float] = {"atol": 1e-5 * float(expected.abs().max()), "rtol": 0}
    torch.testing.assert_close(again(noisy, timestep=steps, class_labels=labels).sample, expected, **near)
    times, known = 1 - (steps.double() + 1) / 1000, torch.tensor([0, 3, -1])  # their last row is no class
    torch.testing.assert_close(task.dit(noisy, times, known), expected, **near)
    drawn = vitrail.load_generator(tmp_path / "theirs").draw(["2"], sampler=None)[0]
    assert drawn.image.size == (8, 8)


def test_embeddings_that_differ_and_other_norms_are_refused(tmp_path: Path) -> None:
    model = theirs()
    model.transformer_blocks[1].norm1.emb.timestep_embedder.linear_1.weight.data += 1
    model.save_pretrained(tmp_path / "theirs")
    with pytest.raises(UserError, match="is another tensor in other blocks"):
        open_checkpoint(tmp_path / "theirs").load()
    theirs(activation_fn="geglu").save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="activation 'geglu', not DiT's"):
        open_checkpoint(tmp_path / "other")
