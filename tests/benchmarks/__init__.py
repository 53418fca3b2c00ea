"""Times imgbuild beside its peers: `make bench`. Nothing here is a test."""
