from __future__ import annotations

from pathlib import Path

from vitrail.terminal.next_command import IMAGE, name_next
from vitrail.terminal.options import Device

GROUP = "Prepare and train"


def report(
    *runs: Path,
    split: str | None = None,
    out: Path = Path("comparison.html"),
    device: Device = "auto",
) -> None:
    """Write the report of a run, or one page that compares several.

    For one run its plots/, report.html and model_card.md are rewritten. Prints the path of the page.

    Examples
      vitrail report runs/birds
      vitrail report runs/birds runs/other --out comparison.html

    Args:
        runs: Run folders.
        split: Split to evaluate: train, val or test; default: test where there is one, else val.
        out: The file of the page that compares several runs.
    """
    from vitrail import report
    from vitrail.errors import MissingArgument
    from vitrail.report.comparison import compare

    if not runs:
        raise MissingArgument("no run given; give the folder of one or several")
    print(report.write(runs[0], split=split, device=device) if len(runs) == 1 else compare(runs, out))
    name_next("predict", runs[0], IMAGE)
