"""A page as a browser's parser sees it, with the complaints that a validator would have."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "col"}
SHAPES = {"path", "line", "rect", "circle"}


@dataclass
class Node:
    """An element: its name, its attributes, and what is inside."""

    name: str
    attributes: dict[str, str | None]
    above: Node | None = None
    inside: list[Node | str] = field(default_factory=list)

    def all(self, name: str = "") -> list[Node]:
        """The elements below, of that name where one is given."""
        found = []
        for child in self.inside:
            if isinstance(child, Node):
                found += [child] * (not name or child.name == name) + child.all(name)
        return found

    @property
    def text(self) -> str:
        """All text below."""
        return "".join(c if isinstance(c, str) else c.text for c in self.inside)

    def get(self, attribute: str) -> str:
        """An attribute; empty where it has none."""
        return self.attributes.get(attribute) or ""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self.here = Node("", {})

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in <{tag}>"
        node = Node(tag, dict(attrs), self.here)
        self.here.inside.append(node)
        if tag not in VOID:
            self.here = node

    def handle_endtag(self, tag: str) -> None:
        assert self.here.name == tag, f"</{tag}> where <{self.here.name}> is open"
        assert self.here.above is not None
        self.here = self.here.above

    def handle_data(self, data: str) -> None:
        self.here.inside.append(data)


def parse(page: str) -> Node:
    """The document. AssertionError where elements are not closed in their order."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.here is reader.root, f"<{reader.here.name}> is never closed"
    return reader.root
