"""Which interpreter a peer runs in: an environment of its own, or the one that runs this."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from process import PeerError

INSTALL_S = 1800
DONE = "installed-requirements.txt"


def interpreter(name: str, requirements: Path, venvs: Path | None, *, install: bool) -> str:
    """Return the interpreter of a peer: that of ``venvs/NAME`` if there is one, else the one that runs this.

    Args:
        name: of the peer.
        requirements: its requirements; there may be none, for what this interpreter brings.
        venvs: the folder of the environments, or None.
        install: make the environment if it is not there, or was made from other requirements.

    Raises:
        PeerError: it cannot be installed; the message has the last line that pip said of it.
    """
    if venvs is None or not requirements.exists():
        return sys.executable
    venv, wanted = venvs.absolute() / name, requirements.read_text(encoding="utf-8")
    python, done = venv / "bin" / "python", venv / DONE
    if install and not (done.exists() and done.read_text(encoding="utf-8") == wanted):
        run([sys.executable, "-m", "venv", "--clear", str(venv)])
        run([str(python), "-m", "pip", "install", "--no-input", "--quiet", "-r", str(requirements)])
        done.write_text(wanted, encoding="utf-8")
    return str(python) if done.exists() else sys.executable


def run(command: list[str]) -> None:
    """Run a command, and tell its last words if it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - venv and pip
            command, capture_output=True, text=True, errors="replace", check=False, timeout=INSTALL_S
        )
    except subprocess.TimeoutExpired:
        raise PeerError(f"could not be installed: pip was not done after {INSTALL_S:,} s") from None
    if done.returncode:
        raise PeerError(f"could not be installed: {meaningful(done.stdout + done.stderr)}")


def meaningful(text: str) -> str:
    """Return the line of pip's output that says most: the last error inside a build if there is one, else pip's own."""
    lines = [line.strip(" ╰─>|│") for line in text.splitlines()]
    inner = [line for line in lines if "Error: " in line or line.startswith("fatal error")]
    outer = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    said = inner or outer[:1] or [line for line in lines if line] or ["pip said nothing"]
    return said[-1][:300]


def packages(requirements: Path) -> list[str]:
    """Return the packages that a file of requirements names, in its order."""
    lines = (line.partition("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())
    return [line.partition("=")[0].partition(">")[0].partition("[")[0].strip() for line in lines if line]
