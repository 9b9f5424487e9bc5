"""Mutants of requests; `make fuzz` tries more of them."""

from __future__ import annotations

import random

import pytest
from fuzz.http_mutants import mutant, target


@pytest.mark.parametrize("number", [60, pytest.param(1000, marks=pytest.mark.fuzz)])
def test_no_request_makes_it_fail(number):
    statuses = []
    with target() as ask:
        for seed in range(number):
            data = mutant(random.Random(seed))
            try:
                statuses.append(ask(data))
            except AssertionError as error:
                raise AssertionError(f"mutant {seed}: {error}\n{data[:2000]!r}") from None
    assert {200, 400, 404, 405, 413, 415, 422} <= set(statuses) or number < 100
