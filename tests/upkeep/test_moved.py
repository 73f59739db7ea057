"""Photos that have moved: an update records their new place, and a repair finds them there."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images
from support.damage import damage
from support.store_contract import assert_equal, build, count_decodes, plain

import arraystore
from arraystore import BadImagesError, ManifestError, StoreError


def repair(target: Path, *args: Any, **options: Any) -> arraystore.Store:
    return arraystore.repair(target, *args, **({"progress": False, "workers": 2} | options))


def moved(folder: Path, name: str = "moved") -> Path:
    return folder.rename(folder.with_name(name))


# --- update ----------------------------------------------------------------------------------------------------------


def test_the_new_folder_is_recorded_and_nothing_is_decoded(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = build(folder)
    build(folder, target).close()
    new = moved(folder)
    found = arraystore.compare(target, new)
    assert (bool(found), found.moved, found.unchanged) == (True, str(new), 8)
    assert str(found) == f"8 unchanged, moved to {new}"
    decoded = count_decodes(monkeypatch)
    store = arraystore.update(target, new, progress=False)
    assert not decoded
    assert (store.description.root, store.description.origin) == (str(new), str(new))
    assert_equal(store, oracle)
    assert store.verify(progress=False).ok
    assert not arraystore.compare(target), "the recorded folder is now the new one"
    assert not arraystore.compare(target, new)


def test_a_table_that_moved(folder: Path, target: Path) -> None:
    table = folder / "rows.csv"
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
    table.write_text("path,score\n" + "".join(f"{name},{i}\n" for i, name in enumerate(names)))
    build(table, target).close()
    new = moved(folder)
    store = arraystore.update(target, new / "rows.csv", progress=False)
    assert (store.description.root, store.description.origin) == (str(new), str(new / "rows.csv"))
    other = (new / "rows.csv").rename(new / "renamed.csv")
    assert arraystore.compare(target, other).moved == str(other)
    assert arraystore.update(target, other, progress=False).description.origin == str(other)
    assert not arraystore.compare(target)


def test_a_list_of_paths_under_another_root(folder: Path, target: Path) -> None:
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
    build(names, target, root=folder).close()
    new = moved(folder)
    store = arraystore.update(target, names, root=new, progress=False)
    assert (store.description.root, store.description.origin) == (str(new), None)


def test_another_file_of_the_same_name_size_and_time_is_not_taken_for_it(folder: Path, target: Path) -> None:
    pixels = [images.noise(9, 9, seed=seed) for seed in range(2)]
    for seed, name in enumerate(("photos", "others")):
        place = folder.parent / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        (place / "a.ppm").write_bytes(b"P6 9 9 255 " + pixels[seed].tobytes())
        os.utime(place / "a.ppm", (7, 7))
    build(folder, target, size=9).close()
    found = arraystore.compare(target, folder.parent / "others")
    assert list(found.changed) == ["a.ppm"]
    store = arraystore.update(target, folder.parent / "others", progress=False)
    np.testing.assert_array_equal(plain(store.images)[0], plain(build([pixels[1]], size=9).images)[0])


def test_copies_with_other_times_are_the_same(folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(folder, target).close()
    new = folder.with_name("copied")
    shutil.copytree(folder, new, copy_function=shutil.copyfile)
    decoded = count_decodes(monkeypatch)
    assert arraystore.compare(target, new).unchanged == 8
    arraystore.update(target, new, progress=False).close()
    assert not decoded
    assert not arraystore.compare(target), "the times of the copies are recorded too"


def test_another_name_of_the_same_folder_is_no_move(folder: Path, target: Path) -> None:
    build(folder, target).close()
    link = folder.with_name("link")
    link.symlink_to(folder)
    assert not arraystore.compare(target, link)
    assert not arraystore.compare(target, str(folder) + "/")


def test_a_store_without_a_recorded_place_that_is_given_one(folder: Path, target: Path) -> None:
    paths = sorted(str(path) for path in folder.rglob("*.*"))
    build(paths, target).close()
    assert not arraystore.compare(target, paths)
    assert arraystore.compare(target, paths).moved is None


# --- repair ----------------------------------------------------------------------------------------------------------


def test_a_repair_from_another_folder(folder: Path, target: Path) -> None:
    oracle = build(folder)
    build(folder, target).close()
    damage(target, 1, 6)
    new = moved(folder)
    with pytest.raises(BadImagesError, match="No such file or directory"):
        repair(target)
    store = repair(target, new)
    assert_equal(store, oracle)
    assert store.verify(progress=False).ok
    assert store.description.root == str(folder), "a repair changes no record: an update does"


def test_another_content_is_said_and_not_taken(folder: Path, target: Path) -> None:
    build(folder, target).close()
    damage(target, 0, 1, 3)
    new = moved(folder)
    files = sorted(new.rglob("*.*"))
    (new / "ash" / "img_000.jpg").write_bytes(images.jpeg(images.noise(20, 20)))
    data = bytearray(files[1].read_bytes())
    data[-40] ^= 1
    files[1].write_bytes(data)
    with pytest.raises(BadImagesError) as caught:
        repair(target, new)
    reasons = {bad.slot: bad.reason for bad in caught.value.bad}
    assert reasons[0].startswith("is another file than the stored one: it has ")
    assert reasons[1] == "is another file than the stored one, of the same size"
    assert 3 not in reasons
    store = repair(target, new, bad="keep")
    assert [bad.slot for bad in store.bad()] == [0, 1]
    assert store.verify(progress=False).ok


def test_in_the_recorded_folder_it_is_taken_and_said(
    folder: Path, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build(folder, target).close()
    damage(target, 0, 1)
    pixels, file = images.noise(16, 24, seed=9), folder / "ash" / "img_000.jpg"
    before = file.stat().st_size
    file.write_bytes(images.png(pixels))
    with caplog.at_level(logging.WARNING):
        store = repair(target)
    np.testing.assert_array_equal(plain(store.images)[0], plain(build([pixels]).images)[0])
    message = "slot 0 gets other pixels: ash/img_000.jpg is another file than the stored one: it has"
    assert [record.getMessage() for record in caplog.records] == [
        f"{message} {file.stat().st_size:,} bytes, the stored one had {before:,}"
    ]


def test_what_is_no_place_of_the_sources_is_refused(folder: Path, target: Path, tmp_path: Path) -> None:
    paths = sorted(str(path) for path in folder.rglob("*.*"))
    build(paths, target).close()
    damage(target, 2)
    with pytest.raises(ManifestError, match=r"nowhere is no folder: pass the folder that the sources have moved to$"):
        repair(target, tmp_path / "nowhere")
    with pytest.raises(StoreError) as caught:
        repair(target, folder)
    assert str(caught.value) == (
        f"the sources of {target} cannot be looked for in another folder, because their names are whole paths, such as "
        f"{paths[0]!r}: update the store with a list of the new paths"
    )
    new = moved(folder)
    store = arraystore.update(target, sorted(str(path) for path in new.rglob("*.*")), progress=False)
    assert_equal(store, build([str(path) for path in sorted(new.rglob("*.*"))]))


def test_an_interrupted_repair_goes_on_with_the_folder(folder: Path, target: Path) -> None:
    oracle = build(folder)
    build(folder, target).close()
    damage(target, 1, 6)
    new = moved(folder)

    def interrupt(now: arraystore.Progress) -> None:
        if now.unit == "img" and now.done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repair(target, new, progress=interrupt, workers=1)
    assert_equal(repair(target, new), oracle)


def test_a_repair_keeps_what_the_scan_left_out(folder: Path, target: Path) -> None:
    (folder / "ash" / "notes.txt").write_text("no image")
    build(folder, target).close()
    damage(target, 1)
    assert repair(target).description.left_out == {".txt": 1}
