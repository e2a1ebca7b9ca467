"""Read weights in the format of safetensors, as timm and the Hugging Face Hub publish them."""

import os
from typing import Dict

from torch import Tensor

from ..errors import CheckpointError, MissingLibraryError

_SUFFIX = ".safetensors"


def is_safetensors(path: str) -> bool:
    """Return whether a file has the format, or the name, of safetensors.

    It begins with the length of a JSON object, 8 bytes, and with that object.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(9)
        length = int.from_bytes(head[:8], "little")
        found = head[8:] == b"{" and 8 + length <= os.path.getsize(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    return found or path.lower().endswith(_SUFFIX)


def read_safetensors(path: str) -> Dict[str, Tensor]:
    """Return the tensors of a file of safetensors, by their names, on the CPU.

    Raises:
        CheckpointError: the file is damaged, truncated or of another format.
        MissingLibraryError: the library is not installed.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingLibraryError(
            f"{path} is a file of safetensors, and that library cannot be imported ({error}). "
            "Install it: pip install safetensors."
        ) from error
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} was not loaded ({type(error).__name__}: {error}). It is damaged, truncated or "
            "no file of safetensors. Use an intact copy of it; a file written by torch.save "
            "must not have a name that ends in .safetensors."
        ) from error
