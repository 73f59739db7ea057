"""Attributes that are computed once, and do not lock each other out."""

from __future__ import annotations

import sys
import threading
import types
from typing import TYPE_CHECKING

from arraystore._common.lazy import cached, lazy

if TYPE_CHECKING:
    import pytest


class Slow:
    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()
        self.calls = 0

    @cached
    def value(self) -> list[int]:
        """What it is."""
        self.calls += 1
        self.began.set()
        assert self.go_on.wait(100)
        return [self.calls]


def test_it_is_computed_once() -> None:
    one = Slow()
    one.go_on.set()
    assert one.value is one.value
    assert one.calls == 1
    assert Slow.value.__doc__ == "What it is."


def test_a_slow_one_does_not_stop_another_object() -> None:
    """Python 3.11's `functools.cached_property` has one lock for the class: this test would wait for ever."""
    slow, other = Slow(), Slow()
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    assert slow.began.wait(100)
    other.go_on.set()
    done = threading.Thread(target=lambda: other.value, daemon=True)
    done.start()
    done.join(20)
    assert not done.is_alive()
    slow.go_on.set()
    thread.join(100)
    assert (slow.value, other.value) == ([1], [1])


def test_a_module_is_imported_once_and_again_if_it_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = []

    def imports(name: str) -> types.ModuleType:
        imported.append(name)
        return sys.modules[name]

    monkeypatch.setattr("arraystore._common.lazy.import_module", imports)
    first, second = types.ModuleType("a_module"), types.ModuleType("a_module")
    first.value, second.value = 1, 2  # type: ignore[attr-defined]
    stand_in = lazy("a_module")
    monkeypatch.setitem(sys.modules, "a_module", first)
    assert (stand_in.value, stand_in.value, imported) == (1, 1, ["a_module"])
    first.value = 3  # type: ignore[attr-defined]
    assert stand_in.value == 3
    monkeypatch.setitem(sys.modules, "a_module", second)
    assert (stand_in.value, stand_in.value, imported) == (2, 2, ["a_module"] * 2)
