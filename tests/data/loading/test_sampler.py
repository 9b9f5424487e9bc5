from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitrail.data.loading.sampler import Sampler
from vitrail.errors import UserError

numbers = st.integers(1, 60)


def joined(samplers: list[Sampler], epoch: int, step: int) -> list[tuple[int, int]]:
    """The (index, repeat) pairs of all ranks in one step, in the order of a single process."""
    shares = [{s.step: s for s in sampler.steps(epoch)}.get(step) for sampler in samplers]
    rows = [list(zip(s.index.tolist(), s.repeat.tolist(), strict=True)) if s else [] for s in shares]
    return [row[i] for i in range(max(map(len, rows))) for row in rows if i < len(row)]


@given(numbers, numbers, st.integers(1, 4), st.booleans(), st.integers(1, 4), st.integers(0, 3))
def test_the_ranks_together_load_what_one_process_would(num, per_rank, world_size, train, repeats, epoch):
    batch_size = per_rank * world_size
    if train and batch_size > num:
        num += batch_size

    def sampler(rank: int, world: int) -> Sampler:
        return Sampler(
            num_samples=num,
            batch_size=batch_size,
            train=train,
            repeats=repeats if train else 1,
            rank=rank,
            world_size=world,
        )

    alone, ranks = sampler(0, 1), [sampler(rank, world_size) for rank in range(world_size)]
    for step in alone.steps(epoch):
        assert joined(ranks, epoch, step.step) == joined([alone], epoch, step.step)
    for each in ranks:
        steps = list(each.steps(epoch))
        assert len(steps) == len(each)
        assert all(len(step.index) for step in steps)


@given(st.integers(1, 200), st.integers(1, 5), st.integers(1, 4))
def test_evaluation_shows_every_sample_exactly_once(num, per_rank, world_size):
    seen: list[int] = []
    for rank in range(world_size):
        sampler = Sampler(
            num_samples=num, batch_size=per_rank * world_size, train=False, rank=rank, world_size=world_size
        )
        seen += [i for step in sampler.steps(0) for i in step.index.tolist()]
    assert sorted(seen) == list(range(num))


@given(numbers, numbers, st.integers(0, 3), st.data())
def test_a_restart_continues_where_it_stopped(num, batch_size, epoch, data):
    sampler = Sampler(num_samples=num + batch_size, batch_size=batch_size, train=True, seed=5)
    start = data.draw(st.integers(0, len(sampler)))
    whole, rest = list(sampler.steps(epoch)), list(sampler.steps(epoch, start))
    assert len(rest) == len(whole) - start
    for a, b in zip(whole[start:], rest, strict=True):
        assert (a.epoch, a.step) == (b.epoch, b.step)
        np.testing.assert_array_equal(a.index, b.index)


def test_training_shows_each_sample_at_most_once_in_another_order_each_epoch():
    sampler = Sampler(num_samples=103, batch_size=10, train=True, seed=1)
    epochs = [np.concatenate([s.index for s in sampler.steps(e)]).tolist() for e in range(3)]
    assert all(len(e) == len(set(e)) == 100 for e in epochs)
    assert len({tuple(e) for e in epochs}) == 3
    other = Sampler(num_samples=103, batch_size=10, train=True, seed=2)
    assert np.concatenate([s.index for s in other.steps(0)]).tolist() != epochs[0]


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("repeats", [2, 3])
def test_repeated_augmentation_is_deits(world_size, repeats, monkeypatch):
    from timm.data.distributed_sampler import RepeatAugSampler

    num, batch_size = 64, 16
    order = Sampler(num_samples=num, batch_size=batch_size, train=True, seed=3).order(2)[0]
    monkeypatch.setattr(torch, "randperm", lambda *_, **__: torch.from_numpy(order))
    for rank in range(world_size):
        theirs = RepeatAugSampler(range(num), num_replicas=world_size, rank=rank, num_repeats=repeats, selected_round=1)
        ours = Sampler(
            num_samples=num,
            batch_size=batch_size,
            train=True,
            seed=3,
            repeats=repeats,
            rank=rank,
            world_size=world_size,
        )
        assert np.concatenate([step.index for step in ours.steps(2)]).tolist() == list(theirs)


def test_repeats_of_a_sample_are_told_apart():
    index, repeat = Sampler(num_samples=30, batch_size=5, train=True, repeats=3).order(0)
    assert len(set(zip(index.tolist(), repeat.tolist(), strict=True))) == 30
    assert len(set(index.tolist())) == 10


@pytest.mark.parametrize(
    ("batch_size", "world_size", "message"),
    [(12, 8, "multiple of 8"), (128, 1, "batch_size to 50 or less"), (128, 4, "batch_size to 48 or less")],
)
def test_batch_sizes_that_do_not_fit(batch_size, world_size, message):
    with pytest.raises(UserError, match=message):
        Sampler(num_samples=50, batch_size=batch_size, train=True, world_size=world_size)
