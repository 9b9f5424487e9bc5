from __future__ import annotations

from pathlib import Path

from vitrail.terminal.options import Device


def report(
    *runs: Path,
    split: str | None = None,
    out: Path = Path("comparison.html"),
    device: Device = "auto",
) -> None:
    """Write the report of a run, or one page that compares several.

    For one run its plots/, report.html and model_card.md are rewritten. Prints the path of the page.

    Args:
        runs: Run folders.
        split: Split to evaluate: train, val or test; default: test where there is one, else val.
        out: The file of the page that compares several runs.
    """
    from vitrail import report
    from vitrail.errors import UserError
    from vitrail.report.comparison import compare

    if not runs:
        raise UserError("no run given; write vitrail report RUN")
    print(report.write(runs[0], split=split, device=device) if len(runs) == 1 else compare(runs, out))
