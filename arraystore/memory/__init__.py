"""How much memory does it take? Curves of any call, from outside, and a comparison of the ways to load images.

`sampler` is a process of its own that reads what the system knows of another one. `trace` runs it beside a block of
code, `calls` beside functions in fresh processes; `strategies` are the ways to load images that `arraystore profile`
compares, `report` is what comes out, `table`, `plot` and `page` are its faces; these share `words` and `chart`
(with `placement`, which finds room for labels), and `svg` draws for the page.
"""

__all__: list[str] = []
