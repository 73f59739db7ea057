"""A run that is interrupted goes on as if it had not been: with other ranks, batches and threads, slot after slot."""

from __future__ import annotations

import json
import pickle
import random
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.readers import COUNT, STORED, labels_of, numbered_store, refused

from arraystore import Augment, Loader, RandomResizedCrop, SpecError, Store

WORLDS = [1, 2, 3, 4, 8]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return numbered_store(tmp_path_factory.mktemp("state") / "numbered.store")


def ranks(store: Store, world_size: int, batch_size: int, **options: Any) -> list[Loader]:
    return [store.loader(batch_size, rank=rank, world_size=world_size, **options) for rank in range(world_size)]


def step(iterators: list[Any]) -> list[tuple[int, bytes]] | None:
    """The slots and pixels that all ranks get next, rank after rank; None when none gets any."""
    got = [pair for iterator in iterators for batch in islice(iterator, 1) for pair in drawn(batch)]
    return got or None


def drawn(batch: Any) -> list[tuple[int, bytes]]:
    pixels, labels = batch
    return [(int(label), image.tobytes()) for image, label in zip(pixels, labels, strict=True)]


def through(state: dict[str, Any]) -> dict[str, Any]:
    """The state after it was written down and read."""
    return json.loads(json.dumps(state))  # type: ignore[no-any-return]


def uninterrupted(store: Store, epochs: int, **options: Any) -> list[tuple[int, bytes]]:
    loader = store.loader(16, **options)
    return [pair for _ in range(epochs) for batch in loader for pair in drawn(batch)]


def interrupted(
    store: Store, chance: random.Random, world_size: int, epochs: int, **options: Any
) -> list[tuple[int, bytes]]:
    """What is drawn when a run changes its ranks, batches and threads at random points."""
    got: list[tuple[int, bytes]] = []
    state: dict[str, Any] | None = None
    while True:
        ways = {"workers": chance.choice([1, 2, 5]), "in_flight": chance.choice([None, 1, 4])}
        every = ranks(store, world_size, chance.choice([1, 3, 7, 16, 40]), **ways, **options)
        if state is not None:
            for loader in every:
                loader.load_state_dict(state)
        steps = chance.randrange(12)
        while steps > 0 and every[0].epoch < epochs:
            iterators = [iter(loader) for loader in every]
            while steps > 0 and (batch := step(iterators)) is not None:
                got += batch
                steps -= 1
            if steps > 0:  # all have seen the end of the epoch, or have to be told
                assert [next(iterator, None) for iterator in iterators] == [None] * world_size
            for iterator in iterators:
                iterator.close()
        states = [through(loader.state_dict()) for loader in every]
        assert all(other == states[0] for other in states) or not steps
        state = states[0]
        if state["epoch"] >= epochs:
            return got
        world_size = chance.choice(WORLDS)


@pytest.mark.parametrize("world_size", WORLDS)
@pytest.mark.parametrize("points", [10, pytest.param(200, marks=pytest.mark.long)])
def test_a_run_that_is_interrupted_anywhere_draws_what_one_that_is_not_draws(
    store: Store, world_size: int, points: int
) -> None:
    for seed in range(points):
        chance = random.Random(f"{world_size} {seed}")
        options = chance.choice(
            [
                {},
                {"block": 8},
                {"shuffle": False},
                {"balance": True, "draws": 70},
                {"weights": np.arange(COUNT), "replacement": False},
                {"augment": Augment(crop=RandomResizedCrop(4), hflip=0.5)},
            ]
        ) | {"seed": seed}
        assert interrupted(store, chance, world_size, 2, **options) == uninterrupted(store, 2, **options)


