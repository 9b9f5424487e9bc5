"""scikit-learn's embedded handwritten digits (UCI, 1,797 images of 8 × 8, ten classes): real data, no download.

Train 1,437 and test 360, stratified, the same on every machine. Grey levels 0 to 16 become 0 to 255.
"""

from __future__ import annotations

import numpy as np

from vitrail.data.source import Source, SourceConfig
from vitrail.data.sources._arrays import Arrays


def matches(spec: str) -> bool:
    return False  # by name only


def load(config: SourceConfig) -> dict[str, Source]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    whole = Arrays(
        images=images,
        label="digits",
        targets=labels,
        kind="class",
        classes=tuple("0123456789"),
        channels=1,
    )
    return {"train": whole.subset(np.sort(train)), "test": whole.subset(np.sort(test))}
