"""``vireid bench TOPIC``: measure this package beside what it replaces.

The defaults of the words stand in ``vireid_plugins/benchmarks``, in the signature of each topic's
``run``: only words that the user gives are passed on.
"""

import argparse
from typing import Callable, Dict, NamedTuple, Sequence

from ..bench_results import COMMANDS
from ..verb import Verb, register

CASES = ("sysu-single", "sysu-multi", "regdb", "market")
SIZES = ("288x144", "128x64")


class Topic(NamedTuple):
    """A topic: its line of help, and the function that declares its words."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    folder: str = ""  # of results, if the topic has its own


@register
class Bench(Verb):
    """Measure one topic."""

    name = "bench"
    help = "measure speed and memory beside what this machine can do"
    description = """Measure this package beside what it replaces, in one run; or, with the topic
gradients, the loss terms of a training.

  vireid bench limits
  vireid bench ranking
  vireid bench ranking --help
  vireid bench gradients maum/synthetic.yml --updates 130
  vireid bench compare

Seeds are fixed, first runs are dropped, the cases take turns, and medians and spreads (smallest
to largest) are shown, and times as fractions of the limit that the machine sets. A result is
written as JSON whose file name carries PyTorch's version, the device and the threads."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words of every topic, and of what is done with their results."""
        topics = parser.add_subparsers(dest="topic", required=True, metavar="TOPIC")
        for name, topic in TOPICS.items():
            words = topics.add_parser(
                name,
                help=topic.help,
                description=topic.help,
                argument_default=argparse.SUPPRESS,
            )
            topic.add_arguments(words)
            words.add_argument("--threads", type=int, help="CPU threads")
            default = topic.folder or "logs/bench"
            words.add_argument("--out", metavar="DIR", help=f"folder of results; default {default}")
            words.add_argument(
                "--limits",
                metavar="FILE",
                help="rates that `vireid bench limits` has written; default: measure those needed",
            )

        for name, command in COMMANDS.items():
            command.add_arguments(topics.add_parser(name, help=command.help))

    def parse(self, words: Sequence[str], prog: str) -> argparse.Namespace:
        """Read the words; KEY VALUE pairs may also come after options."""
        parser = self.make_parser(prog)
        args, rest = parser.parse_known_args(words)
        if rest and (not hasattr(args, "opts") or any(word.startswith("--") for word in rest)):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        if rest:
            args.opts = [*args.opts, *rest]
        return args

    def run(self, args: argparse.Namespace) -> int:
        """Measure the topic, or compare or keep results."""
        if args.topic in COMMANDS:
            return COMMANDS[args.topic].run(args)
        from vireid_plugins.benchmarks import run_topic

        words = {name: value for name, value in vars(args).items() if name != "command"}
        run_topic(words.pop("topic"), **words)
        return 0


def _add_processor_time(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="measure seconds of the processor: for a machine that does other things, too",
    )


