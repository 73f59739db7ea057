"""Who may import whom: the one line of CONTRIBUTING.md, no circles, and wings that are small enough to read."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_FLOORS = 12
MOST_MODULES = 12  # of one wing, beside its __init__
MOST_LINES = 400  # of one module
LONGER = {  # module → why it may have more lines than that
    "arraystore._reading.loader": "the face of the loader: a third is its documentation",
    "arraystore._sources.manifest": "the face of all sources: a third is its documentation",
    "arraystore.memory.sampler": "a process of its own that imports nothing but the standard library",
}

Edges = Mapping[str, set[str]]


def line_of_layers(text: str) -> list[list[set[str]]]:
    """Read the line out of CONTRIBUTING.md: floors, each of groups; wings of two groups never import each other."""
    start = text.index("errors, _version → ")
    line = " ".join(text[start : text.index("\n\n", start)].split())
    return [[{name.strip() for name in group.split(",")} for group in floor.split("|")] for floor in line.split(" → ")]


FLOORS = line_of_layers((ROOT / "CONTRIBUTING.md").read_text("utf-8"))


def modules_of(root: Path) -> dict[str, Path]:
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((root / "arraystore").rglob("*.py"))
    }


def wing_of(module: str) -> str:
    """``arraystore._stores.npy`` → ``_stores``; the package itself → ``__init__``."""
    return module.split(".")[1] if "." in module else "__init__"


def imported_by(path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    """Each of our modules that a file imports: also in a function, for type checkers, or when it is first used."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules else str(node.module) for name in whole]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"lazy", "import_module"}:
            names = [str(given.value) for given in node.args[:1] if isinstance(given, ast.Constant)]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] == "arraystore")


def edges_of(root: Path) -> dict[str, set[str]]:
    modules = modules_of(root)
    return {module: set(imported_by(path, modules)) for module, path in modules.items()}


def wrong_imports(edges: Edges, floors: list[list[set[str]]] = FLOORS) -> list[str]:
    """The imports that the line forbids, each as a sentence."""
    place = {
        wing: (floor, group) for floor, groups in enumerate(floors) for group, ws in enumerate(groups) for wing in ws
    }
    wrong = []
    between = defaultdict(list)
    for user, targets in edges.items():
        for used in sorted(targets):
            of, to = wing_of(user), wing_of(used)
            if of == to:
                continue
            (floor, group), (its_floor, its_group) = place[of], place[to]
            if its_floor > floor or (its_floor == floor and its_group != group):
                wrong.append(f"{user} imports {used}")
            elif its_floor == floor:
                between[of, to].append(f"{user} imports {used}")
    for one, other in combinations(place, 2):
        if between[one, other] and between[other, one]:
            wrong += between[one, other] + between[other, one]
    return wrong


