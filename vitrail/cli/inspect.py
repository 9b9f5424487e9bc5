"""The contents of a weights file, without loading it."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from vitrail.terminal.next_command import DATA, name_next
from vitrail.terminal.options import AllowPickle, Json, Names, Sizes, Weights, print_json

GROUP = "Exchange weights"


def inspect(
    weights: Weights,
    /,
    *,
    sizes: Sizes = Sizes(),  # noqa: B008  frozen
    allow_pickle: AllowPickle = False,
    names: Names = None,
    draft_names: Annotated[
        bool,
        Parameter(
            negative=(),
            show_default=False,
            help="Print a table of names (YAML) for weights of no known library, drafted from names and shapes; "
            "comments say what was guessed.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what a weights file contains and what loading it would adapt; no tensor is read.

    Examples
      vitrail inspect model.safetensors
      vitrail inspect hf://facebook/dinov2-small --image-size 224
      vitrail inspect my-vit.safetensors --draft-names > table.yaml
    """
    from vitrail import conversion
    from vitrail.console import note, table

    if draft_names:
        drafted = conversion.draft_names(weights, allow_pickle=allow_pickle)
        for line in drafted.splitlines():
            if line.startswith("# "):
                note(line[2:])
        print(drafted, end="")
        return
    facts = conversion.inspect(weights, allow_pickle=allow_pickle, names=names, **sizes.read())
    if as_json:
        print_json(facts)
    else:
        print(table(("", ""), _rows(facts)))
    name_next("train", DATA, "--init", weights, quiet=as_json)


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    config, preprocess, names = facts["config"], facts["preprocess"], facts["classes"]
    vit, block = config["model"], config["model"]["block"]
    kinds = [
        f"{vit['embed']['kind']} stem" if vit["embed"]["kind"] != "patch" else "",
        "class token" if vit["class_token"] else "no class token",
        "distillation token" if vit["distillation_token"] else "",
        f"{vit['registers']} registers" if vit["registers"] else "",
        f"{vit['positions']} positions",
    ]
    lacking = [reason for reason in facts["writes_as"].values() if " " in reason]
    rows = [
        ("file", facts["file"]),
        ("dialect", facts["dialect"]),
        ("task", facts["task"] + (f", {len(names)} classes: {', '.join(names[:4])}" if names else "")),
        ("architecture", f"dim {vit['dim']}, depth {vit['depth']}, heads {vit['heads']}, mlp {vit['mlp_dim']}"),
        ("image, patch", f"{_times(vit['image_size'])} × {vit['channels']}, {_times(vit['patch_size'])}"),
        ("tokens", ", ".join(kind for kind in kinds if kind)),
        ("block", f"{block['mlp']}, norm eps {block['norm_eps']:g}, layer scale {block['layer_scale'] is not None}"),
        ("pool", config.get("pool") or "auto"),
        ("parameters", f"{facts['parameters']:,}"),
        ("MACs", f"{facts['macs']:,}"),
        ("preprocessing", _preprocessing(preprocess)),
        ("can be written for", ", ".join(k for k, v in facts["writes_as"].items() if " " not in v) or "native alone"),
    ]
    rows += [("not for" if i == 0 else "", reason) for i, reason in enumerate(lacking)]
    return rows + [("adapted" if i == 0 else "", line) for i, line in enumerate(facts["adapted"])]


def _preprocessing(config: dict[str, Any]) -> str:
    mean, std = ("/".join(f"{value:.3g}" for value in config[name]) for name in ("mean", "std"))
    share = f" of {config['crop_pct']:.3g}" if config["crop_pct"] != 1 else ""
    return f"{config['resize']}{share} to {_times(config['size'])}, {config['interpolation']}, mean {mean}, std {std}"


def _times(size: list[int]) -> str:
    return "×".join(map(str, size))
