from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from vitrail.metrics.confidence import student, wilson


@pytest.mark.parametrize(("right", "total"), [(0, 12), (12, 12), (7, 12), (970, 1000), (1, 2)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_scipys(right, total, level):
    expected = scipy.stats.binomtest(right, total).proportion_ci(level, method="wilson")
    assert wilson(right / total, total, level) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("num", [2, 3, 10])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_student_is_scipys(num, level):
    values = np.random.default_rng().random(num)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(level)
    assert student(values.tolist(), level) == pytest.approx((expected.low, expected.high))
