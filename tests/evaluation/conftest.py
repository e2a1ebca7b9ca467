"""Lets the tests of this folder import ``evaluation_oracles``, in every pytest import mode."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
