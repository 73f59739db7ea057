"""How do others build from the same photographs, and how fast do they read what they built?

Each peer has an adapter that does as its own documentation says (`adapters/`), its own requirements (`requirements/`),
and runs in a process of its own, with a folder, temporary files, home and caches of its own, for at most
``--timeout-s`` seconds. It builds a few images, so that what is done only once is not timed, and then all; reads an
epoch in which every image is compared with Pillow's; and then rounds of whole epochs, shuffled, from the page cache, in
turn with arraystore. A peer that is not installed, fails, hangs or gives wrong images is a row that says so.

    python -m benchmarks peers --photos PHOTOS --venvs peers-venvs

Each peer runs in the environment PEERS-VENVS/NAME, if there is one, else in this one. This makes them, some 20 GB:

    for file in benchmarks/peers/requirements/*.txt; do
        venv=peers-venvs/$(basename $file .txt); python -m venv $venv && $venv/bin/pip install -r $file
    done

Some need more than pip brings: FFCV a compiler with OpenCV and libjpeg-turbo (libopencv-dev, libturbojpeg0-dev), SPDL
FFmpeg's libraries.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import MIB, Row, Rows, Table, middle, ratios
from benchmarks.peers.pixels import resized
from benchmarks.places import photos, scratch_folder, stretch

ADAPTERS = str(Path(__file__).with_name("adapters"))
ESTIMATE_S = 450
NEEDS = ("photos",)
OPTIONS = {
    "only": ("", "memmap", "names of peers, separated by commas; all, if empty"),
    "images": (4000, 20, "to build: fewer photographs are repeated"),
    "size": (256, 16, "side of a slot, in pixels"),
    "batch": (256, 8, "images of a batch"),
    "workers": (2, 2, "threads or processes of each peer"),
    "rounds": (3, 1, "of reading"),
    "round_s": (1.0, 0.0, "seconds of a round, at least; it is whole epochs"),
    "venvs": ("", "", "where the peers' environments are; none, if empty"),
    "timeout_s": (300, 60, "seconds until a peer is killed"),
    "adapters": (ADAPTERS, ADAPTERS, "their folder"),
}
REFERENCE = "arraystore"
CLOSE_S, LATER_S, REFERENCE_S = 5, 10, 300
ORIENTATION = 0x0112  # of EXIF: photographs that are to be turned are left out, for not every peer turns them
OTHER_IMAGE_LEVELS = 30  # two photographs are 60 gray levels apart or so, two ways of resizing one 16 at the most
EPOCHS_A_ROUND = 1_000_000  # more than there can be: no two rounds have an epoch's number in common


class PeerError(Exception):
    """A peer could not do what it was asked; the message is its row's reason."""


class Peer:
    """The process of one peer. It is killed with all of its session when its time is over.

    Args:
        name: of its adapter.
        python: the interpreter.
        folder: of the peer's own, empty: its files, temporary files, home, caches and log.
        options: of the benchmark.
        limit_s: seconds until it is killed.
    """

    def __init__(self, name: str, python: str, folder: Path, options: Namespace, limit_s: float) -> None:
        self.folder = folder
        self._limit_s, self._deadline, self._unread = limit_s, time.monotonic() + limit_s, b""
        child = Path(__file__).with_name("child.py")
        command = [python, str(child), str(Path(options.adapters).absolute()), name, str(int(limit_s) + LATER_S)]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=environment(folder, options.workers),
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asked, self._told = self._process.stdin, self._process.stdout

    def ask(self, step: str, **about: Any) -> Row:
        """Have a step of `child.Peer` done, and return what it tells.

        Raises:
            PeerError: it failed, died, or is out of time.
        """
        with suppress(BrokenPipeError):
            self._asked.write(json.dumps({"step": step, **about}).encode() + b"\n")
            self._asked.flush()
        while b"\n" not in self._unread:
            left_s = max(self._deadline - time.monotonic(), 0)
            if not select.select([self._told], [], [], left_s)[0]:
                raise PeerError(f"{step}: killed, because it was not done after {self._limit_s:,.0f} s")
            got = os.read(self._told.fileno(), 1 << 16)
            if not got:
                said = (self.folder / "log").read_text(errors="replace").strip().splitlines() or ["it said nothing"]
                raise PeerError(f"{step}: the process died: {said[-1][:300]}")
            self._unread += got
        line, _, self._unread = self._unread.partition(b"\n")
        answer: Row = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{step}: {answer['error']}")
        return answer

    def build(self, place: str, paths: Sequence[str], options: Namespace) -> float:
        """Build from photographs, and return the seconds that took."""
        (self.folder / place).mkdir()
        target = {"folder": str(self.folder / place), "size": options.size, "workers": options.workers}
        return float(self.ask("build", photos=paths, **target)["wall_s"])

    def read(self, epoch: int, least_s: float) -> float:
        """Read whole epochs, and return the images a second."""
        told = self.ask("read", epoch=epoch, least_s=least_s)
        return float(told["images"] / told["wall_s"])

    def close(self) -> None:
        """End the process, by force if it does not end by itself."""
        with suppress(BrokenPipeError):
            self._asked.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, min(CLOSE_S, self._deadline - time.monotonic())))
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._told.close()
        self._process.wait()


