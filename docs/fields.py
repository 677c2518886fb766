"""Fields of the configurations on the API pages: type, default, sentence, choices and bounds, as pydantic has them.

The pages are made of the source alone, which does not say what a field takes over from an annotation; this reads it off
the class. A warning, which fails a strict build, is given for an option without a sentence.
"""

from __future__ import annotations

import importlib
import types
from typing import Annotated, Any, Literal, get_args, get_origin

import griffe
from pydantic.fields import FieldInfo

from bures.cli.options import choices_of
from bures.jobs.options import extra

_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most"}


class Fields(griffe.Extension):
    """Takes what the pages say of an option from the class; griffe-pydantic, which runs before, has found them."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Goes through the configurations of the package."""
        _visit(pkg)


def _visit(module: griffe.Module) -> None:
    for found in module.classes.values():
        if not found.is_alias and found.name.endswith("Config") and "pydantic-model" in found.labels:
            schema = getattr(importlib.import_module(module.path), found.name)
            for name, field in schema.model_fields.items():
                if name in found.members:
                    _describe(found.members[name], field)
            _leave_out(found, getattr(schema, "without", frozenset()))
    for child in module.modules.values():
        if not child.is_alias:
            _visit(child)


def _leave_out(found: griffe.Class, names: frozenset[str]) -> None:
    held = found.extra["griffe_pydantic"]["fields"]
    kept = lambda: {name: field for name, field in held().items() if name not in names}  # noqa: E731
    found.extra["griffe_pydantic"]["fields"] = kept


def _describe(attribute: Any, field: FieldInfo) -> None:
    if not field.description:
        griffe.get_logger("griffe.bures").warning("%s has no description", attribute.path)
        return
    text = field.description.removesuffix(".")
    if choices := choices_of(field):
        text += f": {', '.join(f'`{name}`' for name in choices)}"
    notes = [
        f"{words} {getattr(part, key)}"
        for part in field.metadata
        for key, words in _BOUNDS.items()
        if hasattr(part, key)
    ]
    if extra(field, "unset"):
        notes.append(f"None: {extra(field, 'unset')}")
    said = f"{text} ({'; '.join(notes)})." if notes else f"{text}."
    attribute.docstring = griffe.Docstring(said, parent=attribute)
    attribute.annotation = _said(field.annotation)
    attribute.value = None if field.is_required() else repr(field.default)


def _said(kind: Any) -> str:
    """A type without what is annotated."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _said(parts[0])
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, parts))}]"
    if origin is tuple:
        return f"tuple[{', '.join('...' if part is ... else _said(part) for part in parts)}]"
    if parts:
        return " | ".join(map(_said, parts))
    return "None" if kind is types.NoneType else kind.__name__
