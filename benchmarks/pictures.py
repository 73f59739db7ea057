"""The pictures of the documents, each drawn from the results of one benchmark, as SVG.

They are the same, byte for byte, from the same results and the same matplotlib. The colours are those of Okabe and Ito,
which nearly everyone can tell apart; lines differ in their markers too, and bars in their hatches, for print.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.results import Line, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLACK, ORANGE, SKY, GREEN, BLUE, RED, PINK, GREY = (
    "#000000",
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
    "#999999",
)
LINES = ((BLUE, "o"), (RED, "s"), (GREEN, "^"), (ORANGE, "D"), (PINK, "v"), (BLACK, "x"))
BARS = ((BLUE, ""), (SKY, "///"), (GREEN, "..."), (ORANGE, "xxx"))
STYLE = {
    "svg.hashsalt": "arraystore",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.6,
}
OURS = ("arraystore", "store")
MIB = 1 << 20

Series = Mapping[str, Sequence[tuple[float, float]]]


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG with nothing in it that changes from day to day."""
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": f"matplotlib {mpl.__version__}"})


def bars(axes: Axes, groups: Mapping[str, Mapping[str, float]], *, text: str) -> None:
    """Draw horizontal bars: a group a case, a bar a series, each with its number; ours stand out."""
    series = list(dict.fromkeys(name for group in groups.values() for name in group))
    height = 0.8 / len(series)
    most = max(value for group in groups.values() for value in group.values())
    for number, name in enumerate(series):
        colour, hatch = BARS[number % len(BARS)]
        shift = (number - (len(series) - 1) / 2) * height
        places = {at + shift: group[name] for at, group in enumerate(groups.values()) if name in group}
        drawn = axes.barh(
            list(places), list(places.values()), height * 0.92, color=colour, hatch=hatch, edgecolor="white", label=name
        )
        for bar, case in zip(drawn, groups, strict=True):
            if len(series) == 1 and not case.startswith(OURS):
                bar.set_facecolor(SKY)
        for place, value in places.items():
            told = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
            axes.text(value + most * 0.01, place, told, va="center", fontsize=8)
    axes.set_yticks(range(len(groups)), list(groups))
    for label in axes.get_yticklabels():
        if label.get_text().startswith(OURS):
            label.set_fontweight("bold")
    axes.invert_yaxis()
    axes.set_xlim(0, most * 1.15)
    axes.set_xlabel(text)
    axes.xaxis.set_major_formatter("{x:,g}")
    if len(series) > 1:
        axes.legend(frameon=False, loc="lower right")


def lines(axes: Axes, series: Series, *, across: str, up: str) -> None:
    """Draw a line a series, from points."""
    for (name, points), (colour, marker) in zip(series.items(), LINES, strict=False):
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=colour, marker=marker, markersize=5, label=name)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.legend(frameon=False)


def sheet(titles: Sequence[str], *, height: float, below: Sequence[int] = ()) -> tuple[Figure, list[Axes]]:
    """Return a figure with a chart for each title.

    Args:
        titles: of the charts.
        height: of the figure, in inches.
        below: the heights of charts one below the other, each as a share of all; without them they are side by side.
    """
    figure = Figure(figsize=(9, height), layout="constrained")
    shape, ratios = ((len(titles), 1), {"height_ratios": below}) if below else ((1, len(titles)), {})
    axes = figure.subplots(*shape, squeeze=False, gridspec_kw=ratios).reshape(-1).tolist()
    for each, title in zip(axes, titles, strict=True):
        each.set_title(title, loc="left", fontweight="bold", fontsize=10)
    return figure, axes


def threads_of(line: Line) -> str:
    """Return in words with how many threads something was done."""
    return f"{line['threads']} thread{'s' * (line['threads'] > 1)}"


# --- the pictures ----------------------------------------------------------------------------------------------------


def memory(results: Results, path: Path) -> None:
    """The headline: the curves of every way to make the array."""
    results.report().plot(path)


