"""The runner of the peers, with peers that work, hang, fail, or are not there; and the form of the real ones."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import images
import pytest
import simplejpeg

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "benchmarks" / "peers"
ADAPTERS = sorted(PEERS.glob("adapters/[!_]*.py"))
COUNT, SIZE = 10, 16

WORKS = '''
"""Works: as it should."""
import tempfile
from pathlib import Path
import numpy as np
from pixels import planes

def build(photos, labels, folder, size, workers):
    print("what a peer prints does not matter")
    np.save(folder / "images.npy", np.stack([planes(path, size) for path in photos]))
    Path(tempfile.gettempdir(), "left behind").write_text("so be it")

def read(folder, batch, workers, epoch):
    images = np.load(folder / "images.npy")
    order = np.random.default_rng(epoch).permutation(len(images))
    for start in range(0, len(order), batch):
        yield images[order[start : start + batch]], order[start : start + batch]
'''
TWICE = WORKS.replace("Works: as it should.", "Twice: one image is another's.").replace(
    "permutation(len(images))", "permutation(len(images)) // 2 * 2"
)
OTHERS = WORKS.replace("Works: as it should.", "Others: labels are not theirs.").replace(
    ", order[start : start + batch]\n", ", (order[start : start + batch] + 1) % len(order)\n"
)
WIPES = '''
"""Wipes: empties the temporary directory."""
import os, shutil, tempfile
from pathlib import Path
from .works import build as built, read

def build(*arguments):
    data = Path(tempfile.gettempdir(), "data")
    data.mkdir(exist_ok=True)
    shutil.rmtree(data)
    shutil.rmtree(Path.home() / "data", ignore_errors=True)
    built(*arguments)
'''
ABSENT = '"""Absent: needs what nobody has."""\nimport a_package_that_nobody_has\n'
BROKEN = '"""Broken: cannot be imported."""\nraise RuntimeError("a library is\\nnot there")\n'
DIES = '''
"""Dies: in its build."""
import os, sys

def build(*_):
    print("its last words", file=sys.stderr, flush=True)
    os._exit(3)
'''
HANGS = '''
"""Hangs: and so does its worker."""
import os, subprocess, sys, time
from pathlib import Path

def build(photos, labels, folder, size, workers):
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    Path(os.environ["SAY"]).write_text(f"{os.getpid()} {worker.pid}")
    time.sleep(600)
'''
FAKES = {"works": WORKS, "twice": TWICE, "others": OTHERS, "wipes": WIPES, "absent": ABSENT, "broken": BROKEN}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(COUNT):
        # Not smooth alone: the levels differ, so that no image can be taken for another.
        pixels = images.photo(24, 36, seed=i) // 4 + 19 * i
        (folder / f"{i}.jpg").write_bytes(simplejpeg.encode_jpeg(pixels, quality=95))
    return folder


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder with a short name, for the sockets of workers; empty at the end."""
    with tempfile.TemporaryDirectory(prefix="p") as name:
        yield Path(name)
        assert not list(Path(name).iterdir()), "it left files behind"


