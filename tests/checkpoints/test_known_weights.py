"""Weights by short names: nothing is downloaded unasked, and the message names the command."""

from __future__ import annotations

import json
import re

import pytest

from vitrail.checkpoints import hub, known_weights
from vitrail.checkpoints.known_weights import KNOWN
from vitrail.checkpoints.locate import find_weights
from vitrail.cli import main
from vitrail.errors import UserError


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr(hub, "fetch", lambda *_, **__: pytest.fail("nothing may be downloaded"))


def test_names_and_addresses():
    assert {"vit_tiny_augreg", "dinov2_small", "deit3_small", "clip_vit_b16"} <= set(KNOWN)
    for name, known in KNOWN.items():
        assert re.fullmatch(r"[a-z0-9_]+", name)
        assert hub.parse(known.address) == hub.Address(known.repo, known.revision)
        assert 50 < known.accuracy < 90
        assert known.megabytes > 20
        assert re.fullmatch("main|[0-9a-f]{40}", known.revision)
    assert len({known.address for known in KNOWN.values()}) == len(KNOWN)
    assert {name for name, known in KNOWN.items() if known.revision == "main"} == {
        "deit3_small", "deit3_base", "deit3_large", "beit_base"
    }  # fmt: skip


def test_weights_that_are_not_there_name_the_command(no_network, monkeypatch):
    monkeypatch.setattr(hub, "cached", lambda address: None)
    with pytest.raises(UserError, match=r"23 MB, apache-2.0\).*vitrail models vit_tiny_augreg --download"):
        find_weights("vit_tiny_augreg")
    with pytest.raises(UserError, match="did you mean 'dinov2_small'"):
        find_weights("dinov2_smal")


def test_weights_in_the_cache_are_used(no_network, monkeypatch, tmp_path):
    file = tmp_path / "model.safetensors"
    asked = []
    monkeypatch.setattr(hub, "cached", lambda address: asked.append(address) or file)
    assert find_weights("dinov2_small") == file
    assert asked == ["hf://facebook/dinov2-small@ed25f3a31f01632728cabb09d1542f84ab7b0056"]


def test_a_folder_of_that_name_comes_first(no_network, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dinov2_small").mkdir()
    (tmp_path / "dinov2_small" / "model.safetensors").write_bytes(b"")
    assert find_weights("dinov2_small").parent.name == "dinov2_small"


def test_download_fetches_what_the_cache_lacks(monkeypatch, capsys):
    fetched = []
    monkeypatch.setattr(hub, "cached", lambda address: None)
    monkeypatch.setattr(hub, "fetch", lambda address: fetched.append(address))
    known_weights.download("runs/mine")
    assert fetched == []
    assert main(["models", "deit3_small", "--download"]) == 0
    assert fetched == [KNOWN["deit3_small"].address]
    assert "downloading timm/deit3_small_patch16_224.fb_in22k_ft_in1k (88 MB, apache-2.0)" in capsys.readouterr().err


def test_the_list(no_network, capsys):
    assert main(["models", "--pretrained"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] == list(KNOWN)
    assert "next: vitrail train DATA --init vit_tiny_augreg --download" in err
    assert main(["models", "--pretrained", "--json"]) == 0
    assert {each["name"]: each["repo"] for each in json.loads(capsys.readouterr().out)} == {
        name: known.repo for name, known in KNOWN.items()
    }
    assert main(["models", "S/16", "--download"]) == 2
