"""Several processes at one target: builds that want it at the same instant, and readers of what is being written."""

from __future__ import annotations

import itertools
import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images
from support.faults import build_in_steps, check_store, contents
from support.nursery import LIMIT_S, Fork, KilledError, Nursery
from support.store_contract import build, plain

import arraystore
from arraystore import FormatError, Progress, StoreError, StoreExistsError
from arraystore._format.specification import EMPTY
from arraystore._stores.publishing import partial_of

NAMES = ["x.store", "x.h5"]


def source(count: int, *, seed: int = 0) -> list[Any]:
    """Arrays of noise; the fourth is bad."""
    arrays: list[Any] = list(images.noise(count, 20, seed=seed)[:, :, None, :].repeat(20, 2))
    arrays[3] = arrays[3].astype(np.float32)
    return arrays


def slowly(_now: Progress) -> None:
    time.sleep(0.01)


def very_slowly(_now: Progress) -> None:
    time.sleep(0.04)


def halting(now: Progress) -> None:
    """Stop in the middle, until somebody kills this process."""
    if now.done:
        time.sleep(LIMIT_S)


# --- builds against builds -------------------------------------------------------------------------------------------


def build_at(at_s: float, target: Path, **options: Any) -> str:
    while time.monotonic() < at_s:
        pass
    reported: list[int] = []

    def progress(now: Progress) -> None:
        reported.append(now.done)
        slowly(now)

    build(source(40), target, bad="keep", progress=progress, **options)
    return "done" if reported else "found"  # it came between the rename and the tidying up of the first


def outcome(fork: Fork) -> str:
    try:
        return str(fork.result())
    except StoreExistsError:
        return "exists"
    except StoreError as error:
        return str(error)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"fresh": True}], ids=str)
def test_of_builds_that_begin_at_the_same_instant_one_wins(
    nursery: Nursery, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    (tmp_path / "alone").mkdir()
    build(source(40), tmp_path / "alone" / name, bad="keep")
    for turn in range(7):
        (place := tmp_path / str(turn)).mkdir()
        at_s = time.monotonic() + 0.02
        rivals = [nursery.start(build_at, at_s, place / name, **options) for _ in range(3)]
        outcomes = [outcome(rival) for rival in rivals]
        if not options.get("overwrite"):  # one that comes later may replace what the first has made
            assert outcomes.count("done") == 1
        assert "done" in outcomes
        pids = "|".join(str(rival.pid) for rival in rivals)
        target = re.escape(str(place / name))
        message = rf"another build into {target} is running( \(process ({pids}) on .+\))?: wait for it, or choose"
        for text in outcomes:
            assert text in ("done", "found", "exists") or re.match(message, text), text
        assert contents(place) == contents(tmp_path / "alone")


@pytest.mark.parametrize("name", NAMES)
def test_who_is_refused_takes_over_from_one_that_is_killed(nursery: Nursery, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    first = nursery.start(build_in_steps, source(200), target, bad="keep", progress=halting)
    deadline_s = time.monotonic() + LIMIT_S
    while not (partial_of(target) / "plan.json").exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)
    with pytest.raises(StoreError, match=rf"is running \(process {first.pid} on .+\): wait for it"):
        nursery.run(build_in_steps, source(200), target, bad="keep")
    first.kill()
    with pytest.raises(KilledError):
        first.result()
    nursery.run(build_in_steps, source(200), target, bad="keep")
    (tmp_path / "alone").mkdir()
    build(source(200), tmp_path / "alone" / name, bad="keep")
    assert contents(target) == contents(tmp_path / "alone" / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", name]


# --- readers against builds ------------------------------------------------------------------------------------------


def watch(target: Path, count: int) -> set[int]:
    """Look at a build until it is published; return how many slots were settled at each look."""
    oracle, seen, before = build(source(count), bad="keep"), set[int](), np.zeros(count, bool)
    deadline_s = time.monotonic() + LIMIT_S
    while not target.exists():
        assert time.monotonic() < deadline_s
        try:
            store = arraystore.open(target, partial=True)
        except FormatError:  # not begun yet, or just published
            continue
        settled = plain(store.status) != EMPTY
        assert not (before & ~settled).any()
        np.testing.assert_array_equal(store.images[settled], oracle.images[settled])
        np.testing.assert_array_equal(store.checksums[settled], oracle.checksums[settled])
        np.testing.assert_array_equal(store.status[settled], oracle.status[settled])
        check_store(store)
        seen.add(int(settled.sum()))
        before = settled
    return seen


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_of_a_running_build_sees_what_is_settled_and_only_more_of_it(
    nursery: Nursery, tmp_path: Path, name: str
) -> None:
    reader = nursery.start(watch, tmp_path / name, 200)
    nursery.run(build_in_steps, source(200), tmp_path / name, bad="keep", progress=very_slowly)
    assert any(0 < settled < 200 for settled in reader.result())


def replace_often(target: Path, stop: Path) -> None:
    """Replace a store by another one of the same shape, over and over."""
    for turn in itertools.count(1):
        build(source(30, seed=turn % 2), target, labels=[turn % 2] * 30, bad="keep", overwrite=True)
        if stop.exists():
            return


def open_often(target: Path, seconds: float) -> None:
    """Open it until both stores were seen: each is one store or the other; one that is held stays what it is."""
    stores = [build(source(30, seed=seed), labels=[seed] * 30, bad="keep") for seed in range(2)]
    until_s = time.monotonic() + seconds
    held = arraystore.open(target)
    pixels, opened = plain(held.images), [0, 0]
    while time.monotonic() < until_s or min(opened) == 0:
        assert time.monotonic() < until_s + LIMIT_S
        store = arraystore.open(target)
        assert store.labels is not None
        which = int(store.labels[0])
        opened[which] += 1
        np.testing.assert_array_equal(plain(store.images), stores[which].images)
        np.testing.assert_array_equal(plain(store.checksums), stores[which].checksums)
        assert (store.mean, store.std) == (stores[which].mean, stores[which].std)
        np.testing.assert_array_equal(plain(held.images), pixels)


@pytest.mark.parametrize("name", NAMES)
def test_a_store_that_is_replaced_is_never_half_of_each(nursery: Nursery, tmp_path: Path, name: str) -> None:
    build(source(30), tmp_path / name, labels=[0] * 30, bad="keep")
    writer = nursery.start(replace_often, tmp_path / name, tmp_path / "stop")
    for reader in [nursery.start(open_often, tmp_path / name, 1.3) for _ in range(2)]:
        reader.result()
    (tmp_path / "stop").touch()
    writer.result()


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_in_which_another_build_begins_is_left_to_it(tmp_path: Path, name: str) -> None:
    """A rival that takes the lock between the deletion of the last file and that of the folder ends no build."""
    partial, removed = partial_of(tmp_path / name), os.rmdir
    build(source(5), tmp_path / name, bad="keep").close()
    with pytest.MonkeyPatch.context() as patch:

        def late(path: Any, *args: Any, **options: Any) -> None:
            if Path(path) == partial:
                (partial / "lock").write_text("{}")
            removed(path, *args, **options)

        patch.setattr(os, "rmdir", late)
        build(source(5), tmp_path / name, bad="keep", overwrite=True).close()
    assert [entry.name for entry in partial.iterdir()] == ["lock"]
    build(source(5), tmp_path / name, bad="keep", overwrite=True).close()
    assert not partial.exists()
