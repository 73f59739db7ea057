"""What help shows of public functions and classes: options that several share, and the package as their module.

A TypedDict lists each option once, as ``name: Annotated[type, Default(value)]``; the functions take ``**options``.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

from arraystore._common.checks import whole_number

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
P = TypeVar("P")


class Default(NamedTuple):
    """The default of an option, and the limits of a whole number; without ``low`` the option is checked elsewhere."""

    value: Any
    low: int | None = None
    high: int | None = None


def complete(owner: str, kind: type[T], options: T) -> T:
    """Return all options of a kind: the given ones, and the defaults of the others.

    ``kind`` is the TypedDict that lists them, ``owner`` names the function that has them, for the message.

    Raises:
        TypeError: there is no option of a given name.
        SpecError: a whole number is out of its limits.
    """
    given = cast("dict[str, Any]", options)
    defaults: dict[str, Default] = {name: hint.__metadata__[-1] for name, hint in kind.__annotations__.items()}
    unknown = [name for name in given if name not in defaults]
    if unknown:
        raise TypeError(f"{owner} has no option {unknown[0]!r}: its options are {', '.join(defaults)}")
    every = {name: default.value for name, default in defaults.items()} | given
    for name, default in defaults.items():
        if default.low is not None and (every[name] is not None or default.value is not None):
            every[name] = whole_number(name, every[name], default.low, default.high)
    return cast("T", every)


def picked(kind: type[T], options: Mapping[str, Any]) -> T:
    """Return those of the options that are of a kind."""
    return cast("T", {name: options[name] for name in kind.__annotations__ if name in options})


def shows_options(kind: type, **defaults: Any) -> Callable[[F], F]:
    """Return a decorator that shows each option of a kind in place of ``**options``, in signatures and in ``help``.

    ``defaults`` are those of this function, where they differ from those of the list.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        shared = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(name, hint.__metadata__[-1].value),
                annotation=_shown(hint),
            )
            for name, hint in kind.__annotations__.items()
        ]
        needed = sum(each.kind is not each.KEYWORD_ONLY or each.default is each.empty for each in own)
        shown = own[:needed] + shared + own[needed:]
        vars(function)["__signature__"] = signature.replace(parameters=shown)
        return function

    return decorate


def _shown(hint: Any) -> Any:
    """Return the type of an option; with all its notes where the command's parser has put its own there."""
    return hint if len(hint.__metadata__) > 1 else getattr(hint.__origin__, "__forward_arg__", hint.__origin__)


def public(thing: P) -> P:
    """Name the package as the module of a class or function, so that moving the code breaks no pickle."""
    thing.__module__ = "arraystore"
    return thing
