from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vitrail import files
from vitrail.errors import UserError


def write_and_fail(path: Path, error: BaseException) -> None:
    with files.replacing(path, size=1234) as temporary:
        temporary.mkdir()
        (temporary / "part").write_text("new")
        raise error


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "x.json"
    files.write_json(path, {"n": 1})
    files.write_json(path, {"n": 2})
    assert path.read_text() == '{\n  "n": 2\n}\n'
    assert os.listdir(path.parent) == ["x.json"]


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_failure_leaves_the_old_content_and_no_litter(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    expected = UserError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        write_and_fail(path, error)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_the_error_names_path_bytes_and_reason(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*x \(1,234 bytes\): No space left on device; free"):
        write_and_fail(tmp_path / "x", OSError(28, "No space left on device"))


def test_a_place_below_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/a\.json .*; free some space or choose another place"):
        files.write_text(tmp_path / "file" / "a.json", "{}")


def test_a_folder_appears_with_all_its_files(tmp_path: Path) -> None:
    with files.replacing(tmp_path / "folder") as temporary:
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "file").write_text("content")
        assert not (tmp_path / "folder").exists()
    assert (tmp_path / "folder" / "deep" / "file").read_text() == "content"


def test_what_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".x.tmp").mkdir()
    (tmp_path / ".x.tmp" / "half").write_text("half")
    files.write_text(tmp_path / "x", "whole")
    assert os.listdir(tmp_path) == ["x"]


def test_the_disk_has_it_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, replace = files.sync, os.replace
    monkeypatch.setattr(files, "sync", lambda path: (order.append(f"sync {path.name}"), sync(path)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("rename"), replace(a, b)))
    files.write_text(tmp_path / "x", "text")
    assert order == ["sync .x.tmp", "rename", f"sync {tmp_path.name}"]


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, "\xff"])
def test_json_that_is_no_mapping_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"cannot read .*x.json: .*; restore or remove it") as caught:
        files.read_json(path)
    assert "\n" not in str(caught.value)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("content")
    (tmp_path / "command.txt").symlink_to(target)
    with pytest.raises(UserError, match=r"cannot write .*command.txt: .*symbolic links"):
        files.append(tmp_path / "command.txt", "line")
    with pytest.raises(OSError, match="symbolic links"):
        open(tmp_path / "command.txt", "w", opener=files.no_link).close()
    assert target.read_text() == "content"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_has_the_permissions_of_any_new_file(tmp_path, mask, mode):
    """Also where a library creates it for its owner alone."""
    before = os.umask(mask)
    try:
        with files.replacing(tmp_path / "weights") as temporary:
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
        with files.replacing(tmp_path / "folder") as temporary:
            temporary.mkdir(0o700)
            os.close(os.open(temporary / "inside", os.O_CREAT | os.O_WRONLY, 0o600))
        assert os.umask(mask) == mask, "the mask is as before"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "weights").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "folder" / "inside").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~mask


def test_links_are_refused_where_open_has_no_flag_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "target").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for _ in range(2):
        with pytest.raises(UserError, match=r"cannot write .*link"):
            files.append(tmp_path / "link", "more")
        monkeypatch.delattr(os, "O_NOFOLLOW", raising=False)  # as on Windows
    assert (tmp_path / "target").read_text() == "kept"
    files.append(tmp_path / "target", " and more")
    assert (tmp_path / "target").read_text() == "kept and more"


@pytest.mark.parametrize("has_preadv", [True, False])
def test_threads_read_one_open_file_at_their_own_places(
    has_preadv: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_preadv:
        monkeypatch.delattr(os, "preadv", raising=False)  # as on Windows
    data = bytes(range(256)) * 40
    (tmp_path / "x").write_bytes(data)
    descriptor = os.open(tmp_path / "x", os.O_RDONLY)

    def read(offset: int) -> bytes:
        into = bytearray(100)
        return bytes(into[: files.read_at(descriptor, memoryview(into), offset)])

    offsets = [*range(0, len(data), 7), len(data) + 5]
    try:
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(read, offsets)) == [data[offset : offset + 100] for offset in offsets]
    finally:
        os.close(descriptor)
