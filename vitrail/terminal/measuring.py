"""What the verbs that measure a model measure it on, and where they write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail.console import printable
from vitrail.errors import UserError

if TYPE_CHECKING:
    from vitrail.data.source import SourceConfig


def source_and_folder(
    weights: str, data: str | None, out: Path | None, inside: str, **settings: Any
) -> tuple[SourceConfig, Path]:
    """The data given, else the run's own; and the folder given, else ``inside`` the run's.

    Args:
        settings: fields of the config of data that are given.

    Raises:
        UserError: weights that are no run have neither.
    """
    from vitrail.data.source import SourceConfig
    from vitrail.report.run_reader import RunReader

    folder = Path(weights)
    if not (folder / "config.yaml").is_file() and (data is None or out is None):
        raise UserError(
            f"the weights {printable(weights)!r} have neither data nor a folder for results; give DATA and --out FOLDER"
        )
    source = RunReader(folder).data.source if data is None else SourceConfig(spec=data, **settings)
    return source, folder / inside if out is None else out
