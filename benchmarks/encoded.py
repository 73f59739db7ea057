"""What does a store of JPEGs save, what does it cost to build, and how fast is it read?

The same photographs become a store of pixels and one of JPEGs (quality 90, 4:2:0), in several sizes. Then both are
read, warm and shuffled, beside a pool of threads as one would write it by hand: it decodes the same JPEGs whole, with
the faster of two decoders, and crops, shrinks (`INTER_AREA`) and flips with OpenCV into batches that are there already.
Every case is run once before, and there its images are compared with the slots of the store of pixels. At last stores
of several sizes are built of one decode, in turn with the largest of them alone.

The time of a core is that of the processor (``process_time``, all threads): it says what an image costs, however busy
the machine is. Images a second are those of the clock, and the load average says how busy the machine was.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import arraystore
from benchmarks.common import CPUS, Pixels, Row, Rows, Table, keep_memory, many, middle, rates, ratios, take_turns
from benchmarks.encoded_cases import CENTER, DECODERS, RESIZED, VIEWS, WHOLE, ByHand, Epoch, loader
from benchmarks.pictures import picture_at
from benchmarks.places import photos, scratch_folder, stretch

ESTIMATE_S = 150
NEEDS = ("photos",)
OPTIONS = {
    "sizes": ([256, 500], [32, 48], "sides of slots, in pixels, such as 256,500"),
    "several": ([160, 320], [16, 24], "sides of slots of stores that are built of one decode"),
    "crop": (224, 28, "side of crops, in pixels"),
    "images": (500, 24, "of a store: fewer photographs are repeated"),
    "batch": (64, 8, "images of a batch"),
    "threads": (sorted({1, CPUS}), [1, 2], "such as 1,2"),
    "rounds": (3, 1, "timed rounds"),
}
TOGETHER, LARGEST = "all sizes of one decode", "the largest alone"
RAW, ENCODED, BY_HAND = "store of pixels", "store of JPEGs", "decoded whole, by hand"
WAYS: dict[str, Any] = {RAW: {}, ENCODED: {"encode": "jpeg"}}
_COLORS = ("#56b4e9", "#0072b2", "#009e73", "#e69f00")  # of the bars, by how many threads
_QUIET: dict[str, Any] = {"workers": 1, "progress": False}
_BLOCK = 64  # slots that are compared at a time


def measure(options: Namespace) -> Iterator[Row]:
    """Build both stores of each size, and then read them."""
    cv2.setNumThreads(1)
    keep_memory()
    needed_bytes = options.images * sum(4 * size**2 for size in options.sizes)
    with scratch_folder(options.scratch, needed_bytes) as folder:
        paths = stretch(photos(options, folder), options.images)
        for size in options.sizes:
            yield built(paths, folder, size, options.rounds)
            with arraystore.open(folder / RAW) as raw, arraystore.open(folder / ENCODED) as encoded:
                yield from read(raw, encoded, size, options)
        yield several(paths, folder, options.several, options.rounds)


def several(paths: list[str], folder: Path, sizes: list[int], rounds: int) -> Row:
    """Build stores of pixels of all sizes together, and the largest alone, in turn, on one thread, and compare them."""
    targets = {folder / str(size): size for size in sizes}
    largest = max(sizes)
    alone = folder / RAW
    cases = {
        TOGETHER: partial(timed_build, list(targets), partial(arraystore.build, paths, targets, **_QUIET)),
        LARGEST: partial(timed_build, [alone], partial(arraystore.build, paths, alone, size=largest, **_QUIET)),
    }
    cpu_s = take_turns(cases, rounds)
    one, other = ((path / "images.npy").read_bytes() for path in (alone, folder / str(largest)))
    assert one == other, "a store that is built with others differs from one that is built alone"
    return {"section": "sizes", "sizes": sizes, "images": len(paths), "cpu_s": cpu_s}


def timed_build(targets: list[Path], call: Callable[[], object]) -> float:
    """Build stores from nothing, and return the seconds of all cores."""
    for target in targets:
        shutil.rmtree(target, ignore_errors=True)
    start = time.process_time()
    call()
    return time.process_time() - start


def built(paths: list[str], folder: Path, size: int, rounds: int) -> Row:
    """Build both stores in turn, on one thread, and compare what they hold."""
    cases = {name: partial(build, paths, folder / name, size, **how) for name, how in WAYS.items()}
    cpu_s = take_turns(cases, rounds)
    bytes_of = {name: sum(file.stat().st_size for file in (folder / name).iterdir()) for name in WAYS}
    with arraystore.open(folder / RAW) as raw, arraystore.open(folder / ENCODED) as encoded:
        blocks = [slice(start, start + _BLOCK) for start in range(0, len(raw), _BLOCK)]
        apart = sum(int(np.abs(raw.images[some].astype(np.int16) - encoded.images[some]).sum()) for some in blocks)
        apart_levels = apart / raw.images.size
    about = {"section": "stores", "size": size, "images": len(paths)}
    return {**about, "bytes": bytes_of, "cpu_s": cpu_s, "apart_levels": apart_levels}


def build(paths: list[str], target: Path, size: int, **how: Any) -> float:
    """Build a store from nothing, with the slots' numbers as labels, and return the seconds of all cores."""
    shutil.rmtree(target, ignore_errors=True)
    start = time.process_time()
    labels = np.arange(len(paths))
    arraystore.build(paths, target, size=size, fit="crop", labels=labels, workers=1, progress=False, **how).close()
    return time.process_time() - start


