"""Turn a folder of images into a preallocated N×C×H×W array, once, and train from it at the speed of memory.

    >>> import arraystore
    >>> store = arraystore.build("photos/", "train.store", size=256)  # doctest: +SKIP
    >>> store.images.shape  # doctest: +SKIP
    (12000, 3, 256, 256)

Importing the package loads nothing else: each name loads its module when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from arraystore._version import __version__ as __version__

if TYPE_CHECKING:
    from arraystore._augmenting.augment import Augment
    from arraystore._augmenting.crops import CenterCrop, PadAndCrop, RandomCrop, RandomResizedCrop
    from arraystore._build import build
    from arraystore._building.forecast import Forecast
    from arraystore._building.plan import plan
    from arraystore._common.progress import Progress
    from arraystore._format.verification import Verification
    from arraystore._open import open  # noqa: A004 - `arraystore.open`
    from arraystore._reading.foreign_arrays import open_array
    from arraystore._reading.loader import Loader
    from arraystore._reading.slots import Slots, concatenate
    from arraystore._reading.store import Store
    from arraystore._sources.manifest import Manifest
    from arraystore._upkeep.compare import Changes, compare
    from arraystore._upkeep.repair import repair
    from arraystore._upkeep.update import update
    from arraystore._upkeep.verify import verify
    from arraystore.errors import (
        ArraystoreError,
        BadImage,
        BadImagesError,
        DecodeError,
        FormatError,
        Kind,
        ManifestError,
        MissingExtraError,
        Option,
        ProfileError,
        SpaceError,
        SpecError,
        StoreError,
        StoreExistsError,
    )
    from arraystore.memory import MemoryReport, MemoryTrace, profile_memory
    from arraystore.memory.profile import profile
    from arraystore.spec import ImageSpec

__all__ = [
    "ArraystoreError",
    "Augment",
    "BadImage",
    "BadImagesError",
    "CenterCrop",
    "Changes",
    "DecodeError",
    "Forecast",
    "FormatError",
    "ImageSpec",
    "Kind",
    "Loader",
    "Manifest",
    "ManifestError",
    "MemoryReport",
    "MemoryTrace",
    "MissingExtraError",
    "Option",
    "PadAndCrop",
    "ProfileError",
    "Progress",
    "RandomCrop",
    "RandomResizedCrop",
    "Slots",
    "SpaceError",
    "SpecError",
    "Store",
    "StoreError",
    "StoreExistsError",
    "Verification",
    "build",
    "compare",
    "concatenate",
    "open",
    "open_array",
    "plan",
    "profile",
    "profile_memory",
    "repair",
    "update",
    "verify",
]

_MODULES = {
    "_augmenting.augment": ("Augment",),
    "_augmenting.crops": ("CenterCrop", "PadAndCrop", "RandomCrop", "RandomResizedCrop"),
    "_build": ("build",),
    "_building.forecast": ("Forecast",),
    "_building.plan": ("plan",),
    "_common.progress": ("Progress",),
    "_format.verification": ("Verification",),
    "_open": ("open",),
    "_reading.foreign_arrays": ("open_array",),
    "_reading.loader": ("Loader",),
    "_reading.slots": ("Slots", "concatenate"),
    "_reading.store": ("Store",),
    "_sources.manifest": ("Manifest",),
    "_upkeep.compare": ("Changes", "compare"),
    "_upkeep.repair": ("repair",),
    "_upkeep.update": ("update",),
    "_upkeep.verify": ("verify",),
    "memory": ("MemoryReport", "MemoryTrace", "profile_memory"),
    "memory.profile": ("profile",),
    "spec": ("ImageSpec",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562); names outside the table are in `arraystore.errors`."""
    if name not in __all__:
        raise AttributeError(f"module 'arraystore' has no attribute {name!r}")
    value = getattr(import_module(f"arraystore.{_MODULE_OF.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
