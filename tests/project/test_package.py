"""The package as a whole: its public names, the modules that importing it loads, and the errors that it documents."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support import images

import arraystore
from arraystore import errors

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "arraystore"
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in FILES]

# Modules that many users never need, and that take tens of milliseconds or more to load.
NAMES = """
PIL cv2 grain h5py jax keras llvmlite matplotlib numba pandas psutil pyarrow rich scipy simplejpeg skimage
torch tqdm typer
"""
HEAVY = set(NAMES.split())


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def faults(check: Callable[[Path], Iterable[object]], *, of_the_command: bool = True) -> dict[str, list[object]]:
    """What a check finds in the modules of the package, by file; those without a fault are left out."""
    found = {
        path.relative_to(PACKAGE).as_posix(): list(check(path))
        for path in FILES
        if of_the_command or path.parent.name != "cli"
    }
    return {name: each for name, each in found.items() if each}


# --- names -----------------------------------------------------------------------------------------------------------


def test_all_is_the_sorted_list_of_public_names() -> None:
    assert arraystore.__all__ == sorted(arraystore.__all__)
    values = {name: getattr(arraystore, name) for name in dir(arraystore) if not name.startswith("_")}
    public = {name for name, value in values.items() if not isinstance(value, ModuleType)}
    assert public == set(arraystore.__all__)
    assert arraystore.__version__


def test_type_checkers_see_the_same_names() -> None:
    nodes = [node for node in ast.walk(tree(PACKAGE / "__init__.py")) if isinstance(node, ast.ImportFrom)]
    names = [alias.asname or alias.name for node in nodes for alias in node.names]
    assert set(arraystore.__all__) <= set(names)


def test_a_name_that_is_not_there_is_named() -> None:
    with pytest.raises(AttributeError, match="module 'arraystore' has no attribute 'biuld'"):
        _ = arraystore.biuld  # type: ignore[attr-defined]


# Of the command only the command itself is public.
PUBLIC_MODULES = [module for module in MODULES if "._" not in module and not module.startswith("arraystore.cli.")]


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_every_public_module_lists_its_names(module: str) -> None:
    loaded = importlib.import_module(module)
    body = tree(Path(str(loaded.__file__))).body
    if not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in body):
        return  # a wing's docstring, the version, the command's __main__
    names = loaded.__all__
    assert len(set(names)) == len(names)
    assert list(names) == sorted(names, key=lambda name: (not name.isupper(), name[0].islower(), name))
    for name in names:
        assert hasattr(loaded, name)


def test_every_module_says_what_it_is() -> None:
    assert faults(lambda path: [] if ast.get_docstring(tree(path)) else ["no docstring"]) == {}


# --- imports ---------------------------------------------------------------------------------------------------------


def loaded_by(statement: str, *, path: Path = ROOT) -> set[str]:
    """The heavy modules that a new interpreter has loaded after a statement."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=path,
        env=os.environ | {"PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=500,
    )
    return HEAVY & set(json.loads(result.stdout))


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import arraystore") == set()


def test_that_the_test_before_can_fail(tmp_path: Path) -> None:
    (tmp_path / "arraystore.py").write_text("def late():\n    import h5py\nimport xxhash, pyarrow\n")
    assert loaded_by("import arraystore", path=tmp_path) >= {"pyarrow"}
    assert "h5py" in loaded_by("import arraystore; arraystore.late()", path=tmp_path)


def test_reading_a_store_loads_no_decoder() -> None:
    golden = ROOT / "tests" / "golden" / "v1.store"
    assert loaded_by(f"import arraystore; arraystore.open({str(golden)!r}).images.sum()") == set()


LIFE_OF_A_STORE = """
import os
import arraystore
os.chdir({place!r})
options = {{"progress": False, "workers": 1}}
targets = {{"caption": ["one", "two", "three", "four"]}}
store = arraystore.build("photos", {name!r}, size=8, bad={bad!r}, targets=targets, **options)
store.bad(), store.noted(), store.dropped(), store.samples
store = arraystore.open({name!r})
store.bad(), store.noted(), store.dropped(), store.samples["source"].to_pylist()
assert arraystore.verify({name!r}, progress=False).ok
os.utime("photos/a/0.png", (7, 7))
assert arraystore.compare({name!r}, "photos", targets=targets).changed == ["a/0.png"]
arraystore.update({name!r}, "photos", targets=targets, **options)
arraystore.repair({name!r}, verification=None, **options)
arraystore.build(arraystore.open({name!r}), "copy-" + {name!r}, bad="drop", **options)
"""


def test_no_call_imports_pandas_for_pyarrow(tmp_path: Path) -> None:
    """It takes a second, and nothing needs it; ``pyarrow.array`` and ``to_numpy`` import it where it is installed."""
    lives = []
    for name, bad in (("x.h5", "drop"), ("x.store", "keep")):
        place = tmp_path / bad
        for number in range(4):
            file = place / "photos" / "ab"[number % 2] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"no image" if number == 3 else images.png(images.noise(9, 9, seed=number)))
        lives.append(LIFE_OF_A_STORE.format(place=str(place), name=name, bad=bad))
    loaded = loaded_by("\n".join(lives))
    assert "pyarrow" in loaded
    assert "pandas" not in loaded


# --- habits ----------------------------------------------------------------------------------------------------------


def printing(path: Path) -> Iterator[int]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield node.lineno


def test_nothing_prints_but_the_command() -> None:
    assert faults(printing, of_the_command=False) == {}


def asserted_or_pickled(path: Path) -> Iterator[str]:
    yield from (f"assert in line {node.lineno}" for node in ast.walk(tree(path)) if isinstance(node, ast.Assert))
    text = path.read_text("utf-8")
    yield from (words for words in ("allow_pickle=True", "import pickle") if words in text)


