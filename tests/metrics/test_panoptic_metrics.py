"""Panoptic quality against torchmetrics, and crowds and void by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.detection import PanopticQuality

from vitrail.data.segments import Segments
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.metrics.panoptic import Metrics
from vitrail.ops.mask_outputs import pack
from vitrail.ops.panoptic import Found, MergeConfig, merged

NAMES, THINGS = ("sky", "cat", "dog", "grass"), (False, True, True, False)
MERGING = MergeConfig(score=0.5, mask=0.5, overlap=0.8)


def scattered(seed: int, void: bool = False) -> Segments:
    """Rectangles over each other, of all classes; stuff is one segment a class."""
    random = np.random.default_rng(seed)
    numbers, labels, number_of_stuff = np.zeros((24, 32), np.int32), [], {}
    places = [(0, 24, 0, 32)] if not void else []
    places += [(t, t + h, s, s + w) for t, s, h, w in random.integers((0, 0, 4, 4), (16, 20, 14, 18), (6, 4)).tolist()]
    for top, bottom, left, right in places:
        label = int(random.integers(len(NAMES)))
        if THINGS[label] or label not in number_of_stuff:
            labels.append(label)
            number_of_stuff[label] = len(labels)
        numbers[top:bottom, left:right] = number_of_stuff[label]
    made = Segments(torch.from_numpy(numbers), torch.tensor(labels), torch.zeros(len(labels), dtype=torch.bool))
    return made.visible()


def shaken(true: Segments, seed: int) -> Found:
    """The segments moved by a few pixels, some of another class; what is left is a cat.

    (torchmetrics leaves pixels without a prediction out of the union, which panopticapi does not.)
    """
    random = np.random.default_rng(seed)
    moved = Segments(true.numbers.roll(random.integers(-2, 3, 2).tolist(), (0, 1)), true.labels, true.crowd)
    labels = torch.where(torch.from_numpy(random.random(len(true)) < 0.15), 1, moved.labels)
    if (moved.numbers == 0).any():
        labels = torch.cat((labels, torch.tensor([1])))
    numbers = torch.where(moved.numbers == 0, len(labels), moved.numbers)
    return Found(numbers, labels, torch.ones(len(labels)))


def as_pairs(numbers: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(H, W, 2) of class and instance, class 9 where there is no segment."""
    label_of = torch.cat((torch.tensor([9]), labels))[numbers.long()]
    things = torch.tensor([*THINGS, *[False] * 6])[label_of]
    return torch.stack((label_of, torch.where(things, numbers.long(), 0)), dim=-1)


@pytest.mark.parametrize("void", [False, True])
def test_the_numbers_of_torchmetrics(void: bool) -> None:
    ours = Metrics(NAMES, THINGS, MERGING)
    theirs = PanopticQuality(
        things={1, 2}, stuffs={0, 3}, allow_unknown_preds_category=True, return_sq_and_rq=True, return_per_class=True
    )
    for seed in range(12):
        true = scattered(seed, void)
        found = shaken(true, seed)
        stuff = [int(label) for label in found.labels if not THINGS[int(label)]]
        if len(stuff) != len(set(stuff)):
            continue
        ours.update([found], [true])
        theirs.update(as_pairs(found.numbers, found.labels)[None], as_pairs(true.numbers, true.labels)[None])
    rows = {row["name"]: row for row in ours.details()["classes"]}
    order = [1, 2, 0, 3]  # things, then stuff
    wanted = theirs.compute()
    for place, label in enumerate(order):
        row = rows[NAMES[label]]
        np.testing.assert_allclose([row["pq"], row["sq"], row["rq"]], wanted[place].numpy(), atol=1e-6)
    scores = ours.compute()
    assert scores["pq"] == pytest.approx(wanted[:, 0].mean().item())
    assert scores["pq_things"] == pytest.approx(wanted[:2, 0].mean().item())
    assert scores["pq_stuff"] == pytest.approx(wanted[2:, 0].mean().item())
    assert 0.2 < scores["pq"] < 0.95


def strip(values: list[int], labels: list[int], crowd: list[bool] | None = None) -> Segments:
    numbers = torch.tensor(values, dtype=torch.int32)[None]
    return Segments(
        numbers,
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(crowd or [False] * len(labels), dtype=torch.bool),
    )


