"""An update makes the store that a build of the same rows would make, and decodes only what is new or changed."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import images
from support.damage import damage
from support.store_contract import (
    DEFAULTS,
    assert_equal,
    build,
    count_decodes,
    decoder_of,
    file_of_slots,
    options_of,
    plain,
)

import arraystore
from arraystore import BadImagesError, ManifestError, SpaceError, SpecError, StoreError
from arraystore._decoding import decode
from arraystore._sources.stamps import STAMP, stamp_of


# Slots that differ in shape share most steps with others, but more of their rows is copied.
@pytest.fixture(
    params=[
        *("x.store", "x.h5", "x.jpegs"),
        *(pytest.param(name, marks=pytest.mark.long) for name in ("x.jpegs.h5", "x.kept", "x.kept.h5")),
    ]
)
def target(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in options_of(request.param).items():
        monkeypatch.setitem(DEFAULTS, name, value)
    return tmp_path / str(request.param)


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.*") if path.is_file())


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.jpeg(images.photo(30, 41, seed=seed)))


def update(path: Path, *args: Any, **options: Any) -> arraystore.Store:
    return arraystore.update(path, *args, **({"progress": False, "workers": 2} | options))


def sources(store: arraystore.Store) -> list[str]:
    return list(store.samples["source"].to_pylist())


def rebuilt(folder: Path, names: list[str], labels: list[str], **options: Any) -> arraystore.Store:
    """What a build of these rows makes."""
    manifest = arraystore.Manifest.from_paths(names, labels=labels, root=folder)
    return build(manifest, **options)


def assert_same_rows(store: arraystore.Store, oracle: arraystore.Store) -> None:
    """All but the codes of the classes, which a store keeps."""
    np.testing.assert_array_equal(plain(store.images), plain(oracle.images))
    np.testing.assert_array_equal(store.checksums, oracle.checksums)
    assert store.samples.to_pydict() == oracle.samples.to_pydict()
    assert (store.mean, store.std) == (oracle.mean, oracle.std)
    names = [[one.classes[code] for code in one.labels] for one in (store, oracle) if one.labels is not None]
    assert names[0] == names[1]


def nothing(_folder: Path) -> None:
    """Change nothing."""


def add(folder: Path) -> None:
    write(folder / "ash" / "000.jpg", 50)
    write(folder / "oak" / "zzz.jpg", 51)


def add_a_class(folder: Path) -> None:
    write(folder / "beech" / "a.jpg", 52)


def remove(folder: Path) -> None:
    files_in(folder)[1].unlink()
    files_in(folder)[-1].unlink()


def change(folder: Path) -> None:
    write(files_in(folder)[2], 53)


def rename(folder: Path) -> None:
    files_in(folder)[3].rename(folder / "oak" / "renamed.jpg")


def touch(folder: Path) -> None:
    os.utime(files_in(folder)[0], (5, 5))


MATRIX: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "nothing": (nothing, 0, "8 unchanged"),
    "added": (add, 2, "2 added, 8 unchanged"),
    "a new class": (add_a_class, 1, "1 added, 8 unchanged, targets changed"),
    "removed": (remove, 0, "2 removed, 6 unchanged"),
    "changed": (change, 1, "1 changed, 7 unchanged"),
    "renamed into another class": (rename, 0, "1 renamed, 7 unchanged, targets changed"),
    "touched": (touch, 1, "1 changed, 7 unchanged"),
}


@pytest.mark.parametrize("name", MATRIX)
def test_the_matrix(folder: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    how, decodes, said = MATRIX[name]
    before = build(folder, target)
    rows = sources(before)
    names_before = before.classes
    how(folder)
    changes = arraystore.compare(target)
    assert str(changes) == said
    assert bool(changes) == (name != "nothing")
    decoded = count_decodes(monkeypatch)
    store = update(target)
    assert len(decoded) == decodes
    now = sources(store)
    old_rows = [row for row in now if row in rows]
    assert old_rows == [row for row in rows if row in old_rows]  # what is there keeps its order
    assert store.classes[: len(names_before)] == names_before
    assert_same_rows(store, rebuilt(folder, now, [row.split("/")[0] for row in now]))
    assert sorted(now) == [str(path.relative_to(folder)) for path in files_in(folder)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["photos", target.name])
    assert store.verify(progress=False).ok
    assert str(arraystore.compare(target)).endswith("8 unchanged" if name == "nothing" else " unchanged")
    assert not arraystore.compare(target)


def test_everything_at_once(folder: Path, target: Path) -> None:
    build(folder, target)
    for how in (add, add_a_class, change, rename, remove):
        how(folder)
    store = update(target)
    now = sources(store)
    assert_same_rows(store, rebuilt(folder, now, [row.split("/")[0] for row in now]))


def test_an_update_that_changes_nothing_writes_nothing(folder: Path, target: Path) -> None:
    build(folder, target)
    place = file_of_slots(target)
    before = place.stat()
    assert_equal(update(target), arraystore.open(target))
    after = place.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_removed_sources_may_be_kept_with_their_pixels(folder: Path, target: Path) -> None:
    old = build(folder, target)
    pixels, rows = plain(old.images), old.samples.to_pydict()
    remove(folder)
    add(folder)
    store = update(target, removed="keep")
    np.testing.assert_array_equal(plain(store.images)[:8], pixels)
    assert len(store) == 10
    assert {name: column[:8] for name, column in store.samples.to_pydict().items()} == rows
    changes = arraystore.compare(target, removed="keep")
    assert str(changes) == "2 removed, but kept, 8 unchanged"
    assert not changes
    assert len(update(target)) == 8


def test_content_decides_where_it_is_asked_for(folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(folder, target)
    touch(folder)
    victim = files_in(folder)[4]
    stamp, data = victim.stat(), victim.read_bytes()
    victim.write_bytes(data[:-3] + b"\0" + data[-2:])  # a byte of the entropy-coded data, size and time as they were
    os.utime(victim, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert str(arraystore.compare(target)) == "1 changed, 7 unchanged"
    changes = arraystore.compare(target, content=True)
    assert list(changes.changed) == [str(victim.relative_to(folder))]
    decoded = count_decodes(monkeypatch)
    update(target, content=True, bad="keep")
    assert len(decoded) == 1


def test_those_who_hold_the_old_store_keep_it(folder: Path, target: Path) -> None:
    held = arraystore.open(build(folder, target).path or target)
    pixels = plain(held.images)
    add(folder)
    remove(folder)
    update(target)
    np.testing.assert_array_equal(plain(held.images), pixels)


def test_damaged_pixels_are_not_taken_over(folder: Path, target: Path) -> None:
    store = build(folder, target)
    oracle = plain(store.images)
    damage(target, 2)
    write(folder / "oak" / "zzz.jpg", 51)
    np.testing.assert_array_equal(plain(update(target).images)[:8], oracle)


def test_damaged_pixels_whose_source_is_gone_are_an_error_and_the_store_stays(folder: Path, target: Path) -> None:
    build(folder, target)
    damage(target, 1)
    files_in(folder)[1].unlink()
    write(folder / "oak" / "zzz.jpg", 51)
    with pytest.raises(BadImagesError, match=r"slot 1  ash/.*: cannot be read: No such file or directory"):
        update(target, removed="keep")
    assert len(arraystore.open(target)) == 8


# --- bad images ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["keep", "drop"])
def test_bad_images_stay_what_they_are_until_their_file_changes(
    mixed: Path, target: Path, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    build(mixed, target, bad=bad)
    assert not arraystore.compare(target)
    write(mixed / "b" / "new.jpg", 60)
    decoded = count_decodes(monkeypatch)
    store = update(target)
    assert len(decoded) == 1
    assert len(store.bad() if bad == "keep" else store.dropped()) == 4
    victims = [image.source for image in (store.bad() if bad == "keep" else store.dropped())]
    write(mixed / victims[0], 61)
    store = update(target)
    assert len(decoded) == 2
    assert [image.source for image in (store.bad() if bad == "keep" else store.dropped())] == victims[1:]
    assert not arraystore.compare(target)


def test_a_new_bad_image_is_an_error_and_the_store_stays(folder: Path, target: Path) -> None:
    oracle = build(folder)
    build(folder, target)
    (folder / "ash" / "bad.jpg").write_bytes(b"bad")
    with pytest.raises(BadImagesError, match=r"^1 of 9 images could not be stored: [^\n]*\n  slot 8  ash/bad\.jpg: "):
        update(target)
    assert_equal(arraystore.open(target), oracle)
    assert len(update(target, bad="drop")) == 8


# --- other sources ---------------------------------------------------------------------------------------------------


def test_a_table_and_all_its_targets(folder: Path, target: Path, tmp_path: Path) -> None:
    names = [str(path.relative_to(tmp_path)) for path in files_in(folder)]

    def table(rows: list[tuple[str, float, str, str]]) -> Path:
        lines = ["file_name,score,kind,note", *(",".join(map(str, row)) for row in rows)]
        (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
        return tmp_path / "t.csv"

    rows = [(name, i / 2, "odd" if i % 2 else "even", f"note {i}") for i, name in enumerate(names)]
    build(table(rows), target)
    assert not arraystore.compare(target)
    rows[3] = (rows[3][0], 9.5, "new kind", "another note")
    del rows[0]
    write(folder / "oak" / "zzz.jpg", 51)
    rows.insert(0, ("photos/oak/zzz.jpg", 7.5, "even", "the last"))
    table(rows)
    assert str(arraystore.compare(target)) == "1 added, 1 removed, 7 unchanged, targets changed"
    store = update(target)
    wanted = [*rows[1:], rows[0]]
    assert sources(store) == [row[0] for row in wanted]
    assert store.targets["score"].tolist() == [row[1] for row in wanted]
    assert [store.categories["kind"][code] for code in store.targets["kind"]] == [row[2] for row in wanted]
    assert store.categories["kind"] == ("even", "odd", "new kind")
    assert store.verify(progress=False).ok


def test_a_list_of_paths(folder: Path, target: Path) -> None:
    paths = files_in(folder)
    build(paths[:6], target, labels=[0, 1, 2, 3, 4, 5])
    with pytest.raises(StoreError, match=r"does not record what it was built from: pass the source$"):
        update(target)
    with pytest.raises(ManifestError) as caught:
        update(target, paths)
    assert str(caught.value) == (
        "the source does not have the targets of the store: labels (<i8 ()) is only in the store; pass the source that "
        "the store was built from, with the same labels and targets"
    )
    store = update(target, paths[1:], labels=[1, 2, 3, 4, 5, 6, 7])
    assert store.labels is not None
    assert store.labels.tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_a_folder_that_moved_is_the_same(folder: Path, target: Path, tmp_path: Path) -> None:
    build(folder, target)
    folder.rename(tmp_path / "moved")
    with pytest.raises(ManifestError, match="there is no such file or folder"):
        update(target)
    found = arraystore.compare(target, tmp_path / "moved")
    assert (found.unchanged, found.moved) == (8, str(tmp_path / "moved")), "the update records the new place"


def test_what_cannot_be_updated_is_said(folder: Path, target: Path, tmp_path: Path) -> None:
    build(np.zeros((2, 4, 4, 3), np.uint8), target)
    with pytest.raises(StoreError, match=r"are not files: build it again$"):
        update(target, folder)
    with pytest.raises(SpecError, match=r"^removed must be 'drop' or 'keep', not 'no'$"):
        update(target, folder, removed="no")
    build(folder, target, overwrite=True)
    shutil.rmtree(folder)
    write(folder / "ash" / "other.jpg", 3)
    store = update(target)
    assert sources(store) == ["ash/other.jpg"]
    with pytest.raises(arraystore.FormatError, match=r"^there is no store at "):
        update(tmp_path / "not there")


# --- interruptions ---------------------------------------------------------------------------------------------------


def test_an_interrupted_update_goes_on(folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(folder, target)
    for i in range(40):
        write(folder / "oak" / f"more{i:02}.jpg", 100 + i)
    decoded = count_decodes(monkeypatch)

    def interrupt(now: arraystore.Progress) -> None:
        if now.done >= 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update(target, progress=interrupt, workers=1)
    assert len(arraystore.open(target)) == 8
    # How far the worker had got beyond what was reported depends on the machine; what is claimed is not decoded again.
    with arraystore.open(target, partial=True) as begun:
        left = np.count_nonzero(np.asarray(begun.status) == 0)
    assert left <= 48 - 24
    done = len(decoded)
    store = update(target)
    assert len(decoded) - done == left
    now = sources(store)
    assert_same_rows(store, rebuilt(folder, now, [row.split("/")[0] for row in now]))


def test_a_volume_without_room_for_both_is_said(folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(folder, target)
    add(folder)
    monkeypatch.setattr("arraystore._common.limits.free_disk_bytes", lambda _folder: 1000)
    with pytest.raises(SpaceError):
        update(target)
    assert len(arraystore.open(target)) == 8


# --- any sequence of changes -----------------------------------------------------------------------------------------


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([add, add_a_class, remove, change, rename, touch, nothing]), max_size=5), st.booleans())
def test_any_changes_in_a_row(tmp_path: Path, steps: list[Callable[[Path], object]], together: bool) -> None:
    folder, target = tmp_path / "photos", tmp_path / "x"
    for old in (folder, target):
        shutil.rmtree(old, ignore_errors=True)
    images.write_tree(folder, {"ash": 5, "oak": 5})
    build(folder, target, size=8)
    for step in steps:
        if len(files_in(folder)) > 4:
            step(folder)
            for emptied in [each for each in folder.iterdir() if not any(each.iterdir())]:
                emptied.rmdir()  # a class folder without images is an error of its own
        if not together:
            update(target)
    store = update(target)
    now = sources(store)
    assert_same_rows(store, rebuilt(folder, now, [row.split("/")[0] for row in now], size=8))
    assert sorted(now) == sorted(str(path.relative_to(folder)) for path in files_in(folder))


# --- sources that could not be read, and odd stamps ------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["keep", "drop"])
def test_a_file_refused_for_its_size_has_not_changed(folder: Path, target: Path, bad: str) -> None:
    large = folder / "ash" / "large.jpg"
    with large.open("wb") as file:
        file.truncate((1 << 28) + 8 * 10_000 + 1)
    build(folder, target, bad=bad, max_pixels=10_000)
    store = arraystore.open(target)
    told = store.bad() if bad == "keep" else store.dropped()
    assert [image.source for image in told] == ["ash/large.jpg"]
    assert not arraystore.compare(target)
    write(large, 7)
    assert [*(changes := arraystore.compare(target)).changed, *changes.added] == ["ash/large.jpg"]
    assert not update(target).bad()


@pytest.mark.parametrize("bad", ["keep", "drop"])
def test_what_failed_for_want_of_memory_is_tried_again_and_not_called_changed(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    victim = files_in(folder)[2]
    decoder = decoder_of(target)
    decode_into = getattr(decode, decoder)

    def without_memory(data: Any, *args: Any, **limits: Any) -> Any:
        if bytes(data) == victim.read_bytes():
            raise MemoryError
        return decode_into(data, *args, **limits)

    monkeypatch.setattr(decode, decoder, without_memory)
    build(folder, target, bad=bad)
    monkeypatch.undo()
    changes = arraystore.compare(target)
    assert str(changes) == "1 tried again, 7 unchanged"
    assert list(changes.retried) == [str(victim.relative_to(folder))]
    assert (list(changes.added), list(changes.changed)) == ([], [])
    store = update(target)
    assert (len(store), store.bad(), store.dropped()) == (8, [], [])
    assert not arraystore.compare(target)


@pytest.mark.parametrize(("bad", "kind"), [("keep", "memory"), ("drop", "volume"), ("keep", "numbers")])
def test_what_fails_again_for_the_same_reason_is_no_change(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch, bad: str, kind: str
) -> None:
    """So `while arraystore.compare(…): arraystore.update(…)` comes to an end."""
    victim = files_in(folder)[2]
    name = str(victim.relative_to(folder))
    decoder, tried = decoder_of(target), []
    decode_into = getattr(decode, decoder)

    def failing(data: Any, *args: Any, **limits: Any) -> Any:
        if bytes(data) != victim.read_bytes():
            return decode_into(data, *args, **limits)
        tried.append(kind)
        if kind == "memory":
            raise MemoryError
        if kind == "volume":
            raise OSError(5, "Input/output error")
        raise OSError(f"only {len(tried)},{len(tried)}.5 GB are free")

    monkeypatch.setattr(decode, decoder, failing)
    build(folder, target, bad=bad)
    turns = 0
    while changes := arraystore.compare(target):
        assert list(changes.retried) == [name]
        store, turns = update(target), turns + 1
    assert (turns, len(tried)) == (1, 2)
    assert [image.source for image in (store.bad() if bad == "keep" else store.dropped())] == [name]
    assert arraystore.verify(target, progress=False).ok
    write(folder / "oak" / "new.jpg", 60)
    assert list(update(target).samples["source"].to_pylist()).count("oak/new.jpg") == 1
    assert (len(tried), bool(arraystore.compare(target))) == (2, False)
    if bad == "keep":
        assert list(arraystore.compare(target, content=True).retried) == [name]
        update(target, content=True)
        assert (len(tried), bool(arraystore.compare(target))) == (3, False)
    os.utime(victim, (7, 7))
    assert arraystore.compare(target)
    monkeypatch.undo()
    assert update(target).bad() == []
    assert len(arraystore.open(target)) == 9
    assert not arraystore.compare(target)


def test_what_fails_again_for_another_reason_is_tried_once_more(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, decoder, tried = files_in(folder)[2], decoder_of(target), []
    decode_into = getattr(decode, decoder)

    def failing(data: Any, *args: Any, **limits: Any) -> Any:
        if bytes(data) != victim.read_bytes():
            return decode_into(data, *args, **limits)
        tried.append(1)
        raise MemoryError if len(tried) == 1 else OSError(5, "Input/output error")

    monkeypatch.setattr(decode, decoder, failing)
    build(folder, target, bad="keep")
    update(target)
    assert len(arraystore.compare(target).retried) == 1
    update(target)
    assert (len(tried), bool(arraystore.compare(target))) == (3, False)


@pytest.mark.parametrize("bad", ["keep", "drop"])
def test_a_file_that_may_not_be_read_is_tried_when_it_may(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    victim = str(files_in(folder)[2])
    # As for a user without the right to read it: the tests may run as root, who has it always.
    opened, access = os.open, os.access

    def refused(path: Any, *args: Any, **options: Any) -> int:
        if path == victim:
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refused)
        patch.setattr(os, "access", lambda path, mode: path != victim and access(path, mode))
        build(folder, target, bad=bad, workers=1)
        assert not arraystore.compare(target)
        write(folder / "oak" / "new.jpg", 60)
        update(target)
        assert not arraystore.compare(target)
    assert str(arraystore.compare(target)) == "1 tried again, 8 unchanged"
    assert len(update(target)) == 9
    assert not arraystore.compare(target)


@pytest.mark.parametrize(("year", "last_us"), [(2445, (2**63 - 1) // 1000), (1600, -(2**63 - 1) // 1000 + 1)])
def test_a_time_of_change_beyond_int64_nanoseconds_is_clamped(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch, year: int, last_us: int
) -> None:
    victim, stat = files_in(folder)[2], os.stat

    def old(path: Any, **options: Any) -> Any:
        """As on a volume that holds any time: few hold such years."""
        info = stat(path, **options)
        time_ns = (year - 1970) * 31_556_952 * 10**9
        seen = SimpleNamespace(st_mode=info.st_mode, st_size=info.st_size, st_mtime_ns=time_ns)
        return seen if os.fspath(path) == str(victim) else info

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", old)
        build(folder, target)
        assert not arraystore.compare(target)
        write(folder / "oak" / "new.jpg", 60)
        samples = update(target).samples
    assert samples["mtime"].cast("int64").to_pylist()[2] == last_us
    assert samples["mtime"].to_pylist()[2].year == (2262 if year > 2000 else 1677)
    assert samples["mtime"].cast(pa.timestamp("ns", "UTC")).null_count == 0  # as pandas before version 2 reads it
    assert list(arraystore.compare(target).changed) == [str(victim.relative_to(folder))]


def test_any_stat_has_a_stamp() -> None:
    for size, time_ns in itertools.product((-5, 0, 2**63 - 1), (-(10**30), -(2**63), 0, 2**63 - 1, 10**30)):
        info = SimpleNamespace(st_size=size, st_mtime_ns=time_ns)
        row = np.array([(*stamp_of(info), 0)], STAMP)  # type: ignore[arg-type]
        assert row["bytes"][0] == max(size, 0)
        assert abs(int(row["mtime"][0]) - time_ns) < 1000 or abs(time_ns) >= 2**63 - 1
        assert row["mtime"].astype("datetime64[ns]").astype("datetime64[us]").astype(str)[0] != "NaT"
