# SPDX-License-Identifier: Apache-2.0
"""The YAML that configs are written in: YAML 1.2's core, without its surprises.

`true` and `false` are the booleans, `1e-5` is a float, `1_000` an int; `on`, `no`,
`010` and dates are strings. A repeated key, an alias, a merge key or a tag is an error.
"""

import math
import re
from typing import Any, ClassVar

import yaml


def read(text: str, where: str) -> Any:
    """The value of the one document in `text`; None if it is empty.

    Raises:
      ValueError: `where:line:column: what is wrong`.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        spot = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ValueError(f"{where}{spot}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{where}: not YAML: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{where}: nested too deeply") from error


def write(value: Any) -> str:
    """The value (dicts, lists, scalars) as YAML that `read` gives back."""
    return yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=88,
    )


class _Loader(yaml.SafeLoader):
    """YAML 1.2 core scalars, unique keys, no aliases."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _at(event, "aliases are not supported: write the value out")
        if event.tag is not None:
            raise _at(event, f"tags are not supported: remove {event.tag!r}")
        return super().compose_node(parent, index)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge keys (`<<`) are not supported: there is nothing to flatten."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise _at(key, "a key must be a string: quote it")
            if key.value in lines:
                first = lines[key.value]
                raise _at(key, f"duplicate key {key.value!r} (first on line {first})")
            lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        if len(text) > 100:
            raise _at(node, f"a number of {len(text)} digits")
        return int(text)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        text = str(self.construct_scalar(node)).lower()
        if text.lstrip("+-") in (".inf", ".nan"):
            return float(text.replace(".", ""))
        if math.isinf(float(text)):
            raise _at(node, f"{text} is too large for a float")
        return float(text)


def _at(spot: Any, problem: str) -> yaml.MarkedYAMLError:
    """An error at a node or an event."""
    return yaml.MarkedYAMLError(None, None, problem, spot.start_mark)


class _Dumper(yaml.SafeDumper):
    """Quotes every string that `_Loader` or a YAML 1.1 reader would not see as one."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_SCALARS = (
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)$"), list("-+0123456789")),
    (
        "float",
        re.compile(
            r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
            r"|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))$|^\.(?:nan|NaN|NAN)$"
        ),
        list("-+.0123456789"),
    ),
)
for _scalar, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_scalar}", _pattern, _first)
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_scalar}", _pattern, _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
