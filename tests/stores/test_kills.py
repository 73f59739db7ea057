"""Builds that are killed at any moment: the same call finishes them, byte for byte, and nothing is left behind."""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images
from support.faults import build_in_steps, check_store, contents, wrong_claims
from support.nursery import Fork, KilledError, Nursery
from support.store_contract import NAMES, PIXELS, build, options_of

import arraystore
from arraystore import BadImagesError, Store, StoreExistsError
from arraystore._stores import publishing

BAD = (3, 4, 17, 31)
KEPT = "x.kept"  # JPEGs of slots that differ in shape
COUNT = 32


@dataclass
class World:
    """Sources, what undisturbed builds make of them, and how long such a build takes."""

    folder: Path
    nursery: Nursery
    source: Path = field(init=False)
    kept: dict[str, Store] = field(init=False)
    stores: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    old: dict[str, dict[str, bytes]] = field(default_factory=dict)
    steps: dict[Any, int] = field(default_factory=dict)
    took_s: dict[Any, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.source = self.folder / "source"
        images.write_tree(self.source, {"a": 20, "b": COUNT - 20})
        files = sorted(self.source.rglob("*.*"))
        for slot in BAD:
            files[slot].write_bytes(files[slot].read_bytes()[:-60] if slot % 2 else b"bad")
        self.kept = {name: build(self.source, bad="keep", **options_of(name)) for name in (*NAMES, KEPT)}
        for name in (*NAMES, KEPT):
            self.make_old(place := self.place(f"old {name}"), name)
            self.old[name] = contents(place)
            for bad in ("keep", "drop"):
                build(self.source, (place := self.place(f"{bad} {name}")) / name, bad=bad)
                self.stores[name, bad] = contents(place)

    def place(self, name: str) -> Path:
        (folder := self.folder / name).mkdir()
        return folder

    def make_old(self, folder: Path, name: str) -> None:
        build(np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3), folder / name, labels=[4, 3, 2, 1, 0])

    def measure(self, key: tuple[str, str, bool], *, processes: bool) -> None:
        """Find out how long a build takes, and of how many steps it consists."""
        if (key, processes) not in self.took_s:
            name, bad, overwrite = key
            place = self.place(f"measure {key} {processes}")
            if overwrite:
                self.make_old(place, name)
            began_s = time.monotonic()
            steps = self.nursery.run(
                build_in_steps, self.source, place / name, bad=bad, overwrite=overwrite, processes=processes
            )
            self.steps[key, processes], self.took_s[key, processes] = steps, time.monotonic() - began_s


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> World:
    return World(tmp_path_factory.mktemp("kills"), nursery)


class Victim:
    """One target that is built, killed, looked at, and at last finished."""

    def __init__(self, world: World, place: Path, name: str, bad: str, *, overwrite: bool) -> None:
        self.world, self.place, self.name, self.bad = world, place, name, bad
        self.target = place / name
        self.options: dict[str, Any] = {"bad": bad, "overwrite": overwrite}
        self.key = (name, bad, overwrite)
        self.kills = 0
        if overwrite:
            world.make_old(place, name)

    def start(self, **options: Any) -> Fork:
        return self.world.nursery.start(build_in_steps, self.world.source, self.target, **self.options, **options)

    def kill_at_time(self, rng: random.Random, *, processes: bool = False, alone: bool = False) -> None:
        self.world.measure(self.key, processes=processes)
        fork = self.start(processes=processes)
        time.sleep(rng.uniform(0, 1.05) * self.world.took_s[self.key, processes])
        fork.kill(alone=alone)
        self.look(fork)

    def kill_at_step(self, rng: random.Random, *, processes: bool = False) -> None:
        self.world.measure(self.key, processes=processes)
        self.look(self.start(processes=processes, die_at=rng.randint(1, self.world.steps[self.key, processes])))

    def look(self, fork: Fork) -> None:
        """The build is dead, and what it leaves is true."""
        try:
            fork.result()
        except KilledError:
            self.kills += 1
        except StoreExistsError:
            assert not self.options["overwrite"]
        fork.gone()
        assert wrong_claims(self.target, self.world.kept[self.name]) == []
        if self.target.exists():
            published = contents(self.target) if self.target.is_dir() else {"": self.target.read_bytes()}
            kinds = [self.world.stores[self.name, self.bad]]
            if self.options["overwrite"]:
                kinds.append(self.world.old[self.name])
            assert any(
                all(published.get(path[len(self.name) + 1 :]) == data for path, data in kind.items() if path.strip())
                for kind in map(self.without_folder, kinds)
            )
            check_store(arraystore.open(self.target))

    def without_folder(self, kind: dict[str, bytes]) -> dict[str, bytes]:
        return {path: data for path, data in kind.items() if path != self.name or self.name.endswith(".h5")}

    def finish(self, **options: Any) -> None:
        fork = self.start(**options)
        try:
            fork.result()
        except StoreExistsError:  # the call that was killed had nothing left to do
            assert not self.options["overwrite"]
        fork.gone()
        assert contents(self.place) == self.world.stores[self.name, self.bad]


