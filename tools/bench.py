"""Measure this package against what it replaces, in one run.

    python tools/bench.py ranking                        # metrics, against the per-query loop
    python tools/bench.py million                        # a gallery of a million, against faiss
    python tools/bench.py neighbors                      # approximate search, against exact
    python tools/bench.py jaccard                        # sparse, against the dense forms
    python tools/bench.py growth                         # times over sizes, with a plot
    python tools/bench.py search                         # an index of a folder, query by query
    python tools/bench.py training                       # steps of AGW, against the usual loop
    python tools/bench.py memory                         # peaks of training, method by method
    python tools/bench.py attention                      # MRDA's, against full attention
    python tools/bench.py ranking --help                 # the options of one

Seeds are fixed, first runs are dropped, the cases take turns, and medians and spreads (smallest
to largest) are printed. What is replaced is written in tools/benchmarks from its definition and
used nowhere else. A result is written as JSON whose file name carries PyTorch's version, the
device and the threads.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireid_plugins import benchmarks  # noqa: E402
from vireid_plugins.benchmarks import growth, jaccard, million, neighbors, ranking, search  # noqa: E402
from vireid_plugins.benchmarks.measuring import write_result  # noqa: E402

TOPICS = {
    "ranking": ranking,
    "million": million,
    "neighbors": neighbors,
    "jaccard": jaccard,
    "growth": growth,
    "search": search,
}
#: topics with a script and options of their own
SCRIPTS = {name: f"{name}.py" for name in ("training", "memory", "attention")}


def main() -> None:
    """Parse the command line, measure, print and write the result."""
    if sys.argv[1:2] and sys.argv[1] in SCRIPTS:
        script = str(Path(benchmarks.__file__).with_name(SCRIPTS[sys.argv[1]]))
        raise SystemExit(subprocess.call([sys.executable, script, *sys.argv[2:]]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ", ".join([*TOPICS, *SCRIPTS])
    topics = parser.add_subparsers(dest="topic", required=True, metavar="topic", help=names)
    for name, topic in TOPICS.items():
        words = topics.add_parser(name, help=topic.__doc__.splitlines()[0])
        words.add_argument("--threads", type=int, default=2, help="CPU threads")
        words.add_argument("--repeats", type=int, default=5, help="timed runs")
        words.add_argument("--out", default=os.path.join("logs", "bench"), help="folder of results")
        topic.add_arguments(words)
    args = parser.parse_args()
    for name in ("threads", "repeats"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1; got {getattr(args, name)}")
    torch.set_num_threads(args.threads)
    result = {"torch": torch.__version__, "command": " ".join(sys.argv), **vars(args)}
    with threadpool_limits(args.threads):  # NumPy's and faiss's
        result.update(TOPICS[args.topic].run(args))
    write_result(args.out, args.topic, args.threads, result)


if __name__ == "__main__":
    main()
