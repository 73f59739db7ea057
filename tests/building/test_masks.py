"""Masks as targets of a build: they lie in the slots of their images, whatever builds them and whatever stops it."""

from __future__ import annotations

import os
import pickle
import random
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from support import images, masks
from support.faults import build_in_steps, contents
from support.nursery import KilledError, Nursery
from support.store_contract import build, count_decodes, plain

import arraystore
from arraystore import BadImagesError, ImageSpec, Manifest, ManifestError, Masks, Store, StoreError
from arraystore._building.fill import Job, fill_parts
from arraystore._building.masks import MaskJob
from arraystore._stores import hdf5_writing
from arraystore._stores.publishing import partial_of

COUNT = masks.COUNT
SPEC = ImageSpec(size=(24, 16), fit="crop")


def with_masks(table: Path, target: Path | None = None, **options: Any) -> Store:
    return build(table, target, spec=SPEC, targets=masks.TARGETS, **options)


def expected(table: Path) -> Any:
    return masks.slots(table.parent, SPEC, COUNT)


# --- the same for any source, medium and worker -----------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_a_column_of_paths_becomes_masks(table: Path, tmp_path: Path, fit: Any) -> None:
    spec = ImageSpec(size=(24, 16), fit=fit)
    store = build(table, tmp_path / "x.store", spec=spec, targets=masks.TARGETS)
    wanted = masks.slots(table.parent, spec, COUNT)
    np.testing.assert_array_equal(store.targets["mask"], wanted)
    np.testing.assert_array_equal(np.load(tmp_path / "x.store" / "mask.npy", mmap_mode="r"), wanted)
    assert (store.targets["mask"].dtype, dict(store.description.masks)) == (np.uint8, {"mask": 255})
    np.testing.assert_array_equal(store.labels, np.arange(COUNT) % 3)
    np.testing.assert_array_equal(store.images, build(table, spec=spec, targets=["label"]).images)
    assert store.samples["mask"].to_pylist() == [f"m/{i:02}.png" for i in range(COUNT)]
    assert store.verify(progress=False).ok
    assert [path.name for path in tmp_path.iterdir()] == ["x.store"]


def test_lists_and_folders_take_masks(table: Path) -> None:
    folder, wanted = table.parent, expected(table)
    paths = [folder / f"i/{i:02}.png" for i in range(COUNT)]
    names = [f"{i:02}.png" for i in range(COUNT)]
    absolute = {"mask": Masks([folder / "m" / name for name in names])}
    for source, targets, options in (
        (paths, absolute, {}),
        (folder / "i", {"mask": Masks(names, root=folder / "m")}, {}),
        (folder / "i", {"mask": Masks([f"../m/{name}" for name in names])}, {}),
        (folder / "i", {"mask": Masks(folder / "m")}, {}),
        ([f"i/{name}" for name in names], {"mask": Masks([f"m/{name}" for name in names])}, {"root": folder}),
        ([path.read_bytes() for path in paths], absolute, {}),
        ([np.asarray(Image.open(path)) for path in paths], absolute, {}),
        ([Image.open(path) for path in paths], absolute, {}),
    ):
        np.testing.assert_array_equal(build(source, spec=SPEC, targets=targets, **options).targets["mask"], wanted)
    labels = build(paths, spec=SPEC, labels=absolute["mask"])
    np.testing.assert_array_equal(labels.labels, wanted)


def test_relative_masks_of_images_in_memory_start_from_the_current_folder(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(table.parent)
    manifest = Manifest.of([images.noise(*images.SIZES[0])], targets={"mask": Masks(["m/00.png"])})
    monkeypatch.chdir("/")
    assert manifest.load_masks(0) == (str(table.parent / "m/00.png"),)
    assert pickle.loads(pickle.dumps(manifest)).load_masks(0) == manifest.load_masks(0)


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2) as pool:
        yield pool


def test_threads_and_processes_make_the_same_bytes(table: Path, tmp_path: Path, processes: ProcessPoolExecutor) -> None:
    with_masks(table, tmp_path / "1" / "x.store", workers=1)
    one = contents(tmp_path / "1")
    for name, options in {
        "5": {"workers": 5},
        "processes": {"processes": True, "workers": 2},
        "executor": {"executor": processes},
    }.items():
        with_masks(table, tmp_path / name / "x.store", **options)
        assert contents(tmp_path / name) == one
        np.testing.assert_array_equal(with_masks(table, **options).targets["mask"], expected(table))