def run(tmp_path: Path, photos: Path, *arguments: str, **variables: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """Run the peers as a user would, and return what was printed and the rows by peer."""
    results = tmp_path / "lines.jsonl"
    few = ("--images", str(COUNT), "--size", str(SIZE), "--batch", "4", "--rounds", "1", "--seconds", "0")
    command = [sys.executable, str(PEERS / "run.py"), "--photos", str(photos), *few, "--json", str(results), *arguments]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert all(line["benchmark"] == "peers" and line["images"] == COUNT for line in lines)
    assert all({"cores", "cpu", "versions", "cache"} <= line["machine"].keys() for line in lines)
    return done.stdout, {line["peer"]: line for line in lines}


def lives(process: int) -> bool:
    """Whether a process is there and not only waits to be collected."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def write_fakes(folder: Path, fakes: dict[str, str]) -> Path:
    (folder / "fakes").mkdir()
    for name, text in fakes.items():
        (folder / "fakes" / f"{name}.py").write_text(text.lstrip())
    return folder / "fakes"


def test_peers_that_work_and_peers_that_do_not(tmp_path: Path, photos: Path, temporary: Path) -> None:
    fakes = write_fakes(tmp_path, {**FAKES, "dies": DIES})
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "works.txt").write_text("numpy>=1 # its version is told\n")
    kept = temporary / "data" / "of somebody else"
    kept.parent.mkdir()
    kept.write_text("still here")
    text, rows = run(tmp_path, photos, "--adapters", str(fakes), TMPDIR=str(temporary))
    assert list(rows) == ["arraystore", "absent", "broken", "dies", "others", "twice", "wipes", "works"]
    assert kept.read_text() == "still here"
    shutil.rmtree(kept.parent)

    works = rows["works"]
    assert works["title"] == "Works"
    assert works["version"] == importlib.import_module("numpy").__version__
    assert works["outcome"] == rows["wipes"]["outcome"] == "ok"
    assert works["once"]
    assert works["mean_difference"] == works["worst_difference"] == 0
    assert works["dtype"] == "uint8"
    assert works["shape"] == [3, SIZE, SIZE]
    assert works["disk_bytes"] >= works["raw_bytes"] == COUNT * 3 * SIZE**2
    assert len(works["rounds_images_per_s"]) == len(works["rounds_times_arraystore"]) == 1
    assert works["times_arraystore"] == works["rounds_times_arraystore"][0] > 0
    for figure in (
        "import_s",
        "build_s",
        "build_images_per_s",
        "first_epoch_s",
        "images_per_s",
        "build_times_arraystore",
    ):
        assert works[figure] > 0
    assert works["build_peak_bytes"] > 1 << 20
    assert works["read_peak_bytes"] > 1 << 20

    others = {name: (rows[name]["outcome"], rows[name]["why"]) for name in ("absent", "broken", "dies", "twice")}
    needed = tmp_path / "requirements" / "absent.txt"
    assert others == {
        "absent": ("missing", f"not installed: pip install -r {needed}"),
        "broken": ("failed", "load: RuntimeError: a library is not there"),
        "dies": ("failed", "build: the process died: its last words"),
        "twice": ("wrong", "not every image came once: 5 never came, 5 came again, 0 do not exist"),
    }
    assert rows["others"]["outcome"] == "wrong"
    assert re.fullmatch(
        r"slot \d is not its photograph: its pixels are \d+ gray levels from Pillow's on average", rows["others"]["why"]
    )
    for name, (outcome, why) in others.items():
        assert f"{name.capitalize()}: {outcome}: {why}" in text
    assert "Reading them, shuffled, in batches of 4" in text


def test_a_peer_that_hangs_is_killed_in_time_with_its_workers(tmp_path: Path, photos: Path, temporary: Path) -> None:
    fakes, say = write_fakes(tmp_path, {"hangs": HANGS}), tmp_path / "say"
    _, rows = run(tmp_path, photos, "--adapters", str(fakes), "--timeout", "3", SAY=str(say), TMPDIR=str(temporary))
    assert rows["hangs"]["outcome"] == "failed"
    assert rows["hangs"]["why"] == "build: killed, because it was not done after 3 s"
    assert rows["arraystore"]["outcome"] == "ok"
    for process in map(int, say.read_text().split()):
        assert not lives(process)


def test_a_peer_ends_by_itself_if_nobody_can_kill_it(tmp_path: Path) -> None:
    fakes = write_fakes(tmp_path, {"sleeps": "import time\ntime.sleep(60)\n"})
    command = [sys.executable, str(PEERS / "child.py"), str(fakes), "sleeps", "1"]
    asked = json.dumps({"step": "load", "package": "none"}) + "\n"
    start = time.monotonic()
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGALRM
    assert time.monotonic() - start < 30


def test_the_references_really_run(tmp_path: Path, photos: Path, temporary: Path) -> None:
    text, rows = run(tmp_path, photos, "--only", "memmap,arraystore", "--scratch", str(temporary))
    assert list(rows) == ["arraystore", "memmap"]
    for row in rows.values():
        assert (row["outcome"], row["why"], row["once"]) == ("ok", "", True)
        assert row["worst_difference"] < 1
        assert row["shape"] == [3, SIZE, SIZE]
        assert row["images_per_s"] > 0
    assert rows["arraystore"]["times_arraystore"] == rows["arraystore"]["build_times_arraystore"] == 1
    assert "np.memmap by hand" in text


def test_a_peer_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(PEERS / "run.py"), "--photos", str(tmp_path), "--only", "arraystore,nobody"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no peer 'nobody': there are arraystore, dali, ffcv, grain" in done.stderr


def test_a_path_that_is_too_long_for_sockets_is_refused(tmp_path: Path, photos: Path) -> None:
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    command = [sys.executable, str(PEERS / "run.py"), "--photos", str(photos), "--scratch", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{folder}: sockets under this folder would have names of ")
    assert done.stderr.endswith("107 are allowed: pass --scratch with a folder that has a shorter path\n")


# --- the real ones ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda path: path.stem)
def test_an_adapter_has_its_two_functions_a_name_and_requirements(adapter: Path, venvs: ModuleType) -> None:
    text = adapter.read_text(encoding="utf-8")
    compile(text, str(adapter), "exec")
    tree = ast.parse(text)
    name, colon, rest = (ast.get_docstring(tree) or "").partition(": ")
    assert name
    assert colon
    assert rest.endswith(".")
    assert len(name) < 50
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    for wanted, arguments in (
        ("build", ["photos", "labels", "folder", "size", "workers"]),
        ("read", ["folder", "batch", "workers", "epoch"]),
    ):
        if wanted in functions:
            assert [argument.arg for argument in functions[wanted].args.args] == arguments
        else:
            assert wanted in imported
    if adapter.stem != "arraystore":
        requirements = PEERS / "requirements" / f"{adapter.stem}.txt"
        lines = [line.partition("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines()]
        assert all(re.fullmatch(r"[a-z0-9-]+(==|>=)[0-9]+(\.[0-9]+)*", line) for line in lines)
        assert venvs.packages(requirements) == [re.split("[=>]", line)[0] for line in lines]
        assert "pillow" in venvs.packages(requirements)


def test_there_are_no_requirements_without_an_adapter() -> None:
    files = {path.stem for path in PEERS.glob("requirements/*")}
    assert files == {path.stem for path in ADAPTERS} - {"arraystore"}


# --- environments ----------------------------------------------------------------------------------------------------


@pytest.fixture
def venvs(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(PEERS))
    yield importlib.import_module("venvs")
    for name in ("venvs", "process"):
        del sys.modules[name]


def test_an_environment_is_made_once_for_the_same_requirements(
    tmp_path: Path, venvs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def made(command: list[str]) -> None:
        commands.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(venvs, "run", made)
    requirements = tmp_path / "peer.txt"
    requirements.write_text("peer==1\n")
    python = str(tmp_path / "venvs" / "peer" / "bin" / "python")
    assert venvs.interpreter("peer", requirements, tmp_path / "venvs", install=False) == sys.executable
    assert not commands
    for _ in range(2):
        assert venvs.interpreter("peer", requirements, tmp_path / "venvs", install=True) == python
    assert [command[:3] for command in commands] == [[sys.executable, "-m", "venv"], [python, "-m", "pip"]]
    assert commands[1][-2:] == ["-r", str(requirements)]
    requirements.write_text("peer==2\n")
    assert venvs.interpreter("peer", requirements, tmp_path / "venvs", install=True) == python
    assert len(commands) == 4
    assert venvs.interpreter("peer", tmp_path / "none.txt", tmp_path / "venvs", install=True) == sys.executable


PIP = """\
  error: subprocess-exited-with-error
  × Getting requirements to build wheel did not run successfully.
  ╰─> [28 lines of output]
        File "<string>", line 95, in <module>
      RuntimeError: Could not find required package: opencv.
      [end of output]
  note: This error originates from a subprocess, and is likely not a problem with pip.
"""
UNKNOWN = """\
ERROR: Could not find a version that satisfies the requirement nothing==9 (from versions: none)
ERROR: No matching distribution found for nothing==9
"""


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (PIP, "RuntimeError: Could not find required package: opencv."),
        (UNKNOWN, "Could not find a version that satisfies the requirement nothing==9 (from versions: none)"),
        ("something else\n\n", "something else"),
        ("", "pip said nothing"),
    ],
)
def test_what_cannot_be_installed_says_why(venvs: ModuleType, said: str, why: str) -> None:
    script = f"import sys; sys.stderr.write({said!r}); sys.exit(1)"
    with pytest.raises(venvs.PeerError) as caught:
        venvs.run([sys.executable, "-c", script])
    assert str(caught.value) == f"could not be installed: {why}"


def test_pip_has_a_time_limit(venvs: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venvs, "INSTALL_S", 0.2)
    start = time.monotonic()
    with pytest.raises(venvs.PeerError, match="could not be installed: pip was not done after"):
        venvs.run([sys.executable, "-c", "import time; time.sleep(60)"])
    assert time.monotonic() - start < 30
