"""How fast is a build, against what people write by hand, and what is the floor?

All cases run in one process, in turn, on the same files, which are in the page cache:

- floor: read each file and decode it in full to RGB with simplejpeg; nothing else. No build that decodes in full can
  be faster.
- arraystore: `arraystore.build` into RAM, a folder of .npy and an .h5 file (the last two end with fsync).
- by hand: a loop over cv2.imread, cv2.resize, BGR to RGB, assignment into a preallocated array, with INTER_AREA
  (antialiased) and with INTER_LINEAR (which aliases); and the same with Pillow's antialiased BILINEAR. With more than
  one thread, a pool of threads takes chunks of the list.

Memory that is freed stays with the process (see `common.keep_memory`), and OpenCV's own threads are off throughout, so
that every case uses as many threads as it says. With --large, camera photos, where arraystore lets libjpeg shrink by a
power of two: how much faster, and how far from the pixels of a full decode.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from common import (
    Timing,
    check_free,
    check_memory,
    keep_memory,
    machine,
    machine_line,
    numbers,
    opencv_threads,
    photos,
    print_table,
    ratios,
    scratch_folder,
    spread,
    stretch,
    take_turns,
    write_json,
)
from PIL import Image

import arraystore
from arraystore._decoding.decode import decode_into
from arraystore._common.limits import usable_cpus

Pixels = npt.NDArray[np.uint8]
Loop = Callable[[Sequence[str], Pixels], None]

CHUNK = 32
CACHE = "warm page cache"
OURS = ("arraystore RAM", "arraystore .npy", "arraystore .h5")


def main() -> None:
    """Run it."""
    options = parse()
    paths = photos(options.photos)
    large = photos(options.large) if options.large else []
    chosen = stretch(paths, options.images)
    store_bytes = len(chosen) * 3 * options.size**2
    check_memory(2 * store_bytes)
    record = machine(CACHE)
    keep_memory()
    print(machine_line(record))
    repeated = f"{len(paths):,} photos" + (f", as a list of {len(chosen):,}" if len(chosen) != len(paths) else "")
    print(f"{repeated}, to 3 x {options.size} x {options.size}, {options.runs} rounds")
    config = {"images": len(chosen), "photos": len(paths), "size": options.size, "runs": options.runs}
    with scratch_folder(options.scratch) as scratch, opencv_threads(1):
        check_free(scratch, store_bytes)
        timings = time_builds(chosen, options, scratch)
        write_json(options.json, report_builds(timings, len(chosen), options.threads, config), record)
        if large:
            write_json(options.json, report_large(large, options), record)


def parse() -> argparse.Namespace:
    """Return the command's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of JPEGs, at any depth")
    parser.add_argument("--size", type=int, default=256, help="of a slot, in pixels")
    parser.add_argument("--runs", type=int, default=5, help="timed rounds, after one that is not timed")
    parser.add_argument(
        "--images", type=int, default=1000, help="a timing's images: fewer photos are repeated, more are thinned out"
    )
    parser.add_argument("--threads", type=numbers, default=sorted({1, usable_cpus()}), help="such as 1,2")
    parser.add_argument("--large", type=Path, help="a folder of camera photos")
    parser.add_argument("--large-images", type=int, default=16, help="as --images, for --large")
    parser.add_argument("--scratch", type=Path, help="where to write stores; default: the system's temporary folder")
    parser.add_argument("--json", type=Path, help="append the figures to this file, as lines of JSON")
    return parser.parse_args()


# --- the cases -------------------------------------------------------------------------------------------------------


def floor(paths: Sequence[str], _: Pixels | None = None) -> None:
    """Read and decode, and let the pixels go."""
    for path in paths:
        with open(path, "rb") as file:  # noqa: PTH123 - Path costs as much as the call
            simplejpeg.decode_jpeg(file.read(), "RGB", strict=False)


def cv2_loop(paths: Sequence[str], slots: Pixels, interpolation: int) -> None:
    """Resize first, so that colours and axes are exchanged on the small image only."""
    height, width = slots.shape[2:]
    for slot, path in zip(slots, paths, strict=True):
        image = cv2.imread(path, cv2.IMREAD_COLOR)
        assert image is not None, path
        small = cv2.resize(image, (width, height), interpolation=interpolation)
        slot[...] = cv2.cvtColor(small, cv2.COLOR_BGR2RGB).transpose(2, 0, 1)


def pillow_loop(paths: Sequence[str], slots: Pixels) -> None:
    """Pillow's resize is antialiased whatever the filter."""
    height, width = slots.shape[2:]
    for slot, path in zip(slots, paths, strict=True):
        with Image.open(path) as image:
            small = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        slot[...] = np.asarray(small).transpose(2, 0, 1)


PEERS: dict[str, Loop] = {
    "cv2 INTER_AREA loop": partial(cv2_loop, interpolation=cv2.INTER_AREA),
    "cv2 INTER_LINEAR loop": partial(cv2_loop, interpolation=cv2.INTER_LINEAR),
    "Pillow BILINEAR loop": pillow_loop,
}


def by_hand(paths: Sequence[str], size: int, threads: int, loop: Loop) -> Pixels:
    """Run a loop over a preallocated array, as it is or over chunks in a pool of threads."""
    slots = np.empty((len(paths), 3, size, size), np.uint8)
    run_chunks(paths, slots, threads, loop)
    return slots


def run_chunks(paths: Sequence[str], slots: Pixels | None, threads: int, loop: Callable[..., None]) -> None:
    """Run a loop, with more than one thread in chunks."""
    if threads == 1:
        loop(paths, slots)
        return
    with ThreadPoolExecutor(threads) as pool:
        futures = [
            pool.submit(loop, paths[at : at + CHUNK], None if slots is None else slots[at : at + CHUNK])
            for at in range(0, len(paths), CHUNK)
        ]
        for future in futures:
            future.result()


