"""SimMIM where blocks are cut at the border; tests/checkpoints/dialects/test_hf_masked.py compares it elsewhere."""

from __future__ import annotations

from typing import Any

import torch
from ranks import on_two_ranks, share

from vitrail.pretrain import simmim
from vitrail.vit import ViTConfig

MODEL = ViTConfig(image_size=24, patch_size=8, dim=16, depth=1, heads=2, mlp_dim=32)  # 3 × 3 patches, blocks of 2 × 2


def loss_of_a_rank(rank: int, images: torch.Tensor, keys: torch.Tensor) -> float:
    torch.manual_seed(0)
    task = simmim.Task(simmim.Config(model=MODEL, mask_size=16)).eval()
    return task.loss({"images": share(images, rank), "keys": share(keys, rank)})["loss"].item()


def test_ranks_whose_images_hide_more_or_fewer_patches_equal_one_process() -> None:
    images, keys = torch.randn(8, 3, 24, 24), torch.arange(8)
    torch.manual_seed(0)
    task = simmim.Task(simmim.Config(model=MODEL, mask_size=16)).eval()
    batch: dict[str, Any] = {"images": images, "keys": keys}
    hidden = task.mask(batch)
    counts = [int(share(hidden, rank).sum()) for rank in range(2)]
    assert counts[0] != counts[1], "choose other keys"
    found = on_two_ranks(loss_of_a_rank, images, keys)
    torch.testing.assert_close(sum(found) / 2, task.loss(batch)["loss"].item(), rtol=1e-5, atol=0)
