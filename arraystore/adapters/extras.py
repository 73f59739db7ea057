"""Frameworks, imported when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from arraystore.errors import MissingExtraError

__all__ = ["framework"]


def framework(name: str) -> ModuleType:
    """Import a framework; the extra that installs it has its name.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # it is there, and lacks something itself: a Keras without a back end, say
            raise
        raise MissingExtraError(f"{name} is not installed; pip install 'arraystore[{name}]'") from error
