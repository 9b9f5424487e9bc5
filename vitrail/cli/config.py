"""Printing the settings of a run."""

from __future__ import annotations


def config(run: str, /) -> None:
    """Print every setting of a recipe or run as YAML, which train --config takes back.

    Examples
      vitrail config digits > digits.yaml
      vitrail train --config digits.yaml --epochs 30
      vitrail config runs/photos

    Args:
        run: A recipe, a run folder, or a file of settings.
    """
    from vitrail.terminal.commented import commented
    from vitrail.terminal.runs import named

    print(commented(named(run).resolved), end="")
