"""A presize that is killed anywhere leaves no half file under a final name, and the next call does the rest."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support import images
from support.faults import in_steps
from support.nursery import KilledError, Nursery

import arraystore
from arraystore._building.presizing import tree

COUNT = 12
ROOT = Path(__file__).resolve().parents[2]
HARM = """
import os, signal, time
import arraystore._building.presizing.making as module

original = module.read_header

def read_header(data):
    if bytes(data[-5:]) == b"#kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if bytes(data[-5:]) == b"#hang":
        time.sleep(1000)
    return original(data)

module.read_header = read_header
"""
SIZES = (16, 24)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery(
        modules=["arraystore._presize", "arraystore._building.presizing.making", "building.test_presize_faults"]
    )
    yield nursery
    nursery.close()


def write_photos(folder: Path, seed: int = 0) -> Path:
    """Images of one call; those of another seed have the same names and other bytes."""
    for i in range(COUNT):
        path = folder / f"{'ab'[i % 2]}" / f"{i:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(images.photo(60 + i, 50, seed=seed + i))
        if i % 3:
            picture.save(path, quality=90)
        else:
            picture.putalpha(picture.getchannel(0))
            picture.save(path.with_suffix(".png"))
    return folder


def presize(folder: Path, place: Path, **options: Any) -> Any:
    return arraystore.presize(folder, place / "s-{size}", shorter=SIZES, progress=False, workers=2, **options)


def presize_in_steps(folder: Path, place: Path, *, die_at: int | None = None) -> int:
    return in_steps(lambda: presize(folder, place), place, die_at=die_at)


def files(place: Path) -> dict[str, bytes]:
    """Every file of the trees that has its name."""
    paths = (path for path in place.rglob("*") if path.is_file() and ".presize" not in path.parts)
    return {str(path.relative_to(place)): path.read_bytes() for path in paths}


def ledgers_hold(place: Path) -> None:
    """No temporary file is left."""
    for size in SIZES:
        assert [*(place / f"s-{size}" / ".presize" / "new").iterdir()] == []


def test_a_presize_that_is_killed_anywhere_is_finished_with_the_same_bytes(tmp_path: Path, nursery: Nursery) -> None:
    """At random steps, one after the other in each of some trees, so that kills follow kills."""
    photos = write_photos(tmp_path / "photos")
    (calm := tmp_path / "calm").mkdir()
    steps = nursery.run(presize_in_steps, photos, calm)
    wanted, rng, kills = files(calm), random.Random(7), 0
    assert len(wanted) == COUNT * len(SIZES)
    for number in range(8):
        (place := tmp_path / f"killed-{number}").mkdir()
        for _ in range(5):
            with suppress(KilledError):
                nursery.run(presize_in_steps, photos, place, die_at=rng.randrange(1, steps))
                break
            kills += 1
            for name, data in files(place).items():
                assert data == wanted[name], name
        presize(photos, place)
        assert files(place) == wanted
        ledgers_hold(place)
        assert presize(photos, place).written == 0
    assert kills > 8


def test_a_change_of_sources_that_is_killed_anywhere_leaves_old_files_or_new_ones(
    tmp_path: Path, nursery: Nursery
) -> None:
    photos = write_photos(tmp_path / "photos")
    rng, kills = random.Random(8), 0
    for number in range(5):
        (place := tmp_path / f"killed-{number}").mkdir()
        presize(photos, place)
        old = files(place)
        write_photos(photos, seed=100 * (number + 1))
        (calm := tmp_path / f"calm-{number}").mkdir()
        steps = nursery.run(presize_in_steps, photos, calm)
        new = files(calm)
        assert old.keys() == new.keys()
        assert not set(old.items()) & set(new.items())
        with suppress(KilledError):
            nursery.run(presize_in_steps, photos, place, die_at=rng.randrange(20, steps))
            continue
        kills += 1
        for name, data in files(place).items():
            assert data in (old[name], new[name]), name
        presize(photos, place)
        assert files(place) == new
    assert kills > 1


def test_a_presize_that_is_killed_at_a_random_time_continues(tmp_path: Path, nursery: Nursery) -> None:
    photos = write_photos(tmp_path / "photos")
    (calm := tmp_path / "calm").mkdir()
    presize(photos, calm)
    wanted, rng = files(calm), random.Random()
    (place := tmp_path / "killed").mkdir()
    for _ in range(6):
        fork = nursery.start(presize, photos, place)
        time.sleep(rng.uniform(0, 0.1))
        fork.kill()
        with suppress(KilledError):
            fork.result()
        fork.gone()
        for name, data in files(place).items():
            assert data == wanted[name]
    presize(photos, place)
    assert files(place) == wanted


def test_nothing_has_its_name_before_it_and_its_line_are_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a power loss would have it: every rename follows the fsync of the file and then of the ledger."""
    photos = write_photos(tmp_path / "photos")
    (place := tmp_path / "x").mkdir()
    events: list[tuple[str, Any]] = []
    fsync, link_new, replace = os.fsync, tree.rename_new, os.replace

    def note_fsync(descriptor: int) -> None:
        info = os.fstat(descriptor)
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        events.append(("sync", name if name == "ledger.jsonl" else info.st_ino))
        fsync(descriptor)

    def note(path: Path) -> None:
        if path.parent.name == "new":
            events.append(("rename", path.stat().st_ino))

    def note_new(path: Path, name: Path) -> None:
        note(path)
        link_new(path, name)

    def note_replace(path: str, name: str) -> None:
        note(Path(path))
        replace(path, name)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(tree, "rename_new", note_new)
    monkeypatch.setattr(os, "replace", note_replace)
    for seed in (0, 50):
        write_photos(photos, seed=seed)
        events.clear()
        presize(photos, place)
        renames = [at for at, (kind, _) in enumerate(events) if kind == "rename"]
        assert len(renames) == COUNT * len(SIZES)
        for at in renames:
            file_synced = max(i for i in range(at) if events[i] == ("sync", events[at][1]))
            assert ("sync", "ledger.jsonl") in events[file_synced:at]


