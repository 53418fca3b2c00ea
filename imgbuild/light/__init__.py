"""The standard library's modules that every command would import, under their own names, without what they import themselves.

`pathlib`, `contextlib`, `json`, `signal`, `threading`, `functools` and `collections` bring in `re`, `enum`, `urllib.parse`, `ipaddress`
and each other: a third of a short command, for classes of which a few lines are used. Here are these lines. Whoever checks types sees the
standard ones, of which tests hold each to be the equal; what is not here is left to them, and they are imported then. Not here: anything
that the standard library does not have.
"""
