"""Every setting of a configuration model, with its meaning from the docstrings, as a page."""

import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from inspect import cleandoc
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from jobs.documentation.tables import table

_ATTRIBUTE = re.compile(r"    (\w+): (.+)")
_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >="}
_BY_NAME = "by name: "
_PLAIN = {int: "integer", float: "number", str: "text", bool: "true or false"}


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: dotted; an entry of several is `*`.
        takes: its type and bounds in words.
        default: as in YAML, or "needed".
        meaning: from the docstring of the model that has it.
    """

    name: str
    takes: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Group:
    """Settings under one name.

    Attributes:
        name: dotted; empty for the whole.
        about: the model's docstring without its attributes, and what its owner says of it.
        settings: those that hold values.
        groups: those that hold settings.
    """

    name: str
    about: str
    settings: tuple[Setting, ...]
    groups: tuple["Group", ...]


def group_of(model: type[BaseModel], name: str = "", role: str = "") -> Group:
    """A configuration model and all below it.

    Args:
        model: of the settings.
        name: dotted, under which they stand.
        role: what the model that holds this one says of it.
    """
    settings, groups = [], []
    meanings = _meanings(model)
    for field, info in model.model_fields.items():
        dotted, meaning = f"{name}.{field}" if name else field, meanings.get(field, "")
        nested = _nested(info.annotation)
        if nested is None:
            settings.append(_setting(dotted, info, meaning))
        else:
            below, several = nested
            of = f"As `{field}`: {meaning}" if meaning else ""
            off = " Nothing of it holds unless it is written." if info.default is None else ""
            groups.append(group_of(below, f"{dotted}.*" if several else dotted, f"{of}{off}"))
    about = "\n\n".join(part for part in (_about(model), role.strip()) if part)
    return Group(name, about, tuple(settings), tuple(groups))


def all_settings(group: Group) -> Iterator[Setting]:
    """In the order of the page."""
    yield from group.settings
    for below in group.groups:
        yield from all_settings(below)


def is_setting(name: str, group: Group) -> bool:
    """Whether a setting or a group has this dotted name, in which `*` stands for any key."""
    return any(fnmatchcase(known, name) or fnmatchcase(name, known) for known in _names(group))


def rendered(title: str, about: str, group: Group) -> str:
    """The page."""
    return "\n".join([f"# {title}", "", about, "", *_section(group)])


def _names(group: Group) -> Iterator[str]:
    for setting in group.settings:
        yield setting.name
        if setting.takes.startswith(_BY_NAME):
            yield f"{setting.name}.*"
    for below in group.groups:
        yield below.name
        yield from _names(below)


def _section(group: Group) -> Iterator[str]:
    if group.name:
        yield from (f"## `{group.name}`", "", group.about, "")
    if group.settings:
        rows = ((f"`{s.name}`", s.takes, s.default, s.meaning) for s in group.settings)
        yield from (table(("setting", "takes", "default", "meaning"), rows), "")
    for below in group.groups:
        yield from _section(below)


def _setting(name: str, info: FieldInfo, meaning: str) -> Setting:
    bounds = [
        f"{sign} {getattr(one, bound)}"
        for one in info.metadata
        for bound, sign in _BOUNDS.items()
        if getattr(one, bound, None) is not None
    ]
    takes = ", ".join([_takes(info.annotation), *bounds])
    return Setting(name, takes, _default(info), meaning)


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "needed"
    if value is None:
        return "none"
    if isinstance(value, StrEnum):
        value = value.value
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value in ((), {}) else str(value)


def _takes(annotation: Any) -> str:
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _takes(inside[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_takes(one) for one in inside if one is not types.NoneType)
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in inside)
    if origin is tuple:
        return f"a list: {_takes(inside[0])}"
    if origin is dict:
        return f"{_BY_NAME}{_takes(inside[1])}"
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return ", ".join(f"`{one.value}`" for one in annotation)
    return _PLAIN.get(annotation, "value")


def _nested(annotation: Any) -> tuple[type[BaseModel], bool] | None:
    """The model that an annotation holds, and whether there may be several of it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    several = get_origin(annotation) in (dict, tuple)
    for one in get_args(annotation):
        if (found := _nested(one)) is not None:
            return found[0], found[1] or several
    return None


def _about(model: type[BaseModel]) -> str:
    return cleandoc(model.__doc__ or "").split("\nAttributes:")[0].strip()


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """By field, those of base classes included."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if issubclass(one, BaseModel):
            found |= _attributes(cleandoc(one.__doc__ or ""))
    return found


def _attributes(docstring: str) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in docstring.partition("\nAttributes:\n")[2].splitlines():
        if match := _ATTRIBUTE.fullmatch(line):
            name = match[1]
            found[name] = match[2]
        elif name and line.startswith("        "):
            found[name] += f" {line.strip()}"
    return found
