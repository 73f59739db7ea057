"""Invented memory reports that look like real ones, for the tests of table, picture and page."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from arraystore.memory import MemoryReport
from arraystore.memory.measurement import Curve, Mark, Measurement

MIB = 1 << 20
ARRAY_BYTES = 10_000 * 3 * 256 * 256
METHOD = "Linux: /proc/PID/smaps_rollup of every process of the tree, every 10 ms"


def curve(
    seconds: float,
    held: Callable[[float], float],
    file: Callable[[float], float] = lambda _: 45 * MIB,
    *,
    count: int = 600,
    seed: int = 0,
) -> Curve:
    """Readings of functions of the share of time that has passed, with some noise."""
    noise = random.Random(seed)
    shares = [index / (count - 1) for index in range(count)]
    anonymous = tuple(int(held(share) * noise.uniform(0.995, 1)) for share in shares)
    mapped = tuple(int(file(share)) for share in shares)
    rss = tuple(a + b for a, b in zip(anonymous, mapped, strict=True))
    return Curve(
        seconds=tuple(round(share * seconds, 4) for share in shares),
        anonymous=anonymous,
        file=mapped,
        shmem=(0,) * count,
        pss=tuple(int(a + 0.7 * b) for a, b in zip(anonymous, mapped, strict=True)),
        rss=rss,
    )


def measured(name: str, seconds: float, readings: Curve, **values: Any) -> Measurement:
    return Measurement(
        name,
        **{
            "outcome": "finished",
            "wall_s": seconds,
            "cpu_s": seconds * 1.8,
            "curve": readings,
            "start_bytes": 40 * MIB,
            "kernel_peak_bytes": int(max(readings.rss, default=0) * 1.008),
            "readings": len(readings.seconds),
            "sampler_cpu_s": seconds * 0.006,
            "method": METHOD,
        }
        | values,
    )


def vstack(share: float) -> float:
    climbed = 45 * MIB + ARRAY_BYTES * min(share / 0.88, 1)
    return climbed + ARRAY_BYTES * max(0.0, min((share - 0.88) / 0.1, 1))


def naive(name: str, seconds: float, *, seed: int = 1) -> Measurement:
    marks = (Mark(0.0, "decoding"), Mark(0.88 * seconds, name.removeprefix("list + ")))
    note = "Reads the images one by one into a list, and joins the list: the whole of it is there twice."
    return measured(name, seconds, curve(seconds, vstack, seed=seed), marks=marks, note=note)


def ram(seconds: float = 10.4) -> Measurement:
    readings = curve(seconds, lambda share: 75 * MIB + ARRAY_BYTES * min(share / 0.98, 1), seed=3)
    return measured("arraystore, RAM", seconds, readings, note="Allocates the array once and decodes into its slots.")


def mapped(name: str, seconds: float, *, seed: int) -> Measurement:
    readings = curve(
        seconds,
        lambda share: (60 + 35 * min(share * 8, 1)) * MIB,
        lambda share: 50 * MIB + ARRAY_BYTES * share * 0.9,
        seed=seed,
    )
    note = "Decodes into slots of a file that is mapped into memory."
    return measured(name, seconds, readings, disk_bytes=ARRAY_BYTES + 400_000, note=note)


def killed(seconds: float = 4.1) -> Measurement:
    readings = curve(seconds, lambda share: 45 * MIB + 1.01 * ARRAY_BYTES * share**0.5, count=240, seed=5)
    reason = "it went beyond the limit of 2.00 GB with 1,204 of 10,000 images read"
    return measured("np.append, image by image", seconds, readings, outcome="killed", reason=reason)


def skipped() -> Measurement:
    reason = "it needs about 9.8 GB, and 7.1 GB are available: pass a smaller --count"
    return Measurement("list + np.stack as float32", "skipped", reason=reason)


MACHINE = {
    "cores": "2",
    "processor": "AMD EPYC 7B13",
    "memory": "23.4 GiB available",
    "system": "Linux 6.18.0",
    "python": "3.11.2",
    "arraystore": "0.9.0",
    "numpy": "2.4.6",
    "opencv-python-headless": "5.0.0",
}


def report(*measurements: Measurement, **values: Any) -> MemoryReport:
    chosen = measurements or (
        naive("list + np.vstack", 22.3),
        naive("list + np.stack", 23.8, seed=2),
        killed(),
        ram(),
        mapped("arraystore, .npy", 11.0, seed=6),
        mapped("arraystore, HDF5", 11.6, seed=7),
        skipped(),
    )
    return MemoryReport(
        **{
            "title": "10,000 images (143, repeated) as 3×256×256 uint8",
            "measurements": chosen,
            "array_bytes": ARRAY_BYTES,
            "machine": MACHINE,
            "command": "arraystore profile photos --size 256 --count 10000 --limit 2GB",
        }
        | values
    )


def twelve() -> MemoryReport:
    """Many calls, some with the same peak, names from everywhere."""
    names = ("größe 日本", "x" * 90, "<script>alert(1)</script>", "[red]a & b[/red]", "$x_1$ and _hidden", "a\nb")
    each = [
        measured(
            f"{names[index % 6]} {index}",
            3 + index,
            curve(3 + index, lambda share, index=index: 100 * MIB + (index // 2) * 300 * MIB * share, seed=index),
        )
        for index in range(12)
    ]
    return report(*each)


def odd() -> dict[str, MemoryReport]:
    """Reports at the edges of what there can be."""
    nothing = Measurement("nothing read", "finished", wall_s=0.001)
    one = Curve((0.0,), (50 * MIB,), (9 * MIB,), (3 * MIB,), (55 * MIB,), (62 * MIB,))
    half = curve(2.0, lambda share: share * 300 * MIB)
    failed = measured("fails", 2.0, half, outcome="failed", reason="MemoryError", marks=(Mark(1.5, "late"),))
    small = measured("grows", 1.0, curve(1.0, lambda share: (60 + 20 * share) * MIB), array_bytes=9 * MIB)
    return {
        "one": report(ram()),
        "twelve": twelve(),
        "no array": report(ram(), mapped("memmap", 11.0, seed=1), array_bytes=None),
        "no readings": report(nothing),
        "one reading": report(measured("short", 0.01, one), array_bytes=10 * MIB),
        "failed": report(failed, nothing, skipped()),
        "only skipped": report(skipped()),
        "nothing": MemoryReport("nothing at all", ()),
        "an array of its own": report(ram(), small),
        "tiny array": report(small, array_bytes=1 * MIB),
        "zeros": report(measured("zeros", 1.0, curve(1.0, lambda _: 0, lambda _: 0))),
        "hours": report(measured("long", 9000.0, curve(9000.0, vstack))),
    }
