"""Programs that need not wait for PyTorch: a server that has imported it forks for each of them.

    with preloaded(folder, environment):  # holds `vitrail`, `python` and `run-page`

A program runs in the working directory, with the environment, the standard streams and the arguments of whoever called
it, gets its signals, and ends as it ended, by a status or a signal. All that differs is that its libraries are there
already, and are not taken apart at its end, which takes PyTorch a second. ``python`` is an interpreter for ``-c`` and
``-m``, with or without ``-I``.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

LIBRARIES = ("torch", "torchvision.transforms.v2", "vitrail.cli", "vitrail.predictor", "vitrail.train.loop")
CALL = """\
#!{python} -IS
import json, os, signal, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect({address!r})
asked = json.dumps([os.path.basename(sys.argv[0]), sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(line, [len(asked).to_bytes(8, "big")], [0, 1, 2])
line.sendall(asked)
answers = line.makefile()
child = int(answers.readline())
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, lambda number, _: os.kill(child, number))
status = int(answers.readline())
if status < 0:
    if -status != signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


@contextmanager
def preloaded(folder: Path, environment: dict[str, str]) -> Iterator[Path]:
    """Puts the programs into ``folder``, and serves them.

    Args:
        environment: of the libraries while they are imported.
    """
    address = str(folder / "socket")
    for name in PROGRAMS:
        (folder / name).write_text(CALL.format(python=sys.executable, address=address))
        (folder / name).chmod(0o755)
    with subprocess.Popen([sys.executable, __file__, address], stdout=subprocess.PIPE, env=environment) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        try:
            yield folder
        finally:
            server.kill()


def serve(address: str) -> None:
    """Fork for each call, until killed."""
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()
    door = socket.socket(socket.AF_UNIX)
    door.bind(address)
    door.listen()
    print("ready", flush=True)
    while True:
        line, _ = door.accept()
        if os.fork() == 0:
            door.close()
            os._exit(_attend(line))
        line.close()
        while _is_over(-1):
            pass


def _is_over(child: int) -> bool:
    try:
        return os.waitpid(child, os.WNOHANG)[0] > 0
    except ChildProcessError:
        return False


def _attend(line: socket.socket) -> int:
    """Starts the program that is asked for, and says how it ended."""
    size, streams, _, _ = socket.recv_fds(line, 8, 3)
    program, arguments, place, environment = json.loads(line.makefile("rb").read(int.from_bytes(size, "big")))
    child = os.fork()
    if child == 0:
        line.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(place)
        os.environ.clear()
        os.environ.update(environment)
        _run(program, arguments)
    line.sendall(f"{child}\n".encode())
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    line.sendall(f"{status}\n".encode())
    return 0


def _run(program: str, arguments: list[str]) -> NoReturn:
    """As the interpreter would: leaves with the program's status after everything that wants to be told of the end."""
    try:
        PROGRAMS[program](arguments)
        status = 0
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = 120
    os._exit(status)


def _vitrail(arguments: list[str]) -> None:
    sys.argv = ["vitrail", *arguments]
    sys.path[:1] = _own_places()
    sys.exit(importlib.import_module("vitrail.cli").main())


def _page(arguments: list[str]) -> None:
    run = importlib.import_module("docs.blocks").run
    sys.path[0] = ""  # as in an interactive session: modules lie in the current folder
    run(Path(arguments[0]).resolve())


def _interpret(arguments: list[str]) -> None:
    isolated = arguments[0] == "-I"
    option, code, *own = arguments[isolated:]
    sys.argv = ["-c", *own]
    sys.path[:1] = [] if isolated else ["", *_own_places()]
    if option == "-m":
        runpy.run_module(code, run_name="__main__", alter_sys=True)
    else:
        assert option == "-c", f"no interpreter for {option}"
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})


def _own_places() -> list[str]:
    return [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]


PROGRAMS = {"vitrail": _vitrail, "python": _interpret, "run-page": _page}

if __name__ == "__main__":
    serve(sys.argv[1])
