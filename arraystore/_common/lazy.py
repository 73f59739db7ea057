"""Modules that are imported when they are first used, and attributes that are computed when they are first read.

Name a heavy module at the top of a file, where readers and type checkers look for imports::

    if TYPE_CHECKING:
        import pyarrow as pa
    else:
        pa = lazy("pyarrow")
"""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, Generic, Self, TypeVar, overload

from arraystore.errors import MissingExtraError

T = TypeVar("T")


class cached(Generic[T]):  # noqa: N801 - it is a decorator
    """An attribute that is computed when it is first read.

    It is `functools.cached_property` without the lock that Python 3.11 holds for the whole class: a slow function of
    one object would stop all others. If two threads are first at the same time, both compute, and one result stays.
    """

    def __init__(self, function: Callable[[Any], T]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Self | T:
        if instance is None:
            return self
        # The value takes the name in the object, so Python finds it there the next time.
        value: T = instance.__dict__.setdefault(self._name, self._function(instance))
        return value


class _Lazy:
    def __init__(self, name: str) -> None:
        self._name = name
        self._module: ModuleType | None = None

    def __getattr__(self, attribute: str) -> Any:
        # Importing again takes microseconds, and loops over images come here several times for each. A module that is
        # being imported by another thread is not kept before it is complete.
        if self._module is None or sys.modules.get(self._name) is not self._module:
            self._module = import_module(self._name)
        return getattr(self._module, attribute)


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
