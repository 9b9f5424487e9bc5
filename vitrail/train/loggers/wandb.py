"""Weights & Biases (``pip install 'vitrail[wandb]'``); WANDB_MODE=offline keeps it off the network."""

from __future__ import annotations

from pathlib import Path

from vitrail import files
from vitrail.errors import UserError
from vitrail.train.loggers import Row


class Logger:
    """One W&B run per run folder, under the folder's name; resuming continues it."""

    def __init__(self, folder: Path, start_epoch: int) -> None:
        try:
            import wandb
        except ImportError:
            raise UserError("the logger 'wandb' needs: pip install 'vitrail[wandb]'") from None
        known = folder / "wandb.id"
        identity = known.read_text().strip() if known.exists() else wandb.util.generate_id()
        files.write_text(known, identity + "\n")
        self.run = wandb.init(project="vitrail", name=folder.name, dir=str(folder), id=identity, resume="allow")

    def log(self, row: Row) -> None:
        self.run.log(dict(row), step=int(row["epoch"]))

    def close(self) -> None:
        self.run.finish()
