#!/usr/bin/env bash
# Tests what `make wheels` has put into dist/, as root on Debian; installs mmdebstrap and qemu-user if they are missing.
#
#   tests/wheels/run.sh PYTHON [TEST...]      all of these tests, unless said otherwise
#
#   audit      the wheels say what they need, and need no more (audit.py)
#   rebuild    the source distribution, unpacked elsewhere and built there, gives the same bytes
#   old        pip installs and runs the wheel in a root of Debian 11, glibc 2.31, the oldest that Debian's mirror has.
#              Its own CPython is older than 3.10: CPython 3.11 is compiled there, from Debian 12's source
#   arm        pip installs and runs the wheel in a root of Debian 12 for ARM, on an emulated processor (QEMU)
#
# Answers are compared with those of this machine, by a digest (answers.py). Roots are kept in build/wheels.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/../.."
python=${1:-python3}
tests=${*:2}
build=$PWD/build/wheels
old=bullseye recent=bookworm cpython=3.11
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

fail() {
    echo "tests/wheels/run.sh: $1" >&2
    exit 1
}

# Prints the digest of the wheel's answers, installed by the pip of a root: site-packages are in the folder `site`.
answers() { # ROOT PATH-IN-ROOT-OF-THE-TEST PYTHON...
    local root=$1 inside=$2 pip
    shift 2
    pip=$(cd "$root/wheelhouse" && ls pip-*.whl)
    rm -rf "$root/test"
    mkdir -p "$root/test/site"
    cp dist/*.whl "$root"/wheelhouse/* tests/wheels/answers.py "$root/test"
    env --unset PIP_CONSTRAINT --unset PIP_FIND_LINKS "$@" "$inside/$pip/pip" install --quiet --no-index --find-links "$inside" --target "$inside/site" neuralcf >&2
    PYTHONPATH=$inside/site "$@" "$inside/answers.py"
}

# Downloads pip and numpy for a root: `pip download` chooses the newest that its glibc allows.
wheelhouse() { # ROOT ARCHITECTURE GLIBC
    local platforms=() minor
    for minor in $(seq 17 "$3"); do platforms+=(--platform "manylinux_2_${minor}_$2"); done
    "$build/tools/bin/pip" download --quiet --only-binary :all: --python-version $cpython "${platforms[@]}" \
        --platform "manylinux2014_$2" --dest "$1/wheelhouse" pip numpy
}

extract() { # ROOT SUITE OPTION...
    local root=$1 suite=$2
    shift 2
    rm -rf "$root"
    mmdebstrap --quiet --variant=extract "$@" "$suite" "$root"
}

audit() {
    "$build/tools/bin/python" tests/wheels/audit.py dist/*.whl
}

rebuild() {
    local elsewhere
    elsewhere=$(mktemp -d)
    tar --extract --touch --directory "$elsewhere" --strip-components 1 --file dist/neuralcf-*.tar.gz
    mkdir "$elsewhere/tools" && cp tools/{wheels.sh,wheels.txt,emulate.sh} "$elsewhere/tools"
    (cd "$elsewhere" && TOOLS=$build/tools CARGO_TARGET_DIR=$elsewhere/target tools/wheels.sh "$python" x86_64 >/dev/null)
    sha256sum dist/*x86_64.whl "$elsewhere"/dist/*
    cmp dist/*x86_64.whl "$elsewhere"/dist/*x86_64.whl
    cmp dist/*.tar.gz "$elsewhere"/dist/*.tar.gz
    rm -rf "$elsewhere"
}

# Extracts Debian 11 with a compiler, and compiles CPython there. Its speed does not matter: it is not optimized.
old_root() {
    local root=$1
    extract "$root" $old --include=dash,coreutils,sed,grep,mawk,gcc,libc6-dev,make,zlib1g-dev,libffi-dev,libstdc++6
    # what packages would link when they are configured
    ln -sf dash "$root/bin/sh"
    ln -sf mawk "$root/usr/bin/awk"
    mkdir -p "$root/source" "$build/lists/partial"
    sed "s/^deb /deb-src /; s/$old/$recent/; q" "$root/etc/apt/sources.list" >"$build/sources.list"
    local options=(-o "Dir::Etc::SourceList=$build/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$build/lists")
    apt-get --quiet=2 "${options[@]}" update
    (cd "$root/source" && apt-get --quiet=2 "${options[@]}" source --download-only python$cpython 2>/dev/null)
    tar --extract --directory "$root/source" --strip-components 1 --file "$root/source"/python*.orig.tar.*
    chroot "$root" sh -ec "cd source
        ./configure --quiet --prefix=/opt/python --without-ensurepip --disable-test-modules OPT=-O0 >make.log 2>&1
        make -s -j$(nproc) >>make.log 2>&1 && make -s install >>make.log 2>&1" || fail "CPython: see $root/source/make.log"
    rm -rf "$root/source"
    wheelhouse "$root" x86_64 31
    touch "$root/complete"
}

old() {
    test -e "$build/$old/complete" || old_root "$build/$old"
    local got
    got=$(answers "$build/$old" /test chroot "$build/$old" /opt/python/bin/python3)
    compare "$got"
}

arm_root() {
    extract "$1" $recent --architectures=arm64 --include=python3,libstdc++6
    wheelhouse "$1" aarch64 36
    touch "$1/complete"
}

arm() {
    test -e "$build/arm64/complete" || arm_root "$build/arm64"
    local root=$build/arm64 got
    got=$(answers "$root" "$root/test" qemu-aarch64 -L "$root" "$root/usr/bin/python3")
    compare "$got"
}

compare() { # DIGEST
    test -x "$build/here/bin/python" || "$python" -m venv "$build/here"
    "$build/here/bin/pip" install --quiet --force-reinstall --no-deps dist/*x86_64.whl
    "$build/here/bin/pip" install --quiet numpy
    local wanted
    wanted=$("$build/here/bin/python" tests/wheels/answers.py)
    [ "$1" = "$wanted" ] || fail "expected answers $wanted, got $1"
    echo "equal answers: $1"
}

ls dist/*x86_64.whl dist/*aarch64.whl dist/*.tar.gz >/dev/null || fail "expected a source distribution and two wheels in dist/"
if ! { command -v mmdebstrap && command -v qemu-aarch64; } >/dev/null; then
    apt-get --quiet=2 update
    apt-get --quiet=2 install --yes mmdebstrap qemu-user >/dev/null
fi
for test in ${tests:-audit rebuild old arm}; do
    echo "$test:"
    $test
done
