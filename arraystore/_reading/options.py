"""The options of a loader, listed once: signatures, defaults and checks of whole numbers are made from this list.

`Loader` documents what each option means.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, TypeVar, cast

import numpy as np
import numpy.typing as npt

from arraystore._augmenting.augment import Augment
from arraystore._common.checks import whole_number

Last = Literal["keep", "drop", "pad"]
Ahead = Literal["auto", "advise", "read", "off"]
Targets = str | Sequence[str] | None
One = str | None  # for overloads: a batch is a pair
Several = list[str] | tuple[str, *tuple[str, ...]]  # for overloads: a batch is a dict

F = TypeVar("F", bound=Callable[..., Any])


class Default(NamedTuple):
    """The default of an option, and the limits of a whole number; without ``low`` the option is checked elsewhere."""

    value: Any
    low: int | None = None
    high: int | None = None


class Common(TypedDict, total=False):
    """The options of a `Loader` that do not change the type of a batch."""

    shuffle: Annotated[bool, Default(True)]
    seed: Annotated[int, Default(0, low=0, high=2**64 - 1)]
    last: Annotated[Last, Default("keep")]
    augment: Annotated[Augment | None, Default(None)]
    transform: Annotated[Callable[..., Any] | None, Default(None)]
    weights: Annotated["npt.ArrayLike | None", Default(None)]
    balance: Annotated[bool, Default(False)]
    replacement: Annotated[bool, Default(True)]
    draws: Annotated[int | None, Default(None, low=0)]
    block: Annotated[int | None, Default(None)]
    window: Annotated[int, Default(64)]
    rank: Annotated[int | None, Default(None)]
    world_size: Annotated[int | None, Default(None)]
    workers: Annotated[int | None, Default(None, low=1)]
    in_flight: Annotated[int | None, Default(None, low=1)]
    ahead: Annotated[Ahead, Default("auto")]
    ahead_bytes: Annotated[int, Default(256 << 20, low=0)]
    drop_behind: Annotated[bool, Default(False)]
    cache: Annotated[int | str | None, Default(None)]
    allocate: Annotated[Callable[[int], npt.NDArray[np.uint8]] | None, Default(None)]


class LoaderOptions(Common, total=False):
    """The options of a `Loader`."""

    targets: Annotated[Targets, Default(None)]
    batch_transform: Annotated[Callable[[Any], Any] | None, Default(None)]


_OPTIONS: dict[str, tuple[Any, Default]] = {
    name: (hint.__origin__, hint.__metadata__[0]) for name, hint in LoaderOptions.__annotations__.items()
}


def complete(options: LoaderOptions) -> LoaderOptions:
    """Return all options: the given ones, and the defaults of the others.

    Raises:
        TypeError: there is no option of a given name.
        SpecError: a whole number is out of its limits.
    """
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        raise TypeError(f"a loader has no option {unknown[0]!r}: its options are {', '.join(_OPTIONS)}")
    every: dict[str, Any] = {name: default.value for name, (_, default) in _OPTIONS.items()} | dict(options)
    for name, (_, default) in _OPTIONS.items():
        if default.low is not None and (every[name] is not None or default.value is not None):
            every[name] = whole_number(name, every[name], default.low, default.high)
    return cast("LoaderOptions", every)


def shows_options(**defaults: Any) -> Callable[[F], F]:
    """Return a decorator that shows each option in place of ``**options``, in signatures and in ``help``.

    Args:
        defaults: of this function, where they differ from those of `Loader`.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        shown = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        shown += [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(name, default.value),
                annotation=getattr(kind, "__forward_arg__", kind),
            )
            for name, (kind, default) in _OPTIONS.items()
        ]
        vars(function)["__signature__"] = signature.replace(parameters=shown)
        return function

    return decorate