def test_an_image_that_kills_or_hangs_its_worker_is_a_bad_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = write_photos(tmp_path / "photos")
    (place := tmp_path / "x").mkdir()
    presize(photos, place)
    wanted = files(place)
    for name, mark in (("a/02.jpg", b"#kill"), ("b/05.jpg", b"#hang")):
        (photos / name).write_bytes((photos / name).read_bytes() + mark)
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(HARM)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'first'}:{ROOT}")
    (place := tmp_path / "y").mkdir()
    report = presize(photos, place, processes=True, timeout_s=2, bad="keep")
    assert [(bad.source, bad.reason) for bad in report.bad] == [
        ("a/02.jpg", "the worker process that decoded it died twice (killed by SIGKILL, as when memory runs out)"),
        ("b/05.jpg", "reading and decoding it took longer than 2 s (timeout_s), twice"),
    ]
    assert files(place) == {
        name: data for name, data in wanted.items() if "02.jpg" not in name and "05.jpg" not in name
    }
    ledgers_hold(place)


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos")
    (place := tmp_path / "x").mkdir()
    victim = place / "s-16" / "a" / "02.jpg"

    def appear(now: arraystore.Progress) -> None:
        if not now.done:
            victim.parent.mkdir(parents=True, exist_ok=True)
            victim.write_bytes(b"mine")

    options = {"shorter": SIZES, "workers": 1}
    with pytest.raises(arraystore.StoreExistsError, match=r"a/02\.jpg has appeared meanwhile"):
        arraystore.presize(photos, place / "s-{size}", progress=appear, **options)
    with pytest.raises(arraystore.StoreExistsError, match=r"a/02\.jpg is there already, and .* move it away"):
        presize(photos, place)
    assert victim.read_bytes() == b"mine"
    victim.unlink()
    presize(photos, place)
    assert len(files(place)) == COUNT * len(SIZES)
    ledgers_hold(place)
