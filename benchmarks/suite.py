"""Which benchmarks there are, how each is called, and about how long it takes.

A benchmark is a script of this folder; the question that it answers is the first line of its text. ``full`` arguments
are chosen so that all of them together end within 20 minutes on two cores, on 143 photos of 500 x 375 pixels.
"""

from __future__ import annotations

import ast
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
LIMIT_TIMES, LIMIT_LEAST_S = 5, 120


@dataclass(frozen=True)
class Benchmark:
    """A script, or several calls of it, whose lines of JSON belong together.

    Attributes:
        name: of the benchmark and of its results.
        calls: one a call: variables of the environment, the script, and its arguments, as one would type them.
            ``{photos}``, ``{large}``, ``{out}`` and ``{scratch}`` stand for folders.
        quick: arguments that are added to each call to make it tiny.
        estimate_s: about how long all calls take on two cores.
        but: in what it differs from another benchmark with the same script; "" where there is none.
        optional: whether it runs only where it is asked for.
    """

    name: str
    calls: tuple[str, ...]
    quick: str
    estimate_s: int
    but: str = ""
    optional: bool = False

    @property
    def limit_s(self) -> int:
        """How long it may take before it is ended: a slow machine's time, and not for ever."""
        return max(self.estimate_s * LIMIT_TIMES, LIMIT_LEAST_S)

    @property
    def question(self) -> str:
        """The question that the script of its first call answers."""
        text = next(part for part in shlex.split(self.calls[0]) if part.endswith(".py"))
        told = ast.get_docstring(ast.parse((FOLDER / text).read_text(encoding="utf-8"))) or ""
        return " ".join(filter(None, [told.partition("\n")[0], self.but]))

    def commands(self, folders: Mapping[str, Path], *, quick: bool) -> list[tuple[dict[str, str], list[str]]]:
        """Return the calls as variables of the environment and arguments of Python, in full paths."""
        commands = []
        for call in self.calls:
            words = shlex.split(f"{call} {self.quick}" if quick else call)
            variables = dict(word.split("=", 1) for word in words[: script_at(words)])
            script, *arguments = words[script_at(words) :]
            filled = [
                argument.format_map({name: str(path) for name, path in folders.items()}) for argument in arguments
            ]
            commands.append((variables, [str(FOLDER / script), *filled]))
        return commands

    def shown(self) -> list[str]:
        """Return the calls as one would type them in the folder of the checkout."""
        lines = []
        for call in self.calls:
            words = call.split()
            at = script_at(words)
            lines.append(" ".join([*words[:at], "python", f"benchmarks/{words[at]}", *words[at + 1 :]]))
        names = {"photos": "PHOTOS", "large": "LARGE", "out": "results", "scratch": "SCRATCH"}
        return [line.format_map(names) for line in lines]


def script_at(words: Sequence[str]) -> int:
    """Return at which word of a call its script stands: after the variables."""
    return next(at for at, word in enumerate(words) if word.endswith(".py"))


BENCHMARKS = (
    Benchmark(
        "headline",
        ("headline.py {photos} --report {out}/memory-report.json",),
        "--count 60 --size 32 --strategy vstack ram npy hdf5",
        140,
    ),
    Benchmark("memory", ("memory.py --ram-count 2000",), "--counts 50,100 --ram-count 60 --size 16", 60),
    Benchmark(
        "build",
        ("build.py {photos} --runs 3 --large {large}",),
        "--size 16 --runs 1 --images 40 --large-images 1 --threads 1,2",
        100,
    ),
    Benchmark("parts", ("parts.py {photos} --runs 3",), "--size 16 --runs 1 --images 40", 12),
    Benchmark(
        "slot_sizes",
        ("slot_sizes.py {photos} --images 300",),
        "--sizes 16,24 --threads 1,2 --images 20 --megabytes 1 --runs 1",
        50,
    ),
    Benchmark(
        "portable",
        ("ARRAYSTORE_PORTABLE=1 slot_sizes.py {photos} --images 300 --only build --sizes 256",),
        "--sizes 16 --threads 1 --images 20 --runs 1",
        10,
        but="And without AVX-512?",
    ),
    Benchmark(
        "portable_augment",
        ("ARRAYSTORE_PORTABLE=1 augment.py --threads 2",),
        "--size 32 --batch 3 --threads 2 --runs 1",
        10,
        but="And without AVX-512?",
    ),
    Benchmark(
        "read",
        ("read.py --rounds 3",),
        "--count 40 --size 16 --batch 16 --rounds 1 --threads 2 --small-count 3000 --opening-count 5000",
        150,
    ),
    Benchmark("augment", ("augment.py",), "--size 32 --batch 3 --threads 1,2 --runs 1", 20),
    Benchmark("epochs", ("epochs.py {photos}",), "--images 40 --size 32 --batch 16 --runs 1", 45),
    Benchmark("scale", ("scale.py",), "--counts 40,80 --size 8 --rows 200,400 --runs 1", 150),
    Benchmark(
        "lock",
        ("lock.py {photos}",),
        "--images 20 --size 256 --slots 64 --batch 16 --threads 1,2 --seconds 0.05 --runs 1",
        70,
    ),
    Benchmark(
        "verify",
        ("verify.py --runs 3", "verify.py --runs 3 --cold"),
        "--sizes 16 4 --megabytes 1 --runs 1",
        45,
    ),
    Benchmark("resume", ("resume.py --runs 3",), "--counts 20,40 --runs 2", 35),
    Benchmark("crash_safety", ("crash_safety.py {photos} --runs 3",), "--size 16 --images 40 --runs 1", 55),
    Benchmark(
        "plan",
        ("plan.py {photos} --images 1000 --runs 3",),
        "--images 30 --sizes 16,24 --workers 1,2 --sample 5 --runs 2",
        30,
    ),
    Benchmark("startup", ("startup.py --runs 5 --first-runs 2",), "--runs 1 --first-runs 1 --cold", 30),
    Benchmark("scan", ("scan.py --count 1000000",), "--count 60 --classes 7 --runs 1", 55),
    Benchmark(
        "peers",
        ("peers/run.py --photos {photos} --images 4000",),
        "--images 20 --size 16 --batch 8 --rounds 1",
        450,
        optional=True,
    ),
)
BY_NAME = {benchmark.name: benchmark for benchmark in BENCHMARKS}


def chosen(names: Iterable[str] = (), *, skip: Iterable[str] = (), optional: Iterable[str] = ()) -> list[Benchmark]:
    """Return benchmarks in their order.

    Args:
        names: of these; none: all that are not optional.
        skip: without these.
        optional: and with these.

    Raises:
        ValueError: there is no benchmark of a name.
    """
    names, skip, optional = list(names), set(skip), set(optional)
    for name in [*names, *skip, *optional]:
        if name not in BY_NAME:
            raise ValueError(f"there is no benchmark {name!r}: there are {', '.join(BY_NAME)}")
    wanted = set(names) or {benchmark.name for benchmark in BENCHMARKS if not benchmark.optional}
    return [benchmark for benchmark in BENCHMARKS if benchmark.name in (wanted | optional) - skip]


def index() -> str:
    """Return all benchmarks as a table of Markdown: question, command, time."""
    rows = ["| question | command | about |", "|---|---|---|"]
    for benchmark in BENCHMARKS:
        commands = "<br>".join(f"`{line}`" for line in benchmark.shown())
        rows.append(f"| {benchmark.question} | {commands} | {benchmark.estimate_s} s |")
    return "\n".join(rows)
