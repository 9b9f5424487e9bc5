from __future__ import annotations

from types import SimpleNamespace

import pytest

from vitrail.errors import UserError
from vitrail.metrics import Metrics, multilabel
from vitrail.report.families import family_of
from vitrail.report.families import multilabel as shown


def test_metrics_that_extend_ours_are_shown_as_ours():
    theirs = type("Metrics", (multilabel.Metrics,), {"__module__": "their.metrics"})
    assert family_of(SimpleNamespace(family=theirs(("a", "b")))) is shown


def test_other_metrics_are_refused_in_one_line():
    made = {"__module__": "their.metrics", "compute": dict, "details": dict}
    theirs = type("Metrics", (Metrics,), made)
    with pytest.raises(UserError, match=r"their\.metrics extend none of vitrail\.metrics\.classification"):
        family_of(SimpleNamespace(family=theirs(("a", "b"))))