def environment(folder: Path, workers: int) -> Mapping[str, str]:
    """Return the environment of a peer that has this folder, and make the folders that it names."""
    own = {"HOME": "home", "XDG_CACHE_HOME": "home/cache", "HF_HOME": "home/hf", "KERAS_HOME": "home/keras"}
    own |= {"TMPDIR": "tmp", "TEMP": "tmp", "TMP": "tmp"}
    for name in own.values():
        (folder / name).mkdir(parents=True, exist_ok=True)
    threads = ("OMP_NUM_THREADS", "TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS")
    # No network is assumed: nobody asks a hub whether there is something newer.
    switches = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "DO_NOT_TRACK"), "1")
    places = {name: str(folder / path) for name, path in own.items()}
    return {**os.environ, **places, **dict.fromkeys(threads, str(workers)), **switches}


def measure(options: Namespace) -> Iterator[Row]:
    """Measure the reference and then the peers, and yield a row each."""
    adapters = {path.stem: path for path in sorted(Path(options.adapters).glob("[!_]*.py"))}
    names = [name for name in options.only.split(",") if name] or [name for name in adapters if name != REFERENCE]
    unknown = [name for name in names if name not in adapters]
    if unknown:
        raise SystemExit(f"there is no peer {unknown[0]!r}: there are {', '.join(adapters)}")
    slots_bytes = options.images * 3 * options.size**2
    with scratch_folder(options.scratch, 5 * slots_bytes) as scratch:
        found = [path for path in photos(options, scratch) if Image.open(path).getexif().get(ORIENTATION, 1) == 1]
        paths = stretch([str(Path(path).absolute()) for path in found], options.images)
        distinct = {path: number for number, path in enumerate(dict.fromkeys(paths))}
        expected = scratch / "expected.npy"
        np.save(expected, np.stack([np.asarray(resized(path, options.size)) for path in distinct]))
        right = expected, [distinct[path] for path in paths]
        ours = {**vars(options), "adapters": ADAPTERS}
        limit_s = REFERENCE_S + options.timeout_s * len(names)  # it lives as long as all of them
        with opened(REFERENCE, scratch, Namespace(**ours), limit_s) as reference:
            yield {**figures_of(reference, reference, paths, right, options)}
            for name in names:
                row: Row = {"title": name}
                try:
                    with opened(name, scratch, options, options.timeout_s) as peer:
                        row |= figures_of(peer, reference, paths, right, options)
                except PeerError as error:
                    row["why"] = str(error)
                print(f"  {row['title']}: {row['why'] or 'done'}", flush=True)
                yield row


@contextmanager
def opened(name: str, scratch: Path, options: Namespace, limit_s: float) -> Iterator[Peer]:
    """Start a peer in a folder of its own, and remove both in the end."""
    python = Path(options.venvs).absolute() / name / "bin" / "python"
    folder = scratch / name
    folder.mkdir()
    peer = Peer(name, str(python) if python.exists() else sys.executable, folder, options, limit_s)
    try:
        yield peer
    finally:
        peer.close()
        shutil.rmtree(folder)


def figures_of(peer: Peer, reference: Peer, paths: list[str], right: tuple[Path, list[int]], options: Namespace) -> Row:
    """Return what is measured of a peer.

    Raises:
        PeerError: it could not do a step.
    """
    row = peer.ask("load")
    peer.build("few", paths[: 4 * options.workers], options)
    row["build_s"] = peer.build("all", paths, options)
    row["disk_bytes"] = sum(path.lstat().st_blocks * 512 for path in (peer.folder / "all").rglob("*") if path.is_file())
    peer.ask("open", folder=str(peer.folder / "all"), batch=options.batch, workers=options.workers)
    seen = peer.ask("check", epoch=1, expected=str(right[0]), rows=right[1])
    row |= {
        "images": len(paths),
        "why": wrong(seen, len(paths)),
        "mean_difference": statistics.fmean(seen["differences"]),
    }
    speeds: dict[Peer, list[float]] = {reference: [], peer: []}
    for turn in range(options.rounds):
        # The one that goes first changes, so that what the machine does meanwhile falls on both.
        for one in list(speeds)[:: -1 if turn % 2 else 1]:
            speeds[one].append(one.read(2 + turn * EPOCHS_A_ROUND, options.round_s))
    return {**row, "images_per_s": speeds[peer], "times_arraystore": ratios(speeds[peer], speeds[reference])}


def wrong(seen: Row, count: int) -> str:
    """Return what is wrong with a checked epoch, or "": whether every image came once, and is its photograph."""
    absent = len(set(range(count)) - set(seen["labels"]))
    if absent or len(seen["labels"]) != count:
        return f"not every image came once: {absent:,} never came, and {len(seen['labels']):,} came in all"
    worst = max(seen["differences"])
    if worst > OTHER_IMAGE_LEVELS:
        return f"an image is not its photograph: its pixels are {worst:.0f} gray levels from Pillow's on average"
    return ""


def tables(rows: Rows) -> dict[str, Table]:
    """How each builds and reads, or why it does not."""
    table = [
        [
            "",
            "version",
            "builds, images/s",
            "on disk, MiB",
            "reads, images/s",
            "least–most",
            "× arraystore",
            "off Pillow",
        ]
    ]
    for row in rows:
        told = [row["title"], row.get("version", "")]
        if "images_per_s" not in row:
            table.append([*told, row["why"], *[""] * 5])
            continue
        told += [
            f"{row['images'] / row['build_s']:,.0f}",
            f"{row['disk_bytes'] / MIB:,.0f}",
            *middle(row["images_per_s"]),
        ]
        off = f"{row['mean_difference']:.2f}" + (f" ({row['why']})" if row["why"] else "")
        table.append([*told, middle(row["times_arraystore"], 3)[0], off])
    return {"peers": table}
