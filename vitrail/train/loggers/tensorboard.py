"""TensorBoard event files in ``tensorboard/`` (``pip install 'vitrail[tensorboard]'``)."""

from __future__ import annotations

from pathlib import Path

from vitrail.errors import UserError
from vitrail.train.loggers import Row


class Logger:
    """One scalar per column."""

    def __init__(self, folder: Path, start_epoch: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError("the logger 'tensorboard' needs: pip install 'vitrail[tensorboard]'") from None
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=start_epoch + 1)

    def log(self, row: Row) -> None:
        for name, value in row.items():
            self.writer.add_scalar(name.replace("_", "/", 1), value, int(row["epoch"]))
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()
