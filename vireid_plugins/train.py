"""``python -m vireid_plugins.train``: the command ``vireid train``, with FastReID's words."""

import sys

from vireid.cli import run_verb

if __name__ == "__main__":
    sys.exit(run_verb("train", prog="python -m vireid_plugins.train"))
