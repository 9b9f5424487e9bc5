"""The presets and what they cost."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitrail.checkpoints import known_weights
from vitrail.checkpoints.known_weights import KNOWN
from vitrail.console import note, table
from vitrail.errors import MissingArgument, UserError
from vitrail.terminal.next_command import DATA, name_next
from vitrail.terminal.options import Json, Set, print_json

if TYPE_CHECKING:
    from vitrail.vit_costs import Count

GROUP = "Prepare and train"

COLUMNS = ("model", "dim", "depth", "heads", "mlp", "image", "tokens", "params (M)", "GMAC")


def models(
    name: str | None = None,
    /,
    *,
    pretrained: Annotated[bool, Parameter(show_default=False)] = False,
    download: Annotated[bool, Parameter(show_default=False)] = False,
    overrides: Set = (),
    as_json: Json = False,
) -> None:
    """List the model presets, or show one, with parameters, MACs and tokens.

    The numbers are for one image and a head of 1000 classes.

    Examples
      vitrail models
      vitrail models S/16 --set image_size=384
      vitrail models --pretrained
      vitrail models vit_tiny_augreg --download

    Args:
        name: A preset such as S/16, with any patch size; or the name of pretrained weights.
        pretrained: List well-known weights that --init takes by name, with licence, size and published accuracy.
        download: Fetch the pretrained weights of that name.
    """
    if name in KNOWN or pretrained:
        _pretrained(name, download, as_json)
        return
    if download:
        raise UserError("--download takes the name of pretrained weights, which vitrail models --pretrained lists")
    if name is None and not overrides and not as_json:
        print(_published())
        name_next("train", DATA, "--model", "S/16")
        return
    from vitrail.config import override, parse_assignments, to_dict
    from vitrail.vit_config import ViTConfig
    from vitrail.vit_costs import count
    from vitrail.vit_presets import preset, presets

    names = presets() if name is None else [name]
    configs = [override(preset(each), parse_assignments(overrides, ViTConfig)) for each in names]
    costs = [count(config) for config in configs]
    if as_json:
        items = [
            {"name": each, "parameters": cost.parameters, "macs": cost.macs, "tokens": cost.tokens}
            | {"config": to_dict(config)}
            for each, config, cost in zip(names, configs, costs, strict=True)
        ]
        print_json(items if name is None else items[0])
        return
    shapes = [(each.dim, each.depth, each.heads, each.mlp_dim) for each in configs]
    print(table(COLUMNS, map(_row, names, shapes, (each.image_size for each in configs), costs)))
    if name is not None:
        print()
        print(table(["setting", "value"], _settings(to_dict(configs[0]))))
    name_next("train", DATA, "--model", names[0], quiet=as_json)


def _pretrained(name: str | None, fetch: bool, as_json: bool) -> None:
    """The table of well-known weights, or of those of one name, which are fetched if asked for."""
    if fetch:
        if name not in KNOWN:
            raise MissingArgument("--download needs the name of pretrained weights")
        known_weights.download(name)
    chosen = KNOWN if name not in KNOWN else {name: KNOWN[name]}
    if as_json:
        print_json([{"name": each, **dataclasses.asdict(known)} for each, known in chosen.items()])
        return
    columns = ("name", "on the hub", "revision", "licence", "MB", "top-1 accuracy", "by")
    rows = [
        (each, known.repo, known.revision[:8], known.licence, f"{known.megabytes:,}", f"{known.accuracy:.1f}%",
         known.measure)
        for each, known in chosen.items()
    ]  # fmt: skip
    print(table(columns, rows))
    note("accuracy on ImageNet-1k as published, not measured here; CLIP's and DINOv2's heads are trained on your data")
    note("a revision is a commit, written out by --json; main is the newest, which its owner can change")
    if fetch or len(chosen) > 1:
        name_next("train", DATA, "--init", name or "vit_tiny_augreg", *([] if fetch else ["--download"]), quiet=as_json)
    else:
        name_next("models", name, "--download", quiet=as_json)


def _published() -> str:
    """The table of the presets, from the list of their costs: no torch is needed."""
    from vitrail.vit_costs import IMAGE_SIZE, PUBLISHED, shape

    return table(COLUMNS, [_row(name, shape(name), IMAGE_SIZE, cost) for name, cost in PUBLISHED.items()])


def _row(name: str, shape: tuple[int, int, int, int], image_size: tuple[int, int], cost: Count) -> list[str]:
    size = "×".join(map(str, image_size))
    return [name, *map(str, shape), size, f"{cost.tokens:,}", _millions(cost.parameters), _billions(cost.macs)]


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f}"


def _billions(count: int) -> str:
    return f"{count / 1e9:,.2f}"


def _settings(data: dict[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """(``a.b``, value) as ``--set`` takes them."""
    from vitrail.config import written

    rows: list[tuple[str, str]] = []
    for key, value in data.items():
        if isinstance(value, dict):
            rows += _settings(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, written(value)))
    return rows
