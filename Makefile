# make demo       builds, runs and ships the examples, with a registry on this machine
# make test       runs all tests
# make fallbacks  runs the tests of what uses a fast path once more without it, for each of them
# make bench      times the main jobs beside buildah and podman, where they are installed
# make clean      removes what they made, caches too
#
# They set up what they need and say so. Nothing outside this directory is written to, but for packages that are missing.

FASTPATHS = erofs newmount lowerdirplus mountsetattr clone3 openat2 cgroup spare
FASTPATH_TESTS = tests/linux tests/snapshot tests/sandbox tests/rootfs tests/runtime tests/solve tests/conformance tests/e2e

.PHONY: demo test fallbacks bench clean help

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo:
	@tests/demo/setup.sh demo
	@PYTHONPATH=tests .demo/venv/bin/python -m demo

# Two workers: most tests wait for a kernel, a disk or another process. One that hangs fails.
test:
	@tests/demo/setup.sh test
	@.venv/bin/python -m pytest -n $${WORKERS:-2} --dist loadgroup --durations=15 $(ARGS)

fallbacks:
	@tests/demo/setup.sh test
	@for name in $(FASTPATHS); do \
		echo "without $$name:"; \
		IMGBUILD_DISABLE=$$name .venv/bin/python -m pytest -q -n $${WORKERS:-2} --dist loadgroup $(FASTPATH_TESTS) $(ARGS) || exit 1; \
	done

bench:
	@tests/demo/setup.sh bench
	@PYTHONPATH=tests .demo/venv/bin/python -m benchmarks $(ARGS)

clean:
	rm -rf .demo .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