def counts(true: Segments, found: Segments) -> dict[str, float]:
    metrics = Metrics(NAMES, THINGS, MERGING)
    metrics.update([Found(found.numbers, found.labels, torch.ones(len(found)))], [true])
    return metrics.compute()


def test_pixels_without_annotation_are_left_out_of_the_union() -> None:
    true, found = strip([1, 1, 1, 1, 0, 0, 0, 0], [1]), strip([1] * 7 + [0], [1])
    assert counts(true, found)["sq"] == 1.0
    assert counts(true, found)["pq"] == 1.0


def test_a_segment_mostly_without_annotation_or_on_a_crowd_of_its_class_is_not_wrong() -> None:
    true = strip([1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 0, 0], [1, 2], [False, True])
    for extra in ([0, 0, 0, 0, 2, 2, 2, 2, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2]):
        found = strip([a or b for a, b in zip([1, 1, 1, 1] + [0] * 8, extra, strict=True)], [1, 2])
        assert counts(true, found)["rq"] == 1.0
    other_class = strip([1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 0, 0], [1, 1])
    assert counts(true, other_class)["rq"] == pytest.approx(1 / 1.5)  # one match, one wrong, no crowd is missed


def test_nothing_predicted_and_nothing_annotated() -> None:
    nothing, one = strip([0, 0, 0], []), strip([1, 1, 1], [1])
    assert counts(one, nothing)["pq"] == 0
    assert np.isnan(counts(nothing, nothing)["pq"])
    assert np.isnan(counts(nothing, one)["pq"])  # of what is not annotated nothing is wrong


def test_raw_outputs_are_merged_and_led_to_their_images() -> None:
    true = strip([1, 1, 2, 2], [1, 0])
    masks = torch.full((1, 3, 2, 4), -20.0)
    masks[0, 0, :, :2], masks[0, 1, :, 2:], masks[0, 2] = 20, 20, 30
    logits = torch.full((1, 3, 5), -9.0)
    logits[0, 0, 1] = logits[0, 1, 0] = logits[0, 2, 4] = 9  # the third one is no object
    metrics = Metrics(NAMES, THINGS, MERGING)
    geometry = ImageGeometry(region=(0, 0, 4, 1), size=(2, 4), original=(1, 4))
    (row,) = metrics.reduce(pack(logits, masks), [geometry])
    assert row.numbers.tolist() == [[1, 1, 2, 2]]
    metrics.update([row], [true])
    assert metrics.compute()["pq"] == 1.0


def test_merging_joins_stuff_and_drops_what_lies_under_others() -> None:
    masks = torch.full((4, 2, 8), -20.0)
    masks[0, :, :4], masks[1, :, 4:], masks[2, :, :4], masks[3, 0, :2] = 20, 20, 20, 20
    logits = torch.full((4, 5), -9.0)
    logits[0, 0], logits[1, 0], logits[2, 1], logits[3, 2] = 3.0, 2.0, -4.0, 9.0
    found = merged(logits, masks, ImageGeometry.identity((2, 8)), THINGS, MERGING)
    assert found.labels.tolist() == [2, 0]
    assert found.numbers.tolist() == [[1, 1, 0, 0, 2, 2, 2, 2], [0, 0, 0, 0, 2, 2, 2, 2]]
    everything = merged(logits, masks, ImageGeometry.identity((2, 8)), THINGS, MERGING._replace(overlap=0.5))
    assert everything.numbers.tolist() == [[1, 1, 2, 2, 2, 2, 2, 2], [2] * 8]


def test_a_segment_stays_by_all_pixels_that_went_to_it() -> None:
    """Seven of the ten pixels of its mask and four others are 110 % (transformers' and Mask2Former's rule)."""
    masks = torch.tensor([[[2.0] * 10 + [-1.0] * 4], [[-20.0] * 7 + [20.0] * 3 + [-20.0] * 4]])
    logits = torch.full((2, 5), -9.0)
    logits[0, 1], logits[1, 2] = 9, 8
    found = merged(logits, masks, ImageGeometry.identity((1, 14)), THINGS, MERGING)
    assert found.numbers.tolist() == [[1] * 7 + [2] * 3 + [0] * 4]
    assert found.labels.tolist() == [1, 2]
