"""What tells one transform from another, so that a frame on disk is not taken for one of another transform."""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Callable
from typing import Any

from arraystore._common.digests import digest_of

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def identity_of(transform: Callable[..., Any] | None) -> str:
    """Return a text that changes with the transform.

    For a function it is its code, its defaults and the values that it closes over; for anything else its class and what
    its ``repr`` says, which lists all parameters for the pipelines of Albumentations and torchvision. What a function
    calls is not looked into.
    """
    return "" if transform is None else digest_of([part.encode() for part in _parts(transform, 0)])


def _parts(value: Any, depth: int) -> list[str]:
    if isinstance(value, functools.partial):
        parts = ["partial", *_parts(value.func, depth + 1)]
        for name, each in [*enumerate(value.args), *sorted(value.keywords.items())]:
            parts += [str(name), *_parts(each, depth + 1)]
        return parts
    if isinstance(value, types.MethodType):
        return [*_parts(value.__func__, depth + 1), *_parts(value.__self__, depth + 1)]
    if isinstance(value, types.FunctionType) and depth < 4:
        parts = [value.__module__ or "", value.__qualname__, *_code(value.__code__)]
        for default in [*(value.__defaults__ or ()), *sorted((value.__kwdefaults__ or {}).items())]:
            parts += _parts(default, depth + 1)
        for cell in value.__closure__ or ():
            try:
                parts += _parts(cell.cell_contents, depth + 1)
            except ValueError:  # a cell that is still empty
                parts.append("empty")
        return parts
    return [type(value).__module__, type(value).__qualname__, _ADDRESS.sub("", repr(value))]


def _code(code: types.CodeType) -> list[str]:
    parts = [code.co_code.hex(), *code.co_names]
    for constant in code.co_consts:
        parts += _code(constant) if isinstance(constant, types.CodeType) else [repr(constant)]
    return parts
