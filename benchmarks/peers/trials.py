"""What is measured of each peer: a row of figures, or of why there are none."""

from __future__ import annotations

import ast
import shutil
import statistics
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import photos, stretch
from pixels import resized
from process import PeerError, Process, command
from venvs import interpreter, packages

ADAPTERS = Path(__file__).with_name("adapters")
REFERENCE = "arraystore"
REFERENCE_S = 300  # besides what the peers may take, for it lives as long as all of them
EPOCHS_A_ROUND = 1_000_000  # more than there can be: no two rounds have an epoch's number in common
FEW = 4
OTHER_IMAGE = 30  # grey levels: two photographs differ by 60 or so, two ways of resizing one by 16 at the most

Row = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """A peer that runs.

    Attributes:
        name: of its adapter.
        adapters: the folder of that.
        process: where it runs.
        folder: its own.
    """

    name: str
    adapters: Path
    process: Process
    folder: Path


class Trials:
    """What all peers have in common: the photographs, the images that they should become, and the reference.

    Args:
        options: of the command; see `run`.
        scratch: a folder for all that is written.

    Attributes:
        photos: paths, of which slot i has the i-th.
        raw_bytes: of all images.
    """

    def __init__(self, options: Namespace, scratch: Path) -> None:
        self.photos = stretch(photos(options.photos.absolute()), options.images)
        self.raw_bytes = len(self.photos) * 3 * options.size**2
        self._options, self._scratch = options, scratch
        self._venvs = options.venvs or (scratch / "venvs" if options.install else None)
        self._expected = scratch / "expected.npy"
        distinct = sorted(set(self.photos))
        numbers = {path: i for i, path in enumerate(distinct)}
        self._rows = [numbers[path] for path in self.photos]
        with ThreadPoolExecutor(options.workers) as pool:
            right = list(pool.map(lambda path: np.asarray(resized(path, options.size)), distinct))
        np.save(self._expected, np.stack(right))

    def rows(self) -> Iterator[Row]:
        """Measure the reference and then the peers, and yield a row each."""
        options = self._options
        names = [name for name in options.only if name != REFERENCE]
        limit_s = REFERENCE_S + options.timeout * len(names)
        with self._folder(REFERENCE) as folder, self._process(sys.executable, folder, limit_s) as process:
            reference = Peer(REFERENCE, ADAPTERS, process, folder)
            yield self._row(reference, None)
            for name in names:
                yield self._peer(name, reference)

    @contextmanager
    def _folder(self, name: str) -> Iterator[Path]:
        folder = self._scratch / name
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    def _process(
        self, python: str, folder: Path, limit_s: float, of: tuple[Path, str] = (ADAPTERS, REFERENCE)
    ) -> Process:
        return Process(command(python, *of), folder=folder, workers=self._options.workers, limit_s=limit_s)

    def _peer(self, name: str, reference: Peer) -> Row:
        options, adapters = self._options, self._options.adapters
        try:
            needed = requirements(adapters, name)
            python = interpreter(name, needed, self._venvs, install=options.install)
        except PeerError as error:
            return {**self._about(name, adapters), "outcome": "missing", "why": str(error)}
        with (
            self._folder(name) as folder,
            self._process(python, folder, options.timeout, (adapters, name)) as process,
        ):
            return self._row(Peer(name, adapters, process, folder), reference)

    def _about(self, name: str, adapters: Path) -> Row:
        row = {"benchmark": "peers", "peer": name, "title": title(adapters, name), "images": len(self.photos)}
        row |= {key: getattr(self._options, key) for key in ("size", "batch", "workers")}
        return row | {"raw_bytes": self.raw_bytes}

    def _row(self, peer: Peer, reference: Peer | None) -> Row:
        row = self._about(peer.name, peer.adapters)
        try:
            for figures in self._steps(peer, reference):
                row |= figures
        except PeerError as error:
            if error.missing and "import_s" not in row:
                return {**row, "outcome": "missing", "why": f"not installed: {remedy(peer)}"}
            return {**row, "outcome": "failed", "why": str(error)}
        return {**row, "outcome": "wrong" if row["why"] else "ok"}

    def _steps(self, peer: Peer, reference: Peer | None) -> Iterator[Row]:
        """Yield figures step by step, so that what is known stays when the next one fails."""
        needed = requirements(peer.adapters, peer.name)
        yield peer.process.ask("load", package=packages(needed)[0] if needed.exists() else peer.name)
        self._built(peer, "few", self.photos[: FEW * self._options.workers])
        built = self._built(peer, "all", self.photos)
        yield {"build_s": built["wall_s"], "build_images_per_s": len(self.photos) / built["wall_s"]}
        yield {"build_peak_bytes": built["peak_bytes"], "disk_bytes": disk_bytes(peer.folder / "all")}
        again = built
        if reference is not None:  # anew, so that what the machine does meanwhile falls on both
            again = self._built(reference, "again", self.photos)
            shutil.rmtree(reference.folder / "again")
        yield {"arraystore_build_s": again["wall_s"], "build_times_arraystore": again["wall_s"] / built["wall_s"]}
        reading = self._reading(peer)
        first = peer.process.watched("read", epoch=0, least_s=0, **reading)
        yield {"first_epoch_s": first["wall_s"]}
        right = {"expected": str(self._expected), "rows": self._rows}
        seen = peer.process.watched("check", epoch=1, **reading, **right)
        yield {"read_peak_bytes": max(first["peak_bytes"], seen["peak_bytes"])}
        yield verdict(seen, len(self.photos))
        yield self._rounds(peer, reference)

    def _built(self, peer: Peer, place: str, images: list[str]) -> Row:
        folder = peer.folder / place
        folder.mkdir()
        target = {"folder": str(folder), "size": self._options.size, "workers": self._options.workers}
        return peer.process.watched("build", photos=images, **target)

    def _rounds(self, peer: Peer, reference: Peer | None) -> Row:
        rates: dict[Peer, list[float]] = {peer: []}
        if reference is not None:
            rates[reference] = []
        for turn in range(self._options.rounds):
            # The one that goes first changes, so that what the machine does meanwhile falls on both.
            for one in list(rates)[:: -1 if turn % 2 else 1]:
                epoch = 2 + turn * EPOCHS_A_ROUND
                told = one.process.ask("read", epoch=epoch, least_s=self._options.seconds, **self._reading(one))
                rates[one].append(told["images"] / told["wall_s"])
        mine = rates[peer]
        times = [one / its for one, its in zip(mine, rates.get(reference or peer, mine), strict=True)]
        return {
            "images_per_s": statistics.median(mine),
            "rounds_images_per_s": mine,
            "times_arraystore": statistics.median(times),
            "rounds_times_arraystore": times,
        }

    def _reading(self, peer: Peer) -> Row:
        return {"folder": str(peer.folder / "all"), "batch": self._options.batch, "workers": self._options.workers}


