"""SimMIM where blocks are cut at the border; tests/checkpoints/dialects/test_hf_masked.py compares it elsewhere."""

from __future__ import annotations

from typing import Any

import torch

from vitrail.pretrain import simmim
from vitrail.vit import ViTConfig

MODEL = ViTConfig(image_size=24, patch_size=8, dim=16, depth=1, heads=2, mlp_dim=32)  # 3 × 3 patches, blocks of 2 × 2


def test_pieces_whose_images_hide_more_or_fewer_patches_add_up_to_the_batch() -> None:
    images, keys = torch.randn(8, 3, 24, 24), torch.arange(8)
    task = simmim.Task(simmim.Config(model=MODEL, mask_size=16)).eval()
    hidden = task.mask({"images": images, "keys": keys})
    pieces = (slice(0, 3), slice(3, 8))
    means = [float(hidden[own].sum()) / len(keys[own]) for own in pieces]
    assert means[0] != means[1], "choose other keys"
    error = (task.reconstruct(images, hidden) - simmim.patchify(images, (8, 8))).abs().mean(dim=-1)
    expected = error[hidden].mean()
    torch.testing.assert_close(task.loss({"images": images, "keys": keys})["loss"], expected)
    total = torch.zeros(())
    for own in pieces:
        share = len(keys[own]) / len(keys)
        piece: dict[str, Any] = {"images": images[own], "keys": keys[own], "divisors": {"hidden": hidden.sum() * share}}
        total = total + share * task.loss(piece)["loss"]
    torch.testing.assert_close(total, expected)
