#!/usr/bin/env bash
# Sets up what `make demo`, `make bench` and `make test` need: packages, if this is root, and a virtual environment. Says what it does, and does
# nothing twice.
#
#     setup.sh demo       .demo/venv with imgbuild as a user installs it
#     setup.sh bench      the same, and what is needed to time it beside its peers, of which none must be there
#     setup.sh test       .venv with imgbuild from the work tree, and what the tests use
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# Settings of the caller's Python or pip that would put things elsewhere.
unset PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_REQUIRE_VIRTUALENV VIRTUAL_ENV

packages=(ca-certificates busybox-static mmdebstrap) peers=()
case ${1:-} in
    demo) venv=.demo/venv what=(.) ;;
    bench) venv=.demo/venv what=(.)
        packages+=(docker-registry xfsprogs) peers=(buildah crun docker.io podman runc) ;;
    test) venv=.venv what=(-e '.[test]')
        packages+=(buildah crun docker-registry fuse-overlayfs git iproute2 openssh-client openssl podman python3-venv qemu-user-static runc skopeo uidmap zstd)
        # Ubuntu has a browser only as a snap; without one, the tests that look at pages are skipped there.
        grep -qs '^ID=ubuntu$' /etc/os-release || packages+=(chromium chromium-driver) ;;
    *) echo "usage: $0 demo|bench|test" >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || packages+=(uidmap)

say() { printf '==> %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Prints the Python to use: 3.11 or later, and able to make virtual environments. The system's own comes first, for tests run it as other
# users, who can't look into the home directory of this one.
find_python() {
    local python
    for python in ${PYTHON:-} /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$python" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    return 1
}

install_packages() {
    command -v dpkg-query >/dev/null || fail "this is neither Debian nor Ubuntu: there is no dpkg"
    find_python >/dev/null || packages+=(python3 python3-venv)
    local missing=() package
    for package in "${packages[@]}"; do
        installed "$package" || missing+=("$package")
    done
    if [ ${#missing[@]} = 0 ]; then
        say "packages: all there (${packages[*]})"
        return
    fi
    [ "$(id -u)" = 0 ] || fail "these packages are missing; install them as root: apt-get install ${missing[*]}"
    say "packages: installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    local log
    log=$(mktemp)
    if ! { apt-get update && apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
        tail -n 40 "$log" >&2
        rm -f "$log"
        fail "apt-get failed"
    fi
    rm -f "$log"
}

make_venv() {
    local python stamp
    python=$(find_python) || fail "there is no Python 3.11 or later with venv"
    stamp=$({
        "$python" -c 'import sys; print(sys.version, sys.executable)'
        cat pyproject.toml
        # Installed from the work tree, imgbuild follows its sources; as a user installs it, it is a copy.
        [ "${what[0]}" = -e ] || find imgbuild \( -name '*.py' -o -name 'page.*' \) -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    } | sha256sum)
    if [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$stamp" ]; then
        say "$venv: up to date"
        return
    fi
    if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
        say "$venv: making it with $python"
        rm -rf "$venv"
        "$python" -m venv "$venv"
    fi
    say "$venv: pip install ${what[*]}"
    rm -rf build "$venv/.stamp"  # setuptools would pack again what an earlier build left there
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-input "${what[@]}" </dev/null
    rm -rf build
    echo "$stamp" >"$venv/.stamp"
}

# Peers of the benchmark: who can't be installed does not take part.
install_peers() {
    local package
    for package in "${peers[@]}"; do
        installed "$package" && continue
        say "peers: installing $package"
        [ "$(id -u)" = 0 ] && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >/dev/null 2>&1 </dev/null ||
            say "peers: $package can't be installed here"
    done
}

install_packages
install_peers
make_venv
