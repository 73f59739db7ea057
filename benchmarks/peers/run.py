"""How do others build from the same photographs, and how fast do they read what they built?

Each peer has an adapter that does as its own documentation says (`adapters/`), its own requirements (`requirements/`), and
runs in a process of its own, with a folder, temporary files, home and caches of its own, for at most ``--timeout``
seconds. It builds once (after a few images, so that nothing is compiled or started for the first time), reads an epoch
that is told apart, and one in which every image is compared with Pillow's; then rounds of whole epochs, shuffled, from the
page cache, in turn with arraystore. A peer that is not installed, fails, hangs or gives wrong images is a row that says so.

    python benchmarks/peers/run.py --photos PHOTOS --install --venvs ~/.cache/peers
"""

from __future__ import annotations

import argparse
import ast
import statistics
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from pixels import resized
from process import PeerError, Process
from venvs import interpreter, packages

sys.path.append(str(Path(__file__).parent.parent))

from common import (  # noqa: E402 - it lies beside this folder
    check_free,
    machine,
    machine_line,
    photos,
    print_table,
    scratch_folder,
    spread,
    stretch,
    write_json,
)

ADAPTERS = Path(__file__).with_name("adapters")
REFERENCE = "arraystore"
ROUND_S = 1.0
FEW = 4
OTHER_IMAGE = 30  # grey levels: two photographs differ by 60, two ways of resizing one by 10 at the very most
MIB = 1 << 20


def main() -> None:
    """Run it."""
    options = parse()
    record = machine("page cache warm")
    print(machine_line(record))
    with scratch_folder(options.scratch) as scratch:
        run = Run(options, scratch)
        # The files of the reference and of one peer, which may have a cache of them besides.
        check_free(scratch, 5 * run.raw_bytes)
        rows = run.all()
    report(rows, run)
    write_json(options.json, rows, record)


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="a folder of JPEGs")
    parser.add_argument("--only", help="peers, separated by commas; default: all")
    parser.add_argument("--images", type=int, default=1000, help="at least so many; a short list of photos is repeated")
    parser.add_argument("--size", type=int, default=256, help="of an image, in pixels")
    parser.add_argument("--batch", type=int, default=256, help="images of a batch")
    parser.add_argument("--workers", type=int, default=2, help="threads or processes of each peer")
    parser.add_argument("--rounds", type=int, default=3, help="of reading")
    parser.add_argument("--install", action="store_true", help="make an environment for each peer, if it has none")
    parser.add_argument("--venvs", type=Path, help="where environments are; default: made anew, and removed at the end")
    parser.add_argument("--timeout", type=float, default=300, help="seconds until a peer is killed, without installing")
    parser.add_argument("--adapters", type=Path, default=ADAPTERS, help="other adapters, with requirements beside them")
    parser.add_argument("--scratch", type=Path, help="where to write; default: the system's temporary folder")
    parser.add_argument("--json", type=Path, help="append the figures to this file, as lines of JSON")
    options = parser.parse_args()
    known = sorted(path.stem for path in options.adapters.glob("[!_]*.py"))
    options.only = known if options.only is None else options.only.split(",")
    for name in options.only:
        if name not in known:
            parser.error(f"there is no peer {name!r}: there are {', '.join(known)}")
    return options


