"""A memory report shown to people: a table, a picture and a page, with the same words and figures."""

__all__: list[str] = []
