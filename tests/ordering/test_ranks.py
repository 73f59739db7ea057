"""Shares: what the ranks get together is the order, whole, in its order, however often a run is interrupted."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arraystore._ordering.ranks import LAST, Share, ranks
from arraystore.errors import SpecError

COUNTS = st.integers(0, 200)
BATCHES = st.integers(1, 40)
WORLDS = st.integers(1, 9)


def shares(count: int, batch_size: int, world_size: int, last: str) -> list[Share]:
    return [Share(count, batch_size, rank, world_size, last) for rank in range(world_size)]


def said(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(SpecError, match="^" + re.escape(message) + "$"):
        call()


def together(every: list[Share], k: int, start: int) -> list[int]:
    """The positions of all ranks' batches number k, rank after rank; of those that have one."""
    return [int(p) for share in every if k < share.batches(start) for p in share.positions(k, start)]


@given(COUNTS, BATCHES, WORLDS, st.sampled_from(LAST), st.data())
def test_the_ranks_together_get_the_order_and_what_follows_a_batch_is_what_comes_next(
    count: int, batch_size: int, world_size: int, last: str, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, count))
    every = shares(count, batch_size, world_size, last)
    most = max(share.batches(start) for share in every)
    got: list[int] = []
    for k in range(most):
        consumed = every[0].after(k, start)
        assert len({share.after(k, start) for share in every}) == 1
        assert got == list(range(start, consumed))
        got += together(every, k, start)
    end = every[0].after(most, start)
    assert end == every[0].after(most + 5, start) <= count
    size = batch_size * world_size
    if last == "drop":
        assert end == count - (count - start) % size
        assert got == list(range(start, end))
        assert {share.batches(start) for share in every} == {(count - start) // size}
    elif last == "keep":
        assert end == count
        assert got == list(range(start, count))
        assert most == -(-(count - start) // size)
    else:
        assert end == count
        assert {share.batches(start) for share in every} == {-(-(count - start) // size)}
        padding = len(got) - (count - start)
        assert 0 <= padding < size
        assert got == [p % count for p in range(start, start + len(got))]


@given(COUNTS, BATCHES, WORLDS, st.sampled_from(LAST), st.data())
def test_the_sizes_of_batches(count: int, batch_size: int, world_size: int, last: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, count))
    every = shares(count, batch_size, world_size, last)
    sizes = [[len(share.positions(k, start)) for k in range(share.batches(start))] for share in every]
    for of_rank in sizes:
        assert set(of_rank[:-1]) <= {batch_size}
        assert all(0 < size <= batch_size for size in of_rank)
        if last != "keep":
            assert set(of_rank) <= {batch_size}
    rest = (count - start) % (batch_size * world_size)
    if last == "keep" and rest:
        ends = [sum(of_rank) - (count - start) // (batch_size * world_size) * batch_size for of_rank in sizes]
        assert sum(ends) == rest
        assert max(ends) - min(ends) <= 1


STAGES = st.lists(st.tuples(BATCHES, WORLDS, st.integers(0, 6), st.sampled_from(["keep", "drop"])), max_size=6)


@given(COUNTS, STAGES, st.sampled_from(LAST))
def test_a_run_that_changes_its_ranks_and_batches_gets_the_order_as_if_it_had_not(
    count: int, stages: list[tuple[int, int, int, str]], last: str
) -> None:
    got: list[int] = []
    start = 0
    for batch_size, world_size, batches, stage_last in stages:
        every = shares(count, batch_size, world_size, stage_last)
        for k in range(batches):
            got += together(every, k, start)
        start = every[-1].after(batches, start)
        assert got == list(range(start))
    one = Share(count, 7, last=last)
    got += [int(p) for k in range(one.batches(start)) for p in one.positions(k, start)]
    wanted = {"keep": count, "drop": start + (count - start) // 7 * 7, "pad": start + -(-(count - start) // 7) * 7}
    assert got == [p % count for p in range(wanted[last])]


def test_an_epoch_shorter_than_one_batch_of_all_ranks() -> None:
    assert [share.batches() for share in shares(3, 4, 5, "keep")] == [1, 1, 1, 0, 0]
    assert [share.batches() for share in shares(3, 4, 5, "drop")] == [0] * 5
    assert [share.positions(0).tolist() for share in shares(3, 4, 2, "pad")] == [[0, 1, 2, 0], [1, 2, 0, 1]]
    assert [share.positions(1).tolist() for share in shares(11, 4, 2, "keep")] == [[8, 9], [10]]
    assert [share.positions(1).tolist() for share in shares(11, 4, 2, "pad")] == [[8, 9, 10, 0], [1, 2, 3, 4]]


def test_the_largest_epoch_has_its_batches_at_once() -> None:
    share = Share(2**62, 256, rank=999, world_size=1000, last="pad")
    assert share.batches() == -(-(2**62) // 256_000)
    positions = share.positions(share.batches() - 1)
    assert positions.dtype == np.int64
    assert positions.size == 256
    assert 0 <= positions.min() <= positions.max() < 2**62
    assert Share(5, 2, rank=10**30, world_size=10**31, last="pad").positions(0).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": -1}, "count must be a whole number from 0 to 4,611,686,018,427,387,904, not -1"),
        ({"batch_size": 0}, "batch_size must be a whole number of 1 or more, not 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number of 1 or more, not 2.5"),
        ({"world_size": 0}, "world_size must be a whole number of 1 or more, not 0"),
        ({"rank": 3, "world_size": 3}, "rank must be a whole number from 0 to 2, not 3"),
        ({"rank": -1}, "rank must be a whole number from 0 to 0, not -1"),
        ({"last": "drop_last"}, "last must be one of 'keep', 'drop', 'pad', not 'drop_last'"),
    ],
)
def test_what_cannot_be_is_said(arguments: dict[str, Any], message: str) -> None:
    said(message, lambda: Share(**({"count": 10, "batch_size": 3} | arguments)))


def test_batches_and_positions_that_are_not_there() -> None:
    share = Share(10, 3, rank=1, world_size=2)
    said("rank 1 has 2 batches from position 0, no batch 2", lambda: share.positions(2))
    said("k must be a whole number of 0 or more, not -1", lambda: share.positions(-1))
    for call in (share.batches, lambda start: share.positions(0, start), lambda start: share.after(0, start)):
        said("start must be a whole number from 0 to 10, not 11", partial(call, 11))
    said("k must be a whole number of 0 or more, not -1", lambda: share.after(-1))
    said("rank 0 has 0 batches from position 0, no batch 0", lambda: Share(0, 3, last="pad").positions(0))


def group(*, available: bool = True, initialized: bool = True, rank: int = 2, world_size: int = 5) -> ModuleType:
    """What torch.distributed says of itself."""
    module = ModuleType("torch.distributed")
    answers = {"is_available": available, "is_initialized": initialized, "get_rank": rank, "get_world_size": world_size}
    for name, answer in answers.items():
        if available or name == "is_available":  # a torch built without it has no other name
            setattr(module, name, lambda answer=answer: answer)
    return module


def test_ranks_are_those_of_torch_where_it_is_initialized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch.distributed", raising=False)
    assert ranks() == (0, 1)
    monkeypatch.setitem(sys.modules, "torch.distributed", group(available=False))
    assert ranks() == (0, 1)
    monkeypatch.setitem(sys.modules, "torch.distributed", group(initialized=False))
    assert ranks() == (0, 1)
    monkeypatch.setitem(sys.modules, "torch.distributed", group())
    assert ranks() == (2, 5)
    assert ranks(1, 3) == (1, 3)


def test_ranks_are_both_given_or_neither() -> None:
    assert ranks(np.int64(0), np.int64(4)) == (0, 4)
    said("rank=1 and world_size=None: give both, or neither", lambda: ranks(1))
    said("rank=None and world_size=4: give both, or neither", lambda: ranks(world_size=4))
    said("rank must be a whole number from 0 to 3, not 4", lambda: ranks(4, 4))
    said("world_size must be a whole number of 1 or more, not 0", lambda: ranks(0, 0))
