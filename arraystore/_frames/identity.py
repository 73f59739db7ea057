"""What tells one transform from another, so that a frame on disk is not taken for one of another transform."""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from arraystore._common.digests import array_digest, digest_of

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def identity_of(transform: Callable[..., Any] | None) -> str:
    """Return a text that changes with the transform.

    For a function it is its code, its defaults and the values that it closes over. For an object it is its class with
    the code of its call, and what its ``repr`` says, which lists all parameters for the pipelines of Albumentations and
    torchvision; or its attributes, where it has no ``repr`` of its own. What a function calls is not looked into.
    """
    return "" if transform is None else digest_of([part.encode() for part in _parts(transform, set())])


def _parts(value: Any, seen: set[int]) -> Iterator[str]:
    """Yield what tells a value from others; an object that it holds twice, or in a circle, is told once."""
    kind = type(value)
    yield f"{kind.__module__}.{kind.__qualname__}"
    if id(value) in seen:
        return
    if not isinstance(value, int | float | str | bytes | None):
        seen.add(id(value))
    call = vars(kind).get("__call__")
    if isinstance(call, types.FunctionType):
        yield from _code(call.__code__)
    if isinstance(value, types.FunctionType):
        yield from (value.__module__ or "", value.__qualname__, *_code(value.__code__))
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        yield f"{value.dtype} {value.shape} {array_digest(np.ascontiguousarray(value))}"
    inside = _inside(value)
    if inside is None:
        yield _ADDRESS.sub("", repr(value))
    for each in inside or ():
        yield from _parts(each, seen)


def _inside(value: Any) -> list[Any] | None:
    """Return what a value is made of; None if its ``repr`` says all."""
    if isinstance(value, functools.partial):
        return [value.func, *value.args, value.keywords]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, types.FunctionType):
        return [*(value.__defaults__ or ()), value.__kwdefaults__, *map(_contents, value.__closure__ or ())]
    if isinstance(value, Mapping):
        return [each for pair in sorted(value.items(), key=lambda pair: str(pair[0])) for each in pair]
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return []
    own_repr: object = type(value).__repr__
    return [getattr(value, "__dict__", None)] if own_repr is object.__repr__ else None


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is still empty
        return None


def _code(code: types.CodeType) -> Iterator[str]:
    yield from (code.co_code.hex(), *code.co_names)
    for constant in code.co_consts:
        yield from _code(constant) if isinstance(constant, types.CodeType) else [repr(constant)]
