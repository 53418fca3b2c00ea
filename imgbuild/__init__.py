"""imgbuild: builds, runs and ships OCI images from Buildfiles, without a daemon."""

__version__ = "0.1.0"
