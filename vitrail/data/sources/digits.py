"""scikit-learn's embedded handwritten digits (UCI, 1,797 images of 8 × 8, ten classes): real data, no download.

Train 1,437 and test 360, stratified, the same on every machine. Grey levels 0 to 16 become 0 to 255.
"""

from __future__ import annotations

import base64
import importlib.util
from pathlib import Path

import numpy as np

from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.arrays import Arrays

TEST = (  # a bit an image; train_test_split(range(1797), test_size=360, stratify=labels, random_state=0) drew them
    "AAAEiDUkEEAABkEAk0IFABoACAEAJAAoBiwSABAAlAoAkBkSBCD4oAKBEKAACAqIIEQVJElCQKAKAAAAQATYAACBgCAASAXEABBACKAQ"
    "AAVASAAwEAACDsQJAAIkhACDqAE8IKaYCgAAAAsIQAgEoBhIAgJAQcEAgARARoQ3aoECFgBEgABAQqCkGApQAIQLhWHGCBCACABMgMAg"
    "BAaOAAEIggCBADgIA8AIGQAAEA4BAIQQoCEAMygpBMBEwIBoDgECgwCCAIgipkAsJAQhCKhggJCBoAwCggJCEgE4pBUA"
)


def matches(spec: str) -> bool:
    return False  # by name only


def load(config: SourceConfig) -> dict[str, Source]:
    rows = np.loadtxt(_file(), np.uint8, delimiter=",")
    grey, labels = rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)
    whole = Arrays(
        images=np.round(grey * (255 / 16)).astype(np.uint8),
        label="digits",
        targets=labels,
        kind="class",
        classes=tuple("0123456789"),
        channels=1,
    )
    test = np.unpackbits(np.frombuffer(base64.b64decode(TEST), np.uint8), count=len(labels)).astype(bool)
    return {"train": whole.subset(np.flatnonzero(~test)), "test": whole.subset(np.flatnonzero(test))}


def _file() -> Path:
    """Where ``load_digits`` reads it; importing scikit-learn takes seconds, most of them for SciPy and pandas."""
    found = importlib.util.find_spec("sklearn")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
