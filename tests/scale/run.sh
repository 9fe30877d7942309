#!/usr/bin/env bash
# Run the tests beside a local Spark and a local Ray, each in an environment of its own.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python3}
export PYTHONPATH=$PWD/python OMP_NUM_THREADS=1

if ! command -v java >/dev/null; then
    echo "tests/scale/run.sh: expected Java 17 or newer, such as Debian's package openjdk-17-jre-headless" >&2
    exit 1
fi
for library in spark ray; do
    environment=build/scale/$library
    requirements=tests/scale/$library.txt
    if ! cmp --silent $requirements $environment/installed.txt; then
        test -x $environment/bin/python || "$python" -m venv $environment
        $environment/bin/pip install --quiet --requirement $requirements
        cp $requirements $environment/installed.txt
    fi
    for file in tests/scale/test_$library*.py; do # a process each, because Spark Connect cannot share one with Spark
        $environment/bin/python -m pytest --quiet --override-ini filterwarnings=default "$file"
    done
    $environment/bin/python -m pytest --quiet --override-ini filterwarnings=default tests/house/test_docs.py \
        -k "blocks_run and $library"
done