def circles(edges: Edges) -> list[list[str]]:
    """The modules that reach each other: each set of them once (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for used in sorted(edges.get(module, set())):
            if used not in number:
                visit(used)
                lowest[module] = min(lowest[module], lowest[used])
            elif used in stack:
                lowest[module] = min(lowest[module], number[used])
        if lowest[module] == number[module]:
            at = stack.index(module)
            circle = stack[at:]
            del stack[at:]
            if len(circle) > 1 or module in edges.get(module, set()):
                found.append(sorted(circle))

    for module in edges:
        if module not in number:
            visit(module)
    return found


@cache
def ours() -> Edges:
    return edges_of(ROOT)


def test_every_module_has_its_floor_and_every_name_of_the_line_a_module() -> None:
    wings = {wing_of(module) for module in ours()}
    named = [wing for groups in FLOORS for group in groups for wing in group]
    assert sorted(named) == sorted(wings)
    assert len(FLOORS) <= MOST_FLOORS


def test_nothing_imports_to_the_right() -> None:
    assert wrong_imports(ours()) == []


def test_building_and_reading_do_not_know_each_other() -> None:
    assert [{"_building"}, {"_reading"}] in FLOORS


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(ours()) == []


def test_wings_are_small() -> None:
    counts = Counter(path.parent for module, path in modules_of(ROOT).items() if path.name != "__init__.py")
    assert {str(folder): count for folder, count in counts.items() if count > MOST_MODULES} == {}


def test_modules_are_short() -> None:
    lines = {module: len(path.read_text("utf-8").splitlines()) for module, path in modules_of(ROOT).items()}
    long = {module: count for module, count in lines.items() if count > MOST_LINES}
    assert {module: count for module, count in long.items() if module not in LONGER} == {}
    assert set(LONGER) <= set(long), "a module that is short needs no exception"
    assert all(LONGER.values())


# --- the tests above can fail -----------------------------------------------------------------------------------------


def test_any_import_turned_round_is_found() -> None:
    turned = {  # one for each two wings: which wings they are of is all that decides whether an import is wrong
        (wing_of(used), wing_of(user)): (used, user) for user, targets in ours().items() for used in targets
    }
    turned = {wings: modules for wings, modules in turned.items() if len({*wings}) == 2}
    assert len(turned) > 100
    for user, used in turned.values():
        edges = {module: targets | ({used} if module == user else set()) for module, targets in ours().items()}
        assert wrong_imports(edges) != [], f"{user} imports {used}"
        assert circles(edges) != [], f"{user} imports {used}"


GOOD = {
    "__init__.py": "from arraystore import spec\nfrom arraystore._stores.npy import open_npy\n",
    "spec.py": "from arraystore.errors import SpecError\n",
    "errors.py": "import enum\n",
    "_common/__init__.py": "",
    "_common/lazy.py": "",
    "_building/build.py": "from arraystore._stores import npy\n",
    "_reading/store.py": "import arraystore._stores.npy\n",
    "_sources/scan.py": "from arraystore._common.lazy import lazy\n",
    "_kernels/sums.py": "",
    "_stores/npy.py": "from arraystore.spec import ImageSpec\n",
}


@pytest.mark.parametrize(
    ("file", "text", "wrong"),
    [
        ("spec.py", "import os\n", []),
        ("_kernels/sums.py", "from arraystore._sources import scan\n", []),
        ("spec.py", "from arraystore._stores import npy\n", ["arraystore.spec imports arraystore._stores.npy"]),
        ("errors.py", "import arraystore.spec\n", ["arraystore.errors imports arraystore.spec"]),
        (
            "spec.py",
            "def late():\n    import arraystore._stores.npy as npy\n",
            ["arraystore.spec imports arraystore._stores.npy"],
        ),
        (
            "spec.py",
            "if TYPE_CHECKING:\n    from arraystore._stores.npy import SlotFile\n",
            ["arraystore.spec imports arraystore._stores.npy"],
        ),
        ("spec.py", 'npy = lazy("arraystore._stores.npy")\n', ["arraystore.spec imports arraystore._stores.npy"]),
        (
            "spec.py",
            'importlib.import_module("arraystore._stores.npy")\n',
            ["arraystore.spec imports arraystore._stores.npy"],
        ),
        ("_stores/npy.py", "from arraystore import ImageSpec\n", ["arraystore._stores.npy imports arraystore"]),
        (
            "_reading/store.py",
            "from arraystore._building import build\n",
            ["arraystore._reading.store imports arraystore._building.build"],
        ),
    ],
)
def test_a_wrong_import_is_found_wherever_it_stands(tmp_path: Path, file: str, text: str, wrong: list[str]) -> None:
    for name, content in (GOOD | {file: GOOD[file] + text}).items():
        path = tmp_path / "arraystore" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    edges = edges_of(tmp_path)
    assert wrong_imports(edges) == wrong
    assert bool(circles(edges)) == (bool(wrong) and "_reading" not in file)


def test_two_wings_of_one_floor_import_each_other_one_way() -> None:
    edges = {"arraystore._kernels.sums": {"arraystore._sources.scan"}, "arraystore._sources.tables": set[str]()}
    assert wrong_imports(edges) == []
    edges["arraystore._sources.tables"] = {"arraystore._kernels.resample"}  # no circle of modules, but one of wings
    assert circles(edges) == []
    assert len(wrong_imports(edges)) == 2


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": set()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": {"d"}}) == [["d"], ["b", "c"]]
