#!/usr/bin/env python3
"""Save, list and load a VGG16 state dict (528 MB) in PyTorch and in rekindle, in turn, and print the ratios.

    python state_torch.py path/to/rekindle [--threads 2] [--rounds 3] [--work DIR]

Medians of seven runs a round, and the median of the rounds; PyTorch and rekindle take turns, so that both meet the same
machine. Needs torch and torchvision, and 2 GB in DIR (the temporary folder by default).

* list: `torch.load(mmap=True)`, which reads no values, beside opening and listing.
* load: `torch.load(mmap=True, weights_only=True)` and `load_state_dict` into a network that was built before, beside opening,
  checking every checksum (which reads every byte) and loading into a network on flex.
* save: `torch.save`, which leaves the file in the system's cache, beside the same; then with fsync on both sides.

It also converts the file to safetensors and burnpack and prints the peak of memory that is no mapped file (RssAnon in
/proc/PID/status, read every two milliseconds).
"""
from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import torch
import torchvision


def median(run, runs=7):
    run()
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def save(state, path, sync):
    with open(path, "wb") as file:
        torch.save(state, file)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def torch_times(model, state, path, out):
    return {
        "list/vgg16": median(lambda: torch.load(path, weights_only=True, mmap=True)),
        "load/vgg16": median(lambda: model.load_state_dict(torch.load(path, weights_only=True, mmap=True))),
        "save-unsynced/vgg16": median(lambda: save(state, out, False)),
        "save/vgg16": median(lambda: save(state, out, True)),
    }


def rekindle_times(binary, names, work):
    command = [binary, "bench", *names, "--device", "flex", "--json"]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"TMPDIR": str(work)}).stdout)
    return {row["name"]: row["median_seconds"] for row in rows if row["name"] in names}


def peak(command):
    """The greatest RssAnon of a process, in MiB."""
    process, most = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), 0
    while process.poll() is None:
        try:
            for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    most = max(most, int(line.split()[1]))
        except (FileNotFoundError, ProcessLookupError):
            break
        time.sleep(0.002)
    if process.wait() != 0:
        raise SystemExit(f"{command} failed")
    return most / 1024


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("rekindle")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()))
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    model = torchvision.models.vgg16(weights=None)
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        work = pathlib.Path(folder)
        path, out = work / "vgg16.pth", work / "out.pth"
        torch.save(model.state_dict(), path)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        rounds = []
        for _ in range(args.rounds):
            peer = torch_times(model, state, path, out)
            rounds.append((peer, rekindle_times(args.rekindle, list(peer), work)))
        print(f"{'':22} {'PyTorch':>10} {'rekindle':>10} {'ratio':>7}")
        for name in rounds[0][0]:
            theirs, ours = (statistics.median(side[name] for side in sides) for sides in zip(*rounds))
            print(f"{name:22} {theirs * 1e3:7.1f} ms {ours * 1e3:7.1f} ms {ours / theirs:7.2f}")
        for extension in ("safetensors", "bpk"):
            memory = peak([args.rekindle, "convert", str(path), str(work / f"converted.{extension}")])
            print(f"convert to {extension:11} {memory:7.1f} MiB of memory beside the mapped file")


if __name__ == "__main__":
    main()
