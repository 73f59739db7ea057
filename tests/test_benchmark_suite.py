"""All benchmarks on tiny input in one run, what is drawn from their results, and the runner itself.

No timing is asserted, but what each line of JSON has, and that the documents are what is drawn from their results.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arraystore._sources.demo_photos import write_sample
from arraystore.memory.report import Curve
from benchmarks import drawing, pictures
from benchmarks.results import READINGS, Results, keep, short, thin_curve
from benchmarks.runner import Session
from benchmarks.suite import BENCHMARKS, BY_NAME, Benchmark, chosen, index

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
Lines = list[dict[str, Any]]


# --- all of them -----------------------------------------------------------------------------------------------------


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder with a short path, for what is started here."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.mark.timeout(400)
def test_the_quick_suite_measures_and_draws_everything(tmp_path: Path, temporary: Path) -> None:
    photos, out, docs = tmp_path / "photos", tmp_path / "out", tmp_path / "docs"
    write_sample(photos, count=40)
    shutil.copy(ROOT / "README.md", tmp_path)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "all", "--quick"),
            *("--photos", photos, "--large", photos, "--out", out, "--docs", docs),
        ],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert not done.stderr
    assert "left behind" not in done.stdout
    assert not list(temporary.iterdir())
    names = [benchmark.name for benchmark in chosen()]
    for name in names:
        text = (out / "logs" / f"{name}.txt").read_text(encoding="utf-8")
        lines = [json.loads(line) for line in (out / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        assert "Warning" not in text
        for line in lines:
            assert line["machine"]["versions"]["numpy"] == np.__version__
            assert {"cores", "cpu", "memory_total_bytes", "disk", "kernel", "python", "arraystore", "cache"} <= set(
                line["machine"]
            )
        if name in CHECKS:
            CHECKS[name](text, lines)
    assert [line["name"] for line in Results(out)["suite"]] == names
    assert not list(out.glob("*.partial"))

    # What was drawn is the same each time, from what is kept.
    before = contents(docs) | {"README.md": (tmp_path / "README.md").read_bytes()}
    drawing.draw(docs)
    assert contents(docs) | {"README.md": (tmp_path / "README.md").read_bytes()} == before
    page = (docs / "benchmarks.md").read_text(encoding="utf-8")
    assert not re.search(r"\{[a-z_.]+\}", page)
    for benchmark in BENCHMARKS:
        assert benchmark.question in page
        assert all(line in page for line in benchmark.shown())
    linked = set(
        re.findall(r"\((?:docs/)?pictures/([a-z-]+)\.svg\)", page + (tmp_path / "README.md").read_text("utf-8"))
    )
    assert linked == set(pictures.PICTURES) == {path.stem for path in (docs / "pictures").iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check_headline(text: str, lines: Lines) -> None:
    assert {"list + np.vstack", "arraystore, RAM", "arraystore, .npy"} <= {line["case"] for line in lines}
    assert all(line["outcome"] == "finished" and line["readings"] > 1 for line in lines)
    assert all(line["peak_bytes"]["rss"] >= line["peak_bytes"]["anonymous"] > 0 for line in lines)
    assert "Can the samples be trusted?" in text


def check_memory(text: str, lines: Lines) -> None:
    stores = [(line["medium"], line["images"]) for line in lines]
    assert stores == [("RAM", 60), (".npy", 50), (".npy", 100), (".h5", 50), (".h5", 100)]
    assert all(line["array_bytes"] == line["images"] * 3 * 16 * 16 for line in lines)
    assert all(line["peak_anonymous_bytes"] >= line["array_bytes"] for line in lines)
    assert all(line["peak_file_bytes"] > 0 and line["samples"] > 1 for line in lines)
    assert "another image adds" in text


def check_build(text: str, lines: Lines) -> None:
    builds = [line for line in lines if line["benchmark"] == "build"]
    assert len(builds) == 2 * 7
    assert {line["threads"] for line in builds} == {1, 2}
    assert all(line["images"] == line["photos"] == 40 and len(line["wall_s"]) == 1 for line in builds)
    assert all(line["images_per_s"] > 0 and line["arraystore_is_times_as_fast"] > 0 for line in builds)
    assert {line["case"] for line in lines if line["benchmark"] == "scaling"} == {"floor", "arraystore RAM"}
    large = {line["case"] for line in lines if line["benchmark"] == "build large"}
    assert large == {"arraystore RAM", "arraystore RAM, exact=True", "cv2 INTER_AREA loop"}
    (apart,) = (line for line in lines if line["benchmark"] == "default against exact")
    assert len(apart["mean_absolute"]) == 40
    for said in ("floor", "Pillow BILINEAR loop", "times the floor's time", "warm page cache", "exact=True"):
        assert said in text


def check_parts(text: str, lines: Lines) -> None:
    (line,) = lines
    steps = ["read", "hash of the source", "header", "decode", "resample", "split into planes", "channel sums"]
    steps.append("checksum")
    assert list(line["median_s"]) == steps
    assert list(line["mean_s"])[: len(steps)] == steps
    assert len(line["mean_s"]) == len(steps) + 2
    assert line["build_s"] > 0
    assert "fixed cost" in text


def check_slot_sizes(text: str, lines: Lines) -> None:
    assert [(line["section"], line["size"], line["threads"]) for line in lines if line["section"] == "build"] == [
        ("build", size, threads) for threads, size in product((1, 2), (16, 24))
    ]
    assert [(line["size"], line["threads"]) for line in lines if line["section"] == "read"] == [
        *product((16, 24), (1, 2))
    ]
    assert all(line["bytes_per_s"] == line["images_per_s"] * 3 * line["size"] ** 2 for line in lines)
    assert all(line["takes_times_the_floor"] > 0 and len(line["floor_wall_s"]) == 1 for line in lines)
    assert "memcpy of as many bytes" in text


def check_portable(_text: str, lines: Lines) -> None:
    assert [(line["section"], line["size"], line["threads"]) for line in lines] == [("build", 16, 1)]


def check_augment(text: str, lines: Lines) -> None:
    assert len(lines) == 2 * 12
    assert all(line["images_per_s"] > 0 and line["of_a_copy"] > 0 for line in lines)
    against_pillow = [line for line in lines if line["times_as_fast_as_pillow"] is not None]
    assert {line["batch"] for line in against_pillow} == {"resized crop, flip", "resized crop, flip of NHWC"}
    assert "2 threads, medians of 1 rounds" in text


def check_read(text: str, lines: Lines) -> None:
    sections = list(dict.fromkeys(line["section"] for line in lines))
    assert sections == ["warm", "cold", "augment", "small", "opening", "memory"]
    cases = {section: [line["case"] for line in lines if line["section"] == section] for section in sections}
    assert cases["warm"][:4] == ["arraystore", "memcpy", "np.take, 1 thread", "images[slots], 1 thread"]
    assert cases["cold"][:4] == ["arraystore", "read 1 MiB", "read 64 MiB", "images[slots], 1 thread"]
    for line in lines:
        if "missing" in line:
            assert line["missing"].endswith(" is not installed")
            assert line["missing"] in text
        elif line["section"] in ("warm", "cold"):
            assert line["images_per_s"] > 0
            assert line["bytes_per_image"] == 3 * 16 * 16
            assert len(line["wall_s"]) == len(line["rounds_times_reference"]) == 1
            assert line["case"] != line["reference"] or line["times_reference"] == 1
    assert "in the page cache" in text
    assert {line["case"]: line["bytes_per_image"] for line in lines if line["section"] == "augment"} == {
        "arraystore: crop, flip": 3 * 14 * 14,
        "memcpy of that": 3 * 14 * 14,
        "arraystore: resized crop": 3 * 14 * 14,
        "Pillow: resized crop, 1 thread": 3 * 14 * 14,
        "Pillow: resized crop, 2 threads": 3 * 14 * 14,
        "arraystore: float32": 4 * 3 * 14 * 14,
        "memcpy of floats": 4 * 3 * 14 * 14,
    }
    assert [(line["case"], line["batch"]) for line in lines if line["section"] == "small"] == [
        (f"{name}, batch {batch}", batch) for batch in (256, 1024) for name in ("arraystore", "memcpy", "np.take")
    ]
    (opened,) = (line for line in lines if line["section"] == "opening")
    assert opened["count"] == 5000
    assert opened["median_s"] > 0
    (held,) = (line for line in lines if line["section"] == "memory")
    assert len(held["anonymous_bytes"]) == len(held["buffers"]) == 100
    assert held["buffers"][0] >= 1
    assert "more than after the import" in text


def check_verify(text: str, lines: Lines) -> None:
    half = len(lines) // 2
    assert [line["cold"] for line in lines] == sorted(line["cold"] for line in lines)
    for cold in (False, True):
        of = [line for line in lines if line["cold"] is cold]
        assert [line["size"] for line in of] == [16] * (len(of) // 2) + [4] * (len(of) // 2)
        assert {"plain read", "verify, 1 thread"} <= {line["case"] for line in of}
    assert half
    assert all(line["slots"] == 1_000_000 // (3 * line["size"] ** 2) and line["gb_per_s"][0] > 0 for line in lines)
    assert "times a plain read" in text


def check_resume(text: str, lines: Lines) -> None:
    assert [line["slots"] for line in lines] == [20, 40]
    assert all(len(line["decide_s"]) == 2 and min(line["decide_s"]) > 0 for line in lines)
    assert "nothing left to fill" in text


def check_crash_safety(text: str, lines: Lines) -> None:
    assert [line["case"] for line in lines] == ["safe, as it is", "one claim at the end", "no fsync at all"]
    assert all(line["images"] == 40 and len(line["wall_s"]) == 1 for line in lines)
    assert lines[0]["safe_takes_times"] == [1.0]
    assert "the safe one takes" in text


def check_plan(text: str, lines: Lines) -> None:
    assert [(line["size"], line["workers"]) for line in lines] == [(16, 1), (16, 2), (24, 1), (24, 2)]
    assert all(line["images"] == 30 and len(line["ratios"]) == len(line["build_s"]) == 2 for line in lines)
    assert all(min(line["ratios"]) > 0 for line in lines)
    assert "30 images, 5 sampled" in text


def check_startup(text: str, lines: Lines) -> None:
    *timed, modules = lines
    assert [line["case"] for line in timed][:3] == ["python, nothing imported", "import numpy", "import arraystore"]
    assert all(line["median_s"] > 0 for line in timed)
    assert modules["modules"] == []
    assert "numba's cache empty" in text


def check_scan(text: str, lines: Lines) -> None:
    assert [line["case"] for line in lines] == ["os.walk", "Manifest.from_folder"]
    assert all(line["files"] == 60 and line["classes"] == 7 and len(line["rounds"]) == 1 for line in lines)
    assert all(line["rounds"][0]["peak"] >= line["rounds"][0]["before"] for line in lines)
    assert "60 files in 7 folders" in text


CHECKS: dict[str, Callable[[str, Lines], None]] = {
    "headline": check_headline,
    "memory": check_memory,
    "build": check_build,
    "parts": check_parts,
    "slot_sizes": check_slot_sizes,
    "portable": check_portable,
    "read": check_read,
    "augment": check_augment,
    "verify": check_verify,
    "resume": check_resume,
    "crash_safety": check_crash_safety,
    "plan": check_plan,
    "startup": check_startup,
    "scan": check_scan,
}


# --- the documents ---------------------------------------------------------------------------------------------------


def test_the_documents_are_what_is_drawn_from_their_results(tmp_path: Path) -> None:
    shutil.copytree(DOCS / "results", tmp_path / "docs" / "results")
    shutil.copy(ROOT / "README.md", tmp_path)
    drawn = drawing.draw(tmp_path / "docs")
    for path in drawn:
        kept = ROOT / path.relative_to(tmp_path)
        assert path.read_text("utf-8") == kept.read_text("utf-8"), "draw it again: python -m benchmarks draw"
    # Another matplotlib may lay out or round otherwise; what a picture says it must say with any.
    same = f"matplotlib {mpl.__version__}<" in (DOCS / "pictures" / "reading.svg").read_text("utf-8")
    for path in sorted((tmp_path / "docs" / "pictures").iterdir()):
        now, then = path.read_text("utf-8"), (DOCS / "pictures" / path.name).read_text("utf-8")
        said = re.compile(r"<text[^>]*>([^<]*)</text>")
        assert said.findall(now) == said.findall(then), f"{path.name}: draw it again: python -m benchmarks draw"
        assert now == then or not same, f"{path.name}: draw it again: python -m benchmarks draw"


def test_the_results_that_are_kept_are_small_and_name_no_folder() -> None:
    kept = sorted((DOCS / "results").iterdir())
    assert {path.stem for path in kept} >= {benchmark.name for benchmark in chosen()}
    assert sum(path.stat().st_size for path in kept) < 300_000
    for path in kept:
        assert not re.search(r'"/(tmp|home|root|work|mnt|var)/', path.read_text("utf-8")), path.name


@pytest.mark.parametrize("name", ["readme.md", "benchmarks.md"])
def test_no_template_has_a_figure_of_its_own(name: str) -> None:
    text = (drawing.TEMPLATES / name).read_text(encoding="utf-8")
    # Names, code, and what only looks like a figure: a processor's instructions, a type, a number of channels.
    text = re.sub(r"\{[^}]*\}|`[^`]*`|<!--.*?-->|AVX-512|HDF5|float32|3×", "", text, flags=re.DOTALL)
    assert not re.findall(r".*\d.*", text)


def test_the_index_has_every_benchmark() -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert text.endswith(f"\n{index()}\n"), "put in it what  python -m benchmarks list  prints"


def test_everything_ends_within_twenty_minutes() -> None:
    assert sum(benchmark.estimate_s for benchmark in chosen()) <= 20 * 60
    assert all(benchmark.limit_s > benchmark.estimate_s for benchmark in BENCHMARKS)


def test_an_unknown_name_in_a_template_is_said(tmp_path: Path) -> None:
    template = tmp_path / "some.md"
    template.write_text("It takes {build.nothing} s.")
    with pytest.raises(SystemExit, match=r"some\.md: there is nothing called 'build\.nothing'"):
        drawing.filled(template, {"build.rate": "3"})


def test_a_template_is_filled_and_wrapped(tmp_path: Path) -> None:
    template = tmp_path / "some.md"
    template.write_text("# It {a.b}\n\n{word} and\n`code {word} here`.\n\n| {word} |\n")
    words = {"a.b": "works", "word": "long " * 30 + "end"}
    heading, prose, table = drawing.filled(template, words).split("\n\n")
    assert heading == "# It works"
    assert max(map(len, prose.splitlines()[:-1])) <= drawing.WIDTH
    assert prose.splitlines()[-1] == f"`code {words['word']} here`."
    assert table == f"| {words['word']} |\n"


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    text = f"before\n{drawing.BEGIN}\nold\n{drawing.END}\nafter\n"
    once = drawing.between_marks(text, "new\n", "README.md")
    assert once == f"before\n{drawing.BEGIN}\n\nnew\n\n{drawing.END}\nafter\n"
    assert drawing.between_marks(once, "new\n", "README.md") == once
    with pytest.raises(SystemExit, match=r"README\.md: the lines <!-- figures: begin --> and .* were expected"):
        drawing.between_marks("no marks\n", "new\n", "README.md")


# --- results ---------------------------------------------------------------------------------------------------------


def test_results_that_are_missing_are_named_with_their_command(tmp_path: Path) -> None:
    results = Results(tmp_path)
    with pytest.raises(
        SystemExit, match=r"build\.jsonl: there are no such results; .* benchmarks run build --photos DIR"
    ):
        results["build"]
    with pytest.raises(SystemExit, match=r"memory-report\.json: .* benchmarks run headline --photos DIR"):
        results.report()
    (tmp_path / "scan.jsonl").write_text('{"case": "a"}\n{"case": "a"}\n')
    with pytest.raises(SystemExit, match=r"scan\.jsonl: one line with case='a' was expected, there are 2"):
        results.one("scan", case="a")
    assert list(results.by_name()) == ["scan"]


def test_results_are_kept_with_few_digits_and_the_others_stay(tmp_path: Path) -> None:
    measured, kept = tmp_path / "measured", tmp_path / "kept"
    measured.mkdir()
    kept.mkdir()
    (kept / "scan.jsonl").write_text('{"case": "old"}\n')
    machines = [{"cores": 2}, {"cores": 2}, {"cores": 3}]
    lines = [{"rate": 123.456789123, "count": 123456789, "none": None, "machine": machine} for machine in machines]
    (measured / "build.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    keep(measured, kept)
    line = {"rate": 123.457, "count": 123456789, "none": None}
    assert Results(kept)["build"] == [{**line, "machine": {"cores": 2}}, line, {**line, "machine": {"cores": 3}}]
    assert Results(kept)["scan"] == [{"case": "old"}]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_nearly_what_it_was(number: float) -> None:
    assert short(repr(number)) == pytest.approx(number, rel=1e-5)


@given(st.lists(st.integers(0, 1 << 40), max_size=2000))
def test_a_thin_curve_keeps_its_peak_and_its_beginning(readings: list[int]) -> None:
    columns = {name: tuple(readings) for name in ("anonymous", "file", "shmem", "pss", "rss")}
    curve = Curve(seconds=tuple(0.01 * at for at in range(len(readings))), **columns)
    thin = thin_curve(curve)
    assert len(thin.seconds) == len(thin.anonymous) == len(thin.rss) <= READINGS
    assert max(thin.anonymous, default=0) == max(readings, default=0)
    assert thin.seconds[:1] == curve.seconds[:1]
    assert thin == curve or len(readings) > READINGS


# --- the runner ------------------------------------------------------------------------------------------------------


def script_of(tmp_path: Path, body: str) -> Benchmark:
    """A benchmark that does this; FOLDER is where it may say that it runs, JSON where its lines go."""
    path = tmp_path / "script.py"
    path.write_text(
        '"""Does it work?"""\n'
        "import os, signal, subprocess, sys, time\nfrom pathlib import Path\n"
        f"FOLDER, JSON = Path({str(tmp_path)!r}), Path(sys.argv[sys.argv.index('--json') + 1])\n{body}\n"
    )
    return Benchmark("script", (f"MODE=a {path} --one", f"{path} --two"), "--quickly", 10)


@pytest.fixture
def session(tmp_path: Path, temporary: Path) -> Session:
    photos = tmp_path / "photos"
    write_sample(photos, count=1)
    return Session(tmp_path / "out", temporary, photos, photos, quick=True)


def test_a_scratch_folder_with_a_long_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="this path is too long; pass --scratch with one of 38 bytes at most"):
        Session(tmp_path, tmp_path / ("long" * 20), None, None, quick=True)


def test_results_are_those_of_all_calls_and_replace_the_old(tmp_path: Path, session: Session, temporary: Path) -> None:
    benchmark = script_of(
        tmp_path,
        'said = " ".join([*sys.argv[1:3], os.environ.get("MODE", "")])\n'
        'with JSON.open("a") as file: file.write(\'{"said": "\' + said + \'"}\\n\')\n'
        'print("in", os.environ["TMPDIR"])\n(Path(os.environ["TMPDIR"]) / "rest").touch()',
    )
    assert benchmark.question == "Does it work?"
    for _ in range(2):
        outcome = session.run(benchmark)
        assert not outcome.failure
        assert outcome.left == ("rest",)
        lines = (tmp_path / "out" / "script.jsonl").read_text().splitlines()
        assert [json.loads(line)["said"] for line in lines] == ["--one --quickly a", "--two --quickly "]
    assert (tmp_path / "out" / "logs" / "script.txt").read_text().count(f"in {temporary / 'script'}") == 2
    assert not list(temporary.iterdir())


def test_a_failure_is_told_with_the_end_of_its_log_and_keeps_the_old_results(tmp_path: Path, session: Session) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "script.jsonl").write_text("old\n")
    outcome = session.run(script_of(tmp_path, 'JSON.write_text("{}\\n")\nprint("as far as this")\nsys.exit(3)'))
    log = tmp_path / "out" / "logs" / "script.txt"
    assert outcome.failure == f"it failed with exit code 3; the end of {log}:\nas far as this"
    assert (tmp_path / "out" / "script.jsonl").read_text() == "old\n"
    outcome = session.run(script_of(tmp_path, "pass"))
    assert outcome.failure == f"it succeeded, and wrote no results; the end of {log}:"


HANG = (
    'subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])\n'
    '(FOLDER / "pids").write_text(f"{os.getpid()}")\nprint("begun", flush=True)\ntime.sleep(60)'
)


def test_one_that_takes_too_long_is_ended_with_all_that_it_started(
    tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Benchmark, "limit_s", 1.0)
    start = time.monotonic()
    outcome = session.run(script_of(tmp_path, HANG))
    assert time.monotonic() - start < 30
    assert outcome.failure.startswith("it was ended, because it took longer than it may; the end of ")
    assert outcome.failure.endswith("\nbegun")
    assert_ended(int((tmp_path / "pids").read_text()))


def test_ctrl_c_ends_what_runs_and_leaves_nothing(tmp_path: Path, temporary: Path) -> None:
    photos = tmp_path / "photos"
    write_sample(photos, count=1)
    script_of(tmp_path, HANG)
    code = (
        "import sys, runpy\nfrom benchmarks import suite\n"
        f"suite.BY_NAME['scan'] = suite.Benchmark('scan', ({str(tmp_path / 'script.py')!r},), '', 10)\n"
        "suite.BENCHMARKS = tuple(suite.BY_NAME.values())\n"
        f"sys.argv = ['benchmarks', 'run', 'scan', '--photos', {str(photos)!r}, '--large', {str(photos)!r},"
        f" '--out', {str(tmp_path / 'out')!r}]\n"
        "runpy.run_module('benchmarks', run_name='__main__')\n"
    )
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told == "\ninterrupted: what has finished is in the folder of results\n"
    assert_ended(int((tmp_path / "pids").read_text()))
    assert not list(temporary.iterdir())
    assert not list((tmp_path / "out").glob("*.jsonl"))


def assert_ended(group: int) -> None:
    """No process of a group lives on; one that has been killed may take a moment to go."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError(f"the processes of group {group} live on")


