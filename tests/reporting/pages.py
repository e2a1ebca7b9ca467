"""A page as a tree, read by Python's own HTML parser."""

import base64
import io
from html.parser import HTMLParser

from PIL import Image

VOID = {"br", "img", "wbr", "meta", "link"}


class Node:
    """An element: ``name``, ``attrs``, ``parent`` and ``children``, texts among them."""

    def __init__(self, name, attrs=(), parent=None):
        self.name, self.attrs, self.parent, self.children = name, dict(attrs), parent, []

    def walk(self):
        """All elements inside, in order."""
        for child in self.children:
            if isinstance(child, Node):
                yield child
                yield from child.walk()

    def all(self, name, class_=None):
        """Elements of a name and, where one is given, of a class."""
        return [
            node
            for node in self.walk()
            if node.name == name and (not class_ or class_ in node.attrs.get("class", "").split())
        ]

    def one(self, name, class_=None):
        (found,) = self.all(name, class_)
        return found

    def by_id(self, name):
        (found,) = [node for node in self.walk() if node.attrs.get("id") == name]
        return found

    @property
    def text(self):
        """Everything that can be read, with single spaces."""
        return " ".join(self._text().split())

    def _text(self):
        parts = (c._text() if isinstance(c, Node) else c for c in self.children)
        return "".join(parts) + (" " if self.name not in ("wbr", "code", "b", "a") else "")

    def rows(self):
        """Texts of the cells of a table, its header first."""
        return [[c.text for c in row.children if isinstance(c, Node)] for row in self.all("tr")]


class _Parser(HTMLParser):
    def __init__(self):
        super().__init__()
        self.root = self.now = Node("document")

    def handle_starttag(self, name, attrs):
        node = Node(name, attrs, self.now)
        self.now.children.append(node)
        if name not in VOID:
            self.now = node

    def handle_endtag(self, name):
        assert name == self.now.name, f"</{name}> closes <{self.now.name}>"
        self.now = self.now.parent

    def handle_data(self, data):
        self.now.children.append(data)


def parse(path):
    """The page's tree; what is opened must be closed."""
    parser = _Parser()
    parser.feed(path.read_text(encoding="utf-8"))
    parser.close()
    assert parser.now is parser.root
    return parser.root


def decode(uri):
    """The picture in a data: URI."""
    head, _, content = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64", "data:image/gif;base64")
    image = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
    image.load()
    return image
