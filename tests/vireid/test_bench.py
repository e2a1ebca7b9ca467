"""The words of ``vireid bench`` are those of the topics, and wrong ones measure nothing."""

import inspect
from importlib import import_module

import pytest
import torch

pytest.importorskip("faiss")

from vireid.cli import run_verb
from vireid.verb import VERBS
from vireid.verbs.bench import CASES, SIZES, TOPICS


def topic_module(name):
    return import_module(f"vireid_plugins.benchmarks.{name}")


@pytest.mark.parametrize("topic", TOPICS)
def test_every_word_is_a_keyword_of_the_topic(topic):
    """And every keyword is a word, but for ``out`` and ``limits``, which all share."""
    parser = VERBS["bench"].make_parser("vireid bench")
    (topics,) = [action for action in parser._actions if action.dest == "topic"]
    words = {action.dest for action in topics.choices[topic]._actions} - {"help", "quick"}
    keywords = set(inspect.signature(topic_module(topic).run).parameters)
    assert words == keywords | {"out", "limits"}


def test_the_names_are_those_of_the_topics():
    assert CASES == topic_module("ranking").CASES
    assert SIZES == tuple(topic_module("training").SIZES)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["ranking", "--device", "gpu"], "--device is 'gpu'; expected cpu, cuda, or cuda:N"),
        (["ranking", "--repeats", "0"], "--repeats must be at least 1; got 0"),
        (["training", "fast"], "unknown variant fast; valid: usual; "),
        (["training", "--batch", "20"], "--batch 20: expected a multiple of 8"),
        (["memory", "agx"], "no method agx; there are: adaptive_triplet"),
        (["memory", "agw", "--variants", "amp+half"], "Unknown variant 'half'"),
        (["memory", "--steps", "0"], "--steps must be at least 1"),
    ],
)
def test_mistakes_end_with_status_2_before_anything_is_measured(words, reason, capsys):
    threads = torch.get_num_threads()
    assert run_verb("bench", words) == 2
    torch.set_num_threads(threads)
    assert capsys.readouterr().err.startswith(f"error: {reason}")


def test_an_unknown_topic_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        run_verb("bench", ["rankings"])
    assert end.value.code == 2 and "'rankings'" in capsys.readouterr().err
