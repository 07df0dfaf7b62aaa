#!/bin/sh
# Fills the corpus with small models: every one up to 16 KiB in folders, such as the conformance cases of the ONNX project.
#
#     crates/onnx/fuzz/seed.sh FOLDER...
#
# Then: cargo fuzz run run -- -max_total_time=300
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$here/corpus/run"
find "$@" -type f -name '*.onnx' -size -16k | while read -r file; do
    cp "$file" "$here/corpus/run/$(cksum <"$file" | tr ' ' '-')"
done
