"""Solves a build graph: every needed step is looked up or performed, in parallel, once, and reported by events.

Not here: what a step means (graph), how it is shown (cli), what is done with the image (engine, transfer).
"""