def read(raw: arraystore.Store, encoded: arraystore.Store, size: int, options: Namespace) -> Iterator[Row]:
    """Time all ways to read a view of the slots in turn, with each number of threads."""
    jpegs = [np.frombuffer(encoded.encoded(slot), np.uint8) for slot in range(len(encoded))]
    decoder = faster_decoder(jpegs)
    for view in VIEWS:
        shape = (3, size, size) if view == WHOLE else (3, options.crop, options.crop)
        epochs: dict[tuple[str, int], Epoch] = {}
        for threads in options.threads:
            for name, store in ((RAW, raw), (ENCODED, encoded)):
                epochs[name, threads] = loader(store, raw, view, options.crop, options.batch, threads)
            by_hand = ByHand(jpegs, DECODERS[decoder], shape, view, options.batch, threads)
            epochs[BY_HAND, threads] = by_hand.run(raw)
        spent: dict[tuple[str, int], list[float]] = {key: [] for key in epochs}
        cases = {key: partial(clocked, epoch, spent[key]) for key, epoch in epochs.items()}
        for key, wall_s in take_turns(cases, options.rounds).items():
            about = {"section": "read", "size": size, "view": view, "case": key[0], "threads": key[1]}
            row = {**about, "images": len(jpegs), "batch": options.batch, "crop": options.crop, "decoder": decoder}
            yield {**row, "wall_s": wall_s, "cpu_s": spent[key][1:], "load": os.getloadavg()[0]}


def faster_decoder(jpegs: list[Pixels]) -> str:
    """Return the name of the decoder that takes less time for some JPEGs."""
    some = jpegs[:_BLOCK]

    def decode(one: Callable[[Pixels], Pixels]) -> None:
        for data in some:
            one(data)

    seconds = take_turns({name: partial(decode, one) for name, one in DECODERS.items()}, rounds=5)
    return min(seconds, key=lambda name: statistics.median(seconds[name]))


def clocked(epoch: Epoch, spent: list[float]) -> None:
    """Read the next epoch, and note the seconds of all cores that it took."""
    start = time.process_time()
    epoch(len(spent))
    spent.append(time.process_time() - start)


# --- tables ----------------------------------------------------------------------------------------------------------


def tables(rows: Rows) -> dict[str, Table]:
    """What both stores take, and how fast they are read."""
    header = ["slots", "pixels, kB an image", "JPEGs, kB an image", "times fewer", "gray levels apart"]
    stores = [[*header, "pixels, ms to build an image", "JPEGs, ms to build an image", "times as long"]]
    for row in rows.where(section="stores"):
        kilobytes = {name: row["bytes"][name] / row["images"] / 1000 for name in WAYS}
        each = {name: middle([1000 * one / row["images"] for one in row["cpu_s"][name]], 2)[0] for name in WAYS}
        cells = [f"{kilobytes[RAW]:,.0f}", f"{kilobytes[ENCODED]:,.0f}", f"{kilobytes[RAW] / kilobytes[ENCODED]:.1f}"]
        cells += [f"{row['apart_levels']:.1f}", each[RAW], each[ENCODED]]
        stores.append([f"{row['size']}×{row['size']}", *cells, f"{building(row):.2f}"])
    threads = sorted({row["threads"] for row in rows.where(section="read")})
    read_table = [["", "slots", *(f"{many(count, 'thread')}, images/s" for count in threads)]]
    read_table[0] += [f"× by hand, {count}" for count in threads] + ["ms of a core an image", "× by hand, of a core"]
    for row in rows.where(section="read", threads=threads[0]):
        about = {key: row[key] for key in ("section", "size", "view", "case")}
        same = [rows.one(**about, threads=count) for count in threads]
        cells = [middle(rates(each["images"], each["wall_s"]))[0] for each in same]
        cells += [f"{times(rows, each, BY_HAND, 'wall_s'):.2f}" for each in same]
        cells += [core_ms(row), f"{times(rows, row, BY_HAND):.2f}"]
        read_table.append([f"{row['view']}: {row['case']}", f"{row['size']}×{row['size']}", *cells])
    sizes = [["sides of slots", "all of one decode, ms an image", "the largest alone, ms an image", "times as long"]]
    for row in rows.where(section="sizes"):
        each = {name: middle([1000 * one / row["images"] for one in row["cpu_s"][name]], 2)[0] for name in row["cpu_s"]}
        longer = statistics.median(ratios(row["cpu_s"][TOGETHER], row["cpu_s"][LARGEST]))
        sizes.append([" and ".join(map(str, row["sizes"])), each[TOGETHER], each[LARGEST], f"{longer:.2f}"])
    return {"stores": stores, "read": read_table, "sizes": sizes}


