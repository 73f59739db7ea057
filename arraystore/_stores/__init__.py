"""The media that a store can lie on, behind one small protocol: a draft is filled, then published as a store."""

from __future__ import annotations

import os
from pathlib import Path

from arraystore.errors import FormatError
from arraystore._format.slot_file import SlotFile, npy_slots
from arraystore._stores.draft import Draft, Plan
from arraystore._reading.store import Store




