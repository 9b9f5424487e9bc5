"""What values look like in a session and in a notebook: short, and with what matters."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

import vitrail
from vitrail.build import open_checkpoint
from vitrail.config import override
from vitrail.data.batch import Batch
from vitrail.data.source import SourceConfig, open_source
from vitrail.nn.block import BlockConfig
from vitrail.recipes import digits
from vitrail.tasks.classification import Config, Task
from vitrail.vit_config import ViTConfig

NAMES = tuple(f"class {number}" for number in range(1000))
SMALL = ViTConfig(image_size=32, dim=32, depth=2, heads=2, mlp_dim=64)


def test_configs_show_what_is_not_the_default():
    assert repr(ViTConfig()) == "ViTConfig()"
    assert repr(ViTConfig(dim=384, heads=6)) == "ViTConfig(dim=384, heads=6)"
    assert repr(ViTConfig(block=BlockConfig(mlp="swiglu"))) == "ViTConfig(block=BlockConfig(mlp='swiglu'))"
    assert eval(repr(SMALL)) == SMALL
    assert len(repr(Config(model=SMALL, classes=NAMES))) < 300
    assert "epochs=7" in repr(override(digits.run(), {"epochs": 7}))


def test_models_and_files_do_not_list_their_names(tiny_predictor, tmp_path):
    preprocess = tiny_predictor(image_size=32).preprocess.config
    predictor = vitrail.Predictor(Task(Config(model=SMALL, classes=NAMES)), preprocess, device="cpu")
    assert repr(predictor).startswith("<Predictor: classification, 1,000 names, 32×32 pixels, cpu>")
    predictor.save(tmp_path / "model.safetensors")
    assert repr(open_checkpoint(tmp_path / "model.safetensors")) == (
        f"<{tmp_path / 'model.safetensors'}: classification, native>"
    )


def test_data_show_their_sizes(own_cache):
    splits = open_source(SourceConfig(spec="digits"))
    assert repr(splits).startswith("<train 1,295, val 142, test 360: 10 classes")
    assert repr(splits.split("val")) == "<142 images with targets of kind 'class', 10 classes>"


def test_evaluations_are_tables_in_notebooks():
    task = Task(Config(model=SMALL, classes=("ant", "bee")))

    class Loader:
        def __len__(self):
            return 1

        def batches(self, epoch=0):
            index = torch.arange(3)
            yield Batch(images=torch.randn(3, 3, 32, 32), targets=torch.tensor([0, 1, 1]), index=index)

    found = vitrail.evaluate(task, Loader(), progress=False)
    assert repr(found).startswith("<3 images: ")
    assert len(repr(found)) < 300
    assert f"<td>top1</td><td>{found.metrics['top1']:.4g}</td>" in found._repr_html_()


def test_heat_maps_are_pictures(tiny_predictor):
    predictor = tiny_predictor()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    (heat,) = vitrail.explain.explain(predictor.task, predictor.tensor(pixels), "rollout")
    height, width = heat.values.shape
    assert repr(heat) == f"<{heat.title}: {height}×{width} patches>"
    picture = np.asarray(Image.open(io.BytesIO(heat._repr_png_())))
    assert picture.shape[0] * width == picture.shape[1] * height
    cell = picture.shape[0] // height
    strongest = np.unravel_index(heat.values.argmax(), heat.values.shape)
    bright = picture[::cell, ::cell].sum(axis=2, dtype=int)
    assert bright[strongest] == bright.max()


def test_tables_are_html(tiny_predictor, own_cache):
    result = vitrail.probe.probe(
        tiny_predictor(channels=1), "digits", "knn", vitrail.probe.Protocol(labels=(0.05,), seeds=1)
    )
    assert repr(result) == str(result.table)
    assert result._repr_html_().count("<tr>") == 1 + len(result.table.rows)


def test_a_report_is_shown_in_a_frame(tmp_path):
    from vitrail.report import ReportPath

    page = ReportPath(tmp_path / "report.html")
    page.write_text("<p>a & b</p>", encoding="utf-8")
    assert 'srcdoc="&lt;p&gt;a &amp; b&lt;/p&gt;"' in page._repr_html_()
    assert page == tmp_path / "report.html"
    assert repr(page) == repr(tmp_path / "report.html").replace(type(tmp_path).__name__, "ReportPath")
