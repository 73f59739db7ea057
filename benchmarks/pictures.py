"""Pictures of the documents: the same results give the same file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

_SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "arraystore", "font.size": 10.0, "ytick.major.size": 0}


@contextmanager
def picture_at(path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    """Yield an empty figure of a size in inches; what was drawn into it becomes an SVG at the path."""
    with mpl.rc_context(_SETTINGS | {f"axes.spines.{side}": False for side in ("top", "right", "bottom")}):
        figure = Figure(size, layout="constrained")
        yield figure
        figure.savefig(path, format="svg", metadata={"Date": None})