def verdict(seen: Row, count: int) -> Row:
    """Return what a checked epoch was: whether every image came once, and how far its pixels are from Pillow's."""
    came, differences = Counter(seen["labels"]), seen["differences"]
    slots = set(range(count))
    absent, again, unknown = len(slots - came.keys()), came.total() - len(came), len(came.keys() - slots)
    once = not (absent or again or unknown)
    worst = max(range(len(differences)), key=differences.__getitem__, default=None)
    why = ""
    if not once:
        why = f"not every image came once: {absent:,} never came, {again:,} came again, {unknown:,} do not exist"
    elif worst is not None and differences[worst] > OTHER_IMAGE:
        why = (
            f"slot {seen['labels'][worst]} is not its photograph: its pixels are {differences[worst]:.0f} grey levels "
            "from Pillow's on average"
        )
    return {
        "why": why,
        "once": once,
        "mean_difference": statistics.fmean(differences) if differences else None,
        "worst_difference": None if worst is None else differences[worst],
        "dtype": seen["dtype"],
        "shape": seen["shape"],
    }


def requirements(adapters: Path, name: str) -> Path:
    """Return the file of a peer's requirements, which lies beside the folder of the adapters."""
    return adapters.absolute().parent / "requirements" / f"{name}.txt"


def remedy(peer: Peer) -> str:
    """Return the command that installs a peer."""
    path, here = requirements(peer.adapters, peer.name), Path.cwd()
    return f"pip install -r {path.relative_to(here) if path.is_relative_to(here) else path}"


def title(adapters: Path, name: str) -> str:
    """Return what a peer is called: its adapter's docstring up to the colon."""
    tree = ast.parse((adapters / f"{name}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or name).partition(":")[0]


def disk_bytes(folder: Path) -> int:
    """Return the bytes that all files under a folder take on the disk."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
