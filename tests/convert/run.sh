#!/usr/bin/env bash
# Run the tests of the converters beside the real libraries, in two environments, and print one table.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python3}
build=build/convert
export PYTHONPATH=$PWD/python OMP_NUM_THREADS=1

for name in recent older; do
    environment=$build/$name
    if ! cmp --silent tests/convert/$name.txt "$environment/installed.txt"; then
        test -x "$environment/bin/python" || "$python" -m venv "$environment"
        "$environment/bin/pip" install --quiet --requirement tests/convert/$name.txt
        cp tests/convert/$name.txt "$environment/installed.txt"
    fi
    rm -f $build/$name.md
    "$environment/bin/python" -m pytest --quiet --override-ini filterwarnings=default tests/convert/test_$name.py
done
$build/recent/bin/python -m pytest --quiet tests/house/test_docs.py -k 'blocks_run and converting'

echo '| library | model | largest difference | lists equal |'
echo '|---|---|---|---|'
cat $build/recent.md $build/older.md
