"""Elements of HTML and SVG. Text is escaped because there is no other way in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import TypeAlias

_VOID = frozenset({"meta", "br", "hr", "col"})
# what neither HTML nor SVG can hold, whatever the escape: controls and halves of characters; and
# marks that make text read in another order than it is
_UNFIT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]"
)


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[Child] | None"
Value: TypeAlias = str | float | bool | None


def tag(element: str, /, *children: Child, **attributes: Value) -> Markup:
    """An element. ``class_`` is ``class``, other underscores are hyphens; None leaves one out."""
    found = "".join(_attribute(key, value) for key, value in attributes.items())
    if element in _VOID:
        return Markup(f"<{element}{found}>")
    return Markup(f"<{element}{found}>{join(children)}</{element}>")


def join(child: Child) -> Markup:
    """Children in their order; plain strings are escaped."""
    if child is None:
        return Markup("")
    if isinstance(child, Markup):
        return child
    if isinstance(child, str):
        return Markup(escape(clean(child), quote=False))
    return Markup("".join(join(inner) for inner in child))


def clean(text: str) -> str:
    """``text`` with a replacement character for what no page can hold."""
    return _UNFIT.sub("\ufffd", text)


def _attribute(key: str, value: Value) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    written = f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
    return f' {name}="{escape(clean(written))}"'