class Run:
    """What all peers have in common: the photographs, the images that they should become, and the reference.

    Args:
        options: of the command.
        scratch: a folder for all that is written.

    Attributes:
        photos: paths, of which slot i has the i-th.
        raw_bytes: of all images.
    """

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        distinct = photos(options.photos.absolute())
        self.photos = stretch(distinct, options.images)
        self.raw_bytes = len(self.photos) * 3 * options.size**2
        self._options, self._scratch = options, scratch
        self._venvs = options.venvs or (scratch / "venvs" if options.install else None)
        self._expected = scratch / "expected.npy"
        used = sorted(set(self.photos))
        numbers = {path: i for i, path in enumerate(used)}
        self._rows = [numbers[path] for path in self.photos]
        with ThreadPoolExecutor(options.workers) as pool:
            np.save(self._expected, np.stack([*pool.map(lambda path: np.asarray(resized(path, options.size)), used)]))

    def all(self) -> list[dict[str, Any]]:
        """Measure the reference and the peers, and return a row each."""
        options = self._options
        names = [name for name in options.only if name != REFERENCE]
        limit_s = options.timeout * (len(names) + 1)
        with scratch_folder(self._scratch) as folder:
            reference = Process(
                sys.executable, ADAPTERS, REFERENCE, folder=folder, workers=options.workers, limit_s=limit_s
            )
            with reference:
                rows = [self._measured(REFERENCE, ADAPTERS, reference, folder, None)]
                rows += [self._peer(name, (reference, folder)) for name in names]
        return rows

    def _peer(self, name: str, reference: tuple[Process, Path]) -> dict[str, Any]:
        options = self._options
        try:
            needed = requirements(options.adapters, name)
            python = interpreter(name, needed, self._venvs, install=options.install)
        except PeerError as error:
            return {**self._about(name, options.adapters), "outcome": "missing", "why": str(error)}
        with scratch_folder(self._scratch) as folder:
            limits: dict[str, Any] = {"workers": options.workers, "limit_s": options.timeout}
            with Process(python, options.adapters, name, folder=folder, **limits) as process:
                return self._measured(name, options.adapters, process, folder, reference)

    def _about(self, name: str, adapters: Path) -> dict[str, Any]:
        options = self._options
        row = {"benchmark": "peers", "peer": name, "title": title(adapters, name), "images": len(self.photos)}
        return (
            row | {key: getattr(options, key) for key in ("size", "batch", "workers")} | {"raw_bytes": self.raw_bytes}
        )

    def _measured(
        self, name: str, adapters: Path, process: Process, folder: Path, reference: tuple[Process, Path] | None
    ) -> dict[str, Any]:
        row = self._about(name, adapters)
        print(f"  {row['title']} …", flush=True)
        try:
            self._measure(row, requirements(adapters, name), process, folder, reference)
        except PeerError as error:
            if error.missing and "import_s" not in row:
                return {**row, "outcome": "missing", "why": f"not installed: {remedy(adapters, name)}"}
            return {**row, "outcome": "failed", "why": str(error)}
        return {**row, "outcome": "wrong" if row["why"] else "ok"}

    def _measure(
        self,
        row: dict[str, Any],
        needed: Path,
        process: Process,
        folder: Path,
        reference: tuple[Process, Path] | None,
    ) -> None:
        """Put figures into the row, one step after the other, so that what is known stays when the next one fails."""
        options = self._options
        row |= process.ask("load", package=packages(needed)[0] if needed.exists() else row["peer"])
        for images, place in (self.photos[: FEW * options.workers], "few"), (self.photos, "all"):
            (folder / place).mkdir()
            target = {"folder": str(folder / place), "size": options.size, "workers": options.workers}
            built = process.watched("build", photos=images, **target)
        row |= {"build_s": built["wall_s"], "build_images_per_s": len(self.photos) / built["wall_s"]}
        row |= {"build_peak_bytes": built["peak_bytes"], "disk_bytes": disk_bytes(folder / "all")}
        first = process.watched("read", epoch=0, least_s=0, **self._reading(folder))
        row |= {"first_epoch_s": first["wall_s"], "read_peak_bytes": first["peak_bytes"]}
        images = {"expected": str(self._expected), "rows": self._rows}
        seen = process.ask("check", epoch=1, **self._reading(folder), **images)
        row |= self._verdict(seen)
        rounds, others = [], []
        for turn in range(options.rounds):
            # The one that goes first changes, so that what the machine does meanwhile falls on both.
            for mine in (True, False) if turn % 2 else (False, True):
                if mine:
                    rounds.append(self._rate(process, folder, turn))
                elif reference is not None:
                    others.append(self._rate(*reference, turn))
        times = [mine / its for mine, its in zip(rounds, others or rounds, strict=True)]
        row |= {"images_per_s": statistics.median(rounds), "rounds_images_per_s": rounds}
        row |= {"times_arraystore": statistics.median(times), "rounds_times_arraystore": times}

    def _reading(self, folder: Path) -> dict[str, Any]:
        return {"folder": str(folder / "all"), "batch": self._options.batch, "workers": self._options.workers}

    def _rate(self, process: Process, folder: Path, turn: int) -> float:
        told = process.ask("read", epoch=2 + 10_000 * turn, least_s=ROUND_S, **self._reading(folder))
        return told["images"] / told["wall_s"]

    def _verdict(self, seen: dict[str, Any]) -> dict[str, Any]:
        """Return what the checked epoch was: the slots that came, and how far their pixels are from Pillow's."""
        came, differences = Counter(seen["labels"]), seen["differences"]
        slots = set(range(len(self.photos)))
        missing, again = len(slots - came.keys()), sum(count - 1 for count in came.values())
        unknown = len(came.keys() - slots)
        worst = int(np.argmax(differences)) if differences else 0
        why = ""
        if missing or again or unknown:
            why = f"not every image came once: {missing:,} never came, {again:,} came again, {unknown:,} do not exist"
        elif differences[worst] > OTHER_IMAGE:
            why = (
                f"slot {seen['labels'][worst]} is not its photograph: its pixels are {differences[worst]:.0f} grey "
                "levels from Pillow's on average"
            )
        return {
            "why": why,
            "once": not (missing or again or unknown),
            "mean_difference": float(np.mean(differences)) if differences else None,
            "worst_difference": differences[worst] if differences else None,
            "dtype": seen["dtype"],
            "shape": seen["shape"],
        }


