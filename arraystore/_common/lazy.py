"""Heavy modules that are imported when they are first used; a file imports them only under TYPE_CHECKING."""

from importlib import import_module
from typing import Any


class _Lazy:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)


def lazy(name: str) -> Any:
    """Return a stand-in for a module; the module is imported when one of its attributes is used first."""
    return _Lazy(name)
