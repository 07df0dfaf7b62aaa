#!/bin/sh
# Fills the corpora with small files: every fixture up to 64 KiB, sorted by what reads it.
#
#     crates/state/fuzz/seed.sh FOLDER...
#
# Then, for each target: cargo fuzz run TARGET -- -max_total_time=300
set -eu
here=$(cd "$(dirname "$0")" && pwd)
for target in torch safetensors burnpack npy onnx; do
    mkdir -p "$here/corpus/$target"
done
find "$@" -type f -size -64k | while read -r file; do
    case $file in
        *.pth | *.pt | *.ckpt | *.tar | *.pkl) target=torch ;;
        *.safetensors) target=safetensors ;;
        *.bpk) target=burnpack ;;
        *.npy | *.npz) target=npy ;;
        *.onnx) target=onnx ;;
        *) continue ;;
    esac
    cp "$file" "$here/corpus/$target/$(cksum <"$file" | tr ' ' '-')"
done
