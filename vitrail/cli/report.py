from __future__ import annotations

from pathlib import Path
from typing import Literal

from vitrail.terminal.next_command import IMAGE, name_next
from vitrail.terminal.options import Device

GROUP = "Prepare and train"


def report(
    *runs: Path,
    split: str | None = None,
    out: Path = Path("comparison.html"),
    language: Literal["en", "zh"] = "en",
    subgroups: str | None = None,
    device: Device = "auto",
) -> None:
    """Write the report of a run, or one page that compares several.

    For one run its plots/, report.html and model_card.md are rewritten. Prints the path of the page.

    Examples
      vitrail report runs/birds
      vitrail report runs/birds --language zh
      vitrail report runs/birds --subgroups cameras.csv:camera
      vitrail report runs/birds runs/birds-2 --out comparison.html

    Args:
        runs: Run folders.
        split: Split to evaluate: train, val or test; default: test where there is one, else val.
        out: The file of the page that compares several runs.
        language: English or Chinese.
        subgroups: Measure the images apart by a COLUMN of the run's table, or by TABLE.csv:COLUMN.
    """
    from vitrail import report
    from vitrail.errors import MissingArgument
    from vitrail.report.comparison import compare
    from vitrail.report.language import written_in

    if not runs:
        raise MissingArgument("no run given; give the folder of one or several")
    if len(runs) == 1:
        print(report.write(runs[0], split=split, device=device, language=language, subgroups=subgroups))
    else:
        with written_in(language):
            print(compare(runs, out))
    name_next("predict", runs[0], IMAGE)
