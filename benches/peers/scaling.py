#!/usr/bin/env python3
"""How times grow as the work grows, beside PyTorch: `python benches/peers/scaling.py path/to/rekindle [--work DIR]`.

Batches of 1 to 256, images of 32 to 512 pixels a side, 1 and 2 threads, files of 1 MB to 2 GB. Needs what compare.py needs.
"""
from __future__ import annotations

import argparse
import os
import pathlib
import sys
import tempfile
import time

import engines
from engines import Bench, Failed, Resident, ms, python, seconds_for

BATCHED = ["forward/cifar_cnn/{}", "forward/fashion_classifier/{}", "train-step/cifar_cnn/{}/sgd", "train-step/fashion_classifier/{}/adam"]
BATCHES = [1, 4, 16, 64, 128, 256]
SIDES = [32, 64, 128, 256, 512]
MEGABYTES = [1, 16, 128, 512, 2000]
THREADS = [1, 2]
SECONDS = 0.25
KINDS = ["list", "load", "save-unsynced", "save"]


def note(begun, text):
    print(f"{time.time() - begun:5.0f} s  {text}", file=sys.stderr, flush=True)


def pairs(rekindle, work, threads, cases, begun):
    """Medians of rekindle and of PyTorch (its allocator tuned) for each case, in turns."""
    cores = os.sched_getaffinity(0)
    engines.pin(threads)
    ours = Bench([rekindle, "bench", "--device", "flex"], "", engines.environment(threads, work))
    theirs = Resident(python("torch_work.py", work), "", engines.environment(threads, work, engines.TUNED))
    theirs.set_up(cases[0])
    found = {}
    for case in cases:
        note(begun, f"{case}, {threads} threads")
        found[case] = []
        for program in (ours, theirs):
            try:
                found[case].append(program.turn(seconds_for(case, SECONDS), case)[0])
            except Failed as error:
                print(f"{case}: {error}", file=sys.stderr)
                found[case].append(None)
            time.sleep(0.1)  # threads that wait for more work spin for a while
    theirs.close()
    os.sched_setaffinity(0, cores)
    return found


def cell(pair, amount):
    """Milliseconds for each unit of work, and the ratio."""
    ours, theirs = pair
    if ours is None:
        return ""
    return ms(ours / amount) if theirs is None else f"{ms(ours / amount)} ({ours / theirs:.2f})"


def tables(rekindle, work, begun):
    by_batch = [name.format(batch) for name in BATCHED for batch in BATCHES]
    by_side = [f"forward/super_resolution/1/{side}" for side in SIDES]
    found = {threads: pairs(rekindle, work, threads, by_batch + by_side, begun) for threads in THREADS}
    print("Milliseconds for each image by batch size, in brackets the ratio to PyTorch (its allocator tuned).\n")
    rows = [[f"{name.replace('/{}', '')}, {threads} threads", *(cell(found[threads][name.format(batch)], batch) for batch in BATCHES)]
            for name in BATCHED for threads in THREADS]
    engines.table(["", *map(str, BATCHES)], rows)
    print("Milliseconds for each 1000 pixels of super-resolution by the image's side, likewise.\n")
    rows = [[f"super_resolution, {threads} threads",
             *(cell(found[threads][f"forward/super_resolution/1/{side}"], side * side / 1000) for side in SIDES)] for threads in THREADS]
    engines.table(["", *map(str, SIDES)], rows)
    threads = max(THREADS)
    files = pairs(rekindle, work, threads, [f"{kind}/{size}MB" for size in MEGABYTES for kind in KINDS], begun)
    print("Milliseconds by the size of the .pth file in MB, likewise.\n")
    engines.table(["", *map(str, MEGABYTES)], [[kind, *(cell(files[f"{kind}/{size}MB"], 1) for size in MEGABYTES)] for kind in KINDS])


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("rekindle", type=pathlib.Path)
    ap.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()))
    args = ap.parse_args()
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        tables(args.rekindle.resolve(), pathlib.Path(folder), time.time())


if __name__ == "__main__":
    main()
