from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from vitrail import registry
from vitrail.errors import UserError
from vitrail.metrics import Metrics, multilabel
from vitrail.report.families import Family, family_of, load


def their_metrics(base: type, **made: object) -> SimpleNamespace:
    """An evaluation by metrics of the module ``their.metrics``."""
    made = {"__module__": "their.metrics", "update": dict, **made}
    return SimpleNamespace(family=type("Metrics", (base,), made)(("a", "b")))


@pytest.mark.parametrize("name", registry.names("report.families"))
def test_entries_keep_the_contract(name):
    family = load(name)
    assert isinstance(family, Family)
    assert family.headlines


def test_metrics_that_extend_ours_are_shown_as_ours():
    assert family_of(their_metrics(multilabel.Metrics)) is load("multilabel")


def test_metrics_are_shown_as_their_own_module_says(monkeypatch):
    own = ModuleType("their.metrics")
    own.FAMILY = Family({}, dict, None, dict)
    monkeypatch.setitem(sys.modules, "their.metrics", own)
    assert family_of(their_metrics(Metrics, compute=dict, details=dict)) is own.FAMILY
    assert family_of(their_metrics(multilabel.Metrics)) is own.FAMILY


def test_other_metrics_are_refused_in_one_line():
    with pytest.raises(UserError, match=r"their\.metrics extend none of vitrail\.metrics\.classification.*a FAMILY"):
        family_of(their_metrics(Metrics, compute=dict, details=dict))
