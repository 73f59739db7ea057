"""A user's builds, checks and updates: type-checked, never run."""
# pyright: strict

from pathlib import Path
from typing import assert_type

import arraystore
from arraystore import BadImagesError, FormatError, Kind, Progress, Store


def told(progress: Progress) -> None:
    str(progress)


def building(paths: list[Path], labels: list[int]) -> None:
    store = arraystore.build("photos/", "train.store", size=256)
    assert_type(store, Store)
    arraystore.build("photos/", "train.h5", size=(224, 320), fit="crop")
    arraystore.build(paths, labels=labels, size=256, color="gray", progress=told)
    arraystore.build("photos/", size=256, colour="gray")  # type: ignore[call-overload] # it is misspelt
    arraystore.build("photos/", size=256, workers="all")  # type: ignore[call-overload] # not a number
    several = arraystore.build("photos/", {"a.store": 160, "b.h5": arraystore.ImageSpec(size=320)}, fit="crop")
    assert_type(several, dict[str, Store])
    assert_type(arraystore.build(paths, dict.fromkeys(paths, (16, 24))), dict[Path, Store])
    arraystore.build("photos/", {"a.store": "160"})  # type: ignore[dict-item] # no size
    arraystore.plan("photos/", size=256, fit="squash")  # type: ignore[arg-type] # no such fit
    arraystore.update("train.store", sise=256)  # type: ignore[call-arg] # it has no such option
    arraystore.ImageSpec(size=256, color="grey")  # type: ignore[arg-type] # it is misspelt
    manifest = arraystore.Manifest.of("photos/")
    arraystore.build(manifest, spec=arraystore.ImageSpec(size=64))
    try:
        arraystore.build("photos/", size=64, bad="raise", max_bad=0.1)
    except BadImagesError as error:
        for bad in error.bad:
            assert_type(bad.kind, Kind | None)
            assert_type(bad.reason, str)
    except FormatError as error:
        assert_type(error.advice, str)


def upkeep() -> None:
    assert_type(arraystore.verify("train.store"), arraystore.Verification)
    assert_type(arraystore.repair("train.store"), Store)
    assert_type(arraystore.update("train.store"), Store)
    assert_type(arraystore.compare("train.store"), arraystore.Changes)
    assert_type(arraystore.plan("photos/", size=256), arraystore.Forecast)


def measuring() -> None:
    report = arraystore.profile_memory({"mine": upkeep})
    assert_type(report, arraystore.MemoryReport)
    report.print()
    with arraystore.MemoryTrace() as trace:
        upkeep()
    assert_type(trace.measurement.peak(), int)


def exporting(store: Store) -> None:
    assert_type(arraystore.export(store[:7], "x.parquet"), arraystore.ExportReport)
    assert_type(
        arraystore.export("train.store", Path("x"), "tar", max_bytes="1 GB", progress=told).notes, tuple[str, ...]
    )
    arraystore.export(store, "x", "zip")  # type: ignore[arg-type] # no such form
    arraystore.export(store, "x", quality="best")  # type: ignore[arg-type] # not a number
