#!/usr/bin/env bash
# Run the tests beside a local Spark, in an environment of their own.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python3}
environment=build/scale/spark
export PYTHONPATH=$PWD/python OMP_NUM_THREADS=1

if ! command -v java >/dev/null; then
    echo "tests/scale/run.sh: expected Java 17 or newer, such as Debian's package openjdk-17-jre-headless" >&2
    exit 1
fi
if ! cmp --silent tests/scale/spark.txt $environment/installed.txt; then
    test -x $environment/bin/python || "$python" -m venv $environment
    $environment/bin/pip install --quiet --requirement tests/scale/spark.txt
    cp tests/scale/spark.txt $environment/installed.txt
fi
$environment/bin/python -m pytest --quiet --override-ini filterwarnings=default tests/scale/test_spark.py
$environment/bin/python -m pytest --quiet --override-ini filterwarnings=default tests/house/test_docs.py \
    -k 'blocks_run and spark'
