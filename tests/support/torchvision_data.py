"""The data sets of torchvision, which its wheel for CUDA also gives beside a PyTorch for the CPU.

Its own operations need the library of its wheel. Without it, torchvision cannot even be imported, because it describes
the shapes of operations that do not exist. The data sets use none of them, so it is enough that they have names.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import torch


def _names() -> list[str]:
    found = find_spec("torchvision")
    assert found is not None, "install torchvision"
    assert found.origin is not None
    text = (Path(found.origin).parent / "_meta_registrations.py").read_text("utf-8")
    pairs = re.findall(r'register_fake\("torchvision::(\w+)"\)|register_meta\("(\w+)"\)', text)
    return sorted({one or other for one, other in pairs})


try:
    from torchvision import datasets
except RuntimeError:
    library = torch.library.Library("torchvision", "DEF")  # kept, because it takes its names back when it goes
    for name in _names():
        library.define(f"{name}(Tensor x) -> Tensor")
    from torchvision import datasets

__all__ = ["datasets"]
