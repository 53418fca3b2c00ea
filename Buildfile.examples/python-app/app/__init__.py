"""Counts words over HTTP."""
