"""Runs the benchmarks and draws the documents, in the folder of the checkout.

python -m benchmarks list                                 # the questions, and how long each takes
python -m benchmarks NAME --photos PHOTOS                 # measures one; --help has its options
python -m benchmarks all --photos PHOTOS --large LARGE --out docs/results   # measures everything but peers
python -m benchmarks draw                                 # draws docs/ and README.md from docs/results/
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

from benchmarks.registry import NAMES, index, load

DOCS = Path(__file__).resolve().parent.parent / "docs"


def main() -> None:
    """Do what the command line says."""
    name, arguments = (sys.argv[1:2] or ["--help"])[0], sys.argv[2:]
    if name == "list":
        print(index())
    elif name == "draw":
        import_module("benchmarks.draw").draw(Path(arguments[0]) if arguments else DOCS)
    elif name == "all":
        for each in NAMES:
            if each != "peers":
                print(f"\n== {each}", flush=True)
                subprocess.run([sys.executable, "-m", "benchmarks", each, *arguments], check=True)
    elif name in NAMES:
        measure(name, arguments)
    else:
        raise SystemExit(f"{__doc__}\nNAME is one of {', '.join(NAMES)}")


def measure(name: str, arguments: list[str]) -> None:
    """Run one benchmark, print its tables, and write its rows."""
    module = load(name)
    variables: dict[str, str] = getattr(module, "VARIABLES", {})
    if any(os.environ.get(key) != value for key, value in variables.items()):
        # They are read when the package is imported, so this begins anew.
        command = [sys.executable, "-m", "benchmarks", name, *arguments]
        os.execve(sys.executable, command, {**os.environ, **variables})  # noqa: S606 - Python itself
    options = parse(module, name, arguments)
    common = import_module("benchmarks.common")
    start = time.perf_counter()
    rows = common.Rows(module.measure(options))
    header = {"benchmark": name, "took_s": time.perf_counter() - start, "machine": common.machine()}
    header["options"] = {key: getattr(options, key) for key in module.OPTIONS}
    common.write_results(options.out / f"{name}.jsonl", header, rows)
    for title, table in module.tables(rows).items():
        print(f"\n{title}\n{common.markdown(table)}")


def parse(module: ModuleType, name: str, arguments: list[str]) -> argparse.Namespace:
    """Return the options of a benchmark."""
    parser = argparse.ArgumentParser(
        f"python -m benchmarks {name}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="a folder of JPEGs; default: photographs are made")
    parser.add_argument("--large", type=Path, help="a folder of camera photographs; default: some are made")
    parser.add_argument("--out", type=Path, default=Path("results"), help="where results are written; default: results")
    parser.add_argument("--scratch", type=Path, help="where stores are written; default: the temporary folder")
    parser.add_argument("--quick", action="store_true", help="tiny input, only to see that everything works")
    quick = "--quick" in arguments
    for option, (full, tiny, meaning) in module.OPTIONS.items():
        kind = numbers if isinstance(full, list) else str if full is None else type(full)
        default = tiny if quick else full
        parser.add_argument(f"--{option.replace('_', '-')}", type=kind, default=default, help=f"{meaning}; {full}")
    return parser.parse_args(arguments)


def numbers(text: str) -> list[int]:
    """Return numbers that are separated by commas."""
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