def test_each_part_of_a_run_has_its_own_masks(table: Path) -> None:
    """A worker process sends what it has done whenever some time has passed; here after every image."""
    manifest = Manifest.of(table, targets=masks.TARGETS)
    sources = [manifest.load(slot) for slot in range(3, 9)]
    loaded = {slot: manifest.load_masks(slot) for slot in range(COUNT)}
    job = Job(3, sources, SPEC, masks=MaskJob.of(manifest, loaded))
    found = [(part.start, part.masks[0]) for part in fill_parts(job, -1.0)]
    assert [(start, len(array)) for start, array in found] == [(slot, 1) for slot in range(3, 9)]
    np.testing.assert_array_equal(np.concatenate([array for _, array in found]), expected(table)[3:9])


def test_several_masks_of_different_bits(table: Path, tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65_000, (COUNT, 8, 8)).astype(np.uint16)
    paths = []
    for i, mask in enumerate(deep):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(mask).save(paths[-1])
    source = [images.noise(8, 8, seed=i) for i in range(COUNT)]
    targets = {"b": Masks(paths, bits=16), "a": Masks([table.parent / "m/02.png"] * COUNT)}
    store = build(source, tmp_path / "x.store", size=8, targets=targets)
    np.testing.assert_array_equal(store.targets["b"], deep)
    assert (store.targets["b"].dtype, dict(store.description.masks)) == (np.uint16, {"a": 255, "b": 65_535})
    wanted = masks.by_pillow(Image.open(table.parent / "m/02.png"), store.spec)
    np.testing.assert_array_equal(store.targets["a"], [wanted] * COUNT)
    assert store.verify(progress=False).ok
    with pytest.raises(BadImagesError, match=r"0\.png: it has the number .*, which 8 bits do not hold"):
        build(source, size=8, targets={"b": Masks(paths)})


def test_a_store_without_masks_says_nothing_of_them(photos: Path, tmp_path: Path) -> None:
    store = build(photos, tmp_path / "x.store")
    assert "mask" not in (tmp_path / "x.store" / "store.json").read_text()
    assert not any("mask" in name for name in store.samples.column_names)


def test_an_hdf5_file_has_its_masks_as_datasets(own: Path, tmp_path: Path) -> None:
    folder = with_masks(own, tmp_path / "x.store")
    store = with_masks(own, tmp_path / "x.h5", processes=True, workers=2)
    assert isinstance(store.targets["mask"], np.memmap)
    assert store.targets["mask"].offset % 4096 == 0
    np.testing.assert_array_equal(store.targets["mask"], folder.targets["mask"])
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["targets/mask"][...], folder.targets["mask"])
        np.testing.assert_array_equal(file["targets/labels"][...], np.arange(COUNT) % 3)
    assert store.verify(progress=False).ok
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own", "x.h5", "x.store"]
    spoil(own.parent)
    for bad in ("keep", "drop"):
        one, other = (with_masks(own, tmp_path / f"{bad}{end}", bad=bad) for end in (".h5", ".store"))
        np.testing.assert_array_equal(one.targets["mask"], other.targets["mask"])
        assert one.verify(progress=False).ok


