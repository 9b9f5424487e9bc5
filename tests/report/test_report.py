"""Reports of real (tiny) runs: what is written, that it agrees with the evaluation, and that it is safe and offline."""

from __future__ import annotations

import ast
import base64
import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import yaml
from PIL import Image

from vitrail import console, loading, report
from vitrail.errors import UserError
from vitrail.report import sections, training
from vitrail.report.evaluated import measure
from vitrail.report.language import say
from vitrail.report.run_reader import RunReader

VOID = {"meta", "link", "img", "br", "hr", "input"}
TASKS = ["classification", "multilabel", "regression"]
PLOTS = {
    "classification": {
        *("top1", "confusion", "per_class", "reliability", "thresholds", "training_batch", "attention", "anatomy"),
        *("patches", "class_0"),
    },
    "multilabel": {"map", "per_class", "precision_recall", "thresholds", "training_batch", "attention", "anatomy"},
    "regression": {"mae", "predicted", "errors", "worst_mistakes", "training_batch", "attention", "anatomy"},
}


class Page(HTMLParser):
    """Collects tags, links and texts; fails on a tag that is closed without being open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.alts: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action") and value]
        self.alts += [dict(attrs)["alt"]] if tag == "img" else []
        self.ids += [value for name, value in attrs if name == "id"] if tag == "section" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module", params=TASKS)
def written(request, runs):
    """A run's folder after its report was written."""
    report.write(runs[request.param], device="cpu")
    return runs[request.param]


