"""Runs the benchmarks and draws the documents: ``python -m benchmarks``, in the folder of the checkout.

python -m benchmarks list                             # the questions, and how long each takes
python -m benchmarks all --photos DIR --large DIR     # measures everything, and draws docs/ and README.md
python -m benchmarks run build read --photos DIR      # some of them
python -m benchmarks run peers --photos DIR -- --install   # what follows goes to the script
python -m benchmarks draw                             # draws docs/ again from docs/results/
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.suite import BENCHMARKS, FOLDER, Benchmark, chosen, index

DOCS = FOLDER.parent / "docs"


def main() -> int:
    """Do what the command line says, and return the exit code."""
    # What follows two hyphens is the script's.
    mine, _, extra = split(sys.argv[1:])
    options = parse(mine)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it ends the benchmark that runs, as Ctrl-C does
    try:
        return int(COMMANDS[options.command](options, extra))
    except KeyboardInterrupt:
        print("\ninterrupted: what has finished is in the folder of results", file=sys.stderr)
        return 130


def split(words: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """Return the words before two hyphens, them, and those after."""
    at = words.index("--") if "--" in words else len(words)
    return list(words[:at]), "".join(words[at : at + 1]), list(words[at + 1 :])


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return the command's options."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the questions, and about how long each takes")
    names = ", ".join(benchmark.name for benchmark in BENCHMARKS)

    measuring = argparse.ArgumentParser(add_help=False)
    measuring.add_argument("--photos", type=Path, help="a folder of JPEGs; default: 200 are made")
    measuring.add_argument("--large", type=Path, help="a folder of camera photos; default: 4 are made")
    measuring.add_argument("--out", type=Path, default=Path("results"), help="for results and logs; default: results/")
    measuring.add_argument("--scratch", type=Path, help="for stores and the like; default: the temporary folder")
    measuring.add_argument("--quick", action="store_true", help="tiny input: only to see that everything works")

    every = commands.add_parser("all", parents=[measuring], help="measure everything, and draw the documents")
    every.add_argument("--only", nargs="+", default=[], metavar="NAME", help=f"these alone, of {names}")
    every.add_argument("--skip", nargs="+", default=[], metavar="NAME", help="all but these")
    every.add_argument("--peers", action="store_true", help="and others, those that are installed")
    every.add_argument(
        "--docs", help="where to draw, or none; default: docs/ of the checkout if all was measured, and not --quick"
    )
    some = commands.add_parser("run", parents=[measuring], help="measure some")
    some.add_argument("names", nargs="+", metavar="NAME", help=names)
    peers = commands.add_parser("peers", parents=[measuring], help="measure others; the same as `run peers`")
    peers.set_defaults(names=["peers"])

    drawing = commands.add_parser("draw", help="draw the documents from results, and measure nothing")
    drawing.add_argument("--out", type=Path, help="take over these results first; default: those of the documents")
    drawing.add_argument("--docs", type=Path, default=DOCS, help="where; default: docs/ of the checkout")
    return parser.parse_args(words)


def show(_options: argparse.Namespace, _extra: Sequence[str]) -> int:
    """List the benchmarks."""
    print(index())
    total = sum(benchmark.estimate_s for benchmark in BENCHMARKS if not benchmark.optional)
    print(
        f"\nall of them, but for {', '.join(b.name for b in BENCHMARKS if b.optional)}: about {total / 60:.0f} minutes"
    )
    return 0


def measure_all(options: argparse.Namespace, extra: Sequence[str]) -> int:
    """Measure everything, and draw."""
    benchmarks = pick(options.only, skip=options.skip, optional=["peers"] if options.peers else [])
    whole = not options.only and not options.skip
    docs = options.docs if options.docs is not None else "none" if options.quick or not whole else str(DOCS)
    if extra:
        raise SystemExit("arguments after -- go to one script: use them with run")
    failed = measure(benchmarks, options, extra, whole=whole)
    if docs == "none":
        return failed
    if failed:
        print("nothing was drawn, because not everything was measured", file=sys.stderr)
        return failed
    drawn(Path(docs), options.out)
    return 0


def measure_some(options: argparse.Namespace, extra: Sequence[str]) -> int:
    """Measure some."""
    return measure(pick(options.names), options, extra, whole=False)


def pick(names: Sequence[str], skip: Sequence[str] = (), optional: Sequence[str] = ()) -> list[Benchmark]:
    """Return benchmarks by their names."""
    try:
        return chosen(names, skip=skip, optional=optional)
    except ValueError as error:
        raise SystemExit(str(error)) from None


def measure(benchmarks: list[Benchmark], options: argparse.Namespace, extra: Sequence[str], *, whole: bool) -> int:
    """Run benchmarks, say how each ended, and return the exit code."""
    from benchmarks.runner import Session  # noqa: PLC0415 - it loads what measures, which `list` and `draw` need not

    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.scratch) as scratch:
        session = Session(options.out, Path(scratch), options.photos, options.large, quick=options.quick)
        outcomes = session.run_all(benchmarks, extra)
        if whole and not any(outcome.failure for outcome in outcomes):
            session.keep_times(outcomes)
    print()
    for outcome in outcomes:
        left = f"  left behind: {', '.join(outcome.left)}" if outcome.left else ""
        print(f"{outcome.name:20} {outcome.seconds:7.1f} s{'  FAILED' if outcome.failure else ''}{left}")
    print(f"{'total':20} {sum(outcome.seconds for outcome in outcomes):7.1f} s")
    for outcome in outcomes:
        if outcome.failure:
            print(f"\n{outcome.name}: {outcome.failure}", file=sys.stderr)
    return int(any(outcome.failure for outcome in outcomes))


def draw(options: argparse.Namespace, _extra: Sequence[str]) -> int:
    """Draw the documents."""
    drawn(options.docs, options.out)
    return 0


def drawn(docs: Path, measured: Path | None) -> None:
    """Draw the documents, and say which."""
    from benchmarks import drawing  # noqa: PLC0415 - matplotlib, which measuring needs not

    for path in drawing.draw(docs, measured):
        print(f"drawn: {path}")


COMMANDS = {"list": show, "all": measure_all, "run": measure_some, "peers": measure_some, "draw": draw}

if __name__ == "__main__":
    sys.exit(main())
