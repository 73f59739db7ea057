"""Turn a folder of images into a preallocated N×C×H×W array, once, and train from it at the speed of memory.

    >>> import arraystore
    >>> store = arraystore.build("photos/", "train.store", size=256)  # doctest: +SKIP
    >>> store.images.shape  # doctest: +SKIP
    (12000, 3, 256, 256)

Importing it loads no decoder, no framework and no h5py: each is loaded by the first call that needs it.
"""

from arraystore._api import build
from arraystore._api import open_path as open  # noqa: A004 - `arraystore.open`, as users would guess
from arraystore._augmenting.augment import Augment
from arraystore._augmenting.crops import CenterCrop, PadAndCrop, RandomCrop, RandomResizedCrop
from arraystore._building.forecast import Forecast
from arraystore._building.plan import plan
from arraystore._common.progress import Progress
from arraystore._format.verification import Verification
from arraystore._reading.loader import Loader
from arraystore._reading.slot_arrays import Slots
from arraystore._reading.slots import concatenate
from arraystore._sources.manifest import Manifest
from arraystore._reading.store import Store
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
    ManifestError,
    MissingExtraError,
    ProfileError,
    SpaceError,
    SpecError,
    StoreError,
    StoreExistsError,
)
from arraystore.memory import MemoryReport, MemoryTrace, profile_memory
from arraystore.memory.profile import profile
from arraystore._version import __version__
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
    "Loader",
    "Manifest",
    "ManifestError",
    "MemoryReport",
    "MemoryTrace",
    "MissingExtraError",
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
    "plan",
    "profile",
    "profile_memory",
    "repair",
    "update",
    "verify",
]
