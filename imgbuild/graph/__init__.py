"""From a Buildfile to a graph of steps, and from a step to its key. Pure.

`base_references` says what must be pulled; `lower` then makes stages, steps and image configs; `key_record` makes the
record whose digest is the step's key. Not here: running anything (solve), matching files (context).
"""
