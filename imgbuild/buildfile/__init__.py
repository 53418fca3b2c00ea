"""The Buildfile language: text in, values out. Pure.

`lexer` finds directives, logical lines and heredocs; `includes` puts those of other files among them, which a reader that
it is given has read; `frontend` knows which languages this one is; `parser` makes `instructions` of them, one by one in `statements`;
`expand` replaces variables; `mounts` types the options of ``RUN --mount``; `quantities` reads durations and sizes; `print`
is the way back to text. What is parsed here may still be refused by `graph.lower`, at its line.

The grammar is BuildKit's, down to what it accepts by accident. On purpose otherwise: the trigger of ONBUILD is checked at
once, as are a mount's keys; directives are read after a ``#!`` line; flags may hold any Unicode; ``COPY << NAME`` is a heredoc.

Not here: what an instruction does (graph), whether files exist (context).
"""
