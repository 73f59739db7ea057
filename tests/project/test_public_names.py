"""The public names: each loads on first use, says that it is of `arraystore`, and is documented."""

from __future__ import annotations

import ast
import inspect
import json
import pickle
import pydoc
import subprocess
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images

import arraystore
from arraystore import Loader, Slots, Store
from arraystore._building.options import BuildOptions, RunOptions
from arraystore._reading.options import LoaderOptions
from arraystore.spec import ImageOptions

PACKAGE = Path(arraystore.__file__).parent


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("public")
    return arraystore.build([images.noise(4, 4)] * 3, folder / "x.store", size=4, labels=[0, 1, 0], progress=False)


def child(code: str) -> Any:
    """The JSON that a new interpreter prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=400)
    return json.loads(result.stdout)


def test_importing_the_package_loads_nothing_else() -> None:
    loaded = child("import sys, json; import arraystore; print(json.dumps([*sys.modules]))")
    assert sorted(name for name in loaded if name.startswith("arraystore")) == ["arraystore", "arraystore._version"]
    assert "numpy" not in loaded


def test_type_checkers_see_the_names_that_are_there() -> None:
    block = next(node for node in ast.parse((PACKAGE / "__init__.py").read_text()).body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == {name: f"arraystore.{module}" for name, module in arraystore._MODULE_OF.items()}
    assert sorted(seen) == arraystore.__all__
    assert {*dir(arraystore)} == {*arraystore.__all__, "__version__"}
    with pytest.raises(AttributeError, match="module 'arraystore' has no attribute 'opne'"):
        attrgetter("opne")(arraystore)


@pytest.mark.parametrize("name", arraystore.__all__)
def test_a_public_name_says_that_it_is_of_the_package(name: str) -> None:
    thing = getattr(arraystore, name)
    assert (thing.__module__, thing.__qualname__) == ("arraystore", name)
    assert pickle.loads(pickle.dumps(thing)) is thing
    assert inspect.getdoc(thing)


def test_pickles_name_the_package_even_if_only_inner_modules_were_imported(store: Store) -> None:
    code = (
        "import json, pickle, pickletools\n"
        "from arraystore._reading.store import Store\n"
        "from arraystore._stores.opening import open_store\n"
        f"store = Store(open_store({str(store.path)!r}))\n"
        "found = [[arg for _, arg, _ in pickletools.genops(pickle.dumps(each, 0)) if isinstance(arg, str)]\n"
        "         for each in (store, store[:2], store.loader(2), store.spec)]\n"
        "print(json.dumps(found))"
    )
    for names, expected in zip(child(code), ("Store", "Slots", "Loader", "ImageSpec"), strict=True):
        assert f"arraystore {expected}" in names


@pytest.mark.parametrize("chosen", [False, True])
def test_every_attribute_of_a_store_is_documented(store: Store, chosen: bool) -> None:
    shown: Slots = store[:2] if chosen else store
    kind = type(shown)
    attributes = "".join(str(inspect.getdoc(each)).partition("Attributes:")[2] for each in kind.__mro__[:-1])
    for name in dir(shown):
        if not name.startswith("_"):
            documented = inspect.getdoc(getattr(kind, name)) if hasattr(kind, name) else f"\n    {name}:" in attributes
            assert documented, name
    inner = {"parts", "base", "places", "split", "same", "chosen", "choose", "check_target", "cache", "arrays"}
    assert not inner & {*dir(shown)}


@pytest.mark.parametrize("function", [Loader, Store.loader, Store.batches])
def test_signatures_show_every_option_with_its_default(function: Any) -> None:
    parameters = inspect.signature(function).parameters
    assert {*LoaderOptions.__annotations__} < {*parameters}
    assert all(each.kind is not each.VAR_KEYWORD for each in parameters.values())
    assert parameters["ahead_bytes"].default == 256 << 20
    assert parameters["shuffle"].default is (function is not Store.batches)
    assert "shuffle: bool = " in pydoc.plain(pydoc.render_doc(function))


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (arraystore.build, BuildOptions),
        (arraystore.plan, ImageOptions),
        (arraystore.update, RunOptions),
        (arraystore.repair, RunOptions),
    ],
)
def test_functions_that_share_options_show_each(function: Any, kind: Any) -> None:
    parameters = inspect.signature(function).parameters
    assert {*kind.__annotations__} < {*parameters}
    for name, hint in kind.__annotations__.items():
        assert parameters[name].default == hint.__metadata__[-1].value
        assert f"\n    {name}: " in str(inspect.getdoc(arraystore.build))
        assert f" {name}: " in pydoc.plain(pydoc.render_doc(function)).splitlines()[2]
    with pytest.raises(TypeError, match=rf"^{function.__name__} has no option 'colour': its options are "):
        function("nowhere", colour="gray")


def test_the_loader_documents_its_options_in_words() -> None:
    words = str(inspect.getdoc(Loader)).partition("Args:")[2].partition("Attributes:")[0]
    listed = [
        line.strip().partition(":")[0] for line in words.splitlines() if line.startswith("    ") and line[4] != " "
    ]
    assert sorted(listed) == sorted(["slots", "batch_size", *LoaderOptions.__annotations__])


def test_an_option_that_does_not_exist_is_a_type_error(store: Store) -> None:
    call: Any = store.loader
    with pytest.raises(TypeError, match=r"^a loader has no option 'shufle': its options are shuffle, seed, last, "):
        call(2, shufle=True)
    for options in ({"seed": None}, {"seed": -1}, {"workers": 0}, {"ahead_bytes": True}):
        with pytest.raises(arraystore.SpecError, match=f"^{next(iter(options))} must be a whole number "):
            call(2, **options)
    np.testing.assert_array_equal(next(iter(call(3, shuffle=False, targets=()))), store.images)