def requirements(adapters: Path, name: str) -> Path:
    """Return the file of a peer's requirements, which lies beside the folder of the adapters."""
    return adapters.absolute().parent / "requirements" / f"{name}.txt"


def remedy(adapters: Path, name: str) -> str:
    """Return the command that installs a peer."""
    path = requirements(adapters, name)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"pip install -r {shown}"


def title(adapters: Path, name: str) -> str:
    """Return how a peer is called: its adapter's docstring up to the colon."""
    tree = ast.parse((adapters / f"{name}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or name).partition(":")[0]


def disk_bytes(folder: Path) -> int:
    """Return the bytes that all files under a folder take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def report(rows: list[dict[str, Any]], run: Run) -> None:
    """Print how each builds and reads, and why some do not."""
    built = [
        [
            row["title"],
            row["version"],
            f"{row['build_images_per_s']:,.0f}",
            f"{row['disk_bytes'] / MIB:,.0f}",
            f"{row['disk_bytes'] / run.raw_bytes:.2f}",
            f"{row['build_peak_bytes'] / MIB:,.0f}",
            f"{row['import_s']:.1f}",
        ]
        for row in rows
        if "disk_bytes" in row
    ]
    header = ["peer", "version", "img/s", "MiB", "x raw", "peak MiB", "import s"]
    print_table(f"Building from {len(run.photos):,} photographs", header, built)
    read = [
        [
            row["title"],
            f"{row['images'] / row['first_epoch_s']:,.0f}",
            f"{row['images_per_s']:,.0f}",
            spread(row["rounds_images_per_s"]),
            f"{row['times_arraystore']:.3f}",
            f"{row['read_peak_bytes'] / MIB:,.0f}",
            row["dtype"],
            f"{row['mean_difference']:.2f}",
            f"{row['worst_difference']:.1f}",
        ]
        for row in rows
        if "images_per_s" in row
    ]
    header = ["peer", "first epoch", "img/s", "min-max", "x arraystore", "peak MiB", "gives", "off Pillow", "worst"]
    print_table("Reading them, shuffled, from the page cache", header, read)
    print("  peak: memory of the whole process tree that is no file's; off Pillow: mean difference in grey levels")
    for row in rows:
        if row["outcome"] != "ok":
            print(f"  {row['title']}: {row['outcome']}: {row['why']}")


if __name__ == "__main__":
    main()
