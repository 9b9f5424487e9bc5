"""What a verb ends with: the command that usually comes next."""

from __future__ import annotations

import shlex
from typing import Final

from vitrail.console import note


class Blank(str):
    """What the user fills in, such as ``IMAGE``: it is not quoted."""


IMAGE: Final = Blank("IMAGE")
DATA: Final = Blank("DATA")
FOLDER: Final = Blank("FOLDER")


def name_next(*arguments: object, quiet: bool = False) -> None:
    """One line on stderr: ``next: vitrail`` and the arguments as a shell takes them.

    Args:
        quiet: nothing is printed, as where the results are for another program.
    """
    if quiet:
        return
    words = [each if isinstance(each, Blank) else shlex.quote(str(each)) for each in arguments]
    note(f"next: vitrail {' '.join(words)}")