@pytest.mark.parametrize("last", ["drop", "pad"])
def test_where_the_last_batch_is_dropped_or_padded_the_order_is_the_same_up_to_there(store: Store, last: Any) -> None:
    order = [slot for slot, _ in uninterrupted(store, 1, seed=1)]
    count = len(STORED)
    for world_size, batch_size, taken, then, size in ((2, 8, 3, 3, 5), (4, 3, 8, 1, 16), (1, 50, 1, 8, 2)):
        first = ranks(store, world_size, batch_size, seed=1, last=last)
        iterators = [iter(loader) for loader in first]
        got = [slot for _ in range(taken) for slot, _ in step(iterators) or ()]
        start = world_size * batch_size * taken
        assert got == order[:start]
        states = [loader.state_dict() for loader in first]
        assert {state["position"] for state in states} == {start}
        second = ranks(store, then, size, seed=1, last=last)
        for loader in second:
            loader.load_state_dict(through(states[0]))
        iterators = [iter(loader) for loader in second]
        while (batch := step(iterators)) is not None:
            got += [slot for slot, _ in batch]
        # How far it gets is decided by the ranks and batches that it has at the end.
        whole, rest = divmod(count - start, then * size)
        end = start + (whole + (rest > 0 and last == "pad")) * then * size
        assert got == [order[position % count] for position in range(end)]


def test_the_state_is_behind_the_batch_that_was_handed_over_last(store: Store) -> None:
    loader = store.loader(10, in_flight=5)
    iterator = iter(loader)
    for taken in range(1, 10):
        next(iterator)
        state = loader.state_dict()
        assert (state["epoch"], state["position"]) == (0, 10 * taken)
    assert loader.epoch == 0
    next(iterator)
    assert loader.state_dict()["position"] == len(STORED)
    assert next(iterator, None) is None
    for _ in range(2):
        state = loader.state_dict()
        assert (state["epoch"], state["position"], loader.epoch) == (1, 0, 1)
        assert next(iterator, None) is None


def test_the_state_after_a_loop_was_left_or_failed_is_where_that_was(store: Store) -> None:
    whole = labels_of(store.loader(10))

    def fail(batch: Any) -> Any:
        if batch[1][0] == whole[30]:
            raise RuntimeError("on purpose")
        return batch

    loader = store.loader(10, in_flight=1, batch_transform=fail)
    iterator = iter(loader)
    got = [next(iterator)]
    with pytest.raises(RuntimeError, match="on purpose"):  # noqa: PT012 - it fails somewhere
        while True:
            got.append(next(iterator))
    assert len(got) == 3
    assert next(iterator, None) is None  # it is over, but the epoch is not
    state = through(loader.state_dict())
    assert (state["epoch"], state["position"]) == (0, 10 * len(got))
    again = store.loader(7)
    again.load_state_dict(state)
    assert labels_of(got) + labels_of(again) == whole
    for _ in again:
        break
    left = again.state_dict()
    assert (left["epoch"], left["position"]) == (1, 7)
    assert (labels_of(again), again.epoch) == (labels_of(at(store.loader(7), 2)), 3)  # each `for` is one epoch
    again.load_state_dict(left)
    assert labels_of(again) == labels_of(at(store.loader(7), 1))[7:]
    closed = iter(again)
    next(closed)
    closed.close()  # type: ignore[attr-defined]
    assert next(closed, None) is None
    assert again.state_dict()["position"] == 7


def at(loader: Loader, epoch: int) -> Loader:
    loader.set_epoch(epoch)
    return loader


def test_an_iteration_that_was_left_behind_does_not_say_where_the_loader_is(store: Store) -> None:
    loader = store.loader(10)
    old = iter(loader)
    next(old)
    new = iter(loader)
    next(new)
    next(old)
    next(old)
    state = loader.state_dict()
    assert (state["epoch"], state["position"]) == (1, 10)
    loader.set_epoch(7)
    assert loader.state_dict()["position"] == 0
    assert loader.epoch == 7


