"""The error of all datasets."""

from vireid_plugins.errors import UserError


class DatasetError(UserError, RuntimeError):
    """A dataset on disk is not as documented; the message says what is wrong and how to fix it."""
