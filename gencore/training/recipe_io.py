"""Recipes to JSON and back.

A recipe is a tree of frozen dataclasses. Each dataclass is written with its class name under ``"type"``; when read, the
name is looked up only among the classes that the field's annotation allows, so a file can never name code to import.
"""

import dataclasses
import difflib
import json
import types
import typing
from pathlib import Path
from typing import Any

from gencore.errors import InputError


def to_dict(recipe: Any) -> Any:
    """Return a recipe as plain JSON values, each dataclass with its ``"type"``."""
    if dataclasses.is_dataclass(recipe):
        fields = {field.name: to_dict(getattr(recipe, field.name)) for field in dataclasses.fields(recipe)}
        return {"type": type(recipe).__name__, **fields}
    if isinstance(recipe, tuple):
        return [to_dict(item) for item in recipe]
    return recipe


def from_dict(annotation: Any, data: dict, source: str = "recipe") -> Any:
    """Build a recipe from plain values.

    Parameters
    ----------
    annotation : type or union of types
        The dataclass to build, or a union of those allowed.
    data : dict
        What `to_dict` returned.
    source : str
        Name of the file, for messages.

    Raises
    ------
    InputError
        If a field is unknown, missing or of the wrong kind. The message names the field.
    """
    try:
        return _build(annotation, data)
    except _Fault as fault:
        raise InputError(f"{source}: field '{'.'.join(fault.path) or 'type'}': {fault.reason}") from None


def read(annotation: Any, path: Path) -> Any:
    """Build a recipe from a JSON file; errors name the file and the field."""
    try:
        data = json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: file is missing; is this the folder of a run or of a zoo model?") from None
    except ValueError as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from None
    return from_dict(annotation, data, str(path))


class _Fault(Exception):
    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.path: list[str] = []


def _build(annotation: Any, value: Any) -> Any:
    """Build a value of the annotated kind, or raise `_Fault`."""
    is_union = isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union
    members = typing.get_args(annotation) if is_union else (annotation,)
    if value is None and type(None) in members:
        return None
    members = [member for member in members if member is not type(None)]
    if all(dataclasses.is_dataclass(member) for member in members):
        return _build_dataclass({member.__name__: member for member in members}, value)
    (kind,) = members  # apart from None, only dataclasses are ever joined in a union
    if typing.get_origin(kind) is typing.Literal:
        if value not in typing.get_args(kind):
            raise _Fault(f"{value!r} is not one of {', '.join(map(repr, typing.get_args(kind)))}")
        return value
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise _Fault(f"{value!r} is not a list")
        return tuple(_build(typing.get_args(kind)[0], item) for item in value)
    # No quiet conversions: "3" is no number and 1 is no truth value. Whole numbers may stand for floats.
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, (int, float) if kind is float else kind):
        raise _Fault(f"{value!r} is not of type {kind.__name__}")
    return kind(value)


def _build_dataclass(allowed: dict[str, type], data: Any) -> Any:
    given = data.get("type") if isinstance(data, dict) else data
    if not isinstance(data, dict) or given not in allowed:
        raise _Fault(f"type {given!r} is not one of {', '.join(sorted(allowed))}")
    kind = allowed[given]
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    built = {}
    for name, value in data.items():
        if name == "type":
            continue
        try:
            if name not in fields:
                near = difflib.get_close_matches(name, fields, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"known fields: {', '.join(fields)}"
                raise _Fault(f"unknown in {given}; {hint}")
            built[name] = _build(hints[name], value)
        except _Fault as fault:
            fault.path.insert(0, name)
            raise
    for name, field in fields.items():
        if name not in built and field.default is dataclasses.MISSING:
            raise _Fault(f"{given} lacks the field '{name}'")
    try:
        return kind(**built)
    except InputError as error:  # the dataclass itself may refuse a value
        raise _Fault(str(error)) from None
