"""The Buildfile language: text in, values out. Pure.

`lexer` finds directives, logical lines and heredocs; `parser` makes `instructions` of them; `expand` replaces variables;
`mounts` types the options of ``RUN --mount``. What is parsed here may still be refused by `graph.lower`, at its line.

Not here: what an instruction does (graph), whether files exist (context).
"""
