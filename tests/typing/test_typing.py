"""Type checkers accept the user scripts of this folder, and find the mistakes that are marked in them."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(str(path) for path in Path(__file__).parent.glob("[!t]*.py"))
CHECKERS = {
    "mypy": ["--strict", "--config-file", str(ROOT / "pyproject.toml")],
    "pyright": ["--pythonpath", sys.executable],
}


@pytest.mark.timeout(900)  # without a cache, mypy reads all of PyTorch
@pytest.mark.parametrize("checker", [name for name in CHECKERS if find_spec(name)])
def test_user_scripts_are_well_typed(checker: str) -> None:
    assert len(SCRIPTS) == 3
    command = [sys.executable, "-m", checker, *CHECKERS[checker], *SCRIPTS]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=800)
    assert result.returncode == 0, result.stdout + result.stderr
