"""Builds of several stores that are killed at any moment: the same call finishes them, byte for byte."""

from __future__ import annotations

import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import images
from support.faults import check_store, contents, in_steps
from support.nursery import KilledError, Nursery

import arraystore
from arraystore import ImageSpec, Jpeg, StoreExistsError

SIZES: dict[str, Any] = {
    "small.store": (8, 12),
    "large.h5": 20,
    "jpegs.store": ImageSpec(size=16, encode=Jpeg()),
    "jpegs.h5": ImageSpec(size=24, fit="pad", encode=Jpeg()),
}


def build_all(source: Path, place: Path, **options: Any) -> None:
    targets = {place / name: size for name, size in SIZES.items()}
    for store in arraystore.build(source, targets, progress=False, workers=2, **options).values():
        store.close()


def build_in_steps(source: Path, place: Path, *, die_at: int | None = None, **options: Any) -> int:
    return in_steps(lambda: build_all(source, place, **options), place, die_at=die_at)


@dataclass
class World:
    """Sources, what builds of each store alone make of them, and how long a build of all takes."""

    folder: Path
    nursery: Nursery
    source: Path = field(init=False)
    wanted: dict[str, dict[str, bytes]] = field(default_factory=dict)
    steps: int = 0
    took_s: float = 0

    def __post_init__(self) -> None:
        self.source = images.write_tree(self.folder / "source", {"a": 10, "b": 14})
        files = sorted(self.source.rglob("*.*"))
        files[3].write_bytes(b"bad")
        files[17].write_bytes(files[17].read_bytes()[:-60])
        files[8].write_bytes(images.jpeg(images.photo(130, 170)))  # decoded for more than one factor
        for bad in ("keep", "drop"):
            (place := self.folder / bad).mkdir()
            for name, size in SIZES.items():
                how = {"spec": size} if isinstance(size, ImageSpec) else {"size": size}
                arraystore.build(self.source, place / name, bad=bad, progress=False, **how).close()  # type: ignore[arg-type]
            self.wanted[bad] = contents(place)
        (place := self.folder / "measured").mkdir()
        began_s = time.monotonic()
        self.steps = self.nursery.run(build_in_steps, self.source, place, bad="drop")
        self.took_s = time.monotonic() - began_s

    def kill(self, place: Path, *, die_at: int | None = None, after_s: float | None = None, **options: Any) -> bool:
        """Kill a build at a step or after a time, look at what it leaves, and return whether it was alive."""
        fork = self.nursery.start(build_in_steps, self.source, place, die_at=die_at, **options)
        if after_s is not None:
            time.sleep(after_s)
            fork.kill()
        killed = False
        try:
            fork.result()
        except KilledError:
            killed = True
        except StoreExistsError:  # all had their names
            assert not options["overwrite"]
        fork.gone()
        for name in SIZES:
            if (place / name).exists():
                with arraystore.open(place / name) as store:
                    check_store(store)
        return killed

    def finish(self, place: Path, **options: Any) -> None:
        try:
            self.nursery.run(build_all, self.source, place, **options)
        except StoreExistsError:  # the call that was killed had nothing left to do
            assert not options["overwrite"]
        assert contents(place) == self.wanted[options["bad"]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> World:
    return World(tmp_path_factory.mktemp("several kills"), nursery)


def kills_of(world: World, place: Path, rng: random.Random, count: int) -> int:
    """Kill one build so many times at random, let the same call finish it, and return how many kills met it alive."""
    place.mkdir()
    options = {"bad": rng.choice(("keep", "drop")), "overwrite": rng.random() < 0.5}
    killed = 0
    for _ in range(count):
        moment: dict[str, Any] = {"after_s": rng.uniform(0, 1.05) * world.took_s}
        if rng.random() < 0.7:
            moment = {"die_at": rng.randint(1, world.steps)}
        killed += world.kill(place, **moment, **options)
    world.finish(place, **options)
    return killed


def test_killed_builds_are_finished_by_the_same_call(world: World, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    kills = sum(kills_of(world, tmp_path / f"{seed} {part}", rng, 2) for part in range(2))
    assert kills >= 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_kill_while_the_stores_get_their_names_is_finished(world: World, tmp_path: Path, *, overwrite: bool) -> None:
    (place := tmp_path / "s").mkdir()
    last = world.steps - 4
    for die_at in range(last - 60, last, 25):
        world.kill(place, die_at=die_at, bad="drop", overwrite=overwrite)
    world.finish(place, bad="drop", overwrite=overwrite)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_fifty_kills_in_a_row(world: World, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    kills = finished = 0
    while kills < 50:
        kills += kills_of(world, tmp_path / f"{seed} {finished}", rng, rng.randint(1, 4))
        finished += 1
    sys.stdout.write(f"{kills} kills, {finished} builds, seed {seed}\n")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_kill_at_every_step_of_the_end_is_finished(world: World, tmp_path: Path) -> None:
    for die_at in range(world.steps - 140, world.steps + 1):
        (place := tmp_path / str(die_at)).mkdir()
        world.kill(place, die_at=die_at, bad="drop", overwrite=False)
        world.finish(place, bad="drop", overwrite=False)
