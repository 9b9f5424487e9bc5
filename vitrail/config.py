"""Frozen configs: typed dataclasses that reject unknown keys and are stored as JSON or YAML.

Declare one in the file of the thing that it configures::

    @config
    class MlpConfig:
        kind: Literal["gelu", "swiglu"] = "gelu"

    override(MlpConfig(), {"kind": "swiglu"})
"""

from __future__ import annotations

import dataclasses
import functools
import json
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar, dataclass_transform, get_args, get_origin

import pydantic
import yaml
from pydantic.dataclasses import dataclass as _pydantic_dataclass

from vitrail import files, plain_yaml
from vitrail.errors import UserError, did_you_mean
from vitrail.plain_yaml import YamlError

T = TypeVar("T")
Key: TypeAlias = str | int
"""A key of a mapping, or an index in a list."""

Size = Annotated[
    tuple[Annotated[int, pydantic.Field(gt=0)], Annotated[int, pydantic.Field(gt=0)]],
    pydantic.BeforeValidator(lambda value: (value, value) if isinstance(value, int) else value),
]
"""(height, width); one integer means a square."""


@dataclass_transform(frozen_default=True, kw_only_default=True)
def config(cls: type[T]) -> type[T]:
    """Class decorator: a frozen, keyword-only, validated dataclass in which an unknown key is an error."""
    settings = pydantic.ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)
    made = _pydantic_dataclass(frozen=True, kw_only=True, config=settings)(cls)
    validate = made.__init__

    @functools.wraps(validate)
    def __init__(self: Any, **values: Any) -> None:
        try:
            validate(self, **values)
        except pydantic.ValidationError as error:
            raise UserError(_explain_all(made, error)) from None

    made.__init__ = __init__  # type: ignore[method-assign]
    if "__repr__" not in vars(cls) or cls.__repr__ is made.__repr__:
        made.__repr__ = _short  # type: ignore[method-assign]
    return made  # type: ignore[return-value]


def _short(value: Any) -> str:
    """``ViTConfig(dim=384, heads=6)``: the fields that differ from their defaults, long values abbreviated."""
    changed = []
    for field in dataclasses.fields(value):
        own = getattr(value, field.name)
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if own != default:
            shown = repr(own) if dataclasses.is_dataclass(own) else reprlib.repr(own)
            changed.append(f"{field.name}={shown}")
    return f"{type(value).__name__}({', '.join(changed)})"


def to_dict(value: object) -> dict[str, Any]:
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
        raise UserError((f"{where}: " if where else "") + _explain_all(cls, error)) from None


def override(value: T, changes: Mapping[str, object]) -> T:
    """A copy of the config with ``{"a.b": value}`` changes applied in order; ``a.1.b`` is in the second item of a list.

    Values are plain types or configs. For changes written as text, see :func:`parse_assignments`.

    Raises:
        UserError: an unknown path, an index that does not exist, or a bad value.
    """
    data = to_dict(value)
    for path, new in changes.items():
        if _inside_a_name(data, path.split(".")):
            data = to_dict(from_dict(type(value), data))
        _assign(type(value), data, path, to_dict(new) if dataclasses.is_dataclass(new) else new)
    return from_dict(type(value), data)


def parse_assignments(assignments: Iterable[str], cls: type | None = None) -> dict[str, object]:
    """``["a.b=c"]`` → ``{"a.b": c}``, as :func:`override` takes it.

    ``c`` is read as YAML (``null``, ``[1, 2]``, ``1e-3``), but where ``cls`` has a string and YAML reads another type,
    it stays as written: ``name=no`` needs no quotes.

    Args:
        cls: the config class that the paths are in.

    Raises:
        UserError: a malformed assignment.
    """
    changes: dict[str, object] = {}
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        path = path.strip()
        if not separator or not all(path.split(".")):
            raise UserError(f"{assignment!r} is not an assignment; write it as key.sub_key=value")
        value = read_scalar(text)
        changes.pop(path, None)  # the last one counts, and comes after those before it
        changes[path] = text if _needs_string(cls, path, value) else value
    return changes


