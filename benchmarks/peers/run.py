"""How do others build from the same photographs, and how fast do they read what they built?

Each peer has an adapter that does as its own documentation says (`adapters/`), its own requirements (`requirements/`),
and runs in a process of its own, with a folder, temporary files, home and caches of its own, for at most ``--timeout``
seconds. It builds a few images, so that what is done only once is not timed, and then all, followed by arraystore;
reads an epoch that is told apart, and one in which every image is compared with Pillow's; and then rounds of whole
epochs, shuffled, from the page cache, in turn with arraystore. A peer that is not installed, fails, hangs or gives
wrong images is a row that says so.

    python benchmarks/peers/run.py --photos PHOTOS --install --venvs peers-venvs --images 4000

With few images an epoch is over so soon that it is mostly its beginning.

Some need more than pip brings: FFCV a compiler with OpenCV and libjpeg-turbo (libopencv-dev, libturbojpeg0-dev), SPDL
FFmpeg's libraries. The environments take some 20 GB.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

from common import check_free, machine, machine_line, print_table, scratch_folder, spread, write_json
from trials import ADAPTERS, Row, Trials

MIB = 1 << 20
SOCKET = "tmp/pymp-12345678/listener-12345678"  # as multiprocessing names them
SOCKET_BYTES = 107


def main() -> None:
    """Run it."""
    options = parse()
    record = machine("page cache warm")
    print(machine_line(record))
    with scratch_folder(options.scratch) as scratch:
        check_length(scratch, options.only)
        trials = Trials(options, scratch)
        # The files of the reference and of one peer, which may have a cache of them besides.
        check_free(scratch, 5 * trials.raw_bytes)
        rows = []
        for row in trials.rows():
            print(f"  {row['title']}: {row['why'] or 'done'}", flush=True)
            rows.append(row)
    report(rows)
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
    parser.add_argument("--seconds", type=float, default=1.0, help="of a round, at least; it is whole epochs")
    parser.add_argument("--install", action="store_true", help="make an environment for each peer that has none")
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


def check_length(scratch: Path, names: Sequence[str]) -> None:
    """Stop where the sockets of workers would have names that are too long: some libraries then wait for ever."""
    longest = max(len(os.fsencode(scratch / name / SOCKET)) for name in names)
    if longest > SOCKET_BYTES:
        raise SystemExit(
            f"{scratch.parent}: sockets under this folder would have names of {longest} bytes, and {SOCKET_BYTES} are "
            "allowed: pass --scratch with a folder that has a shorter path"
        )


def report(rows: Sequence[Row]) -> None:
    """Print how each builds and reads, and why some do not."""
    built = [
        [
            row["title"],
            row["version"],
            f"{row['build_images_per_s']:,.0f}",
            f"{row['build_times_arraystore']:.2f}",
            f"{row['disk_bytes'] / MIB:,.0f}",
            f"{row['disk_bytes'] / row['raw_bytes']:.2f}",
            f"{row['build_peak_bytes'] / MIB:,.0f}",
            f"{row['import_s']:.1f}",
        ]
        for row in rows
        if "build_times_arraystore" in row
    ]
    header = ["peer", "version", "img/s", "x arraystore", "MiB", "x raw", "peak MiB", "import s"]
    print_table(f"Building from {rows[0]['images']:,} photographs, with {rows[0]['workers']} workers", header, built)
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
        if row["outcome"] == "ok"
    ]
    header = ["peer", "first epoch", "img/s", "min-max", "x arraystore", "peak MiB", "gives", "off Pillow", "worst"]
    print_table(f"Reading them, shuffled, in batches of {rows[0]['batch']}, from the page cache", header, read)
    print("  peak: memory of the whole process tree that is no file's; off Pillow: mean difference in grey levels")
    for row in rows:
        if row["outcome"] != "ok":
            print(f"  {row['title']}: {row['outcome']}: {row['why']}")


if __name__ == "__main__":
    main()
