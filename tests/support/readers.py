"""What the tests of readers share: a store whose slots and targets tell their number, and the plain way to read it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import arraystore
from arraystore import SpecError, Store
from arraystore._ordering.order import Order
from arraystore._ordering.ranks import Share
from support import images

Array = npt.NDArray[Any]

COUNT = 103
FAILED = [0, 7, 50, 102]
STORED = np.delete(np.arange(COUNT), FAILED)


def numbered_store(target: Path, *, seed: int = 0) -> Store:
    """A store on disk of 3 x 4 x 6 slots, each with other pixels; its labels count the slots, the classes are three."""
    sources = [images.png(images.noise(4, 6, seed=1000 * seed + slot)) for slot in range(COUNT)]
    for slot in FAILED:
        sources[slot] = b"this is no image"
    numbers = np.arange(COUNT)
    return arraystore.build(
        sources,
        target,
        size=(4, 6),
        labels=numbers,
        targets={"kind": numbers % 7 // 3, "pair": np.stack([numbers, -numbers], 1).astype(np.float32)},
        bad="keep",
        workers=2,
        progress=False,
    )


def naive(
    store: Store, order: Order, batch_size: int, *, epoch: int = 0, start: int = 0, **share: Any
) -> Iterator[tuple[Array, Array]]:
    """The batches that a loader should yield."""
    part = Share(order.count, batch_size, **share)
    for number in range(part.batches(start)):
        slots = order.draw(epoch, part.positions(number, start))
        yield store.images[slots], store.targets["labels"][slots]


def assert_same(batches: Any, expected: Any) -> None:
    """Both have the same batches, with the same types."""
    batches, expected = list(batches), list(expected)
    assert len(batches) == len(expected)
    for batch, wanted in zip(batches, expected, strict=True):
        for array, other in zip(batch, wanted, strict=True):
            assert array.dtype == other.dtype
            np.testing.assert_array_equal(array, other)


def labels_of(batches: Any) -> list[int]:
    """The slots of batches, for a slot's label is its number."""
    return [int(label) for _, labels in batches for label in labels]


def said(kind: type[Exception], message: str, call: Callable[..., Any], *args: Any, **options: Any) -> Exception:
    with pytest.raises(kind, match="^" + re.escape(message) + "$") as caught:
        call(*args, **options)
    return caught.value


def refused(message: str, call: Callable[..., Any], *args: Any, **options: Any) -> None:
    said(SpecError, message, call, *args, **options)


def readers() -> list[str]:
    """The threads that read, of whatever loader."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("arraystore-read")]


def wait_for(condition: Callable[[], bool], limit_s: float = 300) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "it never came true"
        time.sleep(0.001)
