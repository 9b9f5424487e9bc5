from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.train.schedule import ScheduleConfig, factor


def test_warmup_climbs_to_the_peak_in_equal_steps() -> None:
    schedule = ScheduleConfig(warmup_epochs=0.5)
    assert [factor(schedule, step, 100, 8) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert factor(schedule, 4, 100, 8) == 1.0


def test_shapes() -> None:
    def at(step: int, name: Any, final: float = 0.0) -> float:
        return factor(ScheduleConfig(name=name, warmup_epochs=1, final=final), step, 110, 10)

    assert at(60, "cosine") == pytest.approx(0.5)
    assert at(35, "cosine") == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert at(35, "linear") == pytest.approx(0.75)
    assert at(110, "linear", final=0.1) == pytest.approx(0.1)
    assert at(60, "cosine", final=0.1) == pytest.approx(0.55)
    assert at(109, "constant") == 1.0


def test_a_step_schedule_falls_to_a_tenth_at_each_drop() -> None:
    """SimMIM's: MultiStepLR(milestones=[700], gamma=0.1) of 800 epochs, behind a warmup of 10."""
    import torch

    rule = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
    theirs = torch.optim.lr_scheduler.MultiStepLR(rule, milestones=[700, 790], gamma=0.1)
    schedule = ScheduleConfig(name="step", warmup=10 / 800, drops=(700 / 800, 790 / 800))
    assert factor(schedule, 4, 800, 1) == 0.5
    for step in range(800):
        if step >= 10:
            assert factor(schedule, step, 800, 1) == pytest.approx(theirs.get_last_lr()[0])
        rule.step()
        theirs.step()


def test_the_warmup_of_a_share_has_that_share_of_any_training() -> None:
    schedule = ScheduleConfig(warmup=40 / 800)
    for num_epochs in (800, 100, 30):
        values = [factor(schedule, step, 20 * num_epochs, 20) for step in range(20 * num_epochs)]
        assert values.index(1.0) == num_epochs - 1
        assert min(values[num_epochs:]) < 1e-4


def test_a_warmup_in_epochs_takes_half_of_a_training_at_most_and_says_so() -> None:
    schedule = ScheduleConfig(warmup_epochs=40)
    values = [factor(schedule, step, 30, 1) for step in range(30)]
    assert values.index(1.0) == 14
    assert values[-1] < 0.02
    assert schedule.shortened(80) is None
    assert ScheduleConfig().shortened(1) is None
    assert "warmup_epochs=40 is more than half of the 30 epochs" in (schedule.shortened(30) or "")
    assert "the warmup takes 15" in (schedule.shortened(30) or "")


def test_warmup_is_five_percent_unless_said() -> None:
    values = [factor(ScheduleConfig(), step, 200, 10) for step in range(12)]
    assert values[9] == 1.0 > values[8]
    assert values[0] == 0.1


@given(
    st.sampled_from(["cosine", "linear", "constant"]),
    st.floats(0, 20),
    st.floats(0, 1),
    st.integers(1, 300),
    st.integers(1, 20),
)
def test_always_between_nothing_and_the_peak(
    name: Any, warmup: float, final: float, num_steps: int, per_epoch: int
) -> None:
    schedule = ScheduleConfig(name=name, warmup_epochs=warmup, final=final)
    values = [factor(schedule, step, num_steps, per_epoch) for step in range(num_steps + 1)]
    assert all(0 <= value <= 1 for value in values)
    assert all(value > 0 for value in values[:num_steps])
    peak = values.index(max(values))
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert values[:peak] == sorted(values[:peak])
