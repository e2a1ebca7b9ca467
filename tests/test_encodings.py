"""Text is read and written as UTF-8, whatever the locale. Oracle: the package's syntax trees."""

import ast
import functools

import pytest

from tests.engine.small import ROOT

FOLDERS = ("vireid_plugins", "vireid", "tools")
# what opens text -> the number of positional arguments before ``encoding``
OPENERS = {"open": 3, "fdopen": 3, "read_text": 0, "write_text": 1, "TextIOWrapper": 1}
OTHER = ("os.open", "Image.open", "archive.open", "self._archive.open")  # these open no text
# What parses a file. Each kind of file has one reader, which refuses what is damaged in a sentence.
PARSERS = {"json.load", "json.loads", "yaml.load", "yaml.safe_load", "csv.reader", "csv.DictReader"}
PARSERS |= {
    "scipy.io.loadmat",
    "np.load",
    "np.loadtxt",
    "np.genfromtxt",
    "torch.load",
    "pickle.load",
}
# Outside the readers -> why that is not a file of a user, or who else checks it.
EXEMPT = {
    "vireid_plugins/benchmarks/measuring.py": "what its own process has just printed",
    "vireid_plugins/comparison/worker.py": "words that the comparison gave to its own process",
    "vireid_plugins/evaluation/neighbors/search.py": "arrays whose checksums it has verified",
    "vireid_plugins/runs/metrics_log.py": "single lines; damaged ones are counted, not raised",
}


@functools.cache
def calls(source):
    """Return the calls in a program: the name of what is called, and the node."""
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [(ast.unparse(node.func), node) for node in nodes]


def is_binary(node):
    """Return whether a mode says that bytes are read or written, or may say so."""
    modes = [*node.args[:2], *(one.value for one in node.keywords if one.arg == "mode")]
    words = [one.value for one in modes if isinstance(one, ast.Constant)]
    return any(isinstance(word, str) and "b" in word and len(word) < 5 for word in words)


def without_encoding(source):
    """Return the lines that open text in the encoding of the locale."""
    found = []
    for name, node in calls(source):
        last = name.rsplit(".", 1)[-1]
        named = {one.arg for one in node.keywords}
        if last in OPENERS and name not in OTHER:
            if "encoding" not in named and len(node.args) <= OPENERS[last] and not is_binary(node):
                found.append(node.lineno)
        if named & {"text", "universal_newlines"} and "encoding" not in named:
            if last in ("run", "Popen", "check_output"):
                found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("open(p)", True),
        ("open(p, 'w')", True),
        ("path.open()", True),
        ("path.read_text()", True),
        ("path.write_text(text)", True),
        ("subprocess.run(words, text=True)", True),
        ("open(p, 'rb')", False),
        ("path.open('wb')", False),
        ("open(p, encoding='utf-8')", False),
        ("path.write_text(text, encoding='utf-8')", False),
        ("subprocess.run(words, text=True, encoding='utf-8')", False),
        ("Image.open(p)", False),
    ],
)
def test_the_search_finds_what_it_should(line, wrong):
    assert bool(without_encoding(line)) == wrong


def sources():
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def test_every_text_names_its_encoding():
    assert len(sources()) > 200
    found = {
        path.relative_to(ROOT).as_posix(): lines
        for path in sources()
        if (lines := without_encoding(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_files_are_parsed_in_readers_alone():
    found = {
        path.relative_to(ROOT).as_posix()
        for path in sources()
        if path.relative_to(ROOT).parts[0] != "tools" and path.parent.name != "readers"
        for name, _ in calls(path.read_text(encoding="utf-8"))
        if name in PARSERS
    }
    assert found == set(EXEMPT)
