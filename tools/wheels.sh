#!/usr/bin/env bash
# Builds what is published, into dist/: the source distribution, and a wheel for each Linux architecture.
#
#   tools/wheels.sh PYTHON [ARCHITECTURE...]      x86_64 and aarch64, unless said otherwise
#
# One wheel serves every CPython from 3.10 on (the stable ABI) with glibc 2.17 or newer: zig links against that version,
# whatever the machine has. Equal sources and compilers give equal bytes, in any folder and at any time: time stamps are
# SOURCE_DATE_EPOCH, by default the last commit's, and the paths of the machine are mapped to fixed names.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
shift
tools=${TOOLS:-$PWD/build/wheels/tools}
target=${CARGO_TARGET_DIR:-$PWD/build/wheels/target}

if ! cmp --silent tools/wheels.txt "$tools/installed.txt"; then
    test -x "$tools/bin/python" || "$python" -m venv "$tools"
    "$tools/bin/pip" install --quiet --requirement tools/wheels.txt
    cp tools/wheels.txt "$tools/installed.txt"
fi
export PATH=$tools/bin:$PATH
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export RUSTFLAGS="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$PWD=/neuralcf"

rm -f dist/neuralcf-*
maturin sdist --out dist
for architecture in ${*:-x86_64 aarch64}; do
    triple=$architecture-unknown-linux-gnu
    # rustup's standard library for the architecture, or Debian's (see `make cross-setup`)
    rustup target add "$triple" || true
    RUSTC=$(tools/emulate.sh compiler "$triple") \
        maturin build --profile wheel --zig --compatibility manylinux_2_17 --target "$triple" --target-dir "$target" --out dist
done
