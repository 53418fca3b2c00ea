#!/bin/sh
# Greets everybody who is named.
set -eu

for name in "$@"; do
    echo "Hello, $name!"
done
