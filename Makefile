# make demo     builds, runs and ships the examples, with a registry on this machine
# make test     runs all tests
# make bench    times the main jobs beside buildah and podman, where they are installed
# make clean    removes what either of them made, caches too
#
# Both set up what they need and say so. Nothing outside this directory is written to, but for packages that are missing.

.PHONY: demo test bench clean help

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo:
	@tests/demo/setup.sh demo
	@PYTHONPATH=tests .demo/venv/bin/python -m demo

# Two workers: most tests wait for a kernel, a disk or another process. One that hangs fails.
test:
	@tests/demo/setup.sh test
	@.venv/bin/python -m pytest -n $${WORKERS:-2} --dist loadgroup --durations=15 $(ARGS)

bench:
	@tests/demo/setup.sh demo
	@.demo/venv/bin/python tests/benchmarks/bench.py $(ARGS)

clean:
	rm -rf .demo .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
