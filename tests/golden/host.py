"""Run in one checkout: its results of some cases, one line of JSON each. Started by ``compare.py``.

python host.py CHECKOUT FOLDER prepare | cases NAME…
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path

import cases
import cases_using  # registers more
from work import Work, preload

assert cases_using.CASES is cases.CASES


def main(checkout: str, folder: str, what: str, *names: str) -> None:
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints
    preload()
    place = Path(str(importlib.import_module("vitrail").__file__)).resolve()
    assert place.is_relative_to(Path(checkout).resolve()), f"{place} is not in {checkout}"
    os.chdir(folder)
    for name in names or ("prepare",):
        work, started, error = Work(name), time.monotonic(), None
        try:
            (cases.prepare if what == "prepare" else cases.CASES[name])(work)
        except Exception as problem:
            error = f"{type(problem).__name__}: {problem}"
        result = {"case": name, "items": work.items, "error": error, "seconds": round(time.monotonic() - started, 2)}
        print(json.dumps(result), file=lines, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
