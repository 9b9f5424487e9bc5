"""The presets and what they cost."""

from __future__ import annotations

from vitrail.terminal.options import Json, Set, print_json


def models(name: str | None = None, /, *, overrides: Set = (), as_json: Json = False) -> None:
    """List the model presets, or show one, with parameters, MACs and tokens.

    The numbers are for one image and a head of 1000 classes.

    Examples
      vitrail models
      vitrail models S/16 --set image_size=384

    Args:
        name: A preset such as S/16; any patch size goes.
    """
    from vitrail.config import override, parse_assignments, to_dict
    from vitrail.console import table
    from vitrail.vit import ViTConfig
    from vitrail.vit_presets import Count, count, preset, presets

    def row(name: str, config: ViTConfig, cost: Count) -> list[str]:
        size = "×".join(map(str, config.image_size))
        shape = [config.dim, config.depth, config.heads, config.mlp_dim]
        return [name, *map(str, shape), size, f"{cost.tokens:,}", _millions(cost.parameters), _billions(cost.macs)]

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
    columns = ["model", "dim", "depth", "heads", "mlp", "image", "tokens", "params (M)", "GMAC"]
    print(table(columns, map(row, names, configs, costs)))
    if name is not None:
        print()
        print(table(["setting", "value"], _settings(to_dict(configs[0]))))


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f}"


def _billions(count: int) -> str:
    return f"{count / 1e9:,.2f}"


def _settings(data: dict[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """(``a.b``, value) as ``--set`` takes them."""
    rows: list[tuple[str, str]] = []
    for key, value in data.items():
        if isinstance(value, dict):
            rows += _settings(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, "null" if value is None else str(value).replace("'", "")))
    return rows
