"""``python -m vireid_plugins VERB``: the same as ``vireid VERB``."""

import sys

from vireid.cli import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m vireid_plugins"))
