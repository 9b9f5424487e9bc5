"""Models of the hub, against a stand-in of its HTTP interface on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_server import COMMIT, TOKEN, Hub, Repo, serving
from PIL import Image

import vitrail
from vitrail.checkpoints import foreign, hub
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.hub import Address
from vitrail.cli import main
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.tasks import classification
from vitrail.vit import ViTConfig

pytest.importorskip("huggingface_hub")
FETCH = "import sys; from vitrail.checkpoints import hub; print(hub.fetch(sys.argv[1], allow_pickle=len(sys.argv) > 2))"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Hugging Face folder."""
    vit = ViTConfig(image_size=32, patch_size=16, dim=32, depth=2, heads=2, mlp_dim=64)
    task = classification.Task(classification.Config(model=vit, classes=("ant", "bee", "cat")))
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    out = tmp_path_factory.mktemp("hub") / "model"
    return foreign.save("hf_vit", out, Description.of(task, PreprocessConfig(size=(32, 32))), task.state_dict())


@pytest.fixture
def remote(model: Path) -> Iterator[Hub]:
    files = {file.name: file.read_bytes() for file in model.iterdir()}
    more = {"pytorch_model.bin": b"pickle", "onnx/model.onnx": b"onnx", "README.md": b"# Birds"}
    repos = {
        "me/birds": Repo({**files, **more}),
        "me/secret": Repo(files, private=True),
        "me/gated": Repo(files, gated=True),
        "me/old": Repo({"pytorch_model.bin": b"pickle", "config.json": b"{}"}),
        "me/text": Repo({"README.md": b"", "model.gguf": b""}),
        "me/sharded": Repo(sharded(model)),
    }
    with serving(Hub(repos)) as found:
        yield found


