"""One table for text and JSON."""

from __future__ import annotations

from vitrail.results import Column, ResultTable, size_text

COLUMNS: tuple[Column[tuple[str, float | None]], ...] = (
    Column(lambda row: row[0], "model", "name"),
    Column(lambda row: row[1], "time", "seconds", unit="s", format="{:.2f}"),
    Column(lambda row: len(row[0]), key="letters"),
    Column(lambda row: row[0].upper(), "shown"),
)
TABLE = ResultTable(COLUMNS, (("a", 1.234), ("bb", None)))


def test_text_has_headings_with_units_and_a_mark_for_what_is_missing():
    assert TABLE.headings == ["model", "time s", "shown"]
    assert TABLE.cells() == [["a", "1.23", "A"], ["bb", "–", "BB"]]
    assert str(TABLE).splitlines() == ["model  time s  shown", "a      1.23    A", "bb     –       BB"]
    assert size_text((224, 320)) == "224×320"


def test_json_has_the_values_of_the_keys():
    assert TABLE.to_dict() == [
        {"name": "a", "seconds": 1.234, "letters": 1},
        {"name": "bb", "seconds": None, "letters": 2},
    ]