def test_nothing_is_checked_by_assert_or_read_by_pickle() -> None:
    assert faults(asserted_or_pickled) == {}


def without_f(path: Path) -> Iterator[int]:
    """Yield lines of strings that are raised, with braces around a name, and no f before them.

    Ruff does not see these. Advice has braces around a number, for an option.
    """
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Raise) and node.exc is not None:
            inside = {
                id(part) for text in ast.walk(node.exc) if isinstance(text, ast.JoinedStr) for part in text.values
            }
            for text in ast.walk(node.exc):
                is_whole = isinstance(text, ast.Constant) and isinstance(text.value, str) and id(text) not in inside
                if is_whole and re.search(r"\{\D", text.value):
                    yield text.lineno


def test_no_message_lacks_its_f() -> None:
    assert faults(without_f) == {}


# --- errors ----------------------------------------------------------------------------------------------------------


def every_error() -> Iterator[errors.ArraystoreError]:
    context: dict[str, Any] = {
        "slot": 8,
        "source": "a/ü.jpg",
        "reason": "why",
        "kind": errors.Kind.DAMAGED,
        "advice": "pass {0}",
        "options": [errors.Option("fresh")],
    }
    bad = [errors.BadImage(3, "x", "no"), errors.BadImage(4, "y", "nor this")]
    for kind in vars(errors).values():
        if not (isinstance(kind, type) and issubclass(kind, errors.ArraystoreError)):
            continue
        if kind is errors.BadImagesError:
            yield kind("two", bad=bad, total=9)
        elif kind is errors.SpaceError:
            yield kind("full", needed_bytes=5, free_bytes=3)
        else:
            yield kind("what happened", **context)


@pytest.mark.parametrize("error", [*every_error()], ids=lambda error: type(error).__name__)
def test_every_error_pickles_whole(error: errors.ArraystoreError) -> None:
    error.add_note("slot 8 ← a/ü.jpg")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is type(error)
        assert (str(again), again.args) == (str(error), error.args)
        assert vars(again) == vars(error)
        assert again.__notes__ == ["slot 8 ← a/ü.jpg"]
        assert {"slot", "source", "reason"} <= set(vars(again))


@pytest.mark.parametrize("error", [*every_error()], ids=lambda error: type(error).__name__)
def test_the_tree_in_the_text_is_the_tree(error: errors.ArraystoreError) -> None:
    kind = type(error)
    lines = [line for line in str(errors.__doc__).splitlines() if f" {kind.__name__} " in f" {line} "]
    assert len(lines) == 1
    parents = [base for base in kind.__bases__ if base.__module__ == "builtins" and base is not Exception]
    for base in parents:
        assert f"({base.__name__})" in lines[0]
    assert isinstance(error, errors.ArraystoreError)


def test_an_error_without_a_reason_of_its_own_gives_its_message() -> None:
    assert errors.StoreError("x").reason == "x"
    assert errors.StoreError("x", reason="y").reason == "y"
    assert errors.StoreError("x").slot is errors.StoreError("x").source is None


def raised_in(node: ast.AST) -> set[str]:
    """Our errors that a function raises itself; what functions inside it raise counts, for they are part of it."""
    names = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
            name = child.exc.func
            if isinstance(name, ast.Name) and isinstance(vars(errors).get(name.id), type):
                names.add(name.id)
    return names


def undocumented(module: ast.Module) -> Iterator[str]:
    """Public functions and methods that raise one of our errors with no entry in ``Raises:`` that names it."""

    def missing(node: ast.FunctionDef | ast.AsyncFunctionDef, docstring: str, label: str) -> Iterator[str]:
        section = docstring.partition("Raises:")[2]
        yield from (f"{label}: {name}" for name in sorted(raised_in(node)) if f"{name}:" not in section)

    for node in module.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield from missing(node, ast.get_docstring(node) or "", node.name)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for method in node.body:
                if not isinstance(method, ast.FunctionDef):
                    continue
                makes = method.name in ("__init__", "__post_init__", "__new__")
                if makes or not method.name.startswith("_"):
                    # A class that implements a protocol documents its errors once, for all methods.
                    text = (ast.get_docstring(node) or "") + ("" if makes else ast.get_docstring(method) or "")
                    yield from missing(method, text, f"{node.name}.{method.name}")


def test_every_error_that_a_public_function_raises_is_documented() -> None:
    """Not in the command, whose docstrings are help texts."""
    assert faults(lambda path: undocumented(tree(path)), of_the_command=False) == {}


def test_that_the_test_before_can_fail_too() -> None:
    text = 'def f():\n  """Do.\n\n  Raises:\n      SpecError: never.\n  """\n  raise StoreError("x")\n'
    assert list(undocumented(ast.parse(text))) == ["f: StoreError"]
    assert list(undocumented(ast.parse(text.replace("StoreError", "SpecError")))) == []
    assert list(undocumented(ast.parse('class A:\n  def g(self):\n    raise SpecError("x")\n'))) == ["A.g: SpecError"]


def test_what_build_open_and_plan_raise_is_documented() -> None:
    for function, kinds in (
        (
            arraystore.build,
            "SpecError ManifestError BadImagesError StoreExistsError SpaceError StoreError OSError",
        ),
        (arraystore.open, "FormatError OSError"),
        (arraystore.plan, "SpecError ManifestError"),
    ):
        section = str(inspect.getdoc(function)).partition("Raises:")[2]
        for kind in kinds.split():
            assert f"{kind}:" in section
            assert hasattr(errors, kind) or hasattr(builtins, kind)