def read_scalar(text: str) -> object:
    """A YAML value from text, with ``1e-3`` read as the number it is (YAML 1.1 takes it for a string)."""
    try:
        value = plain_yaml.parse(text)
    except YamlError:
        return text
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def written(value: object) -> str:
    """A value of a config on one line, as a person writes it for ``--set``."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(written, value)) + "]"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def save(value: object, path: str | Path) -> None:
    """Write the config to ``.json`` or ``.yaml``."""
    path = Path(path)
    data = to_dict(value)
    if path.suffix == ".json":
        files.write_json(path, data)
    else:
        files.write_text(path, dump(data))


def dump(data: dict[str, Any], *, short: bool = False) -> str:
    """Plain types as YAML, which :func:`load` reads back as they were.

    Args:
        short: lists and mappings of single values on one line.
    """
    style = None if short else False
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=style)
    return text


def load(cls: type[T], path: str | Path) -> T:
    """Read a config from ``.json`` or ``.yaml``.

    Raises:
        UserError: a missing, malformed or mismatching file.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8", opener=files.regular) as file:
            text = file.read()
        data = json.loads(text) if path.suffix == ".json" else plain_yaml.parse(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UserError(f"cannot read the config {path}: {reason}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no mapping of settings; write it as 'key: value' lines")
    return from_dict(cls, data, where=str(path))


class _Dumper(yaml.SafeDumper):
    """Quotes strings with control characters: PyYAML writes some (U+0085) such that they are read back as a space."""


_Dumper.add_representer(
    str, lambda dumper, text: dumper.represent_str(text) if text.isprintable() else _quoted(dumper, text)
)


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')


class _NewConfig(dict[Key, Any]):
    """A config in place of null, with the settings given so far; its class checks their names in the end."""


def _assign(cls: type, data: Any, path: str, value: object) -> None:
    """Put ``value`` at ``path``. A part that a mapping of any names lacks, such as a task's options, is begun."""
    *parents, last = path.split(".")
    for depth, parent in enumerate(parents):
        key = _key(data, parent, path)
        if isinstance(data, dict) and key not in data:
            of_any_names = any(get_origin(each) is dict for each in _annotations_at(cls, parents[:depth]))
            if not (of_any_names or isinstance(data, _NewConfig)):
                raise UserError(f"unknown setting {path!r}; {did_you_mean(parent, data)}")
            data[key] = None
        if data[key] is None:
            data[key] = _NewConfig()
        if not isinstance(data[key], dict | list):
            raise UserError(f"setting {path!r}: {parent!r} is a single value and has no parts")
        data = data[key]
    data[_key(data, last, path)] = value


def _key(data: Any, written: str, path: str) -> Key:
    """What was written, as a key of the mapping or an index in the list ``data``."""
    if isinstance(data, dict):
        return written
    if written not in map(str, range(len(data))):
        whole = path.partition(f".{written}")[0]
        hint = f"they count from 0 to {len(data) - 1}" if data else f"set {whole} as one value"
        raise UserError(f"setting {path!r}: there is no {written!r} in a list of {len(data)}; {hint}")
    return int(written)


def _inside_a_name(data: Any, keys: list[str]) -> bool:
    """Is the path inside a setting that an earlier change gave by name (``augment=deit``)?"""
    for key in keys[:-1]:
        parts = {str(i): part for i, part in enumerate(data)} if isinstance(data, list) else data
        data = parts.get(key) if isinstance(parts, dict) else None
    return isinstance(data, str)


def _needs_string(cls: type | None, path: str, value: object) -> bool:
    """Does the setting at ``path`` reject ``value`` because it is a string?"""
    errors: set[str] = set()
    for annotation in () if cls is None or isinstance(value, str) else _annotations_at(cls, path.split(".")):
        try:
            pydantic.TypeAdapter(annotation).validate_python(value)
        except pydantic.ValidationError as error:
            errors |= {item["type"] for item in error.errors()}
        else:
            return False
    return not errors.isdisjoint(("string_type", "literal_error"))


def _annotations_at(annotation: Any, path: list[str]) -> list[Any]:
    """The types that a setting may have, one for each member of a union on the way to it."""
    if annotation is ...:  # of tuple[T, ...]
        return []
    if not path:
        return [annotation]
    key, *rest = path
    fields = getattr(annotation, "__pydantic_fields__", {})
    if key in fields:
        return _annotations_at(fields[key].annotation, rest)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict:
        return _annotations_at(arguments[1], rest)
    inside = rest if origin in (tuple, list) else path
    return [found for argument in arguments for found in _annotations_at(argument, inside)]


def _explain_all(cls: Any, error: pydantic.ValidationError) -> str:
    return "; ".join(_explain(cls, item) for item in error.errors()[:5])


def _explain(cls: Any, item: Any) -> str:
    location = [str(part) for part in item["loc"]]
    name = ".".join(location) or getattr(cls, "__name__", "value")
    if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"unknown setting {name!r}; {did_you_mean(location[-1], _field_names(cls, location[:-1]))}"
    if item["type"] == "missing":
        return f"setting {name!r} is missing; give it a value"
    message = item["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"setting {name!r} = {reprlib.repr(item['input'])}: {message}"


def _field_names(cls: Any, location: list[str]) -> list[str]:
    configs = [cls]
    for part in location:
        fields = [c.__pydantic_fields__[part] for c in configs if part in c.__pydantic_fields__]
        # A part that names no field is an index in a list or a member of a union.
        configs = [c for field in fields for c in _configs_in(field.annotation)] or configs
    return [field.name for c in configs for field in dataclasses.fields(c)]


def _configs_in(annotation: Any) -> list[Any]:
    """The config classes in a type: those of ``tuple[A, ...] | B | None`` are A and B."""
    if hasattr(annotation, "__pydantic_fields__"):
        return [annotation]
    return [c for argument in get_args(annotation) for c in _configs_in(argument)]
