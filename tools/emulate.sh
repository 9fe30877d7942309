#!/usr/bin/env bash
# Runs the tests on processors that this machine does not have, emulated by QEMU. The Makefile calls it:
#
#   tools/emulate.sh setup                what the other two need, from Debian's packages (as root)
#   tools/emulate.sh aarch64              the Rust tests, cross-built, on a 64-bit ARM processor
#   tools/emulate.sh old-cpu PYTHON       the Rust tests and the extension in PYTHON on an x86 processor of 2008, without AVX
#
# Left out are two tests that would take longer than all others together: the sigmoid over all floats, and top_k and rank_of
# against scoring everything and sorting. (tests/digest.rs holds their results to those of a processor that ran them.)
set -euo pipefail
cd "$(dirname "$0")/.."

arm=aarch64-unknown-linux-gnu
left_out=(--skip never_falls_over_all_floats --skip top_k_and_rank_of_equal_scoring_everything_and_sorting
          --skip answers_are_those_of_float32_whatever_the_weights)

fail() {
    echo "tools/emulate.sh: $1" >&2
    exit 1
}

need() {
    command -v "$1" >/dev/null || fail "$1 is not installed; 'make cross-setup' installs it (Debian: $2)"
}

# A Rust compiler with the standard library for ARM: the usual one, or Debian's.
arm_compiler() {
    local rustc
    for rustc in "${RUSTC:-rustc}" /usr/bin/rustc; do
        if [ -d "$("$rustc" --print target-libdir --target $arm 2>/dev/null)" ]; then
            echo "$rustc"
            return
        fi
    done
    return 1
}

setup() {
    local packages=(qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross libc6:arm64 libgcc-s1:arm64)
    if ! arm_compiler >/dev/null; then
        # (Where rustup may download: `rustup target add aarch64-unknown-linux-gnu` does as well.)
        packages+=(rustc-web libstd-rust-web-dev:arm64)
    fi
    local commands=(
        "dpkg --add-architecture arm64"
        "apt-get update"
        "apt-get install --yes --no-remove --no-install-recommends ${packages[*]}"
    )
    command -v apt-get >/dev/null || fail "knows Debian's packages alone, and finds no apt-get; needed: ${packages[*]}"
    if [ "$(id -u)" != 0 ]; then
        printf '%s\n' "To be run as root:" "${commands[@]/#/    }"
        exit 1
    fi
    for command in "${commands[@]}"; do
        echo "+ $command"
        $command
    done
}

aarch64() {
    local rustc
    need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
    need qemu-aarch64 qemu-user
    rustc=$(arm_compiler) || fail "no Rust standard library for $arm; see 'make cross-setup'"
    # Programs find ARM's C library in its own place of a Debian system with that architecture. (Not the one that comes with
    # the cross compiler, in /usr/aarch64-linux-gnu: on Debian 12 its pthread_create never returns under QEMU.)
    [ -e /lib/ld-linux-aarch64.so.1 ] || fail "no C library for ARM; 'make cross-setup' installs it (Debian: libc6:arm64)"
    echo "$("$rustc" --version) for $arm, $(qemu-aarch64 --version | head -1); left out: ${left_out[*]}"
    RUSTC=$rustc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64 \
    NEURALCF_TEST_ISAS="neon portable" \
        cargo test --quiet --target $arm --lib --tests -- "${left_out[@]}"
}

old_cpu() {
    local python=$1
    [ "$(uname -sm)" = "Linux x86_64" ] || fail "the old x86 processor is emulated on x86-64 Linux alone"
    need qemu-x86_64 qemu-user
    echo "$(qemu-x86_64 --version | head -1), Nehalem; left out: ${left_out[*]}"
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="qemu-x86_64 -cpu Nehalem" \
    NEURALCF_TEST_ISAS=portable \
        cargo test --release --quiet --lib --tests -- "${left_out[@]}"
    "$python" -m pytest --quiet tests/python/core/test_old_cpu.py
}

case "${1-} $#" in
"setup 1") setup ;;
"aarch64 1") aarch64 ;;
"old-cpu 2") old_cpu "$2" ;;
*) fail "expected setup, aarch64 or old-cpu PYTHON; got '$*'" ;;
esac