@pytest.fixture
def run(remote: Hub, tmp_path: Path, forked_python: None) -> Any:
    """``run(*arguments, **environment)`` → the finished process, whose hub and cache are the test's own."""

    def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {"HF_ENDPOINT": remote.url, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        return subprocess.run(
            [sys.executable, *arguments],
            env={**kept, **own, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return call


def sharded(model: Path) -> dict[str, bytes]:
    from safetensors.torch import load_file, save

    state = load_file(model / "model.safetensors")
    parts = [dict(list(state.items())[:9]), dict(list(state.items())[9:])]
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    weight_map = {key: name for name, part in zip(names, parts, strict=True) for key in part}
    index = {"model.safetensors.index.json": json.dumps({"metadata": {}, "weight_map": weight_map}).encode()}
    beside = {file.name: file.read_bytes() for file in model.glob("*.json")}
    return {**beside, **index, **{name: save(part) for name, part in zip(names, parts, strict=True)}}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf://me/birds", Address("me/birds")),
        ("hf:/me/birds", Address("me/birds")),  # what a Path makes of it
        ("hf://me/birds/", Address("me/birds")),
        ("hf://me/birds@v1.0", Address("me/birds", "v1.0")),
        ("hf://me/birds@refs/pr/3", Address("me/birds", "refs/pr/3")),
        ("hf://me/birds@v1/a/b.safetensors", Address("me/birds", "v1", "a/b.safetensors")),
        ("hf://me/birds/b.npz", Address("me/birds", None, "b.npz")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert hub.is_address(text)
    assert hub.parse(text) == address
    assert hub.parse(str(address)) == address


@pytest.mark.parametrize("text", ["hf://", "hf://birds", "hf://me/birds/../x", "hf://me/bi rds", "hf://me/birds@"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UserError, match="hf://owner/name"):
        hub.parse(text)


def test_fetched_once_and_then_from_the_cache(run: Any, remote: Hub, model: Path) -> None:
    done = run("-c", FETCH, "hf://me/birds")
    assert done.returncode == 0, done.stderr
    found = Path(done.stdout.strip())
    assert found.name == "model.safetensors"
    fetched = {file.name for file in found.parent.iterdir()}
    assert fetched == {"model.safetensors", "config.json", "preprocessor_config.json"}  # no pickle, no ONNX
    assert found.read_bytes() == (model / "model.safetensors").read_bytes()
    remote.asked.clear()
    assert run("-c", FETCH, "hf:/me/birds").stdout == done.stdout
    assert not [line for line in remote.asked if "resolve" in line]
    remote.asked.clear()
    assert run("-c", FETCH, "hf://me/birds", HF_HUB_OFFLINE="1").stdout == done.stdout
    assert run("-c", FETCH, "hf://me/birds", HF_ENDPOINT="http://127.0.0.1:9").stdout == done.stdout
    assert not remote.asked
    by_commit = run("-c", FETCH, f"hf://me/birds@{COMMIT}/model.safetensors")
    assert by_commit.stdout == done.stdout


def test_the_verbs_take_an_address(run: Any, model: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "a.png")
    arguments = ("predict", "hf://me/birds", str(tmp_path / "a.png"), "--json", "--device", "cpu")
    done = run("-m", "vitrail", *arguments)
    assert done.returncode == 0, done.stderr
    expected = vitrail.load(model, device="cpu").predict(tmp_path / "a.png")
    assert json.loads(done.stdout)[0]["label"] == expected.label


def test_shards_come_through_the_links_of_the_cache(run: Any) -> None:
    done = run("-m", "vitrail", "inspect", "hf://me/sharded", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["file"].endswith("model.safetensors.index.json")
    assert facts["dialect"] == "hf_vit"


@pytest.mark.parametrize(
    ("address", "environment", "reason"),
    [
        ("hf://me/none", {}, "not on the hub, or private"),
        ("hf://me/secret", {}, "not on the hub, or private"),
        ("hf://me/secret", {"HF_TOKEN": "hf_wrong"}, "not on the hub, or private"),
        ("hf://me/gated", {}, "gated; accept its terms at http"),
        ("hf://me/birds@v2", {}, "no revision 'v2'"),
        ("hf://me/birds/modle.safetensors", {}, "did you mean 'model.safetensors'"),
        ("hf://me/birds/pytorch_model.bin", {}, "--allow-pickle"),
        ("hf://me/old", {}, "--allow-pickle"),
        ("hf://me/text", {}, "holds no weights"),
        ("hf://me/birds", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ("hf://me/birds", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot reach the hub"),
        ("hf://me/--x", {}, "no name that the hub allows"),
    ],
)
def test_errors_are_one_line(run: Any, address: str, environment: dict[str, str], reason: str) -> None:
    done = run("-m", "vitrail", "inspect", address, **environment)
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith("vitrail: error: "), done.stderr
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_token_opens_what_is_private_or_gated(run: Any) -> None:
    for name in ("secret", "gated"):
        done = run("-c", FETCH, f"hf://me/{name}", HF_TOKEN=TOKEN)
        assert done.returncode == 0, done.stderr


def test_pickles_only_when_that_was_said(run: Any) -> None:
    done = run("-c", FETCH, "hf://me/old", "allow")
    assert done.stdout.strip().endswith("pytorch_model.bin"), done.stderr
    assert run("-c", FETCH, "hf://me/birds", "allow").stdout.strip().endswith("model.safetensors")


def test_push_and_open_again(run: Any, remote: Hub, model: Path, tmp_path: Path) -> None:
    done = run("-m", "vitrail", "push", str(model), "me/new", "--private", HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{remote.url}/me/new"
    repo = remote.repos["me/new"]
    assert repo.private
    assert repo.files["model.safetensors"] == (model / "model.safetensors").read_bytes()
    assert json.loads(repo.files["config.json"])["model_type"] == "vit"
    card = repo.files["README.md"].decode()
    assert card.startswith("---\nlibrary_name: vitrail\n")
    assert 'vitrail.load("hf://me/new")' in card
    assert run("-c", FETCH, "hf://me/new", HF_TOKEN=TOKEN).returncode == 0
    again = run("-m", "vitrail", "push", str(model), "me/new", "--revision", "v2", HF_TOKEN=TOKEN)
    assert again.returncode == 0, again.stderr
    assert repo.branches == {"main", "v2"}


def test_others_are_pushed_as_native(run: Any, remote: Hub, tiny_predictor: Any, tmp_path: Path) -> None:
    (tmp_path / "run" / "weights").mkdir(parents=True)
    tiny_predictor("regression", positions="rope_2d").save(tmp_path / "run" / "weights" / "best.safetensors")
    (tmp_path / "run" / "model_card.md").write_text("---\nlibrary_name: vitrail\n---\n# Trees\n")
    done = run("-m", "vitrail", "push", str(tmp_path / "run"), "me/trees", HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert "native" in done.stderr
    files = remote.repos["me/trees"].files
    assert set(files) == {"model.safetensors", "README.md"}
    assert "# Trees" in files["README.md"].decode()
    inspected = run("-m", "vitrail", "inspect", "hf://me/trees", "--json")
    assert json.loads(inspected.stdout)["task"] == "regression", inspected.stderr


@pytest.mark.parametrize(
    ("repo", "token", "reason"),
    [("me/new", "", "HF_TOKEN"), ("you/new", TOKEN, "does not let you write"), ("new", TOKEN, "hf://owner/name")],
)
def test_push_errors(run: Any, model: Path, repo: str, token: str, reason: str) -> None:
    done = run("-m", "vitrail", "push", str(model), repo, HF_TOKEN=token)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("vitrail: error: ")
    assert reason in done.stderr


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(["inspect", "hf://me/birds"]) == 2
    assert "pip install 'vitrail[hub]'" in capsys.readouterr().err


def test_a_folder_of_shards(model: Path, tmp_path: Path) -> None:
    for name, data in sharded(model).items():
        (tmp_path / name).write_bytes(data)
    whole, parts = (vitrail.load(folder, device="cpu").task.state_dict() for folder in (model, tmp_path))
    assert all(torch.equal(parts[name], value) for name, value in whole.items())


def test_shards_that_transformers_wrote(model: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    found = transformers.ViTForImageClassification.from_pretrained(model)
    found.save_pretrained(tmp_path / "out", max_shard_size="20KB")
    shutil.copy(model / "preprocessor_config.json", tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors.index.json").is_file()
    whole, parts = (vitrail.load(folder, device="cpu").task.state_dict() for folder in (model, tmp_path / "out"))
    assert all(torch.equal(parts[name], value) for name, value in whole.items())
