"""Tests that drive the command line as a process, on real stores, kernels and files."""
