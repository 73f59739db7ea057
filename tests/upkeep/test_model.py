"""Random programs of calls, kills, pauses and changes by several processes, against a simple model in memory.

The model knows each version of each source by its time of change. So each row of the store must have the pixels of the
version that its samples name; a call that succeeds alone must leave exactly the sources of now; and nothing else may
be touched or left behind.
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.faults import contents, in_steps
from support.nursery import LIMIT_S, Fork, KilledError, Nursery

import arraystore
from arraystore import BadImagesError, Changes, Kind, StoreError, StoreExistsError, Verification
from arraystore._common.progress import Progress
from arraystore._stores.publishing import WORKING, partial_of
from arraystore._upkeep import repair as repair_module
from arraystore._upkeep import update as update_module

SIZE = 6
NAMES = [f"{letter}.png" for letter in "abcdefghij"]
PROGRAM_STEPS = 20
LATEST_STEP = 70  # of a call; most have fewer


def pixels_of(name: str, version: int) -> Any:
    """The picture of a version of a source, NCHW."""
    return np.random.default_rng([NAMES.index(name), version]).integers(0, 256, (3, SIZE, SIZE), np.uint8)


def call(kind: str, target: Path, source: Path, **options: Any) -> None:
    options = {"progress": False, "workers": 1} | options
    if kind == "build":
        arraystore.build(source, target, size=SIZE, **options)
    elif kind == "update":
        arraystore.update(target, source, **options)
    else:
        arraystore.repair(target, **options)


def call_in_steps(
    kind: str, target: Path, source: Path, *, die_at: int | None, pause_at: int | None, flag: Path, **options: Any
) -> None:
    """Make a call in this process, and kill it or stop it before a step; the file ``flag`` shows that it has stopped.

    Beside those that `in_steps` counts, a step is what an update or a repair does between looking and acting.
    """
    taken = 0

    def step() -> None:
        nonlocal taken
        taken += 1
        if taken == pause_at:
            flag.touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        if taken == die_at:
            os.killpg(0, signal.SIGKILL)

    def stepping(module: Any, name: str) -> None:
        original = getattr(module, name)

        def stepped(*args: Any, **named: Any) -> Any:
            step()
            found = original(*args, **named)
            step()
            return found

        setattr(module, name, stepped)

    stepping(update_module, "compare")
    stepping(repair_module, "verify")
    in_steps(lambda: call(kind, target, source, **options), target, on_step=step)


def has_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


class Program:
    """One store, its sources, and the model of both."""

    def __init__(self, nursery: Nursery, place: Path, name: str, seed: int) -> None:
        self.rng = random.Random(seed)
        self.nursery, self.place = nursery, place
        self.source, self.target = place / "source", place / name
        self.flags = place.parent / f"{place.name} flags"
        for folder in (place, self.source, self.flags):
            folder.mkdir()
        self.versions: dict[str, int] = {}
        self.clock = 0
        self.log: list[str] = []
        self.paused: list[Fork] = []
        self.changes: Changes | None = None
        self.verification: Verification | None = None
        self.damaged = 0
        for each in self.rng.sample(NAMES, 5):
            self.write(each)
        neighbor = f"other{self.target.suffix}"
        arraystore.build(np.zeros((2, 4, 4, 3), np.uint8), place / neighbor, size=4, progress=False)
        (place / "mine").write_bytes(b"mine")
        self.others = {path: data for path, data in contents(place).items() if not path.startswith("source")}

    # --- the sources

    def write(self, name: str) -> None:
        self.clock += 1
        self.versions[name] = self.clock
        pixels = pixels_of(name, self.clock).transpose(1, 2, 0)[:, :, ::-1]
        new = self.flags / "new"
        new.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        os.utime(new, (self.clock, self.clock))
        new.replace(self.source / name)

    def change(self) -> str:
        name = self.rng.choice(NAMES)
        if name in self.versions and len(self.versions) > 1 and self.rng.random() < 0.5:
            del self.versions[name]
            (self.source / name).unlink()
            return f"remove {name}"
        self.write(name)
        return f"write {name}, version {self.clock}"

    def damage(self) -> str:
        """Change a byte of a slot, if no other call is under way."""
        if not self.target.exists() or self.paused:
            return "damage nothing"
        store = arraystore.open(self.target)
        images: Any = store.images
        slot = self.rng.randrange(len(store))
        with Path(images.filename).open("r+b") as file:
            file.seek(images.offset + slot * images[0].nbytes)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
        self.damaged += 1
        return f"damage slot {slot}"

    # --- the calls

    def options(self, kind: str) -> dict[str, Any]:
        options: dict[str, Any] = {"fresh": self.rng.random() < 0.1}
        if kind == "build":
            return options | {"overwrite": self.rng.random() < 0.7}
        if kind == "update" and self.changes is not None and self.rng.random() < 0.3:
            return options | {"changes": self.changes}
        if kind == "update":
            return options | {"content": self.rng.random() < 0.2}
        if self.verification is not None and self.rng.random() < 0.3:
            return options | {"verification": self.verification}
        return options

    def run(self, kind: str) -> str:
        options = self.options(kind)
        how = self.rng.choices(["alone", "killed", "paused"], [4, 4, 2 if len(self.paused) < 2 else 0])[0]
        told = f"{kind} {how} {[name for name, value in options.items() if value]}"
        if how == "alone":
            had_work = partial_of(self.target).exists()
            outcome = self.outcome(kind, options, lambda: call(kind, self.target, self.source, **options))
            self.expect(kind, options, outcome, had_work=had_work)
            return f"{told}: {outcome}"
        at = self.rng.randint(1, LATEST_STEP)
        flag = self.flags / f"{self.clock} {len(self.log)}"
        steps = {"die_at": at if how == "killed" else None, "pause_at": at if how == "paused" else None}
        fork = self.nursery.start(call_in_steps, kind, self.target, self.source, flag=flag, **steps, **options)
        if how == "paused":
            deadline_s = time.monotonic() + LIMIT_S
            while not fork.ended() and not (flag.exists() and has_stopped(fork.pid)):
                assert time.monotonic() < deadline_s
                time.sleep(0.0005)
            if flag.exists():
                self.paused.append(fork)
                return f"{told} at step {at}"
        try:
            outcome = self.outcome(kind, options, fork.result)
        except KilledError:
            outcome = f"killed at step {at}"
        fork.gone()
        return f"{told}: {outcome}"

    def outcome(self, kind: str, options: dict[str, Any], make: Callable[[], Any], *, alone: bool = True) -> str:
        """Make a call; errors that it may raise are an outcome."""
        try:
            make()
        except StoreError as error:
            text = str(error).partition("\n")[0]
            allowed = error.kind in (Kind.BUSY, Kind.MISSING) or "has been changed since" in text
            if kind == "build":
                allowed |= "an unfinished build of something else" in text
                allowed |= isinstance(error, StoreExistsError) and not options["overwrite"]
                allowed |= "was put there while the new store was made" in text and bool(self.paused)
            if kind == "repair":
                allowed |= "an unfinished build of something else" in text
            assert allowed, f"{kind} {options}: {text}"
            return text
        except BadImagesError as error:  # a source was removed after the call had listed it
            assert kind == "repair" or options.get("changes") or self.paused or not alone, error
            return str(error).partition("\n")[0]
        return "done"

    def expect(self, kind: str, options: dict[str, Any], outcome: str, *, had_work: bool) -> None:
        """Check what a call that has succeeded alone leaves.

        An update or a repair that had nothing to do leaves the work of a build that was killed.
        """
        if outcome != "done" or self.paused:
            return
        if kind in ("update", "build") and not options.get("changes"):
            self.check_rows(self.versions)
        if kind == "repair" and not options.get("verification"):
            assert arraystore.verify(self.target, progress=False).ok
            self.damaged = 0
        if kind == "build":
            self.damaged = 0
        self.check_nothing_is_left(unfinished=had_work and kind != "build")

    def resume(self) -> str:
        if not self.paused:
            return "resume nothing"
        fork = self.paused.pop(self.rng.randrange(len(self.paused)))
        if self.rng.random() < 0.3:
            fork.kill()
        with suppress(ProcessLookupError):
            os.killpg(fork.pid, signal.SIGCONT)
        try:
            # It was started by any call, with any options.
            outcome = self.outcome("build", {"overwrite": False}, fork.result, alone=False)
        except KilledError:
            outcome = "killed"
        fork.gone()
        return f"resume: {outcome}"

    def look(self) -> str:
        if not self.target.exists() or self.damaged:
            return "look at nothing"
        self.changes = arraystore.compare(self.target, self.source)
        self.verification = arraystore.verify(self.target, progress=False)
        assert self.verification.ok, self.verification
        if not self.paused:
            self.check_nothing_is_left(unfinished=True)
        return f"look: {self.changes}"

    # --- the model

    def check_rows(self, versions: dict[str, int] | None = None) -> None:
        """Each row has the pixels of the version of its source that it names; and these versions, if they are known."""
        store = arraystore.open(self.target)
        wrong = set()
        found = {}
        for slot, (name, mtime) in enumerate(
            zip(store.samples["source"].to_pylist(), store.samples["mtime"].to_pylist(), strict=True)
        ):
            version = round(mtime.timestamp())
            found[name] = version
            if not np.array_equal(store.images[slot], pixels_of(name, version)):
                wrong.add(slot)
        assert len(wrong) <= self.damaged, f"the slots {wrong} have other pixels than their sources"
        assert len(found) == len(store)
        if versions is not None:
            assert found == versions

    def check_nothing_is_left(self, *, unfinished: bool = False) -> None:
        now = contents(self.place)
        names = {self.target.name, partial_of(self.target).name if unfinished else self.target.name, "source"}
        assert {path: data for path, data in now.items() if path.split("/")[0] not in names} == self.others
        if self.target.is_dir():
            assert not {path.name for path in self.target.iterdir()} & set(WORKING)

    def step(self) -> None:
        kind = self.rng.choices(
            ["change", "update", "build", "repair", "damage", "look", "resume"], [5, 6, 2, 1.5, 0.7, 3, 2]
        )[0]
        if kind in ("build", "update", "repair"):
            self.log.append("")
            self.log[-1] = self.run(kind)
        else:
            self.log.append(getattr(self, kind)())
        if self.target.exists():
            self.check_rows()

    def finish(self) -> None:
        while self.paused:
            self.log.append(self.resume())
        if not partial_of(self.target).exists() and not self.target.exists():
            call("build", self.target, self.source)
        elif not self.target.exists():
            call("build", self.target, self.source, fresh=True)
        self.log.append("update")
        call("update", self.target, self.source)
        if self.damaged:
            self.log.append("repair")
            call("repair", self.target, self.source, fresh=True)
            self.damaged = 0
        self.check_rows(self.versions)
        shutil.rmtree(partial_of(self.target), ignore_errors=True)  # of a build that was killed, and never finished
        self.check_nothing_is_left()
        assert arraystore.verify(self.target, progress=False).ok


def run_programs(nursery: Nursery, folder: Path, name: str, steps: int) -> None:
    done = 0
    while done < steps:
        seed = random.SystemRandom().randrange(10**6)
        program = Program(nursery, folder / str(seed), name, seed)
        try:
            for _ in range(PROGRAM_STEPS):
                program.step()
            program.finish()
        except BaseException as error:
            error.add_note("\n".join([f"seed {seed}, {name}", *program.log]))
            raise
        finally:
            for fork in program.paused:
                fork.kill()
        done += len(program.log)
        shutil.rmtree(program.place)
        shutil.rmtree(program.flags)


@pytest.mark.parametrize("name", ["x.store", "x.h5"])
def test_random_programs_leave_each_row_its_own_pixels(nursery: Nursery, tmp_path: Path, name: str) -> None:
    run_programs(nursery, tmp_path, name, 200)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", ["x.store", "x.h5"])
def test_many_random_programs(nursery: Nursery, tmp_path: Path, name: str) -> None:
    run_programs(nursery, tmp_path, name, 50_000)


def test_changes_go_to_another_process(tmp_path: Path) -> None:
    """The programs send them to the processes that they kill."""
    (tmp_path / "a").mkdir()
    cv2.imwrite(str(tmp_path / "a" / "a.png"), np.zeros((4, 4, 3), np.uint8))
    arraystore.build(tmp_path / "a", tmp_path / "x.store", size=4, progress=lambda _now: None)
    changes = arraystore.compare(tmp_path / "x.store")
    assert pickle.loads(pickle.dumps(changes)).identity == changes.identity
    assert Progress
