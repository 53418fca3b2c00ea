"""Serves on all addresses, on $PORT, until SIGTERM."""

import os
import signal
import sys

import waitress

from app.service import application


def main() -> None:
    # Process 1 gets no default action for signals.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    waitress.serve(application, host="0.0.0.0", port=int(os.environ.get("PORT", "8000")))


main()
