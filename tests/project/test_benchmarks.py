"""Every benchmark runs on tiny input, as a user runs it, and its results can be drawn; the documents are drawn ones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import print_to, printed
from support.nursery import Nursery

from arraystore._sources.demo_photos import write_sample
from benchmarks import draw
from benchmarks.__main__ import main
from benchmarks.common import Rows
from benchmarks.registry import NAMES, index, load

ROOT = Path(__file__).resolve().parents[2]
PEERS = {
    "works": '''
"""Works: as it should."""
import numpy as np
from pixels import planes
def build(photos, labels, folder, size, workers):
    np.save(folder / "images.npy", np.stack([planes(path, size) for path in photos]))
def reader(folder, batch, workers):
    images = np.load(folder / "images.npy")
    return lambda epoch: [(images[[i]], [i]) for i in range(len(images))]
''',
    "wrong": '"""Wrong: misses one."""\nfrom . import works\nbuild = works.build\n'
    "def reader(*about):\n    return lambda epoch: works.reader(*about)(epoch)[1:]\n",
    "absent": "import a_package_that_nobody_has\n",
    "dies": 'import os\ndef build(*_):\n    os.write(2, b"its last words")\n    os._exit(3)\n',
    "hangs": "import time\ndef build(*_):\n    time.sleep(600)\n",
}


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks") / "photos"
    write_sample(folder, count=20)
    return folder


@pytest.fixture(scope="module")
def loaded() -> Iterator[Nursery]:
    """A process that has loaded what most benchmarks need."""
    nursery = Nursery(modules=["PIL.Image", "benchmarks.__main__", "benchmarks.common", "benchmarks.processes"])
    yield nursery
    nursery.close()


class Runner:
    """Runs benchmarks, each in a process of its own, and returns their rows."""

    def __init__(self, nursery: Nursery, folder: Path, photos: Path) -> None:
        self.nursery, self.folder, self.photos = nursery, folder, photos

    def __call__(self, name: str, *arguments: str) -> Rows:
        folders = ["--photos", str(self.photos), "--large", str(self.photos), "--out", "out"]
        words = [name, "--quick", *folders, *arguments]
        if hasattr(load(name), "VARIABLES"):  # they are read when modules are loaded
            done = self.command(words)
        else:
            done = printed(words, self.nursery.run(measure, words, self.folder), self.folder)
        assert done.returncode == 0, done.stderr
        header, rows = draw.read_results(self.folder / "out", name)
        assert header["machine"]["versions"]["numpy"]
        return rows

    def command(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        command = [sys.executable, "-m", "benchmarks", *words]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)


def measure(words: list[str], folder: Path) -> int:
    """What ``python -m benchmarks`` does, in a fork."""
    print_to(folder)
    os.chdir(folder)
    sys.argv = ["benchmarks", *words]
    try:
        main()
    except BaseException:  # printed, as an interpreter does
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


@pytest.fixture
def run(tmp_path: Path, loaded: Nursery, photos: Path) -> Runner:
    return Runner(loaded, tmp_path, photos)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_measures_on_tiny_input_and_gives_its_figures(run: Runner, name: str) -> None:
    rows = run(name)
    tables = load(name).tables(rows)
    assert all(len(table) > 1 and len({len(line) for line in table}) == 1 for table in tables.values())
    _, kept = draw.read_results(ROOT / "docs" / "results", name)
    assert tables.keys() == load(name).tables(kept).keys()
    if hasattr(load(name), "figures"):
        assert load(name).figures(rows).keys() == load(name).figures(kept).keys()


@pytest.mark.timeout(600)
def test_peers_that_work_and_peers_that_do_not(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "fakes").mkdir()
    for name, text in PEERS.items():
        (tmp_path / "fakes" / f"{name}.py").write_text(text.lstrip())
    arguments = ("--adapters", str(tmp_path / "fakes"), "--only")
    rows = run("peers", *arguments, "works,wrong,absent,dies")
    said = {row["title"]: row["why"] for row in rows}
    assert said.pop("arraystore") == said.pop("Works") == ""
    assert re.fullmatch(r"not every image came once: 1 never came, and \d+ came in all", said.pop("Wrong"))
    assert said == {
        "absent": "load: ModuleNotFoundError: No module named 'a_package_that_nobody_has'",
        "dies": "build: the process died: its last words",
    }
    hangs = run("peers", *arguments, "hangs", "--timeout-s", "2").one(title="hangs")
    assert hangs["why"].endswith(": killed, because it was not done after 2 s")
    assert rows.one(title="Works")["mean_difference"] == 0


def test_the_documents_are_what_is_drawn_from_their_results(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs" / "results", tmp_path / "docs" / "results")
    shutil.copy(ROOT / "README.md", tmp_path)
    draw.draw(tmp_path / "docs")
    for path in (tmp_path / "README.md", *tmp_path.glob("docs/*.md")):
        assert path.read_text("utf-8") == (ROOT / path.relative_to(tmp_path)).read_text("utf-8"), "draw it again"
    assert (ROOT / "benchmarks" / "README.md").read_text("utf-8").endswith(f"\n{index()}\n"), (
        "put in it what list prints"
    )
    for path in (ROOT / "docs" / "results").iterdir():
        assert not re.search(r'"/(tmp|home|root|work|mnt|var)/', path.read_text("utf-8")), path.name


@pytest.mark.parametrize("name", ["readme.md", "benchmarks.md"])
def test_no_template_has_a_figure_of_its_own(name: str) -> None:
    text = (draw.TEMPLATES / name).read_text("utf-8")
    # Names, code, and what only looks like a figure: a processor's instructions, a type, a number of channels.
    assert not re.findall(
        r".*\d.*", re.sub(r"\{[^}]*\}|`[^`]*`|<!--.*?-->|AVX-512|HDF5|float32|3×", "", text, flags=re.DOTALL)
    )
