"""Frameworks, imported when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from arraystore.errors import MissingExtraError

__all__ = ["framework"]


def framework(name: str, *, extra: str | None = None) -> ModuleType:
    """Import a framework, or what else is an extra.

    Args:
        name: of the module.
        extra: the extra that installs it; None where it has that name.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # it is there, and lacks something itself: a Keras without a back end, say
            raise
        raise MissingExtraError(f"{name} is not installed; pip install 'arraystore[{extra or name}]'") from error
