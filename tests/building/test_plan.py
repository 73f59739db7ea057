"""A plan tells what the build then takes, decodes as the build does, and writes nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import images
from support.command import COMMAND, environment, run
from support.store_contract import build

import arraystore
from arraystore import Forecast, ImageSpec, Manifest, ManifestError, Progress, SpecError
from arraystore._building import plan as module
from arraystore._building.forecast import Room
from arraystore._common.limits import disk_bytes
from arraystore._viewing.forecast_text import _duration, forecast_rows
from arraystore._viewing.tables import print_rows

ROOT = Path(__file__).resolve().parents[2]


def plan(source: Any, target: Any = None, **options: Any) -> Forecast:
    return arraystore.plan(source, target, **{"size": 16, "workers": 2, "progress": False, **options})


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run("plan", *arguments)


def planning_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("arraystore-plan")]


# --- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.store", "a.h5"])
def test_the_bytes_are_those_of_the_build(photos: Path, tmp_path: Path, name: str) -> None:
    files = sorted(photos.rglob("*.*"))
    sources = [str(files[i % len(files)]) for i in range(400)]
    given = {"labels": [f"class {i % 7}" for i in range(400)], "targets": {"box": np.zeros((400, 4), np.float32)}}
    forecast = plan(sources, tmp_path / name, **given)
    while_building: list[int] = []

    def watch(_progress: Progress) -> None:
        while_building.append(disk_bytes(tmp_path / f"{name}.partial"))

    build(sources, tmp_path / name, size=16, progress=watch, **given).close()
    assert forecast.pixel_bytes == 400 * 3 * 16 * 16
    # Slots as small as these are a worst case: Parquet packs the samples, which are counted unpacked.
    finished = disk_bytes(tmp_path / name)
    assert 0.98 * finished < forecast.store_bytes < 1.15 * finished
    assert forecast.medium == ("npy" if name == "a.store" else "hdf5")
    room = forecast.media[forecast.medium]
    assert max(while_building) < room.needed_bytes < max(while_building) * 1.3
    assert room.needed_bytes > forecast.store_bytes


def test_it_tells_images_classes_and_slots(photos: Path) -> None:
    forecast = plan(photos, size=(20, 30), layout="NHWC", fit="pad")
    assert forecast.count == 19
    assert forecast.classes == {"ash": 8, "größe 日本": 5, "oak": 6}
    assert forecast.spec == ImageSpec(size=(20, 30), layout="NHWC", fit="pad")
    assert plan(photos, spec=forecast.spec, size=None).spec is forecast.spec
    assert forecast.media["ram"].needed_bytes > forecast.pixel_bytes + forecast.working_bytes


def test_numbers_are_no_classes(photos: Path) -> None:
    paths = [str(path) for path in photos.rglob("*.*")]
    assert plan(paths, labels=range(19)).classes == {}
    assert plan(paths).classes == {}


@pytest.mark.parametrize(("medium", "more"), [("npy", 440 + 4), ("hdf5", 440 + 36)])
def test_texts_count(photos: Path, medium: str, more: int) -> None:
    manifest = Manifest.from_folder(photos)
    longer = replace(manifest, texts={"caption": ["long words " * 40] * 19})
    needed = [plan(source, sample=0).media[medium].needed_bytes for source in (manifest, longer)]
    assert needed[1] - needed[0] == 19 * more


def test_rows_of_no_class_are_counted_in_none(photos: Path) -> None:
    manifest = Manifest.from_folder(photos)
    codes = np.array([-1, -1, 2, *[1] * 16])
    assert plan(replace(manifest, targets={"labels": codes}), sample=0).classes == {
        "ash": 0,
        "größe 日本": 16,
        "oak": 1,
    }


def test_a_store_that_fits_nowhere_is_a_forecast_too(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_memory_bytes", lambda: 1000)
    monkeypatch.setattr(module, "free_disk_bytes", lambda _folder: 20_000)
    forecast = plan(photos, size=64)
    assert not any(room.fits for room in forecast.media.values())
    assert forecast.advice.startswith("does not fit in RAM (")
    assert forecast.seconds is None
    assert forecast.sampled == 0
    (note,) = forecast.notes
    assert note == (
        "2 slots of 0.00 GB are too much for the free memory, so no image was decoded and there is no estimate of the "
        "time: choose a smaller size, or fewer workers"
    )


# --- stores of JPEGs -------------------------------------------------------------------------------------------------


def test_the_size_of_jpegs_is_that_of_the_sample(photos: Path, tmp_path: Path) -> None:
    store = build(photos, tmp_path / "x.jpegs", size=96)
    needed = (tmp_path / "x.jpegs" / "encoded.npy").stat().st_size
    for options in ({}, {"encode": "jpeg"}):
        forecast = plan(photos, tmp_path / "y.store", size=96, sample=len(store), **options)
        assert needed < forecast.media["encoded"].needed_bytes < 1.2 * needed + 10_000
        assert forecast.medium == ("encoded" if options else "npy")
        assert (forecast.store_bytes < forecast.pixel_bytes / 2) == bool(options)


def test_pixels_and_jpegs_are_compared_by_the_sample(photos: Path) -> None:
    forecast = plan(photos, size=96, sample=19)
    store = build(photos, size=96, encode="jpeg")
    assert forecast.jpeg_bytes == pytest.approx(store.images.nbytes / len(store), rel=0.01)
    assert forecast.encode_s is not None
    assert forecast.decode_s is not None
    assert min(forecast.encode_s, forecast.decode_s) > 0
    assert forecast.pixels_or_jpegs.endswith("Take pixels: they fit in RAM, where they are read without decoding")
    assert plan(photos, size=96, sample=0).pixels_or_jpegs == ""
    kept = plan(photos, size=96, sample=19, fit="keep", encode="jpeg")
    assert (kept.pixels_or_jpegs, kept.jpeg_bytes is not None) == ("", True)


@pytest.mark.parametrize(
    ("free", "which"),
    [
        (None, "pixels: they fit in RAM, where they are read without decoding"),
        (200 * 10**9, "pixels: they fit in RAM, where they are read without decoding"),
        (30 * 10**9, "JPEGs: they fit in RAM, and pixels do not, unless the disk is faster than that"),
        (9 * 10**9, "JPEGs, unless the disk is faster than that: neither fits in RAM"),
    ],
)
def test_which_to_take(free: int | None, which: str) -> None:
    forecast = forecast_of(Room(197 * 10**9, free), Room(197 * 10**9, 10**12), count=1_000_000)
    known = replace(forecast, jpeg_bytes=19_660.8, encode_s=0.0005, decode_s=0.0004, seconds=1000.0)
    assert known.pixels_or_jpegs == (
        "a JPEG takes 19.7 kB, 10.0 times fewer than pixels, and 1.25 times as long to build; 2 threads decode 5,000 "
        f"img/s, for which a disk must give 98.3 MB/s, and 983 MB/s for pixels. Take {which}"
    )


def test_without_a_sample_the_size_of_jpegs_is_assumed(photos: Path) -> None:
    forecast = plan(photos, size=96, sample=0, encode="jpeg")
    assert "no JPEG was made, so each is taken to have 1/8 of the bytes of its pixels" in forecast.notes
    assert forecast.store_bytes < forecast.pixel_bytes / 7


# --- advice ----------------------------------------------------------------------------------------------------------


def forecast_of(ram: Room, disk: Room, *, size: int | tuple[int, int] = 256, count: int = 1000) -> Forecast:
    spec = ImageSpec(size=size)
    return Forecast(
        count=count,
        classes={},
        spec=spec,
        target=None,
        medium="npy",
        volume="/data",
        media={"ram": ram, "npy": disk, "hdf5": disk},
        pixel_bytes=count * spec.slot_bytes,
        store_bytes=disk.needed_bytes,
        working_bytes=0,
        workers=2,
    )


GB = 10**9
NEITHER = "does not fit in RAM (1.2 TB needed, 19 GB free), nor on the volume of /data"


@pytest.mark.parametrize(
    ("ram", "disk", "size", "advice"),
    [
        ((2, 19), (2, 80), 256, "fits in RAM (2 GB of 19 GB) and on disk (2 GB of 80 GB)"),
        ((2, 2), (2, 2), 256, "fits in RAM (2 GB of 2 GB) and on disk (2 GB of 2 GB)"),
        ((2, None), (2, 80), 256, "fits in RAM (2 GB of an unknown amount) and on disk (2 GB of 80 GB)"),
        ((20, 19), (20, 80), 256, "fits on disk (20 GB of 80 GB), not in RAM (20 GB needed, 19 GB free)"),
        ((2, 9), (2, 1), 8, "fits in RAM (2 GB of 9 GB), but not on the volume of /data (2 GB needed, 1 GB free)"),
        (
            (1201, 19),
            (1200, 80),
            256,
            f"{NEITHER} (1.2 TB needed, 80 GB free); size 64 would take 75 GB",
        ),
        (
            (1201, 19),
            (1200, 400),
            (256, 512),
            f"{NEITHER} (1.2 TB needed, 400 GB free); size 128x256 would take 300 GB",
        ),
        (
            (1201, 19),
            (1200, 1),
            64,
            f"{NEITHER} (1.2 TB needed, 1 GB free)",
        ),
    ],
)
def test_the_advice(
    ram: tuple[int, int | None], disk: tuple[int, int], size: int | tuple[int, int], advice: str
) -> None:
    rooms = [Room(needed * GB, None if free is None else free * GB) for needed, free in (ram, disk)]
    count = disk[0] * GB // ImageSpec(size=size).slot_bytes
    assert forecast_of(*rooms, size=size, count=count).advice == advice


# --- the sample ------------------------------------------------------------------------------------------------------


@given(count=st.integers(1, 10_000), wanted=st.integers(1, 300), seed=st.integers(0, 99))
def test_the_sample_is_one_row_of_each_stretch(count: int, wanted: int, seed: int) -> None:
    rows = module._spread(count, wanted, np.random.default_rng(seed))
    assert rows == module._spread(count, wanted, np.random.default_rng(seed))
    assert len(rows) == min(count, wanted)
    for number, row in enumerate(rows):
        assert number * count // len(rows) <= row < -(-(number + 1) * count // len(rows))
    assert len(set(rows)) == len(rows)
    if count <= wanted:
        assert rows == [*range(count)]


def test_every_row_may_be_chosen() -> None:
    chosen = [row for seed in range(200) for row in module._spread(30, 10, np.random.default_rng(seed))]
    assert set(chosen) == set(range(30))


def test_the_bad_images_are_those_of_the_build(mixed: Path) -> None:
    calls: list[tuple[int, int, int, int]] = []

    def watch(progress: Progress) -> None:
        calls.append((progress.total, progress.done, progress.bad, progress.source_bytes))

    forecast = plan(mixed, progress=watch)
    store = build(mixed, size=16, bad="keep")
    assert [*forecast.bad] == store.bad()
    assert forecast.bad_share == 4 / 12
    assert forecast.sampled == 12
    good = [row for row in store.samples.to_pylist() if row["reason"] is None]
    sides = [(row["height"], row["width"]) for row in good]
    assert forecast.median_px == tuple(np.median(sides, axis=0).astype(int))
    assert forecast.largest_px == max(sides, key=np.prod)
    sizes = store.samples["bytes"].to_pylist()
    assert forecast.source_bytes == pytest.approx(np.mean(sizes))
    assert calls[0] == (12, 0, 0, 0)
    assert calls[-1] == (12, 12, 4, sum(sizes))
    assert forecast.seconds is not None
    assert forecast.seconds_range is not None
    assert 0 < forecast.seconds_range[0] <= forecast.seconds <= forecast.seconds_range[1]
    assert forecast.images_per_s == 12 / forecast.seconds


def test_nothing_but_bad_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(30):
        (tmp_path / f"{i:02}.jpg").write_text("not an image")
    forecast = plan(tmp_path, sample=12)
    assert forecast.bad_share == 1
    assert forecast.median_px is forecast.largest_px is None
    print_rows(forecast_rows(forecast))
    text = capsys.readouterr().out
    assert re.search(r"^bad +12 of the 12 sampled \(100\.0%, about 30 in all\) *$", text, re.MULTILINE)
    assert "  and 2 more" in text
    assert text.count("slot ") == 10


def test_a_pipe_with_no_writer_does_not_stop_it(photos: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    forecast = plan([str(tmp_path / "pipe.jpg"), *map(str, photos.rglob("*.jpg"))])
    assert [(bad.slot, bad.reason) for bad in forecast.bad] == [(0, "not a regular file")]


class Lazy:
    """Images by number, made when asked for."""

    def __init__(self, count: int, wait_s: float = 0.0) -> None:
        self.count, self.wait_s = count, wait_s
        self.askers: set[str] = set()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> np.ndarray:
        self.askers.add(threading.current_thread().name)
        time.sleep(self.wait_s)
        return images.photo(20, 30, seed=row)


class Once:
    """Images that can be read once."""

    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Iterator[np.ndarray]:
        for row in range(5):
            self.read += 1
            yield images.photo(20, 30, seed=row)


@pytest.mark.parametrize(
    "make",
    [
        lambda _photos: Lazy(9),
        lambda _photos: [images.png(images.photo(20, 30, seed=row)) for row in range(9)],
        lambda _photos: np.stack([images.photo(20, 30, seed=row) for row in range(9)]),
        lambda photos: sorted(map(str, photos.rglob("*.*")))[:9],
        lambda photos: Manifest.from_paths(sorted(photos.rglob("*.*"))[:9]),
    ],
    ids=["lazy", "bytes", "array", "paths", "manifest"],
)
def test_every_kind_of_source(photos: Path, make: Callable[[Path], Any]) -> None:
    forecast = plan(make(photos))
    assert (forecast.count, forecast.sampled, forecast.bad, forecast.notes) == (9, 9, (), ())
    assert forecast.seconds
    assert forecast.largest_px


def test_a_source_that_can_be_read_only_once_is_left_to_the_build() -> None:
    source = Once()
    forecast = plan(source)
    assert forecast.seconds is forecast.seconds_range is forecast.images_per_s is forecast.bad_share is None
    assert forecast.notes == (
        "the source can be read only once, and the build has to read it, so there is no estimate of the time",
    )
    assert source.read == 0
    assert len(build(source, size=16)) == 5


def test_no_sample_when_none_is_wanted(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "fill_slots", None)
    forecast = plan(photos, sample=0)
    assert (forecast.sampled, forecast.seconds) == (0, None)
    assert forecast.notes == ("no image was decoded, because the sample is 0, so there is no estimate of the time",)


# --- time ------------------------------------------------------------------------------------------------------------


def slowed(monkeypatch: pytest.MonkeyPatch, wait_s: Callable[[int], float]) -> None:
    """Let filling a slot take that long, by the number of the call."""
    fill, lock, calls = module.fill_slots, threading.Lock(), 0

    def slow(*arguments: Any) -> Any:
        nonlocal calls
        with lock:
            calls += 1
            seconds = wait_s(calls - 1)
        time.sleep(seconds)
        return fill(*arguments)

    monkeypatch.setattr(module, "fill_slots", slow)


def test_the_time_is_that_of_all_images_shared_by_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    slowed(monkeypatch, lambda _call: 0.03)
    forecast = plan(Lazy(1000), sample=40)
    assert forecast.seconds is not None
    assert 1000 * 0.03 / 2 <= forecast.seconds < 0.9 * 1000 * 0.03


def test_more_workers_than_images_do_not_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    slowed(monkeypatch, lambda _call: 0.05)
    assert (plan(Lazy(1), workers=8).seconds or 0) >= 0.05


def test_what_comes_before_the_first_image_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    slowed(monkeypatch, lambda call: 0.4 if call < 2 else 0)
    forecast = plan(Lazy(20))
    assert (forecast.seconds or 9) < 0.4


def test_a_source_that_is_slow_to_hand_out_sets_the_pace() -> None:
    source = Lazy(100, wait_s=0.005)
    forecast = plan(source, sample=20, workers=4)
    assert (forecast.seconds or 0) >= 100 * 0.005
    assert source.askers == {threading.current_thread().name}, "a build asks from one thread, so it may need to be one"


def test_the_range_is_wide_where_a_few_images_take_most_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []
    for wait_s in (lambda _call: 0.05, lambda call: 0.5 if call % 10 == 5 else 0.0):
        with monkeypatch.context() as context:
            slowed(context, wait_s)
            forecast = plan(Lazy(1000), sample=40, workers=1)
        assert forecast.seconds is not None
        assert forecast.seconds_range is not None
        low, high = forecast.seconds_range
        assert low <= forecast.seconds <= high
        widths.append((high - low) / forecast.seconds)
    assert widths[1] > 4 * widths[0]
    assert widths[1] > 0.5


def test_an_interruption_leaves_no_thread(photos: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan(photos, progress=interrupt)
    assert planning_threads() == []


def test_an_item_that_is_no_array_is_a_bad_image() -> None:
    class Odd(Lazy):
        def __getitem__(self, row: int) -> Any:
            return "text" if row == 3 else super().__getitem__(row)

    assert [(bad.slot, bad.reason) for bad in plan(Odd(9)).bad] == [
        (3, "source array 3 is a str, not an array: pass a list of paths or of bytes")
    ]
    assert planning_threads() == []


def test_slots_are_used_again_where_memory_is_short(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_memory_bytes", lambda: 16 * 16 * 3 * 12)
    whole = plan(photos)
    assert whole.sampled == 19
    assert whole.bad == ()


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"size": None},
        {"size": 0},
        {"fit": "squash"},
        {"background": (1, 2)},
        {"max_pixels": 0},
        {"workers": 0},
        {"labels": [1]},
        {"targets": {"images": np.zeros(19)}},
    ],
    ids=lambda options: next(iter(options)),
)
def test_it_refuses_what_a_build_refuses(photos: Path, options: dict[str, Any]) -> None:
    errors = []
    for function in (arraystore.build, arraystore.plan):
        with pytest.raises((SpecError, ManifestError)) as caught:
            function(photos, **{"size": 16, "progress": False, **options})
        errors.append((type(caught.value), str(caught.value)))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("name", ["sample", "seed"])
def test_numbers_below_zero(photos: Path, name: str) -> None:
    with pytest.raises(SpecError, match=f"^{name} must be 0 or more, not -1$"):
        plan(photos, **{name: -1})


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="there is no such file or folder"):
        plan(tmp_path / "nowhere")


# --- the target ------------------------------------------------------------------------------------------------------


def test_a_target_whose_folder_is_missing(photos: Path, tmp_path: Path) -> None:
    forecast = plan(photos, tmp_path / "a" / "b" / "x.store", sample=0)
    assert forecast.notes[0] == f"the folder {tmp_path / 'a' / 'b'} does not exist: the build makes it"
    assert forecast.volume == str(tmp_path)


def test_a_target_that_exists(photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.store"
    build(photos, target, size=16).close()
    assert plan(photos, target, sample=0).notes[0] == (
        f"{target} exists already: a build replaces it only if it is told to overwrite it"
    )


def test_what_an_unfinished_build_reserved_counts_as_free(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(progress: Progress) -> None:
        if progress.done:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "free_disk_bytes", lambda _folder: 1000)
    with pytest.raises(KeyboardInterrupt):
        build(photos, tmp_path / "x.store", size=64, progress=stop)
    reserved = disk_bytes(tmp_path / "x.store.partial")
    forecast = plan(photos, tmp_path / "x.store", size=64, sample=0)
    assert reserved > forecast.pixel_bytes
    assert forecast.media["npy"].free_bytes == 1000 + reserved
    assert forecast.notes[0] == (
        f"{tmp_path / 'x.store.partial'} is an unfinished build; its bytes count as free, because the "
        "next build reuses them"
    )


def test_a_folder_that_cannot_be_written(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: (Path(path), mode) != (tmp_path, os.W_OK))  # root may write
    assert plan(photos, tmp_path / "x.store", sample=0).notes[0] == (
        f"the folder {tmp_path} cannot be written by this user: choose another target"
    )


# --- nothing is written ----------------------------------------------------------------------------------------------


def snapshot(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below a folder: kind, mode, times of change of files and folders, and contents."""
    return {
        str(path.relative_to(folder)): (
            *((info := path.lstat()).st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns),
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [folder, *folder.rglob("*")]
    }


PLANS = """
import sys
from arraystore import cli
photos, *targets = sys.argv[1:]
for where in ([], *([target] for target in targets)):
    sys.argv = ["arraystore", "plan", photos, *where, "--size", "16"]
    try:
        cli.main()
    except SystemExit as end:
        assert end.code == 0, (where, end.code)
"""


@pytest.mark.usefixtures("compiled_already")
def test_the_command_writes_nothing_anywhere(photos: Path, tmp_path: Path) -> None:
    """With no target and two, in one interpreter whose home is empty: what is loaded for the first serves the others.

    If something is written, the difference of the snapshots says for which target.
    """
    places = {name: tmp_path / "places" / name for name in ("target", "cwd", "home", "tmp")}
    for place in places.values():
        place.mkdir(parents=True)
        (place / "here before").write_text("x")
    places["target"].chmod(0o555)
    before = snapshot(tmp_path), snapshot(photos)
    extra = {"HOME": places["home"], "TMPDIR": places["tmp"], "XDG_CACHE_HOME": places["home"] / "cache"}
    result = subprocess.run(
        [sys.executable, "-c", PLANS, *map(str, (photos, places["target"] / "x.store", places["target"] / "x.h5"))],
        cwd=places["cwd"],
        env=environment(**{name: str(value) for name, value in extra.items()}),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("not included") == 3
    assert (snapshot(tmp_path), snapshot(photos)) == before


@pytest.fixture(scope="module")
def compiled_already() -> None:
    """Byte code and compiled kernels lie in the package, whoever made them."""
    subprocess.run([*COMMAND, "plan", "--help"], env=environment(), capture_output=True, check=True)


AUDITED = """
import os, sys
import arraystore
arraystore.plan(sys.argv[1], sys.argv[2], size=16, progress=False)  # byte code and kernels are compiled by now
seen = []
def hook(event, arguments):
    if event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
        seen.append((event, arguments[0]))
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"):
        seen.append((event, arguments))
sys.addaudithook(hook)
arraystore.plan(sys.argv[1], sys.argv[2], size=16, progress=False)
print(seen)
seen.clear()
open(sys.argv[3], "w").close()
print(seen)
"""


def test_no_file_is_opened_for_writing(photos: Path, tmp_path: Path) -> None:
    run = [sys.executable, "-c", AUDITED, str(photos), str(tmp_path / "x.store"), str(tmp_path / "y")]
    done = subprocess.run(run, env=environment(), capture_output=True, text=True, timeout=400, check=True)
    by_plan, by_open = done.stdout.splitlines()
    assert by_plan == "[]"
    assert by_open == f"[('open', '{tmp_path / 'y'}')]"


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_table(mixed: Path, tmp_path: Path) -> None:
    (mixed / "a").rename(mixed / "[red]")
    result = command(mixed, tmp_path / "x.store", "--size", "24x16", "--workers", "2", "--color", "gray")
    assert (result.returncode, result.stderr) == (0, "")
    rows = dict(re.findall(r"^(\S.*?)  +(.*?) *$", result.stdout, re.MULTILINE))
    assert [*rows] == [
        *("images", "bytes", "RAM", ".npy folder", "folder of JPEGs", "HDF5 file", "HDF5 file of JPEGs", "advice"),
        *("time", "not included", "JPEGs", "sources", "bad", "classes (2)"),
    ]
    assert rows["images"] == "12 of 1 x 24 x 16 uint8 (NCHW, gray)"
    assert rows["bytes"].startswith("4.61 kB of pixels, ")
    assert rows[".npy folder"].endswith(f" free on the volume of {tmp_path}")
    assert re.fullmatch(r"fits in RAM \(\S+ kB of \S+ [GT]B\) and on disk \(\S+ kB of \S+ [GT]B\)", rows["advice"])
    number = r"[\de.+-]+ s"
    assert re.fullmatch(
        rf"{number} \({number} to {number}\), [\d,]+ img/s with 2 workers; estimated from 12 images", rows["time"]
    )
    assert rows["not included"] == "the time to list the sources, and waiting for a disk or memory that is slower"
    assert re.fullmatch(
        r"\S+ (bytes|kB) each; median \d+ x \d+ px, largest seen \d+ x \d+ px \(H x W\)", rows["sources"]
    )
    assert rows["bad"] == "4 of the 12 sampled (33.3%)"
    assert re.search(r"^ +slot 2  .*: ", result.stdout, re.MULTILINE)
    assert rows["classes (2)"] == "6  [red]"


def test_json_and_every_option(photos: Path, tmp_path: Path) -> None:
    options = (
        "--size 40x64 --fit pad --filter lanczos --color gray --layout NHWC --background #ff8000 --exact "
        "--max-pixels 5000000 --workers 3 --sample 7 --seed 5 --json"
    )
    result = command(photos, tmp_path / "x.h5", *options.split())
    assert (result.returncode, result.stderr) == (0, "")
    said = json.loads(result.stdout)
    spec = ImageSpec(
        size=(40, 64),
        fit="pad",
        filter="lanczos",
        color="gray",
        layout="NHWC",
        background=(255, 128, 0),
        exact=True,
        max_pixels=5_000_000,
    )
    assert said["spec"] == spec.to_dict()
    assert (said["workers"], said["sampled"], said["medium"]) == (3, 7, "hdf5")
    here = plan(photos, tmp_path / "x.h5", spec=spec, size=None, workers=3, sample=7, seed=5)
    timed = {"seconds", "seconds_range", "images_per_s", "encode_s", "decode_s", "pixels_or_jpegs"}
    timed |= {"media", "advice"}  # what is free changes all the time
    expected = json.loads(json.dumps(here.to_dict()))
    assert {key: said[key] for key in said.keys() - timed} == {key: expected[key] for key in expected.keys() - timed}
    assert said["media"].keys() == {"ram", "npy", "encoded", "hdf5", "encoded-hdf5"}
    assert said["media"]["npy"]["fits"] is True


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--size", "0"], 2, "'--size'"),
        (["--size", "70000"], 2, "65535"),
        (["--size", "8", "--sample", "-1"], 2, "--sample"),
        ([], 2, "--size"),
    ],
)
def test_wrong_usage(photos: Path, arguments: list[str], code: int, message: str) -> None:
    result = command(photos, *arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert message in result.stderr


def test_a_wrong_source_is_one_line(tmp_path: Path) -> None:
    result = command(tmp_path / "nowhere", "--size", "8")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith(f"arraystore: {tmp_path / 'nowhere'}: there is no such file or folder")


def test_the_table_of_a_forecast_without_a_sample(capsys: pytest.CaptureFixture[str]) -> None:
    bare = forecast_of(Room(2, None), Room(2, 3))
    print_rows(forecast_rows(replace(bare, volume="/line\nbreak", notes=("one\nnote",))))
    text = capsys.readouterr().out
    assert "time" not in text
    assert r"/line\nbreak" in text
    assert re.search(r"^note +one\\nnote *$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0123, "0.012 s"),
        (9.94, "9.9 s"),
        (42.4, "42 s"),
        (119, "119 s"),
        (150, "2.5 min"),
        (3600, "60 min"),
        (7200, "2 h"),
        (100_000, "27.8 h"),
        (200_000, "2.31 days"),
        (864_000_000, "1e+04 days"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert _duration(seconds) == text