# --- the suite -------------------------------------------------------------------------------------------------------


def test_benchmarks_are_chosen_by_name() -> None:
    assert BY_NAME["peers"] not in chosen()
    assert chosen(optional=["peers"]) == list(BENCHMARKS)
    assert [benchmark.name for benchmark in chosen(["read", "build"])] == ["build", "read"]
    assert [benchmark.name for benchmark in chosen(["read", "build"], skip=["read"])] == ["build"]
    with pytest.raises(ValueError, match="there is no benchmark 'reed': there are headline, memory, build"):
        chosen(["reed"])


def test_commands_are_shown_as_they_are_typed_and_run_in_full(tmp_path: Path) -> None:
    benchmark = BY_NAME["portable"]
    assert benchmark.shown() == [
        "ARRAYSTORE_PORTABLE=1 python benchmarks/slot_sizes.py PHOTOS --images 300 --only build --sizes 256"
    ]
    folders = {name: tmp_path / f"{name} of mine" for name in ("photos", "large", "out", "scratch")}
    ((variables, (script, *arguments)),) = benchmark.commands(folders, quick=False)
    assert variables == {"ARRAYSTORE_PORTABLE": "1"}
    assert script == str(ROOT / "benchmarks" / "slot_sizes.py")
    assert arguments[0] == str(tmp_path / "photos of mine")


def test_the_command_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "run", "reed", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("there is no benchmark 'reed': there are headline, ")
    assert not list(tmp_path.iterdir())
