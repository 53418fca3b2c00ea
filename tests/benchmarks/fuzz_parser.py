"""Mutated Buildfiles by the million: every one is parsed to something that prints and parses to the same meaning, or is refused at a place.

    python tests/benchmarks/fuzz_parser.py --count 1000000

One process. Cases come in batches of a thousand, each with a seed of its own, so that a finding is had again by ``--seed N --count 1000``.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.buildfile.fuzz import survives

BATCH = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="how many mutations")
    parser.add_argument("--seed", type=int, default=0, help="the first batch's seed")
    options = parser.parse_args()
    started = time.monotonic()
    accepted = faults = done = 0
    for seed in range(options.seed, options.seed + -(-options.count // BATCH)):
        rng = random.Random(seed)
        for _ in range(min(BATCH, options.count - done)):
            done += 1
            try:
                accepted += survives(rng)
            except Exception:
                faults += 1
                print(f"--seed {seed}:", traceback.format_exc(), flush=True)
        if seed % 10 == 9:
            print(f"{done} mutations, {accepted} accepted, {faults} faults, {time.monotonic() - started:.0f} s", flush=True)
    print(f"{done} mutations, {accepted} accepted, {faults} faults, {time.monotonic() - started:.0f} s")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
