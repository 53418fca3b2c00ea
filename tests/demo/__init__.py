"""What `make demo` shows and the end-to-end tests check: base images made of this machine's own packages, a registry that mirrors the
default one with them, and the examples, each with what it must answer. Runs on the standard library alone, and drives the CLI."""
