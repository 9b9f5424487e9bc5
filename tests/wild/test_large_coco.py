"""COCO files of more than 100 MB, which were refused (huggingface/datasets#7431, xingyizhou/CenterNet#102).

Siblings: COCO's panoptic files; annotations before images, entries across the edge of what is read at once, errors deep
in a file, other keys of any size.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import boxes_of, coco, opened, write

from vitrail.data.storage import json_entries
from vitrail.data.storage.json_entries import read_entries
from vitrail.errors import UserError


def entries(file: Path) -> list[tuple[str, int, dict[str, Any]]]:
    return list(read_entries(file, {"a": "", "b": ""}, "such files"))


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 50, 4096])
def test_what_is_read_does_not_depend_on_the_chunks(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_entries, "CHUNK", chunk)
    own = [{"name": 'é\\u00e9 "}]{[', "number": -12.5e3, "deep": [[1, {"x": None}]]}, {}, {"z": [True, False]}]
    content = {"year": 2017, "info": {"a": [1]}, "b": own[1:], "other": [1, "a"], "a": own}
    for indent in (None, 2):
        file = write(tmp_path / "x.json", json.dumps(content, indent=indent, ensure_ascii=False) + "\n")
        expected = [("b", i, entry) for i, entry in enumerate(own[1:])] + [("a", i, e) for i, e in enumerate(own)]
        assert entries(file) == expected


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "is no JSON: a value is missing"),
        ('{"a": [{}]', "is no JSON: ',' is expected"),
        ('{"a": [{}], "b": []} x', "is no JSON: more follows after its end"),
        ('{"a": [{}, }', "is no JSON"),
        ('{"a": [{"x": 1 "y"}], "b": []}', "is no JSON: Expecting ',' delimiter at character 15"),
        ('{"a": [1], "b": []}', "has no list 'a'"),
        ('{"a": {}, "b": []}', "has no list 'a'"),
        ("3", "has no list 'a'"),
        ('{"a": [{}], 5: []}', "is no JSON"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_errors_are_one_line(text: str, cause: str, tmp_path: Path) -> None:
    file = write(tmp_path / "x.json", text)
    with pytest.raises(UserError) as caught:
        entries(file)
    assert cause in str(caught.value) or "is expected" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_of_no_encoding(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'{"a": [{"x": "\xff"}], "b": []}')
    with pytest.raises(UserError, match="is no JSON: it is not UTF-8"):
        entries(tmp_path / "x.json")


def test_an_entry_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_entries, "CHUNK", 16)
    monkeypatch.setattr(json_entries, "MOST", 100)
    with pytest.raises(UserError, match="an entry of more than 100 characters begins at character 7"):
        entries(write(tmp_path / "x.json", json.dumps({"a": [{"x": "y" * 500}], "b": []})))


def test_annotations_may_come_first(tmp_path: Path) -> None:
    file = coco(tmp_path, outlines=True)
    content = json.loads(file.read_text())
    order = ("annotations", "categories", "images")
    write(file, json.dumps({key: content[key] for key in order}))
    splits = opened(file)
    assert [boxes_of(splits, index=i)[0][0] for i in range(4)] == ["cat", "dog", "cat", "dog"]
    content["annotations"].reverse()
    write(file, json.dumps(content))
    assert [boxes_of(opened(file), index=i)[0][0] for i in range(4)] == ["cat", "dog", "cat", "dog"]


def test_more_bytes_than_an_image_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitrail.data.media import read

    file = coco(tmp_path)
    monkeypatch.setattr(read, "MAX_FILE_BYTES", 100)
    assert len(opened(file).train) == 4
