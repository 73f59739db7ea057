"""How much memory does it take? Curves of any call, read from outside, and a comparison of the ways to load images.

`sampler` is a process of its own that reads what the system knows of another one. `trace` runs it beside a block of
code (and `pytest_plugin` beside a test), `calls` beside functions in fresh processes; `strategies` are the ways to load
images that `profile` compares, while `stages` says how far it is, and `machine` on what; `report` is what comes out.
Its faces are `table` for the terminal, `plot` for matplotlib and `page` for a browser: they draw the same chart, which
`chart` and `placement` lay out, and use the same `words`; `svg` draws it for the page.
"""

from arraystore.memory.calls import mark, profile_memory
from arraystore.memory.report import MemoryReport
from arraystore.memory.trace import MemoryTrace

__all__ = ["MemoryReport", "MemoryTrace", "mark", "profile_memory"]
