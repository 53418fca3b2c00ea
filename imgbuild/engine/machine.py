"""What this machine is."""

from __future__ import annotations

import os

from imgbuild.oci.platform import Platform, normalize


def this_platform() -> Platform:
    """The platform of this machine."""
    return normalize("linux", os.uname().machine)