def test_masks_of_an_hdf5_file_take_no_memory_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes behind the pixels pass through memory, but for those of masks."""
    count, side, held = 32, 1024, []
    (mask := tmp_path / "m.png").write_bytes(images.png(masks.numbers(8, 8)))
    write_into = hdf5_writing._Ends.write_into

    def seen(ends: Any, descriptor: int) -> None:
        held.append(sum(map(len, ends._tail.values())))
        write_into(ends, descriptor)

    monkeypatch.setattr(hdf5_writing._Ends, "write_into", seen)
    source = np.zeros((count, 8, 8), np.uint8)
    targets = {"mask": Masks([mask] * count), "after": np.arange(count)}
    store = build(source, tmp_path / "x.h5", size=side, color="gray", targets=targets)
    assert store.verify(progress=False).ok
    assert held[0] < 1 << 20 < count * side * side


# --- slots with masks as sources -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.store", "x.h5"])
def test_slots_of_a_store_bring_their_masks(table: Path, tmp_path: Path, name: str) -> None:
    store, wanted = with_masks(table, tmp_path / "all.store"), expected(table)
    chosen = [7, 3, 11, 2]
    part = build(store[chosen], tmp_path / name, spec=SPEC)
    np.testing.assert_array_equal(part.targets["mask"], wanted[chosen])
    assert dict(part.description.masks) == {"mask": 255}
    assert part.verify(progress=False).ok
    ((batch, mask),) = part.loader(4, targets="mask", augment=arraystore.Augment(hflip=1.0), shuffle=False)
    np.testing.assert_array_equal(mask, wanted[chosen][..., ::-1])
    np.testing.assert_array_equal(batch, part.images[..., ::-1])
    again = build(part, tmp_path / f"again {name}", spec=SPEC)  # of masks that have no files any more
    np.testing.assert_array_equal(again.targets["mask"], wanted[chosen])
    assert dict(again.description.masks) == {"mask": 255}


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(12, 8), (48, 40), (24, 17), (9, 30)])
def test_masks_of_slots_are_resized_with_them(table: Path, tmp_path: Path, size: Any, fit: Any) -> None:
    store = with_masks(table, tmp_path / "all.store")
    chosen, spec = [7, 3, 11, 2], ImageSpec(size=size, fit=fit, filter="nearest")
    part = build(store[chosen], tmp_path / "x.store", spec=spec, processes=fit == "pad", workers=1)
    np.testing.assert_array_equal(part.targets["mask"], [masks.by_pillow(expected(table)[i], spec) for i in chosen])
    # Each number lies where the pixel lies that it belongs to, which an image of the numbers themselves shows.
    numbered = np.repeat(expected(table)[chosen][..., None], 3, axis=3)
    shown = build(numbered, spec=spec, background=(255, 255, 255) if fit == "pad" else (0, 0, 0))
    np.testing.assert_array_equal(part.targets["mask"], shown.images[:, 0])
    assert dict(part.description.masks) == {"mask": 255}
    assert part.verify(progress=False).ok
    planned = arraystore.plan(store[chosen], tmp_path / "y.store", spec=spec, progress=False)
    assert planned.store_bytes > 4 * (3 + 1) * size[0] * size[1]
    again = build(part, tmp_path / "again.store", spec=SPEC)
    np.testing.assert_array_equal(again.targets["mask"], [masks.by_pillow(each, SPEC) for each in part.targets["mask"]])


def test_masks_of_slots_keep_their_fill_and_their_bits() -> None:
    """Beside a padded image there is no class, also after the slots are padded once more; failed slots have none."""
    deep = np.full((3, 8, 4), 700, np.uint16)
    source = [images.noise(8, 4), b"x", images.noise(8, 4)]
    source[1] = np.zeros((8, 4), np.float32)
    one = build(source, size=8, fit="pad", bad="keep", targets={"mask": Masks(deep, bits=16)})
    two = build(one, size=(8, 16), fit="pad", bad="keep")
    wanted = np.full((3, 8, 16), 65_535, np.uint16)
    wanted[[0, 2], :, 6:10] = 700
    np.testing.assert_array_equal(two.targets["mask"], wanted)
    assert dict(two.description.masks) == {"mask": 65_535}


def test_masks_beside_slots_are_refused(table: Path) -> None:
    store = with_masks(table)
    with pytest.raises(ManifestError, match="Masks go with images from files"):
        build(store, spec=SPEC, targets={"other": Masks(["a.png"] * COUNT)})


def test_a_changed_mask_without_a_file_is_a_fault(table: Path, tmp_path: Path) -> None:
    part = build(with_masks(table)[:5], tmp_path / "x.store", spec=SPEC)
    part.close()
    data = bytearray((tmp_path / "x.store" / "mask.npy").read_bytes())
    data[-1] ^= 1
    (tmp_path / "x.store" / "mask.npy").write_bytes(data)
    (fault,) = arraystore.verify(tmp_path / "x.store", progress=False).faults
    assert "mask.npy has changed since it was stored" in fault.message


# --- bad masks -------------------------------------------------------------------------------------------------------

BAD = {3: "missing", 5: "RGB", 8: "damaged", 11: "of another shape", 12: "unreadable"}


def spoil(folder: Path) -> None:
    """Spoil the masks of `BAD`."""
    (folder / "m/03.png").unlink()
    (folder / "m/05.png").write_bytes((folder / "i/05.png").read_bytes())
    damaged = (folder / "m/08.png").read_bytes()
    (folder / "m/08.png").write_bytes(damaged[: len(damaged) // 2])
    (folder / "m/11.png").write_bytes(images.png(masks.numbers(9, 31)))
    (folder / "m/12.png").unlink()
    (folder / "m/12.png").mkdir()


@pytest.mark.parametrize("options", [{}, {"processes": True, "workers": 1}])
def test_a_bad_mask_makes_its_slot_a_bad_image(own: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    wanted = expected(own)
    spoil(own.parent)
    with pytest.raises(BadImagesError) as caught:
        with_masks(own, tmp_path / "x.store", **options)
    reasons = {bad.slot: bad.reason for bad in caught.value.bad}
    assert [*reasons] == [*BAD]
    for slot, part in zip(
        BAD, ("no such file", "are RGB", "damaged or ends early", "of another shape", "not a regular"), strict=True
    ):
        assert reasons[slot].startswith(f"mask {own.parent}/m/{slot:02}.png: ")
        assert part in reasons[slot]
    kept = with_masks(own, tmp_path / "x.store", bad="keep", **options)  # goes on
    good = np.setdiff1d(np.arange(COUNT), [*BAD])
    np.testing.assert_array_equal(np.flatnonzero(plain(kept.status) == 2), [*BAD])
    np.testing.assert_array_equal(kept.targets["mask"][good], wanted[good])
    assert (kept.targets["mask"][[*BAD]] == 255).all()
    assert not kept.images[[*BAD]].any()
    dropped = with_masks(own, tmp_path / "y.store", bad="drop", **options)
    rows = [int(str(name)[2:4]) for name in dropped.samples["mask"].to_pylist()]
    assert sorted(rows) == good.tolist()
    np.testing.assert_array_equal(dropped.targets["mask"], wanted[rows])
    np.testing.assert_array_equal(dropped.labels, np.array(rows) % 3)
    in_ram = with_masks(own, bad="drop", **options)
    np.testing.assert_array_equal(in_ram.targets["mask"], dropped.targets["mask"])
    for store in (kept, dropped):
        assert store.verify(progress=False).ok


def test_a_slot_whose_mask_needs_memory_is_filled_alone(own: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from arraystore._decoding import masks as decoder
    from arraystore._decoding.memory import MemoryNeededError

    original, alone = decoder.check_memory, []

    def needing(data: Any, header: Any, memory_bytes: float, factor: int = 1) -> None:
        if (header.height, header.width) == images.SIZES[4]:
            if memory_bytes < 1e9:
                raise MemoryNeededError(header.height, header.width, 10**9)
            alone.append(memory_bytes)
        original(data, header, memory_bytes, factor)

    monkeypatch.setattr(decoder, "check_memory", needing)
    store = with_masks(own, tmp_path / "x.store", workers=2, max_memory=1_500_000_000)
    assert len(alone) == sum(i % len(images.SIZES) == 4 for i in range(COUNT))
    np.testing.assert_array_equal(store.targets["mask"], expected(own))


def test_an_unexpected_error_of_a_mask_is_its_slots_reason(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from arraystore._decoding import masks as decoder

    monkeypatch.setattr(decoder, "part_of_mask", lambda *_args: 1 / 0)
    with pytest.raises(BadImagesError, match="internal error: ZeroDivisionError"):
        with_masks(own)


def test_plan_counts_and_times_masks(own: Path, tmp_path: Path) -> None:
    spoil(own.parent)
    options: dict[str, Any] = {"spec": SPEC, "progress": False}
    with_them = arraystore.plan(own, tmp_path / "x.store", targets=masks.TARGETS, **options)
    without = arraystore.plan(own, tmp_path / "x.store", targets=["label"], **options)
    assert [bad.slot for bad in with_them.bad] == [*BAD]
    more = with_them.store_bytes - without.store_bytes
    assert COUNT * 24 * 16 < more < COUNT * (24 * 16 + 64)
    assert with_them.media["ram"].needed_bytes - without.media["ram"].needed_bytes > COUNT * 24 * 16


# --- interruptions ---------------------------------------------------------------------------------------------------


def test_a_second_call_decodes_only_slots_whose_mask_has_changed(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x.store"
    (own.parent / "m/07.png").rename(away := own.parent / "away.png")
    with pytest.raises(BadImagesError):
        with_masks(own, target)
    decoded = count_decodes(monkeypatch)
    with pytest.raises(BadImagesError):
        with_masks(own, target)
    assert decoded == []
    away.rename(own.parent / "m/07.png")
    new = masks.numbers(*images.SIZES[2], seed=99)
    Image.fromarray(new).save(own.parent / "m/02.png")
    stamp = (own.parent / "m/04.png").stat()
    os.utime(own.parent / "m/04.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns - 5_000_000_000))  # older, same size
    store = with_masks(own, target)
    assert len(decoded) == 3
    np.testing.assert_array_equal(store.targets["mask"], expected(own))
    np.testing.assert_array_equal(store.targets["mask"][2], masks.by_pillow(new, SPEC))


def test_masks_of_another_call_are_another_build(own: Path, tmp_path: Path) -> None:
    (own.parent / "m/07.png").unlink()
    with pytest.raises(BadImagesError):
        with_masks(own, tmp_path / "x.store")
    own.write_text(own.read_text().replace("m/07.png", "m/06.png"))
    with pytest.raises(StoreError, match="holds an unfinished build of something else"):
        with_masks(own, tmp_path / "x.store")
    with pytest.raises(BadImagesError, match="of another shape"):
        with_masks(own, tmp_path / "x.store", fresh=True)


@pytest.mark.parametrize("loss", ["missing", "cut"])
def test_masks_that_are_lost_are_decoded_again(
    own: Path, tmp_path: Path, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x.store"
    moved = own.parent / "m/07.png"
    moved.rename(own.parent / "away.png")
    with pytest.raises(BadImagesError):
        with_masks(own, target)
    (own.parent / "away.png").rename(moved)
    file = partial_of(target) / "mask.npy"
    if loss == "missing":
        file.unlink()
    else:
        os.truncate(file, 4096 + 10 * 24 * 16 - 1)
    decoded = count_decodes(monkeypatch)
    np.testing.assert_array_equal(with_masks(own, target).targets["mask"], expected(own))
    assert len(decoded) == (COUNT if loss == "missing" else COUNT - 9 + 1)


@pytest.mark.parametrize(("bad", "name"), [("keep", "x.store"), ("drop", "x.store"), ("drop", "x.h5")])
def test_a_build_that_is_killed_anywhere_is_finished_with_the_same_bytes(
    own: Path, tmp_path: Path, nursery: Nursery, bad: str, name: str
) -> None:
    """At 40 random steps, one after the other in each of some builds, so that kills follow kills."""
    spoil(own.parent)
    (calm := tmp_path / "calm").mkdir()
    options: dict[str, Any] = {"spec": SPEC, "targets": masks.TARGETS, "bad": bad, "workers": 2}
    steps = nursery.run(build_in_steps, own, calm / name, **options)
    wanted, rng, kills = contents(calm), random.Random(7), 0
    for round_ in range(8):
        (place := tmp_path / f"{round_}").mkdir()
        for _ in range(5):
            fork = nursery.start(build_in_steps, own, place / name, die_at=rng.randint(1, steps), **options)
            try:
                fork.result()
                break
            except KilledError:
                kills += 1
            except arraystore.StoreExistsError:
                break
            finally:
                fork.gone()
        if not (place / name).exists():
            build(own, place / name, **options)
        arraystore.open(place / name).close()  # deletes what a kill has left
        assert contents(place) == wanted
    assert kills > 8


def test_a_build_that_is_killed_at_a_random_time_continues(own: Path, tmp_path: Path, nursery: Nursery) -> None:
    (calm := tmp_path / "calm").mkdir()
    options: dict[str, Any] = {"spec": SPEC, "targets": masks.TARGETS, "processes": True, "workers": 2}
    began_s = time.monotonic()
    nursery.run(build_in_steps, own, calm / "x.store", **options)
    took_s, wanted, rng = time.monotonic() - began_s, contents(calm), random.Random(3)
    (place := tmp_path / "killed").mkdir()
    for _ in range(3):
        fork = nursery.start(build_in_steps, own, place / "x.store", **options)
        time.sleep(rng.uniform(0.5, 1) * took_s)
        fork.kill()
        fork.gone()
        fork.close()
    if not (place / "x.store").exists():
        build(own, place / "x.store", **options)
    arraystore.open(place / "x.store").close()
    assert contents(place) == wanted
