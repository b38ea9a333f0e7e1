# SPDX-License-Identifier: Apache-2.0
"""Configs: strict YAML in, frozen dataclasses out.

A config is a frozen dataclass whose annotations are its schema. Supported fields: bool,
int, float, str, None, Any, Literal, enums, dataclasses, tuple, list, dict[str, ...],
and unions of these. Dataclasses of one union are told apart by their field `kind`, a
Literal; one of them may lack it, and takes mappings without a `kind`.

The YAML is the core of YAML 1.2: `true`/`false` are the booleans, `1e-5` is a float,
`on`, `no` and dates are strings, and a repeated key, an alias or a tag is an error.
"""

import collections.abc
import dataclasses
import difflib
import enum
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from alignjax import strict_yaml

Config = TypeVar("Config")


def load(cls: type[Config], path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file as the dataclass `cls`.

    Args:
      cls: frozen dataclass; its annotations are the schema.
      path: UTF-8 YAML file with one mapping in it; an empty file is an empty mapping.
      overrides: `"optimizer.learning_rate=1e-4"`, applied in order; the value is
        YAML, and list items are addressed by number (`"stages.0.name=train"`).

    Raises:
      ValueError: names the file (or the override), the field, what was expected and
        what came.
    """
    mapping = _read(Path(path))
    origins = {}
    for override in overrides:
        origins[_override(mapping, override)] = f"override {override!r}"
    return _build(cls, mapping, _Place(str(path), origins))


def parse(
    cls: type[Config], mapping: Mapping[str, Any], where: str = "config"
) -> Config:
    """Check a mapping (of plain Python values) and make the dataclass `cls` of it.

    Args:
      cls: frozen dataclass; its annotations are the schema.
      mapping: field name to value, nested as the dataclass is.
      where: what error messages name as the source.

    Raises:
      ValueError: as in `load`.
    """
    return _build(cls, mapping, _Place(where, {}))


def overridden(mapping: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of plain settings with the overrides of `load` written into it."""
    copied = plain(mapping)
    for override in overrides:
        _override(copied, override)
    return copied


def plain(config: Any) -> Any:
    """The config as dicts, lists and scalars only: what JSON and YAML can hold."""
    if dataclasses.is_dataclass(config):
        fields = [field for field in dataclasses.fields(config) if field.init]
        return {field.name: plain(getattr(config, field.name)) for field in fields}
    if isinstance(config, enum.Enum):
        return config.value
    if isinstance(config, Mapping):
        return {key: plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [plain(value) for value in config]
    return config


def dump(config: Any) -> str:
    """YAML of the complete config, defaults included; `load` gives it back."""
    return strict_yaml.write(plain(config))


def digest(config: Any) -> str:
    """SHA-256 (hex) of the config as canonical JSON: sorted keys, no spaces, UTF-8.

    Equal configs have equal digests however they were written: `1` and `1.0` for a
    float field, a default left out or spelled out.
    """
    text = json.dumps(
        plain(config), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such config file")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: not UTF-8: {error.reason}") from error
    mapping = strict_yaml.read(text, str(path))
    if mapping is None:
        return {}
    if not isinstance(mapping, dict):
        raise ValueError(f"{path}: expected a mapping of fields, got {_show(mapping)}")
    return mapping


def _override(mapping: dict[str, Any], override: str) -> str:
    """Write one `a.b=value` into the mapping; returns its dotted path."""
    dotted, equals, text = override.partition("=")
    dotted = dotted.strip()
    if not equals or not all(dotted.split(".")):
        raise ValueError(
            f"override {override!r}: expected field=value (section.field=value for a "
            "field of a section), e.g. seed=1"
        )
    # Nothing after the sign is the empty text; `null` is written out.
    value = strict_yaml.read(text, f"override {override!r}") if text.strip() else ""
    *parents, last = dotted.split(".")
    target: Any = mapping
    for name in parents:
        if isinstance(target, dict) and target.get(name) is None:
            target[name] = {}
        target = target[_slot(target, name, override)]
    target[_slot(target, last, override)] = value
    return dotted


def _slot(target: Any, name: str, override: str) -> str | int:
    """The key or index that `name` means in a dict or a list."""
    if isinstance(target, dict):
        return name
    if isinstance(target, list) and name.isdecimal() and int(name) < len(target):
        return int(name)
    raise ValueError(f"override {override!r}: there is no {name!r} in {_show(target)}")


# Mapping to dataclass


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a value came from: a source, the overrides in it, and a dotted path."""

    source: str
    origins: dict[str, str]
    path: str = ""

    def child(self, name: str | int) -> "_Place":
        path = f"{self.path}.{name}" if self.path else str(name)
        return dataclasses.replace(self, path=path)

    def error(self, problem: str) -> ValueError:
        """`file: dotted.field: problem`, or the override instead of the file."""
        return ValueError(
            ": ".join(part for part in (self.where(), self.path, problem) if part)
        )

    def where(self) -> str:
        """The last override that set this field; else the source."""
        for dotted, origin in reversed(self.origins.items()):
            if f"{self.path}.".startswith(f"{dotted}."):
                return origin
        return self.source

    def section_error(self, problem: str) -> ValueError:
        """As `error`, for a problem of several fields: names overrides among them."""
        prefix = f"{self.path}." if self.path else ""
        inside = [
            origin
            for dotted, origin in self.origins.items()
            if dotted.startswith(prefix)
        ]
        sources = " with ".join([self.where(), *inside])
        return dataclasses.replace(self, source=sources, origins={}).error(problem)


def _build(cls: type[Config], mapping: Any, place: _Place) -> Config:
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise TypeError(f"{cls!r} is not a dataclass")
    if not isinstance(mapping, Mapping):
        raise place.error(
            f"expected the fields of {cls.__name__}, got {_show(mapping)}"
        )
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for name in mapping:
        if name not in fields:
            raise _unknown(cls, name, list(fields), place)
    required = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing := [name for name in required if name not in mapping]:
        noun = "field" if len(missing) == 1 else "fields"
        raise place.error(f"{cls.__name__} needs the {noun} {', '.join(missing)}")
    hints = _hints(cls)
    values = {
        name: _convert(hints[name], value, place.child(name))
        for name, value in mapping.items()
    }
    try:
        return cls(**values)
    except ValueError as error:
        raise place.section_error(str(error)) from error


def _unknown(cls: type, name: Any, fields: list[str], place: _Place) -> ValueError:
    nearest = difflib.get_close_matches(str(name), fields, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ";"
    at = f" at {place.path}" if place.path else ""
    return ValueError(
        f"{place.child(name).where()}: {cls.__name__} has no field {name!r}{hint} "
        f"(fields: {', '.join(fields)}){at}"
    )


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _convert(annotation: Any, value: Any, place: _Place) -> Any:
    """Check one value against its annotation; returns it in the annotated type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _convert(_member(arguments, value, place), value, place)
    if not _accepts(annotation, value):
        expected = _name(annotation)
        quote = "" if annotation is not str or value is None else "; quote it?"
        raise place.error(f"expected {expected}, got {_show(value)}{quote}")
    if annotation is float:
        return _finite(value, place)
    if origin in _SEQUENCES or annotation in (tuple, list):
        return _sequence(origin or annotation, arguments, value, place)
    if origin in _MAPPINGS or annotation is dict:
        item = arguments[1] if arguments else Any
        return {
            _key(key, place): _convert(item, entry, place.child(key))
            for key, entry in value.items()
        }
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return annotation(value)
    if dataclasses.is_dataclass(annotation):
        return _build(typing.cast(type, annotation), value, place)
    return value


_SEQUENCES = (tuple, list, collections.abc.Sequence)
_MAPPINGS = (dict, collections.abc.Mapping)


def _accepts(annotation: Any, value: Any) -> bool:
    """Whether the value has the outer shape of the annotation; not its contents."""
    origin = typing.get_origin(annotation) or annotation
    if annotation is Any:
        return True
    if annotation in (None, type(None)):
        return value is None
    if annotation is float:
        return type(value) in (float, int)
    if annotation in (bool, int, str):
        return type(value) is annotation
    if origin is typing.Literal:
        return any(
            type(value) is type(choice) and value == choice
            for choice in typing.get_args(annotation)
        )
    if origin in _SEQUENCES:
        return isinstance(value, (list, tuple))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return value in [member.value for member in annotation]
    if origin in _MAPPINGS or dataclasses.is_dataclass(annotation):
        return isinstance(value, Mapping)
    raise TypeError(f"a config field cannot have the type {annotation!r}")


def _member(members: tuple[Any, ...], value: Any, place: _Place) -> Any:
    """The member of a union that takes the value: an exact match, or int as float."""
    accepting = [member for member in members if _accepts(member, value)]
    exact = [member for member in accepting if member is type(value)]
    sections = [m for m in accepting if dataclasses.is_dataclass(m)]
    if len(sections) > 1:
        return _of_kind(sections, value, place)
    if accepting:
        return (exact or accepting)[0]
    others = [member for member in members if member is not type(None)]
    if len(others) == 1:
        return others[0]
    expected = " or ".join(_name(member) for member in members)
    raise place.error(f"expected {expected}, got {_show(value)}")


def _of_kind(sections: list[Any], value: Any, place: _Place) -> Any:
    """The dataclass among several whose `kind` is the one that the mapping gives."""
    kinds = {
        kind: section
        for section in sections
        for kind in typing.get_args(_hints(section).get("kind")) or (None,)
    }
    given = value.get("kind")
    if isinstance(given, (str, type(None))) and given in kinds:
        return kinds[given]
    known = " or ".join(repr(kind) for kind in kinds if kind is not None)
    if "kind" not in value:
        raise place.error(f"needs the field kind: {known}")
    raise place.child("kind").error(f"expected {known}, got {_show(given)}")


def _finite(value: float | int, place: _Place) -> float:
    if isinstance(value, int) and abs(value) > 2**53:
        raise place.error(f"{value} is too large to be exact as a float")
    if math.isnan(value):
        raise place.error("expected a float, got NaN")
    return float(value)


def _sequence(kind: Any, items: tuple[Any, ...], value: Any, place: _Place) -> Any:
    if kind is tuple and items and items[-1] is not Ellipsis:
        if len(items) != len(value):
            raise place.error(f"expected {len(items)} items, got {len(value)}")
        annotations = items
    else:
        annotations = (items[0] if items else Any,) * len(value)
    converted = [
        _convert(annotation, entry, place.child(index))
        for index, (annotation, entry) in enumerate(
            zip(annotations, value, strict=True)
        )
    ]
    return converted if kind is list else tuple(converted)


def _key(key: Any, place: _Place) -> str:
    if not isinstance(key, str):
        raise place.error(f"the key {key!r} must be a string")
    return key


def _name(annotation: Any) -> str:
    if annotation in (None, type(None)):
        return "null"
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(repr(choice) for choice in typing.get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " or ".join(repr(member.value) for member in annotation)
    if dataclasses.is_dataclass(annotation):
        return f"the fields of {typing.cast(type, annotation).__name__}"
    if typing.get_args(annotation):
        return str(annotation).removeprefix("typing.").removeprefix("collections.abc.")
    return getattr(annotation, "__name__", str(annotation))


def _show(value: Any) -> str:
    text = repr(value)
    shown = text if len(text) <= 60 else text[:57] + "..."
    return "null" if value is None else f"{type(value).__name__} {shown}"
