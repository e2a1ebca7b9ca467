"""``python -m vireid VERB``: the same as ``vireid VERB``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m vireid"))
