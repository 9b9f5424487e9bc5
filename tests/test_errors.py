from __future__ import annotations

import pytest

from vitrail.errors import UserError, did_you_mean


@pytest.mark.parametrize("written", ["classificaton", "CLASSIFICATION", "clasification"])
def test_a_near_miss_is_named(written):
    assert did_you_mean(written, ["classification", "regression"]) == "did you mean 'classification'?"


def test_a_far_miss_lists_all():
    assert did_you_mean("zebra", ["attention", "rollout"]) == "choose one of: attention, rollout"


def test_a_long_list_is_cut():
    hint = did_you_mean("zebra", [str(number) for number in range(1000)])
    assert hint.startswith("choose one of: 0, 1, ")
    assert hint.endswith(", 19, …")


def test_nothing_to_choose_from():
    assert did_you_mean("x", []) == "there is nothing to choose from"


def test_the_hint_keeps_the_case_of_the_allowed_name():
    assert did_you_mean("s/16", ["S/16", "B/16"]) == "did you mean 'S/16'?"


def test_user_error_is_a_value_error():
    with pytest.raises(ValueError, match="what to do"):
        raise UserError("what was wrong; what to do")
