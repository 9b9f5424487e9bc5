"""Another metric than the task's own selects the best weights."""

from __future__ import annotations

import pytest
from tiny import tiny_run

from vitrail.checkpoints import native
from vitrail.errors import UserError
from vitrail.report.run_reader import RunReader
from vitrail.report.training import monitored
from vitrail.train.loggers import csv
from vitrail.train.loop import fit


@pytest.mark.parametrize(("metric", "best"), [("auroc", max), ("loss", min)])
def test_the_best_weights_are_those_of_the_metric(metric, best, bands, tmp_path):
    folder = tmp_path / "run"
    result = fit(tiny_run(bands, monitor=metric, epochs=4), folder)
    values = [row[f"val_{metric}"] for row in csv.read(folder / "metrics.csv")]
    assert result.best == pytest.approx(best(values), rel=1e-6)
    stored = native.read_meta(folder / "weights" / "best.safetensors")
    assert stored["metrics"][metric] == result.best
    assert stored["training"]["epoch"] == values.index(best(values)) + 1
    assert monitored(RunReader(folder)) == (metric, best.__name__)


def test_a_metric_that_is_not_measured_is_refused_before_training(bands, tmp_path):
    with pytest.raises(UserError, match="'classification' has no metric 'aurox' to monitor; did you mean 'auroc'"):
        fit(tiny_run(bands, monitor="aurox"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
