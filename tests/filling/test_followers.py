"""Several processes read a store while one of them fills it: right pixels, and no waiting without an end."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images
from support.faults import contents, wrong_claims
from support.nursery import Fork, KilledError, Nursery
from support.store_contract import assert_equal, build

import arraystore
from arraystore import BadImagesError, FillingStore, Store, StoreError
from arraystore._building import checkpoint
from arraystore._building.filling import exchange
from arraystore._building.filling.following import Following
from arraystore._building.filling.marks import Marks
from arraystore._building.filling.rooms import slot_alone
from arraystore._stores.publishing import SOCKET, partial_of

COUNT, BATCH = 40, 4
NAMES = ("x.store", "x.h5", "x.jpegs", "x.kept")
SOON_S = 100.0


# --- what the processes do -------------------------------------------------------------------------------------------


def part_of(image: Any) -> Any:
    """Some pixels of an image of any height and width."""
    return np.resize(np.ascontiguousarray(image), (8, 8))


def read_share(source: Any, target: Path, rank: int, world: int, *, finish: bool = False, epochs: int = 2) -> Any:
    """Read the share of a rank, and return how many slots there are, and of each batch the rows and a digest."""
    checkpoint._CLAIM_EVERY_S = checkpoint._WAIT_LIMIT_S = 0.002
    store = begin(source, target)
    options: dict[str, Any] = {"rank": rank, "world_size": world, "last": "pad", "workers": 2}
    if None in store.slot_shape:
        options["transform"] = part_of
    loader = store.loader(BATCH, targets=["row"], seed=7, **options)
    seen = [
        (batch["row"].tolist(), hashlib.sha256(batch["images"].tobytes()).hexdigest())
        for _ in range(epochs)
        for batch in loader
    ]
    if finish:
        store.finish()
    count = len(store)
    store.close()
    return count, seen


def begin(source: Any, target: Path, **options: Any) -> FillingStore:
    store = build(source, target, wait=False, bad="keep", targets={"row": np.arange(COUNT)}, workers=1, **options)
    assert isinstance(store, FillingStore)
    return store


def fill_nothing(source: Any, target: Path) -> None:
    """Hold the build, without workers that fill, until the process is killed."""
    checkpoint._CLAIM_EVERY_S = checkpoint._WAIT_LIMIT_S = 0.002
    Marks.next_runs = lambda _marks, _most=1: []  # type: ignore[method-assign]
    store = begin(source, target)
    target.with_name("ready").touch()
    while True:
        time.sleep(0.05)
        assert len(store) == COUNT


def ask_to_finish(source: Any, target: Path) -> bool:
    """Finish a store from a process that does not fill it; return whether that was so."""
    store = begin(source, target)
    follows = isinstance(store.images.filler, Following)  # type: ignore[attr-defined]
    store.finish()
    assert_equal(store, arraystore.open(target))
    return follows


def wait_for(path: Path) -> None:
    deadline_s = time.monotonic() + SOON_S
    while not path.exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


# --- the world -------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """Sources, and what an undisturbed build makes of them."""

    folder: Path
    nursery: Nursery
    source: Path = field(init=False)
    oracles: dict[str, Store] = field(default_factory=dict)
    stores: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.source = images.write_tree(self.folder / "source", {"a": 25, "b": COUNT - 25})
        files = sorted(self.source.rglob("*.*"))
        for slot in (3, 4, 39):
            files[slot].write_bytes(b"no image")
        for name in NAMES:
            (place := self.folder / f"built {name}").mkdir()
            self.oracles[name] = build(self.source, place / name, bad="keep", targets={"row": np.arange(COUNT)})
            self.stores[name] = contents(place)

    def check(self, read: Any, name: str = "x.store") -> None:
        """Every batch has the pixels of its rows, and none of a bad slot."""
        (count, seen), oracle = read, self.oracles[name]
        assert count == COUNT
        for rows, digest in seen:
            assert oracle.status[rows].tolist() == [1] * len(rows)
            if oracle.spec.one_shape:
                images_of = oracle.images[rows]
            else:  # a function gets an image with its channels last
                images_of = np.stack([part_of(oracle.images[row].transpose(1, 2, 0)) for row in rows])
            assert hashlib.sha256(images_of.tobytes()).hexdigest() == digest, rows

    def start(self, target: Path, rank: int, world: int, **options: Any) -> Fork:
        return self.nursery.start(read_share, self.source, target, rank, world, **options)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    nursery = Nursery(
        modules=["arraystore._building.filling.begin", "arraystore._filling", "arraystore._reading.loader"]
    )
    yield World(tmp_path_factory.mktemp("followers"), nursery)
    nursery.close()


# --- ranks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_ranks_that_make_the_same_call_read_the_same_epochs(world: World, tmp_path: Path, name: str) -> None:
    ranks = [world.start(tmp_path / name, rank, 4) for rank in range(4)]
    read = [rank.result() for rank in ranks]
    alone = [world.nursery.run(read_share, world.source, tmp_path / f"alone {name}", rank, 4) for rank in range(4)]
    for ours, theirs in zip(read, alone, strict=True):
        world.check(ours, name)
        assert ours == theirs
    places: list[Any] = [row for _, seen in read for rows, _ in seen[: len(seen) // 2] for row in rows]
    assert {*places} == {*np.flatnonzero(world.oracles[name].status == 1).tolist()}
    begin(world.source, tmp_path / name).finish()
    assert_equal(arraystore.open(tmp_path / name), world.oracles[name])


@pytest.mark.parametrize("name", NAMES)
def test_any_rank_finishes_the_store(world: World, tmp_path: Path, name: str) -> None:
    ranks = [world.start(tmp_path / name, rank, 3, finish=True) for rank in range(3)]
    for rank in ranks:
        world.check(rank.result(), name)
        rank.gone()
    assert contents(tmp_path) == world.stores[name]


@pytest.mark.parametrize("name", ["x.store", "x.jpegs", "x.kept"])
def test_what_followers_decode_is_kept(world: World, tmp_path: Path, name: str) -> None:
    target, oracle = tmp_path / name, world.oracles[name]
    holder = world.nursery.start(fill_nothing, world.source, target)
    wait_for(tmp_path / "ready")
    world.check(world.nursery.run(read_share, world.source, target, 0, 1), name)
    deadline_s = time.monotonic() + SOON_S
    good = int(np.count_nonzero(oracle.status == 1))
    while np.count_nonzero(arraystore.open(target, partial=True).status) < good:  # bad ones are left to the filler
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    assert wrong_claims(target, oracle) == []
    holder.kill()
    holder.gone()
    (tmp_path / "ready").unlink()
    begin(world.source, target).finish()
    assert contents(tmp_path) == world.stores[name]


def test_a_process_that_does_not_fill_asks_for_the_end(world: World, tmp_path: Path) -> None:
    store = begin(world.source, tmp_path / "x.store")
    assert world.nursery.run(ask_to_finish, world.source, tmp_path / "x.store")
    store.finish()
    assert_equal(store, world.oracles["x.store"])
    assert contents(tmp_path) == world.stores["x.store"]


def test_a_follower_says_why_a_store_is_not_finished(world: World, tmp_path: Path) -> None:
    options: dict[str, Any] = {"wait": False, "targets": {"row": np.arange(COUNT)}}
    filling, following = (build(world.source, tmp_path / "x", **options) for _ in range(2))
    assert isinstance(following.images.filler, Following)
    with pytest.raises(BadImagesError, match=r"^3 of 40 images could not be stored"):
        following.finish()
    filling.close()
    with pytest.raises((BadImagesError, StoreError)):
        following.finish()


# --- a filler that is dead or does not answer ------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_nobody_waits_for_a_filler_that_does_nothing(world: World, tmp_path: Path, how: signal.Signals) -> None:
    """It is stopped, or killed, after a follower has joined it, so what that decodes goes nowhere."""
    target = tmp_path / "x.store"
    holder = world.nursery.start(fill_nothing, world.source, target)
    wait_for(tmp_path / "ready")
    store = begin(world.source, target)
    assert isinstance(store.images.filler, Following)  # type: ignore[attr-defined]
    os.kill(holder.pid, how)
    loader = store.loader(BATCH, targets=["row"], seed=7)
    for batch in loader:
        np.testing.assert_array_equal(batch["images"], world.oracles["x.store"].images[batch["row"]])
    if how == signal.SIGKILL:
        with pytest.raises(StoreError, match=r"has ended, or has not finished it: close this store, and make the same"):
            store.finish()
    store.close()
    holder.kill()
    holder.gone()
    (tmp_path / "ready").unlink()
    begin(world.source, target).finish()
    assert contents(tmp_path) == world.stores["x.store"]


def test_a_filler_that_takes_nothing_costs_a_follower_one_wait(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_SEND_LIMIT_S", 0.05)
    holder = world.nursery.start(fill_nothing, world.source, tmp_path / "x.store")
    wait_for(tmp_path / "ready")
    store = begin(world.source, tmp_path / "x.store")
    filler = store.images.filler  # type: ignore[attr-defined]
    os.kill(holder.pid, signal.SIGSTOP)
    run = slot_alone(filler._jobs, store.spec, 0)
    for _ in range(2000):  # more than the system keeps for a process that does not read
        filler._outbox.send(run)
    assert not filler._outbox.is_open
    store.close()
    holder.kill()


@pytest.mark.parametrize("name", ["x.store", "x.jpegs"])
def test_a_socket_takes_only_what_is_a_slot_of_this_store(world: World, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    holder = world.nursery.start(fill_nothing, world.source, target)
    wait_for(tmp_path / "ready")
    jobs, spec = begin(world.source, target).images.filler._jobs, world.oracles[name].spec  # type: ignore[attr-defined]
    good = slot_alone(jobs, spec, 5)
    payload = good.encoded[0] if good.pixels is None else good.pixels.tobytes()
    if spec.encode is not None:
        good.rows["length"] = len(payload)
    for change in ("mark", "slot", "text", "bytes", "status", "garbage", "short", *(["length"] if spec.encode else [])):
        outbox = exchange.Outbox(partial_of(target))
        run, sent = good.rows.copy(), bytearray(payload)
        if change == "bytes":
            sent[0] ^= 1
        if change == "status":
            run["status"] = 2
        if change == "length":
            run["length"] = 2**63
        head = exchange._HEAD.pack(
            b"nope" if change == "mark" else exchange._MARK,
            2**60 if change == "slot" else 5,
            2**31 if change == "text" else 0,
        )
        data = os.urandom(5000) if change == "garbage" else head + run.tobytes() + bytes(sent)
        outbox._send([data[:100] if change == "short" else data])
        outbox.close()
    outbox = exchange.Outbox(partial_of(target))
    outbox.send(slot_alone(jobs, spec, 7))
    outbox.close()
    deadline_s = time.monotonic() + SOON_S
    while not arraystore.open(target, partial=True).status.any():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    time.sleep(0.1)
    assert np.flatnonzero(arraystore.open(target, partial=True).status).tolist() == [7]
    assert wrong_claims(target, world.oracles[name]) == []
    holder.kill()


def test_a_folder_without_a_socket_is_followed_all_the_same(world: World, tmp_path: Path) -> None:
    target = tmp_path / "x.store"
    holder = world.nursery.start(fill_nothing, world.source, target)
    wait_for(tmp_path / "ready")
    (partial_of(target) / SOCKET).unlink()
    world.check(world.nursery.run(read_share, world.source, target, 0, 1))
    holder.kill()


def test_another_call_is_told_what_differs_while_the_first_fills(world: World, tmp_path: Path) -> None:
    store = begin(world.source, tmp_path / "x")
    with pytest.raises(StoreError, match=r"another process fills .*x with something else: size was \(16, 24\), is now"):
        build(world.source, tmp_path / "x", wait=False, size=8, bad="keep", targets={"row": np.arange(COUNT)})
    with pytest.raises(StoreError, match=r"another build into .* is running"):
        build(world.source, tmp_path / "x", bad="keep", targets={"row": np.arange(COUNT)})
    store.close()


# --- kills -----------------------------------------------------------------------------------------------------------


def kill_at_random(world: World, place: Path, name: str, rng: random.Random) -> int:
    """Let four processes read and fill, kill some of them, and finish; return how many were killed."""
    target, kills = place / name, 0
    for _ in range(rng.randint(1, 3)):
        ranks = [world.start(target, rank, 4, finish=rng.random() < 0.2) for rank in range(4)]
        victims = rng.sample(ranks, rng.randint(1, 4))
        for victim in victims:
            time.sleep(rng.uniform(0, 0.15))
            victim.kill(alone=True)
        for rank in ranks:
            try:
                world.check(rank.result(), name)
            except KilledError:
                kills += 1
            except StoreError as error:  # the one that was asked to finish was killed
                assert "has ended, or has not finished it" in str(error)
            rank.gone()
        assert wrong_claims(target, world.oracles[name]) == []
    store = begin(world.source, target)
    store.finish()
    store.close()
    assert contents(place) == world.stores[name]
    return kills


@pytest.mark.parametrize("name", NAMES)
def test_kills_of_four_processes_change_no_byte(world: World, tmp_path: Path, name: str) -> None:
    seed = random.randrange(10**6)
    rng, kills = random.Random(seed), 0
    for part in itertools.count():
        (place := tmp_path / f"{seed} {part}").mkdir()
        kills += kill_at_random(world, place, name, rng)
        if kills >= 6:
            return


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_two_hundred_kills_of_four_processes_change_no_byte(world: World, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    rng, kills = random.Random(seed), 0
    for part in itertools.count():
        (place := tmp_path / f"{seed} {part}").mkdir()
        kills += kill_at_random(world, place, rng.choice(NAMES), rng)
        if kills >= 200:
            sys.stdout.write(f"{kills} kills, {part + 1} stores, seed {seed}\n")
            return
