"""Images without targets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitrail.data.targets import TargetKind


class Unlabelled(TargetKind[None, np.ndarray]):
    """The column is empty, whatever the number of images."""

    wording = "no labels"
    labelled = False

    def take(self, column: np.ndarray, indices: np.ndarray) -> np.ndarray:
        return column

    def read(self, column: np.ndarray, index: int) -> None:
        return None

    def describe(self, classes: Sequence[str]) -> str:
        return self.wording

    def text(self, column: np.ndarray, index: int, classes: Sequence[str]) -> str:
        return "no label"

    def collate(self, targets: Sequence[None] | np.ndarray) -> None:
        return None

    def mix_fault(self, *, mixup: bool, cutmix: bool) -> str | None:
        if mixup or cutmix:
            return "augment.mix needs targets to blend and the images have none; set mixup and cutmix to 0"
        return None


KIND = Unlabelled("none")
