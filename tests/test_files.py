from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
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


def killed_while_writing(folder: Path, program: str) -> None:
    """Run a program that writes into a folder until it kills itself."""
    start = f"import os, pathlib, signal\nfrom vitrail import files\nfolder = pathlib.Path({str(folder)!r})\n"
    ended = subprocess.run([sys.executable, "-c", start + textwrap.dedent(program)])
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform == "win32", reason="kills")
def test_what_a_killed_process_left_goes_with_the_next_write_in_the_folder(tmp_path: Path) -> None:
    killed_while_writing(
        tmp_path,
        """
        with files.replacing(folder / "x") as temporary:
            temporary.mkdir()
            (temporary / "half").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    assert len(os.listdir(tmp_path)) == 1
    files.write_text(tmp_path / "another", "whole")
    assert os.listdir(tmp_path) == ["another"]


def test_what_a_process_of_another_machine_has_not_finished_stays_for_a_day(tmp_path: Path) -> None:
    theirs, old = (tmp_path / f".x.0123abcd-{number}-0.tmp" for number in (1, 2))
    foreign = tmp_path / ".notes.tmp"  # not ours
    for path in (theirs, old, foreign):
        path.write_text("half")
    os.utime(old, (1, 1))
    files.write_text(tmp_path / "x", "whole")
    assert sorted(os.listdir(tmp_path)) == sorted([foreign.name, theirs.name, "x"])


def test_several_may_write_one_path_and_it_is_always_what_one_of_them_wrote(tmp_path: Path) -> None:
    def write(number: int) -> None:
        with files.replacing(tmp_path / "x", durable=False) as temporary, temporary.open("w") as file:
            for _ in range(50):
                file.write(str(number) * 1000)
                file.flush()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, [n % 8 for n in range(80)]))
    text = (tmp_path / "x").read_text()
    assert len(text) == 50_000
    assert len(set(text)) == 1
    assert os.listdir(tmp_path) == ["x"]


def test_new_files_never_take_the_place_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: files.write_new(tmp_path / "a.png", b"%d" % n), range(20)))
    assert sorted(each.name for each in found) == sorted(["a.png", *(f"a-{n}.png" for n in range(2, 21))])
    assert [each.read_bytes() for each in found] == [b"%d" % n for n in range(20)]

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    assert files.write_new(tmp_path / "a.png", b"x").name == "a-21.png"
    assert len(os.listdir(tmp_path)) == 21


def test_files_are_placed_together_or_not_at_all(tmp_path: Path) -> None:
    with files.placing(tmp_path / "m.xml") as file:
        file.write_text("graph")
        file.with_suffix(".bin").write_text("weights")
        assert not os.listdir(tmp_path)[0].endswith(("xml", "bin"))
    assert sorted(os.listdir(tmp_path)) == ["m.bin", "m.xml"]

    def place() -> None:
        with files.placing(tmp_path / "n.xml") as file:
            for name in ("n.aaa", "n.bin", "n.xml"):
                file.with_name(name).write_text("new")
            (tmp_path / "n.bin").write_text("was here")  # meanwhile

    with pytest.raises(UserError, match=r"n\.bin is there already"):
        place()
    assert sorted(os.listdir(tmp_path)) == ["m.bin", "m.xml", "n.bin"]
    assert (tmp_path / "n.bin").read_text() == "was here"


def test_the_longest_names_are_written_too(tmp_path: Path) -> None:
    files.write_text(tmp_path / ("图" * 84), "text")
    assert len(os.listdir(tmp_path)) == 1


def test_the_disk_has_it_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, replace = files.sync, os.replace
    monkeypatch.setattr(files, "sync", lambda path: (order.append(f"sync {path.name[:3]}"), sync(path)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("rename"), replace(a, b)))
    files.write_text(tmp_path / "x", "text")
    assert order == ["sync .x.", "rename", f"sync {tmp_path.name[:3]}"]


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


@pytest.mark.skipif(sys.platform == "win32", reason="makes FIFOs")
@pytest.mark.timeout(20)  # a hang is a failure
@pytest.mark.parametrize("read", [False, True])
def test_a_fifo_is_not_waited_for(read: bool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "command.txt")
    reader = os.open(tmp_path / "command.txt", os.O_RDONLY | os.O_NONBLOCK) if read else None
    with pytest.raises(UserError, match=r"cannot write .*command.txt"):
        files.append(tmp_path / "command.txt", "line")
    if reader is not None:
        os.close(reader)


def test_what_is_appended_is_there_in_full(tmp_path: Path) -> None:
    files.append(tmp_path / "a.txt", "one\n")
    files.append(tmp_path / "a.txt", "\udcff\n")
    assert (tmp_path / "a.txt").read_bytes() == b"one\n\xff\n"


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