def memory_growth(results: Results, path: Path) -> None:
    """Peaks by the number of images."""
    figure, (axes,) = sheet(["Peak anonymous memory of a build"], height=3.2)
    series = {
        medium: sorted(
            (line["images"], line["peak_anonymous_bytes"] / MIB) for line in results.where("memory", medium=medium)
        )
        for medium in (".npy", ".h5")
    }
    arrays = sorted({(line["images"], line["array_bytes"] / MIB) for line in results["memory"]})
    lines(axes, {**series, "the array itself": arrays}, across="images", up="MiB")
    axes.xaxis.set_major_formatter("{x:,g}")
    save(figure, path)


def build(results: Results, path: Path) -> None:
    """Images a second of every way to fill an array."""
    groups: dict[str, dict[str, float]] = {}
    for line in results.where("build", benchmark="build"):
        groups.setdefault(line["case"], {})[threads_of(line)] = line["images_per_s"]
    figure, (axes,) = sheet(["Building"], height=1 + 0.5 * len(groups))
    bars(axes, groups, text="images a second, from JPEG to slot")
    save(figure, path)


def slot_sizes(results: Results, path: Path) -> None:
    """Rates by the size of a slot, of builds and of reads."""
    figure, axes = sheet(["Building", "Reading"], height=3.4)
    for each, section, up in zip(axes, ("build", "read"), ("images a second", "GB a second"), strict=True):
        series: dict[str, list[tuple[float, float]]] = {}
        for line in results.where("slot_sizes", section=section):
            value = line["images_per_s"] if section == "build" else line["bytes_per_s"] / 1e9
            series.setdefault(threads_of(line), []).append((line["size"], value))
        lines(each, series, across="side of a slot, in pixels", up=up)
        each.set_xscale("log", base=2)
        each.set_xticks(sorted({line["size"] for line in results.where("slot_sizes", section=section)}))
        each.xaxis.set_major_formatter("{x:.0f}")
        each.minorticks_off()
    save(figure, path)


def reading(results: Results, path: Path) -> None:
    """Images a second, warm and cold."""
    groups = {
        section: {
            line["case"]: {"": line["images_per_s"]}
            for line in results.where("read", section=section)
            if "missing" not in line
        }
        for section in ("warm", "cold")
    }
    counts = [len(cases) for cases in groups.values()]
    titles = [f"Reading shuffled slots, {section} page cache" for section in groups]
    figure, axes = sheet(titles, height=1.6 + 0.3 * sum(counts), below=counts)
    for each, cases in zip(axes, groups.values(), strict=True):
        bars(each, cases, text="images a second")
    save(figure, path)


def augment(results: Results, path: Path) -> None:
    """Batches augmented, as a share of a copy's speed."""
    groups: dict[str, dict[str, float]] = {}
    for line in results["augment"]:
        groups.setdefault(line["batch"], {})[threads_of(line)] = line["of_a_copy"]
    figure, (axes,) = sheet(["Augmenting, beside copying as many bytes"], height=1 + 0.36 * len(groups))
    bars(axes, groups, text="share of a copy's speed: 1 is a memcpy")
    save(figure, path)


def epochs(results: Results, path: Path) -> None:
    """Seconds of an epoch."""
    found = [line for line in results["epochs"] if "missing" not in line]
    figure, (axes,) = sheet([f"An epoch of {found[0]['images']:,} images"], height=1 + 0.36 * len(found))
    bars(axes, {line["case"]: {"": line["epoch_s"]} for line in found}, text="seconds")
    save(figure, path)


PICTURES: dict[str, Callable[[Results, Path], None]] = {
    "memory": memory,
    "memory-growth": memory_growth,
    "build": build,
    "slot-sizes": slot_sizes,
    "reading": reading,
    "augment": augment,
    "epochs": epochs,
}


def draw(results: Results, folder: Path) -> None:
    """Draw all pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE}):
        for name, picture in PICTURES.items():
            picture(results, folder / f"{name}.svg")