def test_a_loader_that_is_pickled_goes_on_where_it_was(store: Store) -> None:
    loader = store.loader(10, seed=3, augment=Augment(hflip=0.5), cache="1 MB")
    first = iter(loader)
    next(first)
    loader.load_state_dict(through(loader.state_dict()))
    copy = pickle.loads(pickle.dumps(loader))
    rest = [pair for batch in loader for pair in drawn(batch)]
    assert len(rest) == len(STORED) - 10
    assert [pair for batch in copy for pair in drawn(batch)] == rest
    assert (copy.epoch, copy.state_dict()) == (1, loader.state_dict())


def test_states_that_do_not_fit(store: Store) -> None:
    loader = store.loader(10, seed=1)
    state = loader.state_dict()
    load = loader.load_state_dict
    order = state["order"]
    refused("this is not the state of a loader: KeyError('version')", load, {})
    refused("this is not the state of a loader: KeyError('order')", load, _without(state, "order"))
    refused("this is not the state of a loader: TypeError(\"'int' object is not subscriptable\")", load, 5)
    refused("the state has version 2, this arraystore reads 1: upgrade arraystore", load, state | {"version": 2})
    mend = "make it with the same slots, seed, shuffle and weights"
    refused(
        f"the state is of seed and order {(2, order)}, this loader has {(1, order)}: {mend}", load, state | {"seed": 2}
    )
    other = store.loader(10, seed=1, shuffle=False)
    theirs = other.state_dict()["order"]
    refused(
        f"the state is of seed and order {(1, theirs)}, this loader has {(1, order)}: {mend}", load, other.state_dict()
    )
    for slots in (store[:50], store[[*range(COUNT), 1]]):
        with pytest.raises(ValueError, match="this loader has"):
            load(slots.loader(10, seed=1).state_dict())
    refused("epoch must be a whole number of 0 or more, not -1", load, state | {"epoch": -1})
    refused("epoch must be a whole number of 0 or more, not '1'", load, state | {"epoch": "1"})
    refused("position must be a whole number from 0 to 99, not 100", load, state | {"position": 100})
    refused("position must be a whole number from 0 to 99, not None", load, state | {"position": None})
    assert loader.state_dict() == state


def _without(state: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key != name}


def test_the_state_of_a_store_that_was_replaced_is_refused(tmp_path: Path) -> None:
    """Another store of the same length has the same order, but not the same slots."""
    store = numbered_store(tmp_path / "a.store")
    state = store.loader(10, seed=1).state_dict()
    store.loader(10, seed=1).load_state_dict(state)
    numbered_store(tmp_path / "a.h5").loader(10, seed=1).load_state_dict(state)
    with pytest.raises(SpecError, match=r"the state is of other slots: .*begin again at an epoch with set_epoch"):
        numbered_store(tmp_path / "b.store", seed=5).loader(10, seed=1).load_state_dict(state)
    chosen = [slot for slot in range(COUNT) if slot not in (1, 2)]
    state = store[chosen].loader(10, seed=1).state_dict()
    store[chosen].loader(10, seed=1).load_state_dict(state)
    other = store[chosen[::-1]].loader(10, seed=1)
    with pytest.raises(SpecError, match="the state is of other slots"):
        other.load_state_dict(state | {"order": other.state_dict()["order"]})


@pytest.mark.parametrize("how", ["set_epoch", "load_state_dict"])
def test_a_position_that_is_set_during_an_iteration_stays(store: Store, how: str) -> None:
    """The iteration goes on, but the state is that of the next one."""
    loader = store.loader(10)
    iterator = iter(loader)
    next(iterator)
    if how == "set_epoch":
        loader.set_epoch(5)
    else:
        other = store.loader(10)
        other.set_epoch(5)
        loader.load_state_dict(other.state_dict())
    position = (5, 0)
    assert loader.at == position
    assert len(list(iterator)) == 9
    assert (loader.at, loader.epoch, loader.state_dict()["epoch"]) == (position, 5, 5)
    expected = store.loader(10)
    expected.set_epoch(5)
    assert [drawn(batch) for batch in loader] == [drawn(batch) for batch in expected]
    assert loader.at == (6, 0)
