"""What is said before anything is served."""

from __future__ import annotations

import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from exported_once import SIMPLE

from vitrail import serve
from vitrail.cli import main
from vitrail.data.transforms.geometry import identities
from vitrail.errors import UserError
from vitrail.serve import Limits, named, server
from vitrail.serve.jobs.attention import Attention
from vitrail.serve.jobs.embed import Embed
from vitrail.serve.jobs.explain import Explain
from vitrail.serve.jobs.merge import Merge
from vitrail.serve.jobs.predict import Predict


@pytest.mark.parametrize(
    ("models", "names"),
    [
        ("runs/birds", ["birds"]),
        (["runs/birds/weights/best.safetensors"], ["birds"]),
        (["runs/birds", "small=runs/birds"], ["birds", "small"]),
        (["hf://google/vit-base-patch16-224"], ["vit-base-patch16-224"]),
        ({"a": "runs/birds", "b": "runs/birds"}, ["a", "b"]),
        (["/model"], ["model"]),
        (["runs/v1.5"], ["v1.5"]),
    ],
)
def test_a_model_is_called_as_its_folder_is(models, names):
    assert list(named(models)) == names


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (["a/birds", "b/birds"], "two models are called 'birds'; write NAME=PATH"),
        (["runs/vögel"], "write NAME=PATH"),
        ({"a/b": "runs/birds"}, "'a/b' does not fit into a URL"),
        ([], "no model was named"),
        (["."], "'.' does not fit into a URL"),
        ([""], "'' does not fit into a URL"),
    ],
)
def test_names_that_do_not_go(models, words):
    with pytest.raises(UserError, match=words):
        named(models)


@pytest.mark.parametrize("token", ["", "two words", "ümlaut", "line\n"])
def test_tokens_that_do_not_go(token):
    with pytest.raises(UserError, match="printable ASCII"):
        serve.serve("runs/birds", token=token)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--queue", "0"], "error: --queue 0: Input should be greater than 0\n"),
        (["--batch-wait", "-1"], "error: --batch-wait -1: Input should be greater than or equal to 0\n"),
        (["--max-pixels", "many"], "error: --max-pixels many: Input should be a valid integer"),
        (["--token-file", "/nowhere"], "cannot read the token in /nowhere"),
        (["--port", "99999"], 'Invalid value "99999" for --port. Must be <= 65535.'),
        (["--max-header", "10"], "error: --max-header 10: Input should be greater than or equal to 1024"),
        (["--allow-origin", "app.example"], "--allow-origin 'app.example' is no origin; write scheme and host"),
        (["--allow-origin", "https://app.example/page"], "is no origin"),
        (["--allow-host", "http://api.example"], "--allow-host 'http://api.example' is no host name"),
    ],
)
def test_the_command_line_refuses(arguments, words, capsys):
    assert main(["serve", "runs/birds", *arguments]) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.usefixtures("exported_once")
def test_models_run_in_the_engine_that_was_asked_for(tiny_predictor, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(serve, "serve", lambda models, **options: asked.update(options, models=models))
    tiny_predictor(**SIMPLE).save(tmp_path / "tiny.safetensors")
    assert main(["serve", str(tmp_path / "tiny.safetensors"), "--engine", "onnxruntime"]) == 0
    served = pickle.loads(pickle.dumps(asked["load"]))(*asked["models"])  # as it reaches the models' process
    predictor = tiny_predictor(**SIMPLE)
    assert served.engine is not served.task
    pixels = torch.randint(256, (3, 3, 16, 24), dtype=torch.uint8)
    given = pixels, identities(pixels)
    for job in (Predict(), Embed(), Explain(), Attention(), Merge(1)):
        for mine, theirs in zip(job.run(served, *given), job.run(predictor, *given), strict=True):
            for one, other in zip(numbers(mine), numbers(theirs), strict=True):
                np.testing.assert_allclose(one, other, atol=1e-5)


def numbers(result):
    """The arrays of what a model's process answers for one image."""
    if isinstance(result, np.ndarray):
        return [result]
    if isinstance(result, list):
        return [heat.values for heat in result]
    return [result.sources] if hasattr(result, "sources") else [result.probabilities]


@pytest.mark.parametrize("port", [-1, 65536, 99999])
def test_a_port_that_is_none_is_not_taken_for_another(port):
    with pytest.raises(UserError, match=f"there is no port {port}; choose one from 0 to 65535"):
        server.run(SimpleNamespace(limits=Limits()), None, "127.0.0.1", port)


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "prometheus_client"])
def test_a_missing_library_is_named_with_its_remedy(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=r"pip install 'vitrail\[serve\]'"):
        serve.app("runs/birds")


def test_a_request_never_may_have_more_images_than_the_queue_holds():
    assert (Limits(queue=3).images, Limits(queue=100, max_images=5).images) == (3, 5)
    assert Limits(batch_size=4).queue_size == 32


def test_help_needs_no_heavy_library():
    program = (
        "import sys; from vitrail.cli import main\n"
        "assert main(['serve', '--help']) == 0\n"
        "assert not {'torch', 'numpy', 'PIL', 'fastapi', 'uvicorn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "--batch-wait" in done.stdout
