#!/usr/bin/env python3
"""Ranks on this machine: rekindle on MPI beside PyTorch's DistributedDataParallel on gloo, in turns, the same networks and batches.

    python ranks.py REKINDLE [--ranks 2] [--rounds 3] [--seconds 3] [--only NETWORK ...]

REKINDLE is a program with the feature `mpi`. Prints for each the best time of a step and the share of it that rank 0 spends with the
others: for DDP, how much longer the same step is than without synchronisation; for rekindle, what metrics.jsonl says. rekindle's steps
hold the decoding of their images, PyTorch's have one batch again and again. PyTorch's allocator is tuned to keep its memory.
"""
from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Callable

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

import engines
from networks import CifarCnn, FashionClassifier


@dataclass(frozen=True)
class Network:
    make: Callable[[], torch.nn.Module]
    model: str
    data: str
    shape: tuple[int, int, int]
    batch: int
    loss: str = "cross-entropy"


NETWORKS = {
    "fashion_classifier": Network(lambda: FashionClassifier(classes=10), "classes = 10", "fashion-mnist-sample", (1, 28, 28), 64, "nll"),
    "cifar_cnn": Network(CifarCnn, "", "cifar-10", (3, 32, 32), 64),
    "resnet18": Network(lambda: torchvision.models.resnet18(num_classes=10), "classes = 10", "cifar-10", (3, 64, 64), 16),
    "mobilenet_v3_small": Network(
        lambda: torchvision.models.mobilenet_v3_small(num_classes=10), "classes = 10", "cifar-10", (3, 64, 64), 16
    ),
}
LOSSES = {"nll": F.nll_loss, "cross-entropy": F.cross_entropy}
# Images of the built-in sample, with which an epoch has to do.
SAMPLE = 6000


def torch_rank(rank, args, name, port, answers):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(max(1, os.cpu_count() // args.ranks))
    distributed.init_process_group("gloo", rank=rank, world_size=args.ranks)
    network = NETWORKS[name]
    model = DistributedDataParallel(network.make().train())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y = torch.randn(network.batch, *network.shape), torch.randint(10, (network.batch,))

    def step():
        optimizer.zero_grad()
        LOSSES[network.loss](model(x), y).backward()
        optimizer.step()

    def timed(count):
        distributed.barrier()
        begun = time.perf_counter()
        for _ in range(count):
            step()
        return (time.perf_counter() - begun) / count

    timed(5)
    # As many steps on every rank: rank 0's clock says.
    steps = torch.tensor([max(3, int(args.seconds / timed(3)))])
    distributed.broadcast(steps, 0)
    together = min(timed(int(steps)) for _ in range(2))
    with model.no_sync():
        alone = min(timed(int(steps)) for _ in range(2))
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


def with_rekindle(args, name, folder, number, about):
    """`about` is how long a step takes about, from which the length of an epoch follows."""
    network = NETWORKS[name]
    count = max(3, int(args.seconds / about)) * network.batch * args.ranks
    data = f'name = "{network.data}"\nbatch_size = {network.batch}\nworkers = 1\n'
    if network.data == "cifar-10":
        cifar(folder, count)
        data += f'dir = "{folder}"\nresize = [{network.shape[1]}, {network.shape[2]}]\n'
    else:
        count = min(count, SAMPLE)
    recipe = folder / f"{name}.toml"
    recipe.write_text(
        f'name = "{name}"\n[model]\nname = "{name}"\n{network.model}\n[data]\n{data}limit = {{ train = {count}, test = 2 }}\n'
        f'[optimizer]\nname = "adam"\nlr = 1e-3\n[train]\nepochs = 3\nloss = "{network.loss}"\n[checkpoint]\nevery_epochs = 0\n'
    )
    run = folder / f"{name}-{number}"
    command = ["mpirun", "--bind-to", "none", "-np", str(args.ranks), args.rekindle, "train", recipe, "--run", run, "--device", "flex"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{name}: {done.stderr}")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = -(-count // (network.batch * args.ranks))
    best = min(lines[1:], key=lambda line: line["seconds"])
    return best["seconds"] / steps, best["wait_seconds"] / best["seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rekindle", type=os.path.abspath)
    for name, value in [("ranks", 2), ("rounds", 3)]:
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seconds", type=float, default=3.0, help="of an epoch of each")
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    args = parser.parse_args()
    os.environ.update(engines.TUNED)
    os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_rmaps_base_oversubscribe="1")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only:
            theirs, ours = [], []
            for number in range(args.rounds):
                theirs.append(with_torch(args, name, 29500 + number))
                ours.append(with_rekindle(args, name, pathlib.Path(folder), number, theirs[0][0]))
            (gloo, gloo_share), (mpi, mpi_share) = min(theirs), min(ours)
            rows.append(
                [f"{name}, {NETWORKS[name].batch} a rank", f"{gloo * 1e3:.2f}", f"{mpi * 1e3:.2f}", f"{mpi / gloo:.2f}",
                 f"{gloo_share:.0%}", f"{mpi_share:.0%}"]
            )
            print("|", " | ".join(rows[-1]), "|", flush=True)
    print(f"\nMilliseconds a step, {args.ranks} ranks that share {os.cpu_count()} cores.\n")
    engines.table(["step", "PyTorch on gloo", "rekindle on MPI", "ratio", "with the others, PyTorch", "rekindle"], rows)


if __name__ == "__main__":
    main()
