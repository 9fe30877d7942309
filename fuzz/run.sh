#!/usr/bin/env bash
# Fuzzes both targets for SECONDS each (default 600), on stable Rust: libFuzzer with the compiler's coverage counters.
# `cargo +nightly fuzz run file` does the same under AddressSanitizer.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-600}
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-../target/fuzz}
# With --target, build scripts and procedural macros are built without the counters.
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --quiet --release --locked --target "$host"
for target in file directory; do
    new=$CARGO_TARGET_DIR/corpus/$target
    mkdir -p "$new" "$CARGO_TARGET_DIR/artifacts"
    # libFuzzer ends with status 77 at a crash, and leaves the input in artifacts/.
    "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=2048 \
        -dict=dictionary -artifact_prefix="$CARGO_TARGET_DIR/artifacts/" -print_final_stats=1 -verbosity=0 \
        "$new" "corpus/$target" 2>"$CARGO_TARGET_DIR/$target.log" || { tail -40 "$CARGO_TARGET_DIR/$target.log"; exit 1; }
    tried=$(sed -n 's/^stat::number_of_executed_units: *//p' "$CARGO_TARGET_DIR/$target.log")
    echo "$target: $tried tried, 0 failed, $(ls "$new" | wc -l) new inputs kept"
done
