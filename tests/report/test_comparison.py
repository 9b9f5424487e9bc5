"""Several runs on one page."""

from __future__ import annotations

import shutil

import pytest
import yaml

from vitrail.errors import UserError
from vitrail.report.comparison import compare


def test_numbers_curves_and_differing_settings_are_shown(runs, tmp_path):
    other = tmp_path / "deeper"
    shutil.copytree(runs["classification"], other)
    config = yaml.safe_load((other / "config.yaml").read_text())
    config["model"]["depth"] = 77
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    text = compare([runs["classification"], other], tmp_path / "page.html").read_text(encoding="utf-8")
    settings = text[text.index('id="settings"') :]
    assert "<td>model.depth</td><td>2</td><td>77</td>" in settings
    assert settings.count("<tr>") == 2  # the head and the one setting that differs
    assert ">deeper</text>" in text
    assert text.count("<svg viewBox") == 4  # metric, two losses, learning rate


def test_runs_of_the_same_name_are_told_apart(runs, tmp_path):
    twin = tmp_path / "classification"
    shutil.copytree(runs["classification"], twin)
    text = compare([runs["classification"], twin], tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"<td>{twin}</td>" in text


def test_a_folder_that_is_no_run_is_an_error(runs, tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        compare([runs["classification"], tmp_path], tmp_path / "page.html")
