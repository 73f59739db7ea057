"""How things grow: the scripts on tiny input, and the model on canned constants. No timing of a script is asserted."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_benchmarks import ROOT, run

import arraystore


@pytest.fixture(scope="module")
def benchmark() -> Callable[[str], ModuleType]:
    """Imports a module of the benchmarks, which are scripts that find each other in their folder."""
    folder = str(ROOT / "benchmarks")

    def load(name: str) -> ModuleType:
        sys.path.insert(0, folder)
        try:
            return import_module(name)
        finally:
            sys.path.remove(folder)

    return load


# --- scripts ---------------------------------------------------------------------------------------------------------


def test_lock(tmp_path: Path, photos: Path) -> None:
    few = ("--images", "17", "--size", "16", "--slots", "40", "--batch", "16", "--threads", "1,2", "--runs", "1")
    text, lines = run(tmp_path, "lock.py", str(photos), *few, "--seconds", "0.01")
    held = [line for line in lines if line["section"] == "held"]
    assert [(line["what"], line["size"]) for line in held] == [("build", 16), ("read", 16), ("read", 32)]
    assert all(len(line["rounds_lock_s"]) == 1 for line in held)
    assert held[0]["calls"]["decode"] == 1
    assert held[0]["calls"]["hash source and slot"] == 2
    assert held[0]["free_s"] == pytest.approx(sum(held[0]["parts_s"].values()))
    assert [line["slots"] for line in held[1:]] == [40, 640]
    real = [line for line in lines if line["section"] == "real"]
    assert {line["case"] for line in real} == {"threads", "processes"}
    simulated = [line for line in lines if line["section"] == "simulated"]
    assert [(line["what"], line["size"], line["threads"]) for line in simulated] == [
        (what, size, threads) for what, size in (("build", 16), ("read", 16), ("read", 32)) for threads in (1, 2)
    ]
    assert all(line["images_per_s"] > 0 and line["cpus"] > 0 for line in [*simulated])
    for said in ("Python: under the lock", "what runs outside the lock asleep", "img/s at most"):
        assert said in text


def test_epochs(tmp_path: Path, photos: Path) -> None:
    few = ("--images", "20", "--size", "64", "--threads", "2", "--runs", "1")
    text, lines = run(tmp_path, "epochs.py", str(photos), *few)
    assert [line["case"] for line in lines] == [
        "photos, DataLoader and Pillow",
        "photos, threads",
        "presized, DataLoader and Pillow",
        "presized, threads",
        "store",
    ]
    for line in lines:
        assert line["images"] == len(list(photos.rglob("*.jpg"))) * 2
        if "missing" in line:
            assert line["missing"] == "torch is not installed"
            continue
        assert bool(line["once_s"]) == (not line["case"].startswith("photos"))
        assert line["all_in_s"]["10"] == pytest.approx(line["once_s"] + 10 * line["epoch_s"])
    assert lines[-1]["times_the_store"] == 1
    assert lines[-1]["store_pays_after_epochs"] is None
    assert "store pays" in text


def test_scale(tmp_path: Path) -> None:
    few = ("--counts", "20,40", "--size", "16", "--rows", "30,60", "--drawn-from", "100,70000", "--runs", "1")
    text, lines = run(tmp_path, "scale.py", *few, "--threads", "2")
    assert [(line["section"], line["count"]) for line in lines] == [
        ("life", 20),
        ("life", 40),
        ("table", 30),
        ("table", 60),
        ("order", 100),
        ("order", 70000),
    ]
    for line in lines:
        assert len(line["rounds"]) == 1
        assert all(value > 0 for name, value in line["median"].items() if name.endswith("_s"))
    assert lines[1]["median"]["status.npy bytes"] - lines[0]["median"]["status.npy bytes"] == 20
    assert "40 images" in text
    assert "grows" in text


# --- what is outside the lock ----------------------------------------------------------------------------------------


def test_timing_changes_no_pixel_and_is_undone(photos: Path, benchmark: Callable[[str], ModuleType]) -> None:
    free = benchmark("lock_free")
    places = {**free.BUILD, **free.READ}
    before = {name: getattr(*place) for name, place in places.items()}
    plain = arraystore.build(photos, size=16, workers=1, progress=False)
    with free.timed_build() as clock:
        timed = arraystore.build(photos, size=16, workers=1, progress=False)
    assert np.array_equal(plain.images, timed.images)
    assert clock.parts["channel sums"].calls == len(plain)
    with free.timed_copy() as clock:
        (batch, _) = next(iter(timed.loader(8, workers=1, shuffle=False)))
    assert np.array_equal(batch, plain.images[:8])
    with pytest.raises(RuntimeError), free.sleeping_build({}):
        raise RuntimeError
    assert {name: getattr(*place) for name, place in places.items()} == before


def test_what_the_clock_leaves_is_the_rest(benchmark: Callable[[str], ModuleType]) -> None:
    clock = benchmark("lock_free").Clock()

    def burn(seconds: float) -> None:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    burn_timed = clock.around("burnt", burn)
    start = time.thread_time()
    for _ in range(20):
        burn_timed(1e-3)
        burn(2e-3)
    left_s = clock.left_of(time.thread_time() - start)
    assert clock.parts["burnt"].calls == 20
    assert 0.02 <= clock.parts["burnt"].seconds <= 0.03
    assert 0.035 <= left_s <= 0.06


def test_sleeping_builds_take_the_time_and_no_processor(
    photos: Path, tmp_path: Path, benchmark: Callable[[str], ModuleType]
) -> None:
    lock, free = benchmark("lock"), benchmark("lock_free")
    paths = [str(path) for path in sorted(photos.rglob("*.jpg"))]
    short = lock.shortened(paths, tmp_path)
    assert all(
        Path(path).stat().st_size <= Path(whole).stat().st_size for path, whole in zip(short, paths, strict=True)
    )
    with free.sleeping_build({"decode": 0.02}):
        pace = lock.paced(short * 4, workers=4, size=16)
    assert pace.images_per_s() < 1.5 * 4 / 0.02  # a rate begins with whatever was done by the first report
    assert pace.cpus() < 1
    assert pace.reports[-1][2] == 4 * len(short)


# --- after how many epochs -------------------------------------------------------------------------------------------


@given(st.integers(-1000, 1000), st.integers(-100, 100))
def test_the_store_pays_after_the_first_epoch_that_makes_it_cheaper(more: int, less: int) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from epochs import paid_after  # noqa: PLC0415 - found in the scripts' folder
    finally:
        sys.path.pop(0)
    paid = paid_after(more, less)
    cheaper = [epochs for epochs in range(1, 1200) if more < epochs * less]
    assert paid == (cheaper[0] if cheaper else None)


# --- the model -------------------------------------------------------------------------------------------------------


def results(**changes: Any) -> dict[str, list[dict[str, Any]]]:
    """Lines as the benchmarks write them, of a machine that decodes 500 images a second and thread."""
    figures = {"image_s": 0.002, "lock_s": 100e-6, "threads_most": 8000.0, "here_s": 20e-6, **changes}
    simulated = {"benchmark": "lock", "section": "simulated"}
    read = {"benchmark": "lock", "section": "held", "what": "read", "lock_s": 1e-3, "copy_s": 2e-5, "batch": 256}
    names = ("reserve_s", "decide_s", "publish_s", "compare_s", "update_s")
    life = {
        **dict.fromkeys(names, 1e-5),
        "build_peak_bytes": 100.0,
        "ledger_bytes": 97.0,
        "samples.parquet bytes": 40.0,
    }
    return {
        "build": [
            {
                "benchmark": "build",
                "case": "arraystore RAM",
                "threads": 1,
                "size": 256,
                "images_per_s": 1 / figures["image_s"],
            },
            {"benchmark": "scaling"},
        ],
        "lock": [
            {"benchmark": "lock", "section": "held", "what": "build", "lock_s": figures["lock_s"], "source_bytes": 1e5},
            {**simulated, "what": "build", "threads": 8, "images_per_s": 4000.0},
            {**simulated, "what": "build", "threads": 64, "images_per_s": figures["threads_most"]},
            {**read, "size": 256, "slots": 2560, "batches": 10},
            {**read, "size": 32, "slots": 2560, "batches": 10, "copy_s": 1e-6},
            {**simulated, "what": "read", "size": 256, "threads": 4, "images_per_s": 120_000.0},
            *(
                {
                    "benchmark": "lock",
                    "section": "real",
                    "case": kind,
                    "workers": workers,
                    "images_per_s": 450.0 * workers,
                }
                | {"here_s": figures["here_s"]}
                for kind in ("threads", "processes")
                for workers in (1, 2)
            ),
        ],
        "read": [
            {"benchmark": "read", "section": "warm", "case": "arraystore", "images_per_s": 90_000.0},
            {"benchmark": "read", "section": "opening", "count": 10_000_000, "median_s": 0.1},
        ],
        "verify": [
            {"benchmark": "verify", "case": case, "cold": False, "size": 256, "gb_per_s": [rate]}
            for case, rate in (("plain read", 9.0), ("verify, 1 thread", 5.0), ("verify, 2 threads", 8.0))
        ],
        "scan": [
            {"benchmark": "scan", "case": "Manifest.from_folder", "files": 1000}
            | {"rounds": [{"s": 0.001, "peak": 90_000, "before": 10_000}]}
        ],
        "scale": [
            *(
                {"benchmark": "scale", "section": "life", "count": count}
                | {"median": {name: 5 + each * count for name, each in life.items()}}
                for count in (100_000, 1000, 10_000)
            ),
            {"benchmark": "scale", "section": "table", "count": 1000, "median": {"table_s": 0.001}},
            {"benchmark": "scale", "section": "order", "count": 10**8, "median": {"draw_s": 5e-8}},
        ],
    }


@pytest.fixture(scope="module")
def scaling(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("scaling_model")


def model_of(scaling: ModuleType, **changes: Any) -> Any:
    return scaling.Model(scaling.Constants(results(**changes)))


def test_more_processors_never_build_slower_and_end_at_the_lock(scaling: ModuleType) -> None:
    model = model_of(scaling)
    for storage in (None, *scaling.STORAGES):
        rates = [scaling.least(model.build(cores, storage))[1] for cores in range(1, 200)]
        assert rates == sorted(rates)
    assert scaling.least(model.build(1, None)) == ("processors", pytest.approx(500))
    assert scaling.least(model.build(1e9, None)) == ("lock", 8000)
    assert scaling.least(model.build(1e9, None, processes=True)) == ("handing out", pytest.approx(50_000))
    assert scaling.least(model.build(model.lock_binds_at(), None))[1] == pytest.approx(8000)
    assert model.lock_binds_at() == pytest.approx(16)


def test_threads_never_do_more_than_the_lock_allows(scaling: ModuleType) -> None:
    assert model_of(scaling, lock_s=1e-3)["threads_most"] == 1000
    assert model_of(scaling, lock_s=1e-6)["threads_most"] == 8000


def test_waiting_is_hidden_by_more_workers_up_to_the_bandwidth(scaling: ModuleType) -> None:
    model, network = model_of(scaling), scaling.STORAGES[1]
    few, more, most = (model.build(16, network, workers=workers) for workers in (16, 40, 4000))
    assert scaling.least(few) == ("waiting", pytest.approx(16 / (0.002 + 0.003)))
    assert scaling.least(more) == ("bandwidth", pytest.approx(1e9 / (1e5 + 3 * 256**2)))
    assert most["bandwidth"] == more["bandwidth"]


def test_reading_is_bound_by_copies_then_the_lock_or_the_disk(scaling: ModuleType) -> None:
    model = model_of(scaling)
    assert scaling.least(model.read(1, None)) == ("copying", pytest.approx(50_000))
    assert scaling.least(model.read(16, None)) == ("lock", pytest.approx(120_000))
    assert scaling.least(model.read(16, scaling.STORAGES[1])) == ("bandwidth", pytest.approx(1e9 / (3 * 256**2)))


def test_what_does_not_grow_is_not_in_what_an_image_costs(scaling: ModuleType) -> None:
    model = model_of(scaling)
    assert model["decide_s"] == pytest.approx(1e-5)
    assert model["ledger_bytes"] == pytest.approx(97)
    assert model["manifest_bytes"] == 80
    assert model["verify_bytes_per_s"] == 8e9
    assert model["copy_s"] == 2e-5


def test_the_page_is_whole_and_always_the_same(scaling: ModuleType) -> None:
    text = scaling.page(results())
    assert text == scaling.page(dict(reversed(results().items())))
    assert not re.search(r"[{}]|\bnan\b|\binf\b", text)
    assert "| of that, the interpreter's lock is held | 100 µs | `python benchmarks/lock.py PHOTOS` |" in text
    assert "| 64 | NVMe | 64 threads | 8,000 | lock | 2.08 min | 3.47 h |" in text
    assert "they reach 8,000 images a second. That is what 16 processors decode." in text.replace("\n", " ")
    assert "| disk: pixels | 197 GB | 19.7 TB |" in text
    assert "| 2 threads | 900 | 90% | processors |" in text
    for script in set(re.findall(r"python benchmarks/(\w+\.py)", text)):
        assert (ROOT / "benchmarks" / script).is_file()


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("build", "build.py PHOTOS"),
        ("lock", "lock.py PHOTOS"),
        ("read", "read.py"),
        ("verify", "verify.py"),
        ("scan", "scan.py"),
        ("scale", "scale.py"),
    ],
)
def test_a_missing_result_names_the_command_that_measures_it(scaling: ModuleType, name: str, command: str) -> None:
    lines = results()
    lines[name] = []
    with pytest.raises(scaling.MissingResultError, match=re.escape(f"`python benchmarks/{command} --json FILE`")):
        scaling.page(lines)


def test_stores_of_one_count_cannot_tell_what_grows(scaling: ModuleType) -> None:
    lines = results()
    lines["scale"] = lines["scale"][2:]
    with pytest.raises(scaling.MissingResultError, match="stores of two counts"):
        scaling.page(lines)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ns"), (5e-8, "50 ns"), (0.0021, "2.1 ms"), (59.6, "59.6 s"), (90, "1.5 min"), (2e8, "2,315 days")],
)
def test_durations(benchmark: Callable[[str], ModuleType], seconds: float, text: str) -> None:
    assert benchmark("scaling_text").duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(999, "999"), (12_345, "12,300"), (100e6, "100 million"), (3.5, "4")])
def test_numbers(benchmark: Callable[[str], ModuleType], value: float, text: str) -> None:
    assert benchmark("scaling_text").number(value) == text