Moment = Callable[[Victim, random.Random], None]


KILLED = [(name, bad, overwrite) for name in NAMES[:2] for bad in ("keep", "drop") for overwrite in (False, True)]


# Stores of JPEGs share most of the steps with stores of pixels in a folder.
@pytest.mark.parametrize(
    ("name", "bad", "overwrite"),
    [
        *KILLED,
        *[("x.jpegs", "keep", False), ("x.jpegs", "drop", True)],
        *[("x.jpegs.h5", "keep", True), ("x.jpegs.h5", "drop", False), (KEPT, "drop", False)],
    ],
)
def test_a_killed_build_is_finished_by_the_same_call(
    world: World, tmp_path: Path, name: str, bad: str, *, overwrite: bool
) -> None:
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    kills = 0
    for part in itertools.count():
        (place := tmp_path / f"{seed} {part}").mkdir()
        victim = Victim(world, place, name, bad, overwrite=overwrite)
        for moment in rng.sample([victim.kill_at_time, victim.kill_at_step, victim.kill_at_step], 3):
            moment(rng)
        victim.finish()
        kills += victim.kills
        if kills >= 4:
            return


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_kill_at_any_step_of_publishing_is_finished_by_the_same_call(
    world: World, tmp_path: Path, name: str, *, overwrite: bool
) -> None:
    world.measure((name, "drop", overwrite), processes=False)
    last = world.steps[(name, "drop", overwrite), False]
    # One folder, killed over and over: each call has all slots from the first one, and so only publishes.
    for die_at in range(last - 20, last + 1, 2 if overwrite else 3):
        (place := tmp_path / str(die_at)).mkdir()
        victim = Victim(world, place, name, "drop", overwrite=overwrite)
        victim.look(victim.start(die_at=die_at))
        victim.finish()


@pytest.mark.parametrize(
    ("name", "bad", "overwrite"), [("x.store", "keep", False), ("x.h5", "drop", True), ("x.jpegs", "drop", True)]
)
def test_a_killed_build_with_worker_processes_is_finished(
    world: World, tmp_path: Path, name: str, bad: str, *, overwrite: bool
) -> None:
    rng = random.Random()
    victim = Victim(world, tmp_path, name, bad, overwrite=overwrite)
    victim.kill_at_step(rng, processes=True)
    victim.kill_at_time(rng, processes=True, alone=True)  # the workers are alone then, and end by themselves
    victim.finish()


def test_what_was_dropped_by_a_killed_build_is_no_part_of_one_that_keeps(world: World, tmp_path: Path) -> None:
    for name in NAMES:
        world.measure((name, "drop", False), processes=False)
        last = world.steps[(name, "drop", False), False]
        for die_at in range(last - 18, last, 3):
            (place := tmp_path / f"{name} {die_at}").mkdir()
            victim = Victim(world, place, name, "drop", overwrite=False)
            victim.look(victim.start(die_at=die_at))
            if not victim.target.exists():
                build(world.source, victim.target, bad="keep")
                assert contents(place) == world.stores[name, "keep"]


def test_pixels_that_were_cut_off_are_not_claimed_after_a_kill(world: World, tmp_path: Path) -> None:
    """A call that makes the file long again and is killed then must not leave zeros that are claimed."""
    for name in NAMES:
        for die_at in range(1, 26, 2):
            (place := tmp_path / f"{name} {die_at}").mkdir()
            with pytest.raises(BadImagesError):
                build(world.source, place / name)
            file = next(file for file in publishing.partial_of(place / name).iterdir() if file.name in PIXELS)
            with file.open("r+b") as pixels:
                pixels.truncate(file.stat().st_size * 3 // 4 - 1)
            victim = Victim(world, place, name, "keep", overwrite=False)
            victim.look(victim.start(die_at=die_at))
        victim.finish()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_hundred_kills_in_a_row(world: World, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    kills = finished = 0
    while kills < 100:
        (place := tmp_path / f"{seed} {finished}").mkdir()
        name, bad = rng.choice((*NAMES, KEPT)), rng.choice(("keep", "drop"))
        victim = Victim(world, place, name, bad, overwrite=rng.random() < 0.5)
        processes = rng.random() < 0.2
        for _ in range(rng.randint(1, 5)):
            if rng.random() < 0.5:
                victim.kill_at_step(rng, processes=processes)
            else:
                victim.kill_at_time(rng, processes=processes, alone=rng.random() < 0.5)
        victim.finish()
        kills, finished = kills + victim.kills, finished + 1
    sys.stdout.write(f"{kills} kills, {finished} stores, seed {seed}\n")


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_kill_at_every_step_is_finished(world: World, tmp_path: Path, name: str, *, overwrite: bool) -> None:
    world.measure((name, "drop", overwrite), processes=False)
    for die_at in range(1, world.steps[(name, "drop", overwrite), False] + 1):
        (place := tmp_path / str(die_at)).mkdir()
        victim = Victim(world, place, name, "drop", overwrite=overwrite)
        victim.look(victim.start(die_at=die_at))
        victim.finish()
