"""A training that stops after its plan: nothing is trained, and the run's folder is not touched."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitrail.train.run import Run


def dry_run(run: Run, folder: Path, *, extend: bool = False) -> int:
    """Print the plan of a run in ``folder`` and draw its first augmented images beside it; returns the exit code.

    Args:
        extend: the user resumes.

    Raises:
        UserError: whatever the training would refuse before its first step.
    """
    from vitrail.console import note
    from vitrail.report import style, training
    from vitrail.report.figures.tiles import sheet
    from vitrail.report.run_reader import RunReader
    from vitrail.train.assemble import assemble
    from vitrail.train.distributed import join
    from vitrail.train.folder import RunFolder

    run = RunFolder(folder).reconcile(run, extend=extend)
    with TemporaryDirectory() as parent, join(run.device, run.timeout) as world:
        place = RunFolder(Path(parent) / folder.name)
        try:
            with closing(assemble(run, place, world, extend=False, planned_only=folder)):
                tiles = training.samples(RunReader(place.path))
        finally:
            place.release()
    picture = folder.with_name(f"{folder.name}-batch.png")
    style.save_png(sheet(tiles, "The first augmented images"), picture)
    print(f"a batch: {picture}")
    note("next: the same command without --dry-run")
    return 0
