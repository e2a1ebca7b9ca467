"""The command line of vireid_plugins: ``vireid VERB``.

This package stands above ``vireid_plugins`` and is the only one that reads words of a command
line. It loads neither PyTorch nor FastReID until a verb runs, so that ``vireid VERB --help``
answers at once.
"""
