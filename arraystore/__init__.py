"""Turn a folder of images into a preallocated N×C×H×W array, once, and train from it at the speed of memory.

    >>> import arraystore
    >>> store = arraystore.build("photos/", "train.store", size=256)  # doctest: +SKIP
    >>> store.images.shape  # doctest: +SKIP
    (12000, 3, 256, 256)

Importing it loads no decoder, no framework and no h5py: each is loaded by the first call that needs it.
"""

__version__ = "0.1.0"

from arraystore.augment import Augment
from arraystore.build import build
from arraystore.changes import Changes, compare
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
from arraystore.forecast import Forecast
from arraystore.foreign import open_path as open  # noqa: A004 - `arraystore.open`, as users would guess
from arraystore.geometry import CenterCrop, PadAndCrop, RandomCrop, RandomResizedCrop
from arraystore.loader import Loader
from arraystore.manifest import Manifest
from arraystore.memory import MemoryReport, MemoryTrace, profile_memory
from arraystore.memory.profile import profile
from arraystore.plan import plan
from arraystore.progress import Progress
from arraystore.repair import repair
from arraystore.slots import Slots, concatenate
from arraystore.spec import ImageSpec
from arraystore.stores import Store
from arraystore.update import update
from arraystore.verify import Verification, verify

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