def ours(paths: Sequence[str], size: int, threads: int, target: Path | None, *, exact: bool = False) -> object:
    """Build a store."""
    return arraystore.build(paths, target, size=size, exact=exact, workers=threads, progress=False)


def time_builds(paths: list[str], options: argparse.Namespace, scratch: Path) -> dict[tuple[str, int], Timing]:
    """Time every case with every number of threads."""
    size = options.size
    targets = dict(zip(OURS, (None, scratch / "new.store", scratch / "new.h5"), strict=True))
    cases: dict[tuple[str, int], Callable[[], object]] = {}
    for threads in options.threads:
        cases["floor", threads] = partial(run_chunks, paths, None, threads, floor)
        for name, target in targets.items():
            cases[name, threads] = partial(ours, paths, size, threads, target)
        for name, loop in PEERS.items():
            cases[name, threads] = partial(by_hand, paths, size, threads, loop)
    return take_turns(cases, options.runs, after=partial(empty, scratch))


def empty(folder: Path) -> None:
    """Remove what lies in a folder."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


# --- the reports -----------------------------------------------------------------------------------------------------


def report_builds(
    timings: dict[tuple[str, int], Timing], count: int, threads: Sequence[int], config: dict[str, Any]
) -> list[dict[str, Any]]:
    """Print the rates, and return them."""
    rows, records = [], []
    for (name, number), timing in timings.items():
        rates = timing.rates(count)
        times = ratios(timing, timings[OURS[0], number])
        row = {
            "benchmark": "build",
            "case": name,
            "threads": number,
            "images_per_s": statistics.median(rates),
            "arraystore_is_times_as_fast": statistics.median(times),
            **timing.to_json(),
            **config,
        }
        records.append(row)
        rows.append(
            [
                name,
                str(number),
                f"{row['images_per_s']:,.0f}",
                spread(rates),
                f"{row['arraystore_is_times_as_fast']:.2f}",
                spread(times, 2),
                f"{statistics.median(timing.user_s) * 1000 / count:.2f}",
                f"{statistics.median(timing.system_s) * 1000 / count:.2f}",
            ]
        )
    header = ["case", "threads", "img/s", "min-max", "RAM is x as fast", "min-max", "user ms/img", "system"]
    print_table("Builds: medians; the ratio is the median of the rounds' own ratios", header, rows)
    for number in threads:
        times = ratios(timings[OURS[0], number], timings["floor", number])
        text = f"{statistics.median(times):.2f} ({spread(times, 2)}) times the floor's time"
        print(f"  arraystore RAM with {number} threads takes {text}")
    for number in threads[1:]:
        scaling = {name: ratios(timings[name, threads[0]], timings[name, number]) for name in ("floor", OURS[0])}
        for name, times in scaling.items():
            median = statistics.median(times)
            print(f"  {name}: {number} threads are {median:.2f} ({spread(times, 2)}) times as fast as {threads[0]}")
            records.append({"benchmark": "scaling", "case": name, "threads": number, "times": times, **config})
    return records


def report_large(paths: Sequence[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Camera photos: time against a loop by hand; how far the default is from a full decode."""
    size = options.size
    chosen = stretch(paths, options.large_images)
    cases: dict[str, Callable[[], object]] = {
        "arraystore RAM": partial(ours, chosen, size, 1, None),
        "arraystore RAM, exact=True": partial(ours, chosen, size, 1, None, exact=True),
        "cv2 INTER_AREA loop": partial(by_hand, chosen, size, 1, PEERS["cv2 INTER_AREA loop"]),
    }
    timings = take_turns(cases, options.runs)
    rows, records = [], []
    for name, timing in timings.items():
        each = [seconds * 1000 / len(chosen) for seconds in timing.wall_s]
        times = ratios(timing, timings["arraystore RAM"])
        median = statistics.median(times)
        rows.append([name, f"{statistics.median(each):.1f}", spread(each, 1), f"{median:.2f}", spread(times, 2)])
        records.append(
            {
                "benchmark": "build large",
                "case": name,
                "threads": 1,
                "photos": len(paths),
                "images": len(chosen),
                "size": size,
                "ms_per_image": statistics.median(each),
                "arraystore_is_times_as_fast": median,
                **timing.to_json(),
            }
        )
    title = f"{len(paths)} large photos, as a list of {len(chosen)}, one thread"
    print_table(title, ["case", "ms/img", "min-max", "RAM is x as fast", "min-max"], rows)
    means, worst_pixel = differences(paths, size)
    at = int(np.argmax(means))
    print(
        f"  default against exact=True: mean absolute difference {np.mean(means):.3f} grey levels, "
        f"worst photo {means[at]:.3f} ({Path(paths[at]).name}), largest of any pixel {worst_pixel}"
    )
    each_photo = {Path(path).name: mean for path, mean in zip(paths, means, strict=True)}
    records.append({"benchmark": "default against exact", "size": size, "mean_absolute": each_photo})
    return records


def differences(paths: Sequence[str], size: int) -> tuple[list[float], int]:
    """Return each photo's mean absolute difference between the default and ``exact=True``, and the largest of all."""
    specs = [arraystore.ImageSpec(size=size, exact=exact) for exact in (False, True)]
    slots = np.empty((2, *specs[0].slot_shape), np.uint8)
    means, largest = [], 0
    for path in paths:
        data = Path(path).read_bytes()
        for slot, spec in zip(slots, specs, strict=True):
            decode_into(data, slot, spec)
        apart = np.abs(slots[0].astype(np.int16) - slots[1])
        means.append(float(apart.mean()))
        largest = max(largest, int(apart.max()))
    return means, largest


if __name__ == "__main__":
    main()