def core_ms(row: Row) -> str:
    """Return the milliseconds of a core that an image takes."""
    return middle([1000 * seconds / row["images"] for seconds in row["cpu_s"]], 3)[0]


def building(row: Row) -> float:
    """Return how many times as long a build of JPEGs takes as one of pixels."""
    return statistics.median(ratios(row["cpu_s"][ENCODED], row["cpu_s"][RAW]))


def times(rows: Rows, row: Row, case: str, clock: str = "cpu_s") -> float:
    """Return how many times as long as a row another case takes, in that size and view, with as many threads."""
    other = rows.one(case=case, **{key: row[key] for key in ("section", "size", "view", "threads")})
    return statistics.median(ratios(other[clock], row[clock]))


def picture(rows: Rows, path: Path) -> None:
    """Draw how many images a second each way reads, by threads."""
    reads = rows.where(section="read", size=min(row["size"] for row in rows.where(section="read")))
    threads = sorted({row["threads"] for row in reads})
    height = 0.8 / len(threads)
    with picture_at(path, (8, 5)) as figure:
        for view, axes in zip(VIEWS, figure.subplots(len(VIEWS), sharex=True), strict=True):
            for number, count in enumerate(threads):
                cases = [reads.one(view=view, case=case, threads=count) for case in (RAW, ENCODED, BY_HAND)]
                per_s = [statistics.median(rates(row["images"], row["wall_s"])) for row in cases]
                places = [at + (number - (len(threads) - 1) / 2) * height for at in range(len(cases))]
                drawn = axes.barh(places, per_s, height * 0.92, color=_COLORS[number % len(_COLORS)])
                axes.bar_label(drawn, [f"{each:,.0f}" for each in per_s], padding=3, fontsize=8)
                drawn.set_label(many(count, "thread"))
            axes.set(xscale="log", xlim=(500, None), xticks=[], yticks=range(len(cases)))
            axes.set_yticklabels([row["case"] for row in cases])
            axes.set_xticks([], minor=True)
            axes.set_title(view, loc="left", fontsize=10, fontweight="bold")
            axes.invert_yaxis()
        axes.legend(loc="lower right", frameon=False)
        side = reads[0]["size"]
        axes.set_xlabel(f"images a second (log scale), warm and shuffled, slots of {side}×{side} pixels")


def figures(rows: Rows) -> dict[str, str]:
    """The smallest and the largest slots: bytes and errors; on one thread, the time of a core beside that of others."""
    stores, reads = rows.where(section="stores"), rows.where(section="read")
    told = {"images": f"{stores[0]['images']:,}", "batch": str(reads[0]["batch"]), "crop": str(reads[0]["crop"])}
    told |= {"decoder": reads[0]["decoder"], "load": f"{statistics.median(row['load'] for row in reads):.1f}"}
    for name, row in (("small", stores[0]), ("large", stores[-1])):
        told[f"{name}_side"] = str(row["size"])
        told[f"{name}_bytes"] = f"{row['bytes'][RAW] / row['bytes'][ENCODED]:.1f}"
        told[f"{name}_kb"] = f"{row['bytes'][ENCODED] / row['images'] / 1000:,.0f}"
        told[f"{name}_apart"] = f"{row['apart_levels']:.1f}"
        told[f"{name}_build"] = f"{building(row):.2f}"
        least = reads.where(size=row["size"], threads=min(each["threads"] for each in reads))
        for key, view in (("whole", WHOLE), ("center", CENTER), ("resized", RESIZED)):
            jpegs = least.one(view=view, case=ENCODED)
            told[f"{name}_{key}_times"] = f"{times(reads, jpegs, BY_HAND):.2f}"
            told[f"{name}_{key}_ms"] = core_ms(jpegs)
            told[f"{name}_{key}_pixels_ms"] = core_ms(least.one(view=view, case=RAW))
            told[f"{name}_{key}_pixels_times"] = f"{1 / times(reads, jpegs, RAW):.1f}"
    return told
