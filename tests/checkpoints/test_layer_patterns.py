"""PEFT's patterns against Python's regular expressions, and patterns that are made to take for ever."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.checkpoints.layer_patterns import by_layer
from vitrail.errors import UserError

LAYERS = ["vit.layers.0.attention.q_proj", "vit.layers.11.mlp.fc1", "blocks.1.attn.qkv", "q_proj", "a.b"]
PIECES = ["layers", "q_proj", "mlp", ".", r"\.", r"\d", r"\d+", "[0-9]+", ".*", "1", "s?", "q", "_proj", "a*", "."]


def exact(pattern: str) -> str:
    """In a plain name a dot is no more than that."""
    return re.escape(pattern) if re.fullmatch(r"[\w.-]+", pattern) else pattern


def by_peft(patterns: dict[str, int], layers: list[str]) -> dict[str, int]:
    found = {}
    for layer in layers:
        key = next((key for key in patterns if re.match(rf"(.*\.)?({exact(key)})$", layer)), None)
        if key is not None:
            found[layer] = patterns[key]
    return found


@pytest.mark.parametrize(
    "pattern",
    ["layers?.0.*", "q_proj", r"layers\.\d+\.mlp.fc1", "^q_proj$", "^layers.0", ".*proj", "b", "ttention.q_proj"],
)
def test_patterns_mean_what_they_mean_to_peft(pattern: str) -> None:
    assert by_layer({pattern: 1}, LAYERS) == by_peft({pattern: 1}, LAYERS)


@given(st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join), min_size=1, max_size=3))
def test_any_of_them_does(patterns: list[str]) -> None:
    given = {pattern: place for place, pattern in enumerate(patterns)}
    assert by_layer(given, LAYERS) == by_peft(given, LAYERS)


@pytest.mark.parametrize("pattern", ["(a+)+", "(q|v)_proj", "[a-z]+", "a{2,9}", "**", "a++", "", "(?=a)"])
def test_others_are_refused(pattern: str) -> None:
    if pattern == "":
        assert by_layer({"": 1}, ["a"]) == {}
        return
    with pytest.raises(UserError, match="merge it with PEFT"):
        by_layer({pattern: 1}, LAYERS)


def test_none_takes_for_ever() -> None:
    begun = time.process_time()
    assert by_layer({".*" * 50 + "b": 1}, ["a" * 5000]) == {}
    with pytest.raises(UserError, match="would take long"):
        by_layer({".*" * 50_000: 1}, ["a" * 5000])
    plain = {f"blocks.{number}.attention.query": number for number in range(5000)}
    assert by_layer(plain, [f"vit.{name}" for name in plain]) == {f"vit.{name}": place for name, place in plain.items()}
    assert time.process_time() - begun < 2
