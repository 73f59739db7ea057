"""Modules that are imported when they are first used.

Name a heavy module at the top of a file, where readers and type checkers look for imports::

    if TYPE_CHECKING:
        import pyarrow as pa
    else:
        pa = lazy("pyarrow")
"""

from importlib import import_module
from types import ModuleType
from typing import Any

from arraystore.errors import MissingExtraError


class _Lazy:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)


def lazy(name: str) -> Any:
    """Return a stand-in for a module; the module is imported when one of its attributes is used first."""
    return _Lazy(name)


def framework(name: str, *, extra: str | None = None) -> ModuleType:
    """Import an optional package, which ``extra`` of arraystore installs, or the extra of its own name.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # the package is there and misses one of its own, such as a Keras without a back end
            raise
        raise MissingExtraError(f"{name} is not installed; pip install 'arraystore[{extra or name}]'") from error
