"""``python -m tests.parity --checkouts DIR``: ten steps beside those of the public code.

Exit status: 0 if every difference is at most 1e-9, 1 if one is larger, 2 if a checkout is missing.
"""

import argparse
import platform
import sys
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision

from .case import all_cases
from .compare import LIMIT, differences, write
from .public import commit_of

ROW = "{:<12} {:<8} {:>10} {:>10}  {}"


def main():
    cases = all_cases()
    parser = argparse.ArgumentParser(
        prog="python -m tests.parity", description="Compare ten optimizer steps with public code."
    )
    parser.add_argument("--checkouts", type=Path, required=True, help="folder of the clones")
    parser.add_argument("--record", action="store_true", help="write tests/parity/recorded")
    parser.add_argument("method", nargs="*", help=f"of {', '.join(cases)}; default: all")
    words = parser.parse_args()
    strange = set(words.method) - set(cases)
    if strange:
        parser.error(f"unknown method {', '.join(sorted(strange))}; known: {', '.join(cases)}")
    chosen = [cases[name] for name in words.method or cases]
    missing = {c.repository: c for c in chosen if not (words.checkouts / c.folder).is_dir()}
    for case in missing.values():
        say(
            f"{words.checkouts / case.folder} is missing: "
            f"git clone https://github.com/{case.repository} {words.checkouts / case.folder} && "
            f"git -C {words.checkouts / case.folder} checkout {case.commit}"
        )
    return 2 if missing else compare(chosen, words.checkouts, words.record)


def compare(chosen, checkouts, record):
    """Run the cases, print a row for each variant, and return the exit status."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    say(ROW.format("method", "variant", "losses", "weights", "largest at"))
    worst = 0.0
    for case in chosen:
        commit, traces = commit_of(checkouts / case.folder), {}
        if commit != case.commit:
            say(f"{case.folder} is at commit {commit}; the constants are of {case.commit}")
        for variant in case.variants:
            traces[variant] = case.trace_theirs(checkouts / case.folder, variant)
            terms, weights = differences(case.trace_ours(variant), traces[variant])
            worst = max(worst, terms[0], weights[0])
            places = f"{terms[1]}; {weights[1]}"
            say(ROW.format(case.name, variant, f"{terms[0]:.1e}", f"{weights[0]:.1e}", places))
        if record:
            write(case, commit, versions(), traces)
    say(f"{'equal' if worst <= LIMIT else 'NOT equal'}: the largest difference is {worst:.1e}")
    return 0 if worst <= LIMIT else 1


def versions():
    return {
        "Python": platform.python_version(),
        "PyTorch": torch.__version__,
        "torchvision": torchvision.__version__,
        "NumPy": np.__version__,
        "Pillow": PIL.__version__,
    }


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
