from __future__ import annotations

import json
import subprocess
import sys

from vitrail.cli import main
from vitrail.vit_costs import count
from vitrail.vit_presets import preset, presets


def models(capsys, *arguments):
    assert main(["models", *arguments]) == 0
    return capsys.readouterr().out


def test_one_preset_in_numbers(capsys):
    item = json.loads(models(capsys, "Ti/16", "--json"))
    cost = count(preset("Ti/16"))
    assert item["parameters"] == cost.parameters
    assert item["macs"] == cost.macs
    assert item["tokens"] == cost.tokens == 197
    assert item["config"]["dim"] == 192


def test_settings_change_the_cost(capsys):
    item = json.loads(models(capsys, "Ti/16", "--json", "--set", "image_size=[224, 448]", "--set", "registers=4"))
    assert item["tokens"] == 14 * 28 + 5


def test_the_table(capsys, monkeypatch):
    header, first, *others = models(capsys).splitlines()
    assert header.split()[:5] == ["model", "dim", "depth", "heads", "mlp"]
    assert first.split() == ["Ti/16", "192", "12", "3", "768", "224×224", "197", "5.7", "1.25"]
    assert [line.split()[0] for line in (first, *others)] == presets()
    monkeypatch.setattr("vitrail.vit_presets.presets", lambda: ["Ti/16", "S/32"])
    assert [item["name"] for item in json.loads(models(capsys, "--json"))] == ["Ti/16", "S/32"]


def test_the_table_of_one_preset_has_the_row_of_the_list(capsys):
    listed = {line.split()[0]: line.split() for line in models(capsys).splitlines()}
    for name in ("S/32", "R+Ti/16", "So400m/16"):
        assert models(capsys, name).splitlines()[1].split() == listed[name]


def test_the_list_needs_no_torch():
    program = "import sys; from vitrail.cli import main; main(['models']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert "R50+L/32" in done.stdout


def test_details_are_written_as_set_takes_them(capsys):
    out = models(capsys, "Ti/16", "--set", "block.mlp=swiglu", "--set", "registers=2")
    rows = dict(line.split(None, 1) for line in out.split("\n\n")[1].splitlines())
    assert rows["block.mlp"] == "swiglu"
    assert rows["image_size"] == "[224, 224]"
    assert rows["block.head_dim"] == "null"
    del rows["setting"]
    settings = [text for name, value in rows.items() for text in ("--set", f"{name}={value}")]
    again = models(capsys, "Ti/16", *settings)
    assert again == out
