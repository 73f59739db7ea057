"""Modules that are imported when they are first used, so that nobody pays for those that stay unused.

A module that uses one names it at its top, where readers and type checkers look for it::

    if TYPE_CHECKING:
        import pyarrow as pa
    else:
        pa = lazy("pyarrow")
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["lazy"]


class _Lazy:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)


def lazy(name: str) -> Any:
    """Return a stand-in for a module; the first use of one of its attributes imports it."""
    return _Lazy(name)
