"""The data sets of torchvision, which its wheel for CUDA also gives beside a PyTorch for the CPU.

Its own operations need the library of its wheel. Without it, torchvision cannot even be imported, because it describes
the shapes of operations that do not exist. The data sets use none of them, so it is enough that they have names.

torchvision is imported when a data set is asked for: it takes five seconds, and every test process collects all tests.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any


def __getattr__(name: str) -> Any:
    if name[0] == "_":  # which Python and pytest ask every module for
        raise AttributeError(name)
    return getattr(_datasets(), name)


@cache
def _datasets() -> ModuleType:
    try:
        return import_module("torchvision.datasets")
    except RuntimeError:
        library = import_module("torch.library").Library("torchvision", "DEF")
        _kept.append(library)
        for name in _names():
            library.define(f"{name}(Tensor x) -> Tensor")
        return import_module("torchvision.datasets")


_kept: list[Any] = []  # a library takes its names back when it goes


def _names() -> list[str]:
    found = find_spec("torchvision")
    assert found is not None, "install torchvision"
    assert found.origin is not None
    text = (Path(found.origin).parent / "_meta_registrations.py").read_text("utf-8")
    pairs = re.findall(r'register_fake\("torchvision::(\w+)"\)|register_meta\("(\w+)"\)', text)
    return sorted({one or other for one, other in pairs})
