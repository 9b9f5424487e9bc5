"""MLflow (``pip install 'vitrail[mlflow]'``); MLFLOW_TRACKING_URI sets the place, else MLflow does."""

from __future__ import annotations

from pathlib import Path

from vitrail import files
from vitrail.errors import UserError
from vitrail.train.loggers import Row


class Logger:
    """One MLflow run per run folder, under the folder's name; resuming continues it."""

    def __init__(self, folder: Path, start_epoch: int) -> None:
        try:
            import mlflow
        except ImportError:
            raise UserError("the logger 'mlflow' needs: pip install 'vitrail[mlflow]'") from None
        known = folder / "mlflow.id"
        identity = known.read_text().strip() if known.exists() else None
        self.mlflow = mlflow
        run = mlflow.start_run(run_id=identity, run_name=None if identity else folder.name)
        files.write_text(known, run.info.run_id + "\n")

    def log(self, row: Row) -> None:
        self.mlflow.log_metrics({name: float(value) for name, value in row.items()}, step=int(row["epoch"]))

    def close(self) -> None:
        self.mlflow.end_run()
