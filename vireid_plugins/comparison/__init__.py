"""Training and evaluating a list of configs with several seeds, and one table of all of them.

``runs`` says what is to be run and what is done, ``jobs`` starts processes, ``worker`` is what
one of them does, ``summary`` are the statistics, ``table`` and ``plot`` the outcome, ``command``
the command line.
"""
