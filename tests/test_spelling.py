"""Spelling is American. Oracle: a list of British spellings, looked for in every file of text."""

import re

import pytest

from tests.engine.small import ROOT

FILES = sorted(
    path
    for pattern in (
        "*.md",
        "*.py",
        "NOTICE",
        "Makefile",
        "pyproject.toml",
        "vireid*/**/*.*",
        "tools/*.py",
        "tests/**/*.py",
        "docs/*.md",
        "datasets/*.md",
        "configs/**/*.*",
        ".github/**/*.yml",
    )
    for path in ROOT.glob(pattern)
    if path.suffix in (".py", ".md", ".yml", ".html", ".css", ".js", ".toml", "") and path.is_file()
)
BRITISH = re.compile(
    "colour|centre|grey|neighbour|behaviour|favour|honour|licence|defence|artefact|catalogue"
    "|learnt|judgement|programme(?!d|r)|per cent(?![a-z])|towards|whilst|amongst|labell(?!edby)"
    "|modell(?:ed|ing)|cancelled|travell|analyse"
    "|(?:normal|general|regular|synchron|quant|initial|optim|recogn|visual|organ|summar|special"
    "|serial|equal|vector|parallel|minim|maxim|symmetr|random|material|util|standard|final|penal"
    "|categor|memor|custom|local|emphas|author|capital|discret|factor|binar)"
    "is(?:e[dsr]?|ing|ation)(?![a-z])"
)
# What is spelled so elsewhere: where -> the words that may stand there.
ALLOWED = {
    "vireid_plugins/modeling/losses/center.py": {"centres"},  # a name in checkpoints
    "tests/modeling/losses/test_center.py": {"centres"},
    "vireid_plugins/modeling/losses/cascaded_aggregation.py": {"normalise"},  # as the config key
    "vireid_plugins/modeling/losses/modality_synergy.py": {"normalise"},
    "tests/modeling/losses/test_cascaded_aggregation.py": {"normalise"},
    "tests/modeling/losses/test_modality_synergy.py": {"normalise"},
    "tests/modeling/test_msclnet.py": {"normalise"},
    "vireid_plugins/search/catalog.py": {"catalogue"},  # a file of the indexes that users have
    "tests/search/test_build.py": {"catalogue"},
    "CHANGELOG.md": {"centre", "grey", "catalogue", "normalised", "synchronise"},  # old names
}


def british_words(text):
    """Return the British spellings in a text; words in capitals are config keys."""
    small = re.sub(r"\b[A-Z][A-Z_]+\b", "", text).lower()
    return {found.group() for found in BRITISH.finditer(small)}


@pytest.mark.parametrize("word", ["colour", "Neighbours", "normalise_it", "identity_centres"])
def test_british_words_are_found(word):
    assert british_words(f"the {word} of it")


@pytest.mark.parametrize("word", ["gray", "promise", "precise", "NORMALISE", "aria-labelledby"])
def test_other_words_are_not_found(word):
    assert not british_words(f"the {word} of it")


def test_files_are_found():
    assert len(FILES) > 400


def test_every_file_is_spelled_in_american_english():
    wrong = {}
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        if name == "tests/test_spelling.py":
            continue
        text = path.read_text(encoding="utf-8")
        allowed = ALLOWED.get(name, set())
        found = {word for word in british_words(text) if not any(word in a for a in allowed)}
        if found:
            wrong[name] = sorted(found)
    assert wrong == {}
