"""Classification losses against timm's and DeiT III's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from timm.loss import BinaryCrossEntropy

from vitrail.ops.losses import binary_cross_entropy
from vitrail.tasks.classification import Config, Task
from vitrail.vit import ViTConfig


def mixed(num: int = 12, num_classes: int = 7) -> torch.Tensor:
    """Two classes an image, or one, as mixup and CutMix leave them."""
    own = torch.rand(num, 1)
    first, second = (F.one_hot(torch.randint(num_classes, (num,)), num_classes) for _ in range(2))
    return own * first + (1 - own) * second


@pytest.mark.parametrize("threshold", [None, 0.0, 0.2])
def test_mixed_targets_are_compared_as_timm_does(threshold: float | None) -> None:
    logits, targets = torch.randn(12, 7), mixed()
    expected = BinaryCrossEntropy(smoothing=0.0, target_threshold=threshold)(logits, targets)
    torch.testing.assert_close(binary_cross_entropy(logits, targets, 0.0, threshold), expected)


def test_class_indices_are_smoothed_as_timm_does_and_no_threshold_undoes_it() -> None:
    logits, targets = torch.randn(12, 7), torch.randint(7, (12,))
    expected = BinaryCrossEntropy(smoothing=0.1)(logits, targets)
    for threshold in (None, 0.0):
        torch.testing.assert_close(binary_cross_entropy(logits, targets, 0.1, threshold), expected)
    hot = F.one_hot(targets, 7).float()
    torch.testing.assert_close(binary_cross_entropy(logits, hot, 0.1, 0.0), expected)


@pytest.mark.parametrize("threshold", [0.0, None])
def test_bce_takes_every_class_of_a_mixed_image_for_a_full_target_unless_told(threshold: float | None) -> None:
    """DeiT III's engine: targets.gt(0.0), then BCEWithLogitsLoss."""
    shape = {"image_size": 8, "patch_size": 4, "dim": 16, "depth": 1, "heads": 2, "mlp_dim": 16}
    options = {} if threshold == 0 else {"target_threshold": None}
    task = Task(Config(model=ViTConfig(**shape), classes=tuple("abcdefg"), loss="bce", **options))
    torch.nn.init.normal_(task.head.output.weight)
    images, targets = torch.randn(12, 3, 8, 8), mixed()
    wanted = targets if threshold is None else targets.gt(0.0).to(targets.dtype)
    expected = torch.nn.BCEWithLogitsLoss()(task(images), wanted)
    torch.testing.assert_close(task.loss({"images": images, "targets": targets})["loss"], expected)
