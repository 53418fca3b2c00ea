"""``python -m imgbuild``."""

from imgbuild.cli.main import main

main()
