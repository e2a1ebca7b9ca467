"""Ten optimizer steps of this package beside ten of the public code: are they the same?

``python -m tests.parity --checkouts DIR`` runs both sides and prints their differences, as
docs/parity.md says. The suite has no public code and compares this package with the constants in
``recorded/``, which ``--record`` writes. A method is one file in ``cases/``.
"""

import vireid_plugins  # noqa: F401  it must be imported before torchvision, see its compat.py
