#!/usr/bin/env bash
# Runs the tests on emulated processors (QEMU). The Makefile calls it:
#
#   tools/emulate.sh setup              install what the other two need, from Debian's packages (as root)
#   tools/emulate.sh aarch64            run the Rust tests, cross-compiled, on a 64-bit ARM processor
#   tools/emulate.sh old-cpu PYTHON     run the Rust tests and the extension in PYTHON on an x86 CPU of 2008 (no AVX)
#   tools/emulate.sh compiler TARGET    print a Rust compiler that can compile for TARGET
#
# Skipped are three tests that would take longer than all others together: the sigmoid over all floats, and comparisons
# of top_k and rank_of with scoring all items. tests/digest.rs compares their results with those of a real processor.
set -euo pipefail
cd "$(dirname "$0")/.."

arm=aarch64-unknown-linux-gnu
skipped=(--skip monotone_over_all_floats --skip top_k_and_rank_of_equal_scoring_all_items_and_sorting
         --skip results_equal_the_float32_scan_for_any_weights)

fail() {
    echo "tools/emulate.sh: $1" >&2
    exit 1
}

need() {
    command -v "$1" >/dev/null || fail "$1 is not installed; 'make cross-setup' installs it (Debian: $2)"
}

# Prints a Rust compiler that has the standard library for a target: the default one, or Debian's.
compiler() {
    local rustc
    for rustc in "${RUSTC:-rustc}" /usr/bin/rustc; do
        if [ -d "$("$rustc" --print target-libdir --target "$1" 2>/dev/null)" ]; then
            echo "$rustc"
            return
        fi
    done
    return 1
}

setup() {
    local packages=(qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross libc6:arm64 libgcc-s1:arm64)
    if ! compiler $arm >/dev/null; then
        # With rustup, `rustup target add aarch64-unknown-linux-gnu` works as well.
        packages+=(rustc-web libstd-rust-web-dev:arm64)
    fi
    local commands=(
        "dpkg --add-architecture arm64"
        "apt-get update"
        "apt-get install --yes --no-remove --no-install-recommends ${packages[*]}"
    )
    command -v apt-get >/dev/null || fail "apt-get is not installed; install these packages: ${packages[*]}"
    if [ "$(id -u)" != 0 ]; then
        printf '%s\n' "Run as root:" "${commands[@]/#/    }"
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
    rustc=$(compiler $arm) || fail "no Rust standard library for $arm; see 'make cross-setup'"
    # Programs use the C library of Debian's arm64 architecture. Not the cross compiler's, in /usr/aarch64-linux-gnu: on
    # Debian 12 its pthread_create never returns under QEMU.
    [ -e /lib/ld-linux-aarch64.so.1 ] || fail "no C library for ARM; 'make cross-setup' installs it (Debian: libc6:arm64)"
    echo "$("$rustc" --version) for $arm, $(qemu-aarch64 --version | head -1); skipped: ${skipped[*]}"
    RUSTC=$rustc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64 \
    NEURALCF_TEST_ISAS="neon portable" \
        cargo test --quiet --target $arm --lib --tests -- "${skipped[@]}"
}

old_cpu() {
    local python=$1
    [ "$(uname -sm)" = "Linux x86_64" ] || fail "the old x86 processor can be emulated on x86-64 Linux only"
    need qemu-x86_64 qemu-user
    echo "$(qemu-x86_64 --version | head -1), Nehalem; skipped: ${skipped[*]}"
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="qemu-x86_64 -cpu Nehalem" \
    NEURALCF_TEST_ISAS=portable \
        cargo test --release --quiet --lib --tests -- "${skipped[@]}"
    "$python" -m pytest --quiet tests/python/core/test_old_cpu.py
}

case "${1-} $#" in
"setup 1") setup ;;
"aarch64 1") aarch64 ;;
"old-cpu 2") old_cpu "$2" ;;
"compiler 2") compiler "$2" || fail "no Rust standard library for $2; install it by rustup, or by 'make cross-setup'" ;;
*) fail "expected setup, aarch64, old-cpu PYTHON or compiler TARGET; got '$*'" ;;
esac
