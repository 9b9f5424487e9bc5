"""The data that a verb evaluates a model on, and the folder for its results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.errors import MissingArgument

if TYPE_CHECKING:
    from vitrail.data.source import SourceConfig


def source_and_folder(
    weights: str, data: str | None, out: Path | None, inside: str, val_fraction: float | None = None
) -> tuple[SourceConfig, Path]:
    """The given data or else the run's; and the given folder or else ``inside`` the run's folder.

    Args:
        val_fraction: of the given data; None: the default.

    Raises:
        UserError: the weights are not a run folder, and the data or the folder is not given.
    """
    from vitrail.report.run_reader import RunReader

    folder = Path(weights)
    if not (folder / "config.yaml").is_file() and (data is None or out is None):
        raise MissingArgument(
            f"the weights {weights!r} have neither data nor a folder for results; give DATA and --out FOLDER"
        )
    source = RunReader(folder).data.source if data is None else _source(data, val_fraction)
    return source, folder / inside if out is None else out


def _source(spec: str, val_fraction: float | None) -> SourceConfig:
    from vitrail.data.source import SourceConfig

    return SourceConfig(spec=spec) if val_fraction is None else SourceConfig(spec=spec, val_fraction=val_fraction)
