"""Frozen configs: typed dataclasses that refuse unknown keys and travel as JSON or YAML.

Declare one in the file of the thing that it configures::

    @config
    class MlpConfig:
        kind: Literal["gelu", "swiglu"] = "gelu"

    override(MlpConfig(), ["kind=swiglu"])
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

import pydantic
import yaml
from pydantic.dataclasses import dataclass as _pydantic_dataclass

from vitrail.errors import UserError, did_you_mean

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def config(cls: type[T]) -> type[T]:
    """Class decorator: a frozen, keyword-only, validated dataclass in which an unknown key is an error."""
    settings = pydantic.ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)
    return _pydantic_dataclass(frozen=True, kw_only=True, config=settings)(cls)  # type: ignore[return-value]


def to_dict(value: Any) -> dict[str, Any]:
    """The config as plain JSON types (tuples become lists)."""
    result: dict[str, Any] = pydantic.TypeAdapter(type(value)).dump_python(value, mode="json")
    return result


def from_dict(cls: type[T], data: dict[str, Any], *, where: str = "") -> T:
    """Build ``cls`` from plain types.

    Args:
        where: what the data came from (a file name), repeated in the error.

    Raises:
        UserError: unknown keys (with the closest known one) and values of the wrong type or range.
    """
    try:
        return pydantic.TypeAdapter(cls).validate_python(data)
    except pydantic.ValidationError as error:
        prefix = f"{where}: " if where else ""
        raise UserError(prefix + "; ".join(_explain(cls, item) for item in error.errors()[:5])) from None


def override(value: T, assignments: Iterable[str]) -> T:
    """A copy of the config with ``a.b=c`` assignments applied; ``c`` is read as YAML (``null``, ``[1, 2]``, ``1e-3``).

    Raises:
        UserError: a malformed assignment, an unknown key or a bad value.
    """
    data = to_dict(value)
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        if not separator:
            raise UserError(f"{assignment!r} is not an assignment; write it as key.sub_key=value")
        _assign(data, path.strip().split("."), read_scalar(text), path.strip())
    return from_dict(type(value), data)


def read_scalar(text: str) -> Any:
    """A YAML value from text, with ``1e-3`` read as the number it is (YAML 1.1 takes it for a string)."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def save(value: Any, path: str | Path) -> None:
    """Write the config to ``.json`` or ``.yaml``."""
    path = Path(path)
    data = to_dict(value)
    if path.suffix == ".json":
        path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    else:
        path.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")


def load(cls: type[T], path: str | Path) -> T:
    """Read a config from ``.json`` or ``.yaml``.

    Raises:
        UserError: a missing, malformed or mismatching file.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UserError(f"cannot read the config {path}: {reason}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no mapping of settings; write it as 'key: value' lines")
    return from_dict(cls, data, where=str(path))


def _assign(data: dict[str, Any], keys: list[str], value: Any, path: str) -> None:
    *parents, last = keys
    for key in parents:
        if key not in data:
            raise UserError(f"unknown setting {path!r}; {did_you_mean(key, data)}")
        if data[key] is None:
            data[key] = {}
        if not isinstance(data[key], dict):
            raise UserError(f"setting {path!r}: {key!r} is a single value and has no parts")
        data = data[key]
    data[last] = value


def _explain(cls: Any, item: Any) -> str:
    location = [str(part) for part in item["loc"]]
    name = ".".join(location) or getattr(cls, "__name__", "value")
    if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"unknown setting {name!r}; {did_you_mean(location[-1], _field_names(cls, location[:-1]))}"
    message = item["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"setting {name!r} = {item['input']!r}: {message}"


def _field_names(cls: Any, location: list[str]) -> list[str]:
    for part in location:
        hints = {f.name: f.type for f in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else {}
        fields = getattr(cls, "__pydantic_fields__", {})
        cls = fields[part].annotation if part in fields else hints.get(part)
    return [f.name for f in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
