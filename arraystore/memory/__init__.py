"""How much memory does it take? Curves of any call, from outside, and a comparison of the ways to load images.

`sampler` is a process of its own that reads what the system knows of another one. `trace` runs it beside a block of
code (and `pytest_plugin` beside a test), `calls` beside functions in fresh processes; `strategies` are the ways to load
images that `profile` compares, `stages` says how far it is, `machine` on what; `report` is what comes out, `table`,
`plot` and `page` are its faces.
"""
