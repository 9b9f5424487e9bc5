from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitrail.data import keyed_random


def test_uniform_is_uniform_and_uncorrelated():
    keys = keyed_random.keys(0, 3, np.arange(50_000), 0)
    numbers = keyed_random.uniform(keys, "flip", 3)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    np.testing.assert_allclose(np.histogram(numbers, 10, (0, 1))[0] / numbers.size, 0.1, atol=0.002)
    columns = np.column_stack([numbers[1:], numbers[:-1, 0], keyed_random.uniform(keys, "erase", 1)[1:]])
    assert np.abs(np.corrcoef(columns.T) - np.eye(5)).max() < 0.02


@given(st.integers(-(2**70), 2**70), st.integers(0, 10**6), st.integers(0, 10**9))
def test_keys_of_a_batch_are_the_keys_of_its_samples(seed, epoch, index):
    batch = keyed_random.keys(seed, "sample", epoch, np.array([index, index + 1]), np.array([0, 1]))
    assert batch.tolist() == [
        keyed_random.key(seed, "sample", epoch, index, 0),
        keyed_random.key(seed, "sample", epoch, index + 1, 1),
    ]
    one = keyed_random.uniform(batch[1:], "x", 2)
    np.testing.assert_array_equal(keyed_random.uniform(batch, "x", 2)[1:], one)


def test_every_part_changes_the_key():
    keys = {
        keyed_random.key(*parts)
        for parts in [(0, 1, 2), (1, 0, 2), (0, 2, 1), (0, 1), (0, "1", 2), (0, 1, 3), (-1, 1, 2)]
    }
    assert len(keys) == 7


def test_permutation_holds_everything_once_in_another_order_for_each_key():
    orders = [keyed_random.permutation(1000, key) for key in range(20)]
    assert all(sorted(order) == list(range(1000)) for order in orders)
    assert len({tuple(order) for order in orders}) == 20
    assert abs(np.mean([order[:500].mean() for order in orders]) - 499.5) < 15


def test_torch_seeded_repeats_itself_and_leaves_the_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    results = []
    for key in (2**64 - 1, 2**64 - 1, 5):
        with keyed_random.torch_seeded(key):
            results.append(torch.rand(4))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert torch.equal(torch.rand(3), expected)
