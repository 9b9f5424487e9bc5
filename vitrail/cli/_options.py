"""Options that several verbs share, so that each is spelled and explained once.

::

    def models(name: str | None = None, /, *, as_json: Json = False, overrides: Set = ()) -> None: ...
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter

Json: TypeAlias = Annotated[bool, Parameter("--json", help="Print JSON for machines on stdout.", show_default=False)]
Set: TypeAlias = Annotated[
    tuple[str, ...],
    Parameter(
        "--set",
        help="Change a setting, as in --set model.depth=4; can be repeated.",
        metavar="A.B=C",
        show_default=False,
    ),
]
Device: TypeAlias = Annotated[
    str, Parameter("--device", help="auto, cpu, cuda, cuda:1 or mps; auto takes the fastest and says so.")
]
BatchSize: TypeAlias = Annotated[int, Parameter("--batch-size", help="Images per forward pass.")]
OnBad: TypeAlias = Annotated[
    Literal["error", "skip"],
    Parameter("--on-bad", help="At an unreadable picture: stop, or go on and list it at the end."),
]


def print_json(value: Any) -> None:
    """One JSON document on stdout; pure ASCII, so that any file name survives any terminal."""
    print(json.dumps(value, indent=2, allow_nan=False))
