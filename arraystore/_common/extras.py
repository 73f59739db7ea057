"""Frameworks and other optional packages, imported when they are needed."""

import importlib
from types import ModuleType

from arraystore.errors import MissingExtraError


def framework(name: str, *, extra: str | None = None) -> ModuleType:
    """Import an optional package; ``extra`` installs it, or the extra of the same name.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # the package is there and misses one of its own, such as a Keras without a back end
            raise
        raise MissingExtraError(f"{name} is not installed; pip install 'arraystore[{extra or name}]'") from error
