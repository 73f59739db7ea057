"""How much memory does it take? Curves of any call, from outside, and a comparison of the ways to load images.

`sampler` is a process of its own that reads what the system knows of another one. `trace` runs it beside a block of
code, `calls` beside functions in fresh processes; `strategies` are the ways to load images that `arraystore profile`
compares, `report` is what comes out, `table`, `plot` and `page` are its faces.
"""

from arraystore.memory.calls import mark, profile_memory
from arraystore.memory.report import MemoryReport
from arraystore.memory.trace import MemoryTrace

__all__ = ["MemoryReport", "MemoryTrace", "mark", "profile_memory"]
