"""ViTs of tutorials and of early vit-pytorch, in public repositories without number: two dialects, and for anything
else a table of names, drafted from shapes.

Siblings looked at: norms before and after a branch, ReLU, the mean of the patches, blocks in ``Residual`` or not, heads
of one layer or two, queries, keys and values in one tensor or three, MLPs as wide as a token or as queries, keys and
values together, extras of a training, what a table can get wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import tutorial_vits as vits
import yaml
from safetensors.torch import load_file, save_file
from small_vits import distance, prefixed, randomised
from torch import nn

import vitrail
from vitrail.build import open_checkpoint
from vitrail.cli import main
from vitrail.errors import UserError

IMAGES = torch.randn(2, 3, vits.SIDE, vits.SIDE, generator=torch.Generator().manual_seed(0))
DIALECTS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "pre-norm": ("torch_encoder", vits.OfTransformerEncoder),
    "post-norm, ReLU": ("torch_encoder", lambda: vits.OfTransformerEncoder(pre=False, gelu=False, norm=False)),
    "mean of patches": ("torch_encoder", lambda: vits.OfTransformerEncoder(cls=False)),
    "early": ("early_vit_pytorch", vits.Early),
    "early without residual": ("early_vit_pytorch", lambda: vits.Early(residual=False, hidden_head=False)),
}
DRAFTED: dict[str, Callable[[], nn.Module]] = {
    **{name: make for name, (_, make) in DIALECTS.items()},
    "plain": vits.Plain,
    "plain, narrow MLP": lambda: vits.Plain(ratio=1),
    "plain, MLP like qkv": lambda: vits.Plain(ratio=3),
    "plain, separate": lambda: vits.Plain(separate=True),
}


def stored(model: nn.Module, folder: Path, prefix: str = "") -> Path:
    save_file(prefixed(model.state_dict(), prefix), folder / "model.safetensors")
    return folder / "model.safetensors"


@pytest.mark.parametrize("case", DIALECTS)
def test_dialects(case: str, tmp_path: Path) -> None:
    dialect, make = DIALECTS[case]
    model = randomised(make())
    found = open_checkpoint(stored(model, tmp_path, "model."))
    assert found.dialect == dialect
    ours = found.load()
    assert distance(ours, model, IMAGES) < 1e-5
    assert any("heads" in line for line in found.assumed)
    vitrail.convert(tmp_path / "model.safetensors", tmp_path / "out", to=dialect)
    again = open_checkpoint(tmp_path / "out")
    assert again.dialect == dialect
    assert distance(again.load(), model, IMAGES) < 1e-5
    assert not [line for line in again.assumed if "heads" in line]
    if case == "pre-norm":
        written = load_file(tmp_path / "out" / "model.safetensors")
        assert torch.equal(
            written["transformer_encoder.layers.1.linear1.weight"],
            model.state_dict()["transformer_encoder.layers.1.linear1.weight"],
        )


def test_what_tensors_do_not_tell_is_read_from_config_json(tmp_path: Path) -> None:
    model = randomised(vits.OfTransformerEncoder(heads=4, pre=False))
    file = stored(model, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"nhead": 4, "norm_first": False, "activation": "gelu"}))
    assert distance(open_checkpoint(file).load(), model, IMAGES) < 1e-5


@pytest.mark.parametrize("case", DRAFTED)
def test_a_drafted_table_is_right_without_editing(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = randomised(DRAFTED[case]())
    file, table = stored(model, tmp_path), tmp_path / "table.yaml"
    assert main(["inspect", str(file), "--draft-names"]) == 0
    output = capsys.readouterr()
    table.write_text(output.out)
    assert "not decided: attention heads" in output.err
    found = open_checkpoint(file, names=str(table))
    assert distance(found.load(), model, IMAGES) < 1e-5
    vitrail.convert(file, tmp_path / "native.safetensors", to="native", names=table)
    vitrail.convert(tmp_path / "native.safetensors", tmp_path / "back", to=str(table))
    back, own = load_file(tmp_path / "back" / "model.safetensors"), model.state_dict()
    assert back.keys() == own.keys()
    assert all(torch.equal(back[name], own[name]) for name in own)


def test_a_draft_says_what_it_could_not_place(tmp_path: Path) -> None:
    model = vits.Plain()
    state = randomised(model).state_dict() | {"criterion.weight": torch.ones(5), "neck.mix": torch.ones(3, 7)}
    save_file(state, tmp_path / "a.safetensors")
    text = vitrail.draft_names(tmp_path / "a.safetensors")
    assert "not placed, so ignored: neck.mix" in text
    assert yaml.safe_load(text)["ignored"] == ["criterion.weight", "neck.mix"]
    with pytest.raises(UserError, match=r"--draft-names"):
        open_checkpoint(tmp_path / "a.safetensors")


WRONG = {
    "unknown key": (lambda t: t | {"extra": 1}, "unknown key 'extra'"),
    "no such tensor of ours": (lambda t: put(t, "vit.clas_token", "x"), "did you mean 'vit.class_token'"),
    "a tensor without a place": (lambda t: put(t, "vit.class_token", None), "no place is given for vit.class_token"),
    "one place for two": (lambda t: put(t, "vit.norm.bias", "ln_final.weight"), "ln_final.weight is the place of two"),
    "no place": (lambda t: put(t, "vit.class_token", 3), "3 is no place of a tensor"),
    "an impossible shape": (lambda t: put(t, "vit.class_token", {"name": "cls", "shape": [7, -1]}), "cannot be kept"),
    "a wrong setting": (lambda t: t | {"config": t["config"] | {"pool": "best"}}, "pool"),
    "another model": (lambda t: put(t, "vit.class_token", "clz"), "holds no tensors by the names"),
}


def put(table: dict, ours: str, place: object) -> dict:
    tensors = {name: value for name, value in table["tensors"].items() if name != ours}
    return table | {"tensors": tensors | ({} if place is None else {ours: place})}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_table_is_one_line(case: str, tmp_path: Path) -> None:
    file = stored(randomised(vits.Plain()), tmp_path)
    spoil, reason = WRONG[case]
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(spoil(yaml.safe_load(vitrail.draft_names(file)))))
    with pytest.raises(UserError) as caught:
        open_checkpoint(file, names=str(tmp_path / "t.yaml"))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
