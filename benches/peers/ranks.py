#!/usr/bin/env python3
"""Two ranks on this machine: rekindle on MPI beside PyTorch's DistributedDataParallel on gloo, in turns, the same networks and batches.

    python ranks.py REKINDLE [--ranks 2] [--batch 64] [--steps 60] [--rounds 3]

REKINDLE is a program with the feature `mpi`. Prints for each the best time of a step and the share of it that rank 0 spends with the
others: for DDP, how much shorter the same step is without synchronisation; for rekindle, what metrics.jsonl says.
"""
from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from networks import CifarCnn, FashionClassifier

NETWORKS = {
    "fashion_classifier": (lambda: FashionClassifier(classes=10), (1, 28, 28), F.nll_loss, "nll"),
    "cifar_cnn": (CifarCnn, (3, 32, 32), F.cross_entropy, "cross-entropy"),
}


def torch_rank(rank, args, name, port, answers):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(max(1, os.cpu_count() // args.ranks))
    distributed.init_process_group("gloo", rank=rank, world_size=args.ranks)
    make, shape, loss_of, _ = NETWORKS[name]
    model = DistributedDataParallel(make().train())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y = torch.randn(args.batch, *shape), torch.randint(10, (args.batch,))

    def step():
        optimizer.zero_grad()
        loss_of(model(x), y).backward()
        optimizer.step()

    def seconds():
        for _ in range(5):
            step()
        distributed.barrier()
        begun = time.perf_counter()
        for _ in range(args.steps):
            step()
        return (time.perf_counter() - begun) / args.steps

    together = seconds()
    with model.no_sync():
        alone = seconds()
    if rank == 0:
        answers.put((together, max(0.0, 1 - alone / together)))
    distributed.destroy_process_group()


def with_torch(args, name, port):
    context = torch.multiprocessing.get_context("spawn")
    answers = context.Queue()
    torch.multiprocessing.spawn(torch_rank, (args, name, port, answers), nprocs=args.ranks)
    return answers.get()


def cifar(folder, count):
    """Images of CIFAR-10's format; what is on them makes no difference to the time."""
    random = np.random.default_rng(0)
    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
        rows = random.integers(0, 256, (-(-count // 5), 3073), dtype=np.uint8)
        rows[:, 0] %= 10
        rows.tofile(folder / f"{name}.bin")


def with_rekindle(args, name, folder, number):
    data = "fashion-mnist-sample" if name == "fashion_classifier" else "cifar-10"
    count = min(args.steps * args.batch * args.ranks, 6000 if name == "fashion_classifier" else 10**9)
    where = "" if name == "fashion_classifier" else f'dir = "{folder}"\n'
    if where:
        cifar(folder, count)
    recipe = folder / f"{name}.toml"
    recipe.write_text(
        f'name = "{name}"\nmodel = {{ name = "{name}"{", classes = 10" if not where else ""} }}\n'
        f'[data]\nname = "{data}"\n{where}batch_size = {args.batch}\nlimit = {{ train = {count}, test = 2 }}\nworkers = 1\n'
        f'[optimizer]\nname = "adam"\nlr = 1e-3\n[train]\nepochs = 3\nloss = "{NETWORKS[name][3]}"\n'
        "[checkpoint]\nevery_epochs = 0\n"
    )
    run = folder / f"{name}-{number}"
    command = ["mpirun", "--bind-to", "none", "-np", str(args.ranks), args.rekindle, "train", recipe, "--run", run, "--device", "flex"]
    subprocess.run(command, check=True, capture_output=True)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = -(-count // (args.batch * args.ranks))
    best = min(lines[1:], key=lambda line: line["seconds"])
    return best["seconds"] / steps, best["wait_seconds"] / best["seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rekindle", type=os.path.abspath)
    for name, value in [("ranks", 2), ("batch", 64), ("steps", 60), ("rounds", 3)]:
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_rmaps_base_oversubscribe="1")
    print("network             engine     ms a step  with the others")
    with tempfile.TemporaryDirectory() as folder:
        for name in NETWORKS:
            found = {"PyTorch": [], "rekindle": []}
            for number in range(args.rounds):
                found["PyTorch"].append(with_torch(args, name, 29500 + number))
                found["rekindle"].append(with_rekindle(args, name, pathlib.Path(folder), number))
            for engine, times in found.items():
                seconds, share = min(times)
                print(f"{name:<19} {engine:<10} {seconds * 1e3:>9.2f}  {share:>15.0%}", flush=True)


if __name__ == "__main__":
    main()
