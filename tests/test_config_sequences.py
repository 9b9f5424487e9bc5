"""Overrides that reach into a tuple: ``a.1.b=c``."""

from __future__ import annotations

import dataclasses

import pytest

from vitrail import config as configs
from vitrail.config import config
from vitrail.data import DataConfig, SourceConfig, ViewConfig, augmentation
from vitrail.errors import UserError


@config
class Inner:
    kind: str = "gelu"
    rate: float = 0.1


@config
class Outer:
    parts: tuple[Inner, ...] = (Inner(), Inner(kind="swiglu"))
    names: tuple[str, ...] = ("a", "b", "c")
    pair: tuple[int, int] = (1, 2)
    nothing: tuple[Inner, ...] = ()
    sets: tuple[tuple[Inner, ...], ...] = ((Inner(), Inner()),)


@pytest.mark.parametrize(
    ("assignments", "changed"),
    [
        (["parts.1.rate=0.5"], {"parts": (Inner(), Inner(kind="swiglu", rate=0.5))}),
        (["parts.0=null", "parts.0.rate=0.5"], {"parts": (Inner(rate=0.5), Inner(kind="swiglu"))}),
        (["pair.0=7"], {"pair": (7, 2)}),
        (["names.2=no"], {"names": ("a", "b", "no")}),  # a text needs no quotes whatever YAML makes of it
        (["parts.1.kind=1e3"], {"parts": (Inner(), Inner(kind="1e3"))}),
        (["nothing=[{rate: 0.2}]", "nothing.0.kind=x"], {"nothing": (Inner(kind="x", rate=0.2),)}),
        (["sets.0.1.rate=0.7"], {"sets": ((Inner(), Inner(rate=0.7)),)}),
    ],
)
def test_a_part_of_one_of_several_can_be_set(assignments, changed):
    assert configs.override(Outer(), configs.parse_assignments(assignments, Outer)) == dataclasses.replace(
        Outer(), **changed
    )


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("parts.2.rate=1", r"setting 'parts.2.rate': there is no '2' in a list of 2; they count from 0 to 1"),
        ("parts.-1.rate=1", r"there is no '-1' in a list of 2; they count from 0 to 1"),
        ("parts.rate=1", r"setting 'parts.rate': there is no 'rate' in a list of 2"),
        ("names.3=d", r"setting 'names.3': there is no '3' in a list of 3; they count from 0 to 2"),
        ("names.1.x=d", "setting 'names.1.x': '1' is a single value and has no parts"),
        ("nothing.0.rate=1", r"there is no '0' in a list of 0; set nothing as one value"),
        ("parts.1.rat=1", r"unknown setting 'parts.1.rat'; did you mean 'rate'\?"),
        ("parts.1.rate=many", "setting 'parts.1.rate' = 'many': input should be a valid number"),
    ],
)
def test_a_wrong_place_is_named(assignment, message):
    with pytest.raises(UserError, match=message) as caught:
        configs.override(Outer(), configs.parse_assignments([assignment], Outer))
    assert "\n" not in str(caught.value)


def test_the_views_of_a_recipe_can_be_changed():
    two = DataConfig(source=SourceConfig(spec="digits"), views=(ViewConfig(), ViewConfig(scale=0.5)))
    changed = configs.override(two, {"views.1.count": 4, "views.0.augment": "light"})
    assert changed.views == (ViewConfig(augment=augmentation("light")), ViewConfig(scale=0.5, count=4))
    changed = configs.override(two, {"views.1.augment": "light", "views.1.augment.horizontal_flip": 0.1})
    assert changed.views[1].augment == dataclasses.replace(augmentation("light"), horizontal_flip=0.1)
    assert changed.views[0] == two.views[0]
