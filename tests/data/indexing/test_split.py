from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vitrail.data.indexing.split import stratified
from vitrail.data.source import Source
from vitrail.data.storage.arrays import Arrays


def labelled(labels: list[int]) -> Source:
    images = np.zeros((len(labels), 1, 1), np.uint8)
    classes = tuple(map(str, range(max(labels) + 1)))
    return Arrays(images=images, label="x", targets=np.array(labels), kind="class", classes=classes)


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=200),
    st.floats(0.01, 0.99),
    st.integers(0, 2**63),
)
def test_every_class_is_divided_alike(labels: list[int], fraction: float, seed: int) -> None:
    kept, held = stratified(labelled(labels).strata(), fraction, seed)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(labels)))
    assert (np.diff(kept) > 0).all()
    assert (np.diff(held) > 0).all()
    for label in set(labels):
        count, num_held = labels.count(label), sum(labels[i] == label for i in held)
        if count == 1:
            assert num_held == 0
        else:
            assert 1 <= num_held <= count - 1
            assert abs(num_held - count * fraction) <= 1


def test_the_draw_is_pinned() -> None:
    labels = [0] * 10 + [1] * 10
    assert stratified(labelled(labels).strata(), 0.2, 0)[1].tolist() == PINNED
    assert stratified(labelled(labels).strata(), 0.2, 1)[1].tolist() != PINNED


def test_sources_without_classes_are_split_at_random() -> None:
    source = labelled([0] * 100).unlabelled()
    kept, held = stratified(source.strata(), 0.1, 3)
    assert (len(kept), len(held)) == (90, 10)


PINNED = [0, 2, 11, 17]
