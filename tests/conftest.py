from __future__ import annotations

import importlib
import pkgutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import settings
from support import disk, images
from support.nursery import Nursery
from support.warm_workers import WarmPopen

from arraystore import _kernels
from arraystore._common.limits import usable_cpus

# A shell lets what it starts in the background ignore Ctrl-C, nohup the end of the terminal, and their children too.
# The tests send these signals to children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

disk.skip_syncs()

# No deadline: the first example of a test may load a decoder. No database: an earlier run would choose the examples.
settings.register_profile("tests", deadline=None, database=None)
settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    """Compile each kernel once, and not in each of several processes at the same time."""
    if not hasattr(config, "workerinput") and getattr(config.option, "numprocesses", None):
        kernels = [module.name for module in pkgutil.walk_packages(_kernels.__path__, f"{_kernels.__name__}.")]
        with ProcessPoolExecutor(usable_cpus(), get_context("fork")) as processes:
            list(processes.map(_compile, ["arraystore._decoding.decode", *kernels]))


def _compile(module: str) -> None:
    importlib.import_module(module)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests of a device where there is none."""
    wanting = [item for item in items if item.path.name == "test_torch_cuda.py"]
    if wanting:
        import torch

        if not torch.cuda.is_available():
            items[:] = [item for item in items if item not in wanting]
            config.hook.pytest_deselected(items=wanting)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 19 good images in three classes; tests only read it."""
    return images.write_tree(tmp_path_factory.mktemp("photos"), {"ash": 8, "größe 日本": 5, "oak": 6})


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder of this test's own: 12 images in two classes, of which slots 2, 3, 7 and 11 are bad."""
    folder = images.write_tree(tmp_path / "mixed", {"a": 6, "b": 6})
    files = sorted(folder.rglob("*.*"))
    files[2].write_bytes(b"this is no image")
    files[3].write_bytes(b"")
    files[7].write_bytes(files[7].read_bytes()[:-60])
    files[11].write_bytes(images.bomb())
    return folder


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """A process that forks builds."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def torch_nursery() -> Iterator[Nursery]:
    """A nursery that has imported PyTorch too, which takes a new interpreter seconds.

    For ranks and for processes that fork: it has one thread and has computed nothing, unlike the process of the tests.
    """
    nursery = Nursery(modules=["torch", "torch.distributed"], OMP_NUM_THREADS="1")
    yield nursery
    nursery.close()


@pytest.fixture(autouse=True)
def warm(request: pytest.FixtureRequest) -> Iterator[None]:
    """Worker processes of builds are forks that have all loaded, but for tests that are marked ``cold``.

    It has a patch of its own, so that those of a test end before other fixtures look at what is left.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("cold") is None:
            patch.setattr(subprocess, "Popen", WarmPopen)
        yield