def test_the_page_is_whole_and_needs_nothing_else(written):
    page = Page((written / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert not {"script", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert all(link.startswith(("#", "data:image/", "file:///")) for link in page.links)
    assert "url(" not in re.sub(r"url\(#\w+\)", "", (written / "report.html").read_text())
    assert {"summary", "training", "data", "attention", "config", "environment", "reproduce"} <= set(page.ids)
    assert all(alt.strip() for alt in page.alts)
    assert {link[1:] for link in page.links if link.startswith("#") and link[1:] in page.ids} == set(page.ids)


def test_its_pictures_can_be_opened(written):
    text = (written / "report.html").read_text(encoding="utf-8")
    pictures = re.findall(r'<img[^>]* src="data:image/(?:png|jpeg);base64,([^"]+)"', text)
    assert len(pictures) > 20
    for data in pictures:
        assert min(Image.open(io.BytesIO(base64.b64decode(data))).size) > 1


def test_names_from_outside_are_text_and_not_markup(written):
    text = (written / "report.html").read_text(encoding="utf-8")
    assert "<b>cat" not in text
    if written.name != "regression":
        assert "&lt;b&gt;cat &amp; dog&lt;/b&gt;" in text
        assert "猫" in Page(text).text
        assert "$5_bill$" in Page(text).text


def test_plots_are_pictures(written):
    plots = {path.stem for path in (written / "plots").glob("*.png")}
    assert PLOTS[written.name] | {"loss", "learning_rate"} <= plots
    for path in (written / "plots").iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert len(set(image.convert("L").reduce(4).tobytes())) > 8


def test_the_numbers_are_those_of_an_evaluation(written):
    model = loading.load(written, device="cpu")
    expected = measure(model, RunReader(written).data.source, "val", batch_size=5, progress=False)
    stored = json.loads((written / "evaluation" / "val.json").read_text())
    assert stored["images"] == len(expected.source)
    for name, value in expected.evaluation.metrics.items():
        assert stored["metrics"][name] == pytest.approx(value, rel=1e-4, abs=1e-6, nan_ok=True)
    page = Page((written / "report.html").read_text(encoding="utf-8"))
    for label, value in expected.family.shown(expected.evaluation):
        assert label in page.text
        assert value in page.text
    assert "top-5" not in page.text, "of three classes all are among the first five"


def test_the_best_validation_result_of_the_training_is_found_again(written):
    summary = json.loads((written / "summary.json").read_text())
    stored = json.loads((written / "evaluation" / "val.json").read_text())
    monitor = summary["monitor"]
    assert stored["metrics"][monitor] == pytest.approx(summary["best"][monitor], rel=1e-4)


def test_every_prediction_is_listed(written):
    with (written / "evaluation" / "val.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    stored = json.loads((written / "evaluation" / "val.json").read_text())
    assert [int(row["index"]) for row in rows] == list(range(stored["images"]))
    losses = [float(row["loss"]) for row in rows]
    if written.name != "regression" or len(losses) == stored["images"]:
        assert np.mean(losses) == pytest.approx(stored["metrics"]["loss"], rel=1e-4)
    assert stored["worst"][0]["index"] == int(np.argmax(losses))
    if written.name == "classification":
        right = np.mean([row["true"] == row["predicted"] for row in rows])
        assert right == pytest.approx(stored["metrics"]["top1"], rel=1e-5)


def test_the_model_card_has_a_header_for_machines_with_measured_numbers(written):
    text = (written / "model_card.md").read_text(encoding="utf-8")
    header = yaml.safe_load(text.split("---\n")[1])
    stored = json.loads((written / "evaluation" / "val.json").read_text())
    result = header["model-index"][0]["results"][0]
    assert header["library_name"] == "vitrail"
    assert result["dataset"]["split"] == "val"
    values = {metric["name"]: metric["value"] for metric in result["metrics"]}
    assert set(values.values()) <= {v for v in stored["metrics"].values() if v is not None}
    assert "classes: " in text or "targets: " in text


def test_the_training_batch_is_the_same_every_time(runs):
    from vitrail.report import training

    first, second = (training.samples(RunReader(runs["classification"])) for _ in range(2))
    assert [tile.title for tile in first] == [tile.title for tile in second]
    assert all(a.image.tobytes() == b.image.tobytes() for a, b in zip(first, second, strict=True))
    assert len({tile.image.tobytes() for tile in first}) > 1


def test_mistakes_come_by_falling_loss_and_examples_are_right(runs):
    model = loading.load(runs["classification"], device="cpu")
    measured = measure(model, RunReader(runs["classification"]).data.source, progress=False)
    losses = np.array(measured.columns["loss"])
    wrong, right = measured.mistakes(5), measured.examples(5)
    assert wrong
    assert (np.diff(losses[wrong]) <= 0).all()
    said = measured.evaluation.outputs.argmax(axis=1)
    assert (said[wrong] != measured.evaluation.targets[wrong]).all()
    assert (said[right] == measured.evaluation.targets[right]).all()
    assert losses[wrong[0]] == losses[said != measured.evaluation.targets].max()


def test_mistakes_name_their_files_and_lead_to_them(written):
    links = [unquote(link.removeprefix("file://")) for link in page_of(written).links if link.startswith("file:")]
    assert links
    assert all(Path(link).is_file() and Path(link).name in page_of(written).text for link in links)


def test_every_class_has_its_examples(runs):
    report.write(runs["classification"], device="cpu")
    text = (runs["classification"] / "report.html").read_text(encoding="utf-8")
    section = text[text.index('<section id="examples-by-class">') :].partition("</section>")[0]
    assert set(re.findall(r"<h3>(.*?)</h3>", section)) == {"&lt;b&gt;cat &amp; dog&lt;/b&gt;", "猫", "$5_bill$"}


def test_the_training_time_is_the_commands(runs):
    summary = json.loads((runs["classification"] / "summary.json").read_text())
    assert summary["command_seconds"] > summary["training_seconds"]
    record = RunReader(runs["classification"])
    assert ("training time", console.duration(summary["command_seconds"])) in sections.training_numbers(record)


def test_the_peak_rate_is_the_one_that_was_set(runs):
    record = RunReader(runs["classification"])
    assert max(record.history["lr"]) < 1e-3, "the ends of the two epochs come after the peak"
    assert training.peak_rate(record) == 1e-3
    del record.summary["peak_lr"]
    assert training.peak_rate(record) == max(record.history["lr"])


def test_a_report_in_chinese(runs, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(runs["classification"], folder)
    text = report.write(folder, device="cpu", language="zh").read_text(encoding="utf-8")
    page = Page(text)
    assert '<html lang="zh-CN">' in text
    for english in ("top-1 accuracy", "Training", "Summary", "Confusion matrix", "epoch", "Right, picked"):
        assert say(english) == english
        assert english not in page.text.partition("config.yaml")[0], english
    assert {"summary", "training", "mistakes"} <= set(page.ids), "links stay the same"
    assert "top-1 accuracy" in (folder / "model_card.md").read_text()


def test_every_text_has_its_chinese_one_with_the_same_values():
    """Of calls of ``say`` with a literal; names of metrics, tasks and splits are said too."""
    table = json.loads((Path(report.__file__).parent / "zh.json").read_text(encoding="utf-8"))
    said = set()
    for path in Path(report.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", "") in ("say", "Section", "Headline")
                and node.args
            ):
                said |= {
                    each.value
                    for each in ast.walk(node.args[0])
                    if isinstance(each, ast.Constant) and re.search(r"[a-zA-Z]", str(each.value))
                }
    assert sorted(said - table.keys()) == []
    for english, chinese in table.items():
        assert set(re.findall(r"{(\w+)}", english)) == set(re.findall(r"{(\w+)}", chinese)), english


def page_of(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_a_report_without_its_data_shows_the_rest_and_says_so(runs, tmp_path, capsys):
    folder = tmp_path / "moved"
    shutil.copytree(runs["classification"], folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["data"]["source"]["spec"] = str(tmp_path / "gone.csv")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    page = Page(report.write(folder, device="cpu").read_text(encoding="utf-8"))
    assert "the report goes without the results" in capsys.readouterr().err
    assert {"training", "config"} <= set(page.ids)
    assert "mistakes" not in page.ids


def test_a_folder_that_is_no_run_is_an_error(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        report.write(tmp_path)


def test_data_of_another_kind_is_an_error(runs, pictures):
    from vitrail.data import SourceConfig

    model = loading.load(runs["classification"], device="cpu")
    config = SourceConfig(spec=str(pictures / "number.csv"), label_columns=("light",))
    with pytest.raises(UserError):
        measure(model, config, progress=False)


def test_an_unknown_split_is_an_error_that_names_the_others(runs):
    model = loading.load(runs["classification"], device="cpu")
    with pytest.raises(UserError, match="no split 'tset'; choose one of: train, val"):
        measure(model, RunReader(runs["classification"]).data.source, "tset", progress=False)