def limits(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``limits``."""
    parser.add_argument("--device", help="cpu or cuda, for products and copies")
    _add_processor_time(parser)


def ranking(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``ranking``."""
    _add_processor_time(parser)
    parser.add_argument("--cases", nargs="+", choices=CASES, help="test sets")
    parser.add_argument("--loop-trials", type=int, help="trials that the loop ranks")
    parser.add_argument("--size", type=int, help="dimensions of a feature")
    parser.add_argument("--repeats", type=int, help="timed runs")
    parser.add_argument("--device", help="cpu or cuda; the loop always runs on the CPU")


def million(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``million``."""
    _add_processor_time(parser)
    parser.add_argument("--queries", type=int, help="number of queries")
    parser.add_argument("--gallery", type=int, help="number of gallery items")
    parser.add_argument("--size", type=int, help="dimensions of a feature")
    parser.add_argument("--positives", type=int, nargs="+", help="of each query")
    parser.add_argument("--top", type=int, help="nearest items of each query")
    parser.add_argument("--repeats", type=int, help="timed runs")


def neighbors(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``neighbors``."""
    _add_processor_time(parser)
    parser.add_argument("--queries", type=int, help="number of queries")
    parser.add_argument("--gallery", type=int, help="number of items")
    parser.add_argument("--size", type=int, help="dimensions of a feature")
    parser.add_argument("--probes", type=int, nargs="+", help="lists")
    parser.add_argument("--indexes", nargs="+", help="words of faiss's factory")
    parser.add_argument("--repeats", type=int, help="timed runs")


def jaccard(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``jaccard``."""
    parser.add_argument("--items", type=int, nargs="+", help="numbers of items for all forms")
    parser.add_argument("--sparse-items", type=int, nargs="*", help="numbers for ours only")
    parser.add_argument("--sizes", type=int, nargs="+", help="dimensions of a feature")
    parser.add_argument("--repeats", type=int, help="timed runs")
    _add_processor_time(parser)


def clusters(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``clusters``."""
    parser.add_argument("--items", type=int, nargs="*", help="numbers of images for all forms")
    parser.add_argument("--sparse-items", type=int, nargs="*", help="numbers for ours only")
    parser.add_argument("--size", type=int, help="dimensions of a feature")
    parser.add_argument("--repeats", type=int, help="timed runs")
    _add_processor_time(parser)


def growth(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``growth``."""
    _add_processor_time(parser)
    parser.add_argument("--most", type=int, help="largest gallery")
    parser.add_argument("--queries", type=int, help="queries where the gallery grows")
    parser.add_argument("--fixed", type=int, help="gallery where queries grow")
    parser.add_argument("--batches", type=int, nargs="*", help="sizes of training batches")
    parser.add_argument("--most-items", type=int, help="most items of Jaccard distances")
    parser.add_argument("--size", type=int, help="dimensions of a feature")
    parser.add_argument("--repeats", type=int, help="timed runs")


def search(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``search``."""
    _add_processor_time(parser)
    parser.add_argument("--gallery", type=int, help="number of images")
    parser.add_argument("--queries", type=int, help="queries for the recall")
    parser.add_argument("--size", type=int, help="dimensions of a feature")
    parser.add_argument("--topk", type=int, help="results of a query")
    parser.add_argument("--kinds", nargs="+", help="kinds of index: flat, hnsw, ivf-pq, ...")
    parser.add_argument("--repeats", type=int, help="timed runs")


def training(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``training``."""
    _add_processor_time(parser)
    parser.add_argument("variants", nargs="*", help="default: all; a wrong word lists them")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, help="of images")
    parser.add_argument("--batch", type=int, help="images, a multiple of 8")
    parser.add_argument("--steps", type=int, help="timed steps of a turn")
    parser.add_argument("--warmup", type=int, help="steps dropped before them")
    parser.add_argument("--turns", type=int, help="turns of each variant")
    parser.add_argument("--workers", type=int, help="loading processes of this package")
    parser.add_argument("--device", help="cpu or cuda")
    parser.add_argument("--folder", help="folder of images and cache; default: a temporary one")
    parser.add_argument(
        "--quick", nargs=0, action=Quick, help="the same as --sizes 128x64 --turns 1 --steps 2"
    )


class Quick(argparse.Action):
    """Set what ``--quick`` stands for."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: object, option: object = None
    ) -> None:
        """Set the three words."""
        namespace.sizes, namespace.turns, namespace.steps = ["128x64"], 1, 2


def memory(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``memory``."""
    _add_processor_time(parser)
    parser.add_argument(
        "methods", nargs="*", help="folders of configs, or configs; default: all folders"
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        metavar="VARIANT",
        help="plain, amp, checkpointing, accumulation, or several joined by +; default plain",
    )
    parser.add_argument("--batch", type=int, help="images of an update; default: the config's")
    parser.add_argument("--steps", type=int, help="timed updates of each case")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs")


def nformer(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``nformer``."""
    _add_processor_time(parser)
    parser.add_argument("--items", type=int, nargs="*", help="numbers of images for both forms")
    parser.add_argument("--sparse-items", type=int, nargs="*", help="numbers for ours only")
    parser.add_argument("--size", type=int, help="features of an image")
    parser.add_argument("--layers", type=int, help="transformer blocks")
    parser.add_argument("--repeats", type=int, help="runs of each")


def attention(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``attention``."""
    _add_processor_time(parser)
    parser.add_argument("--batch", type=int, help="images")
    parser.add_argument("--channels", type=int, help="channels of the map")
    parser.add_argument("--repeats", type=int, help="timed runs after the warm-up")
    parser.add_argument("--device", help="cpu or cuda")


def evaluations(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``evaluations``."""
    parser.add_argument("--times", type=int, help="number of evaluations")
    parser.add_argument("--identities", type=int, help="persons in the test set")
    parser.add_argument("--images", type=int, help="images of a person and camera")
    parser.add_argument("--size", type=int, help="dimensions of a feature")


def startup(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``startup``."""
    parser.add_argument("--repeats", type=int, help="timed runs")
    parser.add_argument("--depth", help="MODEL.BACKBONE.DEPTH of the network that is asked")


def gradients(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``gradients``."""
    parser.add_argument("config", metavar="CONFIG", help="a path, or a file below configs/")
    parser.add_argument("opts", nargs="*", default=[], metavar="KEY VALUE", help="config keys")
    parser.add_argument(
        "--updates", type=int, metavar="N", help="updates to make; default: the whole training"
    )
    parser.add_argument(
        "--moments",
        type=int,
        metavar="N",
        help="moments of each phase at which gradients are measured; default 10",
    )


TOPICS: Dict[str, Topic] = {
    "limits": Topic("this machine's own rates, by which the others state their limit", limits),
    "ranking": Topic("metrics, against the per-query loop", ranking),
    "million": Topic("metrics in a gallery of a million, against faiss", million),
    "neighbors": Topic("approximate search, against exact search", neighbors),
    "jaccard": Topic("sparse Jaccard distances, against the dense forms", jaccard),
    "clusters": Topic(
        "a clustering of training images, against MMT's and FastReID's way", clusters
    ),
    "growth": Topic("times over sizes, with a plot", growth),
    "search": Topic("an index of a folder, query by query", search),
    "training": Topic("training steps of AGW, against the usual loop", training),
    "memory": Topic("peak memory of training, method by method", memory),
    "evaluations": Topic("memory over many re-ranked evaluations in one process", evaluations),
    "attention": Topic("MRDA's attention, against full attention", attention),
    "nformer": Topic("NFormer's pass over a test set, against the dense form", nformer),
    "gradients": Topic(
        "value, gradient and cosines of each loss term over a training",
        gradients,
        "logs/gradients/CONFIG",
    ),
    "startup": Topic("imports, help and one query, in fresh processes", startup),
}
