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
    from arraystore._augmenting.augment import Augment as Augment
    from arraystore._augmenting.crops import CenterCrop as CenterCrop
    from arraystore._augmenting.crops import PadAndCrop as PadAndCrop
    from arraystore._augmenting.crops import RandomCrop as RandomCrop
    from arraystore._augmenting.crops import RandomResizedCrop as RandomResizedCrop
    from arraystore._build import build as build
    from arraystore._building.forecast import Forecast as Forecast
    from arraystore._building.presizing.report import PresizeReport as PresizeReport
    from arraystore._common.progress import Progress as Progress
    from arraystore._common.ragged import Ragged as Ragged
    from arraystore._export import export as export
    from arraystore._exporting.report import ExportReport as ExportReport
    from arraystore._filling import FillingStore as FillingStore
    from arraystore._format.checking.result import Verification as Verification
    from arraystore._frames.frame import Frame as Frame
    from arraystore._open import open as open
    from arraystore._plan import plan as plan
    from arraystore._presize import presize as presize
    from arraystore._reading.foreign_arrays import open_array as open_array
    from arraystore._reading.loader import Loader as Loader
    from arraystore._reading.slots import Slots as Slots
    from arraystore._reading.slots import concatenate as concatenate
    from arraystore._reading.store import Store as Store
    from arraystore._sequences.lazy import Lazy as Lazy
    from arraystore._sequences.lazy import lazy as lazy
    from arraystore._sources.manifest import Manifest as Manifest
    from arraystore._sources.targets.masks import Masks as Masks
    from arraystore._upkeep.compare import Changes as Changes
    from arraystore._upkeep.compare import compare as compare
    from arraystore._upkeep.repair import repair as repair
    from arraystore._upkeep.update import update as update
    from arraystore._upkeep.verify import verify as verify
    from arraystore._viewing.load_times import LoadTime as LoadTime
    from arraystore._viewing.load_times import load_times as load_times
    from arraystore.errors import ArraystoreError as ArraystoreError
    from arraystore.errors import BadImage as BadImage
    from arraystore.errors import BadImagesError as BadImagesError
    from arraystore.errors import DecodeError as DecodeError
    from arraystore.errors import Fault as Fault
    from arraystore.errors import FormatError as FormatError
    from arraystore.errors import Kind as Kind
    from arraystore.errors import LazyError as LazyError
    from arraystore.errors import ManifestError as ManifestError
    from arraystore.errors import MissingExtraError as MissingExtraError
    from arraystore.errors import Option as Option
    from arraystore.errors import ProfileError as ProfileError
    from arraystore.errors import SpaceError as SpaceError
    from arraystore.errors import SpecError as SpecError
    from arraystore.errors import StoreError as StoreError
    from arraystore.errors import StoreExistsError as StoreExistsError
    from arraystore.memory import MemoryReport as MemoryReport
    from arraystore.memory import MemoryTrace as MemoryTrace
    from arraystore.memory import profile_memory as profile_memory
    from arraystore.memory.profile import profile as profile
    from arraystore.spec import ImageSpec as ImageSpec
    from arraystore.spec import Jpeg as Jpeg

_MODULES = {
    "_augmenting.augment": "Augment",
    "_augmenting.crops": "CenterCrop PadAndCrop RandomCrop RandomResizedCrop",
    "_build": "build",
    "_building.forecast": "Forecast",
    "_building.presizing.report": "PresizeReport",
    "_common.progress": "Progress",
    "_common.ragged": "Ragged",
    "_export": "export",
    "_exporting.report": "ExportReport",
    "_filling": "FillingStore",
    "_format.checking.result": "Verification",
    "_frames.frame": "Frame",
    "_open": "open",
    "_plan": "plan",
    "_presize": "presize",
    "_reading.foreign_arrays": "open_array",
    "_reading.loader": "Loader",
    "_reading.slots": "Slots concatenate",
    "_reading.store": "Store",
    "_sequences.lazy": "Lazy lazy",
    "_sources.manifest": "Manifest",
    "_sources.targets.masks": "Masks",
    "_upkeep.compare": "Changes compare",
    "_upkeep.repair": "repair",
    "_upkeep.update": "update",
    "_upkeep.verify": "verify",
    "_viewing.load_times": "LoadTime load_times",
    "errors": "ArraystoreError BadImage BadImagesError DecodeError Fault FormatError Kind LazyError "
    "ManifestError MissingExtraError Option ProfileError SpaceError "
    "SpecError StoreError StoreExistsError",
    "memory": "MemoryReport MemoryTrace profile_memory",
    "memory.profile": "profile",
    "spec": "ImageSpec Jpeg",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}
__all__ = sorted(_MODULE_OF)  # noqa: PLE0605 - type checkers read the imports above


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used; see PEP 562."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'arraystore' has no attribute {name!r}")
    value = getattr(import_module(f"arraystore.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
