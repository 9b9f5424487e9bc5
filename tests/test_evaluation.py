"""One pass over a tiny task: batch size, order, precision, modes and world size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ranks import on_two_ranks
from torch import nn

from vitrail.errors import UserError
from vitrail.evaluation import Evaluation, evaluate, evaluation_mode
from vitrail.metrics.classification import Metrics
from vitrail.trainable import Trainable


class Linear(Trainable):
    """Logits of 4 classes from a flattened image; dropout shows whether evaluation mode was on."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.norm = nn.BatchNorm2d(3)
        self.linear = nn.Linear(3 * 8 * 8, 4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.linear(self.norm(images).flatten(1)))

    def encoders(self):
        return {}

    def loss(self, batch):
        raise AssertionError("nothing is trained")

    def evaluate_batch(self, batch, forward=None):
        return (forward or self)(batch["images"]).float()

    def metrics(self) -> Metrics:
        return Metrics(["a", "b", "c", "d"])


class Batches:
    """A loader over fixed random images: ``order`` gives the positions, in batches of ``size``."""

    def __init__(self, order: list[int], size: int, bad: list[tuple[int, str]] | None = None) -> None:
        self.order, self.size, self.bad = order, size, bad
        random = torch.Generator().manual_seed(0)
        self.images = torch.randn(30, 3, 8, 8, generator=random)
        self.targets = torch.randint(4, (30,), generator=random)

    def __len__(self) -> int:
        return -(-len(self.order) // self.size)

    def batches(self, epoch: int, start_step: int = 0):
        for index in torch.tensor(self.order, dtype=torch.int64).split(self.size) if self.order else ():
            batch = {"images": self.images[index], "targets": self.targets[index], "index": index}
            yield batch | ({"bad": self.bad} if self.bad else {})


def run(order=range(30), size=30, **options):
    return evaluate(Linear(), Batches(list(order), size), progress=False, **options)


@pytest.mark.parametrize("size", [1, 7, 16])
def test_the_batch_size_changes_nothing(size):
    whole, parts = run(), run(size=size)
    np.testing.assert_allclose(parts.outputs, whole.outputs, atol=1e-6)
    assert parts.metrics == pytest.approx(whole.metrics, abs=1e-6)
    np.testing.assert_array_equal(parts.details["confusion"], whole.details["confusion"])


def test_rows_are_sorted_by_index_and_hold_the_images_that_were_shown():
    order = torch.randperm(30).tolist()
    shuffled, ordered = run(order, size=4), run()
    assert shuffled.index.tolist() == list(range(30))
    np.testing.assert_allclose(shuffled.outputs, ordered.outputs, atol=1e-6)
    np.testing.assert_array_equal(shuffled.targets, ordered.targets)
    assert len(np.unique(shuffled.outputs, axis=0)) == 30


def test_an_index_seen_twice_counts_once():
    assert run([0, 1, 2, 3, 0, 1], size=2).metrics == pytest.approx(run(range(4), size=4).metrics)


def test_bf16_is_close_and_not_equal():
    exact, rounded = run(), run(precision="bf16")
    assert rounded.outputs.dtype == np.float32
    assert 0 < np.abs(rounded.outputs - exact.outputs).max() < 0.05


def test_forward_replaces_the_tasks_own():
    task = Linear().eval()
    result = evaluate(Linear(), Batches(list(range(30)), 8), forward=lambda images: -task(images), progress=False)
    np.testing.assert_allclose(result.outputs, -run().outputs, atol=1e-6)


def test_speed_and_time_are_reported():
    result = run()
    assert result.images_per_second == pytest.approx(30 / result.seconds)
    assert result.seconds > 0


def test_every_module_returns_to_its_own_mode():
    task = Linear().train()
    task.norm.eval()
    with evaluation_mode(task):
        assert not any(m.training for m in task.modules())
    assert [task.training, task.norm.training, task.dropout.training] == [True, False, True]


def test_an_unreadable_image_is_an_error_that_says_why():
    with pytest.raises(UserError, match=r"image 3 is unreadable \(cut short\)"):
        evaluate(Linear(), Batches([0, 1], 2, bad=[(3, "cut short")]), progress=False)


def test_an_empty_split_is_an_error():
    with pytest.raises(UserError, match="no images"):
        run([])


SHARES = {
    "padded": [[*range(0, 30, 2), 1], [*range(1, 30, 2)]],
    "one rank without images": [[*range(30)], []],
}


def _measured(rank: int) -> dict[str, Evaluation]:
    return {name: evaluate(Linear(), Batches(shares[rank], 4), progress=False) for name, shares in SHARES.items()}


def test_two_processes_measure_what_one_does():
    alone = run()
    for of_a_rank in on_two_ranks(_measured):
        for name, seen in of_a_rank.items():
            np.testing.assert_allclose(seen.outputs, alone.outputs, atol=1e-6, err_msg=name)
            np.testing.assert_array_equal(seen.index, alone.index, name)
            assert seen.metrics == pytest.approx(alone.metrics, abs=1e-6), name
