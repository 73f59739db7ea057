"""The options that say how sources are listed, once; `arraystore.build` documents each."""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, TypedDict

from arraystore._common.options import Default
from arraystore._common.wording import a
from arraystore.errors import Kind, ManifestError, Option

KINDS = ("number", "category", "multi-label", "text", "mask", "mask16")


class SourceOptions(TypedDict, total=False):
    """How a folder, a table or a list becomes a manifest."""

    root: Annotated[str | os.PathLike[str] | None, Default(None)]
    path_column: Annotated[str | None, Default(None)]
    suffix: Annotated[str, Default("")]
    separator: Annotated[str | None, Default(None)]
    where: Annotated[str | Mapping[str, Any] | None, Default(None)]
    allow_empty: Annotated[bool, Default(False)]
    classes: Annotated[Any, Default(None)]


USED_FOR = {
    "a folder": ("allow_empty", "classes"),
    "a table": ("root", "path_column", "suffix", "separator", "where", "classes"),
    "a list of paths": ("root", "suffix", "classes"),
    "images in memory": ("classes",),
    "a Manifest": ("classes",),
    "slots of a store": ("classes",),
    "a lazy sequence": ("classes",),
    "a data set of Hugging Face": ("root", "path_column", "suffix", "where", "classes"),
    "a table in memory": ("root", "path_column", "suffix", "where", "classes"),
    "an archive": ("classes",),
    "Parquet of images": ("path_column", "where", "classes"),
    "a COCO file": ("root", "classes"),
    "a list of paths in a file": ("root", "suffix", "classes"),
    "a pattern of paths": ("classes",),
    "an ImageFolder": ("classes",),
    "a data set of pairs": ("classes",),
}


def for_source(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options that a source of a kind has.

    Raises:
        ManifestError: another one was given.
    """
    for name, hint in SourceOptions.__annotations__.items():
        value, default = options[name], hint.__metadata__[-1].value
        given = value is not default and not (isinstance(value, str) and value == default)
        if name not in USED_FOR[kind] and given:
            raise ManifestError(
                f"{name} has no meaning for {kind}", advice="leave out {0}", options=[Option(name, None)]
            )
    return {name: options[name] for name in USED_FOR[kind]}


def fixed_classes(classes: Any, known: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the classes that fix the codes, name of a target → its names: those of a list, a mapping, or a store.

    Args:
        classes: of the caller. Of a store, the classes of targets that are not known are left out, except those of the
            labels: it may have more targets than the source.
        known: the targets of the source that have classes.

    Raises:
        ManifestError: it is none of these, a name comes twice, or a target that is named has no classes.
    """
    if classes is None:
        return {}
    is_store = hasattr(classes, "categories")
    classes = classes.categories if is_store else classes
    if not isinstance(classes, Mapping):
        classes = {"labels": classes}
    fixed = {}
    for target, names in classes.items():
        if target not in known and not (is_store and target != "labels"):
            raise _no_classes(target, known)
        if target not in known:
            continue
        if (
            isinstance(names, str)
            or not isinstance(names, Sequence)
            or not all(isinstance(each, str) for each in names)
        ):
            raise ManifestError(
                f"classes must be a list of names or a store, not {a(type(names).__name__)}",
                advice="pass the names as texts, {0}",
                options=[Option("classes", ["cat", "dog"])],
            )
        repeated = [name for name in names if names.count(name) > 1] if len(set(names)) < len(names) else []
        if repeated:
            raise ManifestError(f"classes has {repeated[0]!r} twice: leave one out")
        fixed[target] = tuple(names)
    return fixed


def _no_classes(target: object, known: Collection[str]) -> ManifestError:
    if target == "labels":
        reason = "classes were given, but there are no labels of classes"
    else:
        reason = f"classes names {target!r}, which is no target with classes"
    if known:
        reason += f"; the targets with classes are {', '.join(map(repr, known))}"
    return ManifestError(
        reason,
        kind=Kind.INVALID,
        advice="name one of these, or leave out {0}" if known else "leave out {0}",
        options=[Option("classes", None)],
    )
