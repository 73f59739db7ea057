"""Public names say ``arraystore.X`` in reprs, pickles and help, wherever they are defined."""

from typing import TypeVar

T = TypeVar("T")


def public(thing: T) -> T:
    """Name the package as the module of a class or function, so that moving the code breaks no pickle."""
    thing.__module__ = "arraystore"
    return thing
