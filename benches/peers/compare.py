#!/usr/bin/env python3
"""rekindle beside PyTorch, ONNX Runtime, tract, rten and candle: the same work, in turns, on the same cores.

    nice cargo build --release --manifest-path benches/peers/rust/Cargo.toml
    python benches/peers/compare.py path/to/rekindle [--quick] [--only REGEX] [--scaling] [--data FASHION_MNIST] [--models DIR]

Each program sets the work up and warms up; then they take turns, round after round, each for --seconds; what is printed is the median
of the rounds' medians, as Markdown. A cell of a peer is its milliseconds and rekindle's time over its own: below 1 rekindle is faster.
Memory is the peak of the process while the work ran, with its program and libraries. All programs are pinned to the first --threads
cores and told to use as many threads. "PyTorch, tuned" has an allocator that keeps its memory, which makes it faster.

Needs torch, torchvision, onnxruntime, numpy, pillow, and 4 GB in --work. Of vgg16, networks and images nothing is downloaded: weights
are drawn. A peer that cannot do a case has an empty cell; what failed is told on stderr.

* list: names and shapes of a .pth file. load: into a network that is there, mapped (`mmap=True`); rekindle checks every checksum.
* save: `torch.save` and fsync; save-unsynced: without. save-checkpoint: VGG16 with Adam's state, saved, synced and hashed;
  stall-checkpoint: for how long training stands still for that.
* cold start: a process from its start to its first prediction (super-resolution, 224×224).
* forward: "as graph" is the exported network in rekindle's interpreter of ONNX; ONNX Runtime, tract and rten run the same file.
* train-step: 64 images, or 16 of 64×64; SGD with momentum (candle has none, and no gradient of pools that overlap), Adam.
* epoch: from the compressed files to the updated weights; PyTorch transforms image by image as torchvision does, and in
  epoch-tensors all at once beforehand.
"""
from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

import engines
from engines import Bench, Failed, Process, Resident, ms, python, seconds_for

REKINDLE, GRAPH, TORCH, TUNED, ORT, TRACT, RTEN, CANDLE = (
    "rekindle", "as graph", "PyTorch", "PyTorch, tuned", "ONNX Runtime", "tract", "rten", "candle")
ENGINES = (REKINDLE, GRAPH, TORCH, TUNED, ORT, TRACT, RTEN, CANDLE)

FILES = ["list/vgg16", "load/16MB", "load/vgg16", "save-unsynced/vgg16", "save/vgg16"]
CHECKPOINT = ["save-checkpoint/vgg16", "stall-checkpoint/vgg16"]
COLD = ["cold-start/super_resolution.pth", "cold-start/super_resolution.onnx"]
FORWARD = [
    "forward/super_resolution/1", "forward/vgg16/1",
    *(f"forward/{name}/{batch}" for name in ("the_model_class", "net", "fashion_classifier", "cifar_cnn") for batch in (1, 64)),
]
TRAIN = [
    "train-step/fashion_classifier/64/sgd", "train-step/fashion_classifier/64/adam", "train-step/the_model_class/64/sgd",
    "train-step/net/64/sgd", "train-step/cifar_cnn/64/sgd", "train-step/resnet18/16/sgd/64",
    "train-step/mobilenet_v3_small/16/sgd/64", "train-step/efficientnet_b0/16/sgd/64", "train-step/vit_tiny/16/adam/64",
    "train-step/lstm_classifier/64/adam",
]
# Seconds of a run after which a program has no more turns at a case.
SLOW = 3.0
# The least that a Python program does to enlarge a picture.
COLD_TORCH = """
import sys, torch, numpy
sys.path.insert(0, r"{here}")
import networks
from PIL import Image
torch.set_num_threads({threads})
model = networks.build("super_resolution")
model.load_state_dict(torch.load(r"{work}/super_resolution.pth", weights_only=True))
model.eval()
picture = torch.from_numpy(numpy.asarray(Image.open(r"{work}/picture.png"))).float().div(255)[None, None]
with torch.inference_mode():
    out = model(picture)
Image.fromarray(out[0, 0].clamp(0, 1).mul(255).byte().numpy()).save(r"{work}/torch.png")
"""


class Setting:
    """What all cases share: programs, files, environment."""

    def __init__(self, args, work):
        self.args, self.work = args, work
        self.rekindle, self.peers = args.rekindle.resolve(), args.peers.resolve()
        self.env = engines.environment(args.threads, work)
        self.tuned = engines.environment(args.threads, work, engines.TUNED)
        self.models = self.onnx_models()
        if not self.peers.exists():
            print(f"{self.peers} is not there: tract, rten and candle are left out (build benches/peers/rust first)", file=sys.stderr)

    def onnx_models(self):
        """Graphs that PyTorch wrote, in the manner of mnist-8 and of a small DistilBERT; and those of --models."""
        models = {"like-mnist-8": ["image=1x1x28x28:f32"], "like-distilbert": ["tokens=1x128:i64"]}
        self.paths = {name: self.work / f"{name}.onnx" for name in models}
        if self.args.models:
            for path in sorted(self.args.models.glob("*.onnx")):
                models[path.stem], self.paths[path.stem] = inputs_of(path), path
        return models

    def exported(self, name):
        """A network as an ONNX file, written by rekindle from PyTorch's weights."""
        path = self.work / f"{name}.onnx"
        if name in self.models:
            path = self.paths[name]
            if not path.exists():
                self.run(python("onnx_models.py", self.work))
        elif not path.exists():
            self.run([self.rekindle, "export", name, path, "--weights", self.weights(name), "--no-verify"])
        return path

    def weights(self, name):
        path = self.work / f"{name}.pth"
        if not path.exists():
            code = f"import sys; sys.path.insert(0, {str(engines.HERE)!r}); import torch, networks; "
            code += f"torch.save(networks.build({name!r}).state_dict(), {str(path)!r})"
            self.run([sys.executable, "-c", code])
        return path

    def picture(self):
        path = self.work / "picture.png"
        if not path.exists():
            import numpy
            from PIL import Image
            x, y = numpy.meshgrid(numpy.arange(224), numpy.arange(224))
            Image.fromarray(((x * 37 + y * 11) % 255).astype(numpy.uint8)).save(path)
            numpy.save(self.work / "picture.npy", numpy.asarray(Image.open(path), numpy.float32)[None, None] / 255)
        return path

    def run(self, command):
        done = subprocess.run(list(map(str, command)), env=self.env, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(engines.complaint(done.stderr))

    # The programs of a case, as functions that start them.

    def start(self, case, engine):
        """Starts a program on a case; None where it has no part in it."""
        kind, *rest = case.split("/")
        if engine in (TRACT, RTEN, CANDLE) and not self.peers.exists():
            return None
        if kind == "cold-start":
            return self.cold(rest[0], engine)
        if kind == "onnx":
            return self.graph(case, rest[0], self.models[rest[0]], engine)
        if engine == REKINDLE:
            # There is one way to train an epoch: its times stand beside both of PyTorch's.
            return None if kind == "epoch-tensors" else self.bench(case)
        if engine == TORCH or (engine == TUNED and kind in ("forward", "train-step", "epoch", "epoch-tensors")):
            data = [self.data()] if kind.startswith("epoch") else []
            return Resident(python("torch_work.py", self.work, *data), case, self.tuned if engine == TUNED else self.env)
        if engine == CANDLE:
            words = self.candle(kind, rest)
            return words and Resident([self.peers, "candle", *words], case, self.env)
        if kind == "forward":
            import networks
            shape = "x".join(map(str, (rest[1], *networks.INPUTS[rest[0]])))
            return self.graph(case, rest[0], [f"input={shape}:f32"], engine)
        return None

    def candle(self, kind, rest):
        match kind:
            case "forward":
                return ["forward", *rest, 0]
            case "train-step":
                model, batch, optimizer, *side = rest
                return None if side or model.startswith("lstm") else ["train", model, optimizer, batch]
            case "load" | "list":
                return [kind, self.weights(rest[0])]
        return None

    def bench(self, case):
        command = [self.rekindle, "bench", "--device", "flex"]
        if case.startswith("epoch"):
            return Bench([*command, "--data", self.data()], case, self.env)
        if case in CHECKPOINT:
            return Bench(command, "save-checkpoint/vgg16", self.env, row=case)
        return Bench(command, case, self.env)

    def graph(self, case, name, inputs, engine):
        if engine == GRAPH:
            batch = inputs[0].split("=")[1].split("x")[0]
            command = [self.rekindle, "bench", "--device", "flex", "--onnx", self.exported(name)]
            return Bench([*command, "--axis", f"batch={batch}"], "", self.env)
        if engine == ORT:
            return Resident(python("ort_work.py", self.exported(name), *inputs), case, self.env)
        if engine in (TRACT, RTEN):
            return Resident([self.peers, engine, self.exported(name), *inputs], case, self.env)
        return None

    def cold(self, file, engine):
        picture = self.picture()
        weights, work, on = self.weights("super_resolution"), self.work, ["--device", "flex"]
        if file.endswith(".onnx"):
            model, inputs = self.exported("super_resolution"), "input=1x1x224x224:f32"
            command = {
                REKINDLE: [self.rekindle, "run", model, "--input", f"input={work}/picture.npy", "--output", work / "answers", *on],
                ORT: python("ort_work.py", model, inputs, "--once"),
                TRACT: [self.peers, "tract", model, inputs, "--once"],
                RTEN: [self.peers, "rten", model, inputs, "--once"],
            }.get(engine)
        else:
            command = {
                REKINDLE: [self.rekindle, "predict", "super_resolution", picture, "--weights", weights, "--normalize", "none",
                           "--output", work / "enlarged", *on],
                TORCH: [sys.executable, "-c", COLD_TORCH.format(here=engines.HERE, threads=self.args.threads, work=work)],
                CANDLE: [self.peers, "candle", "predict", weights],
            }.get(engine)
        return command and Process(command, self.env)

    def data(self):
        if self.args.data is None:
            raise Failed("the folder of Fashion-MNIST is not known: give --data")
        return self.args.data.resolve()

    def cases(self):
        cases = FILES + COLD + FORWARD + [f"onnx/{name}" for name in self.models] + TRAIN
        if self.args.data:
            cases += ["epoch/fashion_mnist", "epoch-tensors/fashion_mnist"]
        if not self.args.quick:
            cases += CHECKPOINT
        return [case for case in cases if re.search(self.args.only, case)]


def inputs_of(path):
    """Names, shapes and types of a graph's inputs; open axes have the size 1."""
    import onnx
    inputs = []
    graph = onnx.load(path, load_external_data=False).graph
    weights = {initializer.name for initializer in graph.initializer}
    for value in graph.input:
        if value.name not in weights:
            kind = "i64" if value.type.tensor_type.elem_type == onnx.TensorProto.INT64 else "f32"
            sizes = [str(axis.dim_value or 1) for axis in value.type.tensor_type.shape.dim]
            inputs.append(f"{value.name}={'x'.join(sizes)}:{kind}")
    return inputs


def measure(setting, case):
    """Medians of seconds and peaks of memory by engine."""
    args, running = setting.args, {}
    for engine in ENGINES:
        try:
            program = setting.start(case, engine)
        except Failed as error:
            print(f"{case}: {engine}: {error}", file=sys.stderr)
            continue
        if program:
            running[engine] = program
    for engine, program in list(running.items()):
        attempt(case, engine, program.set_up, running)
    seconds, peaks = {engine: [] for engine in running}, {}
    # One turn of checkpoints is four saves already; an epoch takes seconds.
    rounds = 1 if case in CHECKPOINT else min(args.rounds, 2) if case.startswith("epoch") else args.rounds
    slow = set()
    for _ in range(rounds):
        for engine, program in [pair for pair in running.items() if pair[0] not in slow]:
            answer = attempt(case, engine, lambda: program.turn(seconds_for(case, args.seconds)), running)
            if answer:
                seconds[engine].append(answer[0])
                peaks[engine] = max(peaks.get(engine) or 0, answer[1] or 0)
                if answer[0] > SLOW and not case.startswith("epoch"):
                    slow.add(engine)
            time.sleep(0.1)  # threads that wait for more work spin for a while
    for program in running.values():
        program.close()
    return {engine: {"seconds": statistics.median(seconds[engine]), "rounds": seconds[engine], "peak": peaks[engine]} for engine in running}


def attempt(case, engine, work, running):
    """Does something with a program; one that fails has no part in the case any more."""
    try:
        return work()
    except Failed as error:
        print(f"{case}: {engine}: {error}", file=sys.stderr)
        running.pop(engine).close()
        return None


def times(results):
    rows = []
    for case, found in results.items():
        ours = (found.get(REKINDLE) or found.get(GRAPH) or {}).get("seconds")
        row = [case]
        for engine in ENGINES:
            if engine not in found:
                row.append("")
            elif engine == REKINDLE or ours is None or (engine == GRAPH and REKINDLE not in found):
                row.append(f"**{ms(found[engine]['seconds'])}**")
            elif engine == GRAPH:
                row.append(ms(found[engine]["seconds"]))
            else:
                row.append(f"{ms(found[engine]['seconds'])} ({ours / found[engine]['seconds']:.2f})")
        rows.append(row)
    return rows


def memory(results):
    rows = []
    for case, found in results.items():
        mib = {engine: f"{one['peak'] / 2**20:.0f}" if one["peak"] else "" for engine, one in found.items()}
        if any(mib.values()):
            rows.append([case, *(mib.get(engine, "") for engine in ENGINES)])
    return rows


def versions(setting):
    """The processor and the versions of everything."""
    import onnxruntime
    import torch
    ours = subprocess.run([setting.rekindle, "--version"], capture_output=True, text=True).stdout.strip()
    manifest = (engines.HERE / "rust/Cargo.toml").read_text()
    tract, candle = (re.search(rf'{name} = "=([^"]+)"', manifest)[1] for name in ("tract-onnx", "candle-core"))
    rten = re.search(r'rten = \{ version = "=([^"]+)"', manifest)[1]
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    processor = model[1] if model else platform.machine()
    peers = f"PyTorch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}, tract {tract}, rten {rten}, candle {candle}"
    return f"{ours}, {peers}; {processor}, {time.strftime('%Y-%m-%d')}"


def converting(setting):
    """The peak of memory that is no mapped file, while VGG16's file is converted."""
    source, rows = setting.weights("vgg16"), []
    for extension in ("safetensors", "bpk"):
        command = [setting.rekindle, "convert", source, setting.work / f"converted.{extension}"]
        process, most = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), 0
        while process.poll() is None:
            try:
                for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
                    if line.startswith("RssAnon:"):
                        most = max(most, int(line.split()[1]))
            except (FileNotFoundError, ProcessLookupError):
                break
            time.sleep(0.002)
        if process.wait() != 0:
            print(f"convert to {extension} failed", file=sys.stderr)
            continue
        rows.append([f"convert vgg16.pth to {extension}", f"{most / 1024:.1f}"])
    return rows


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("rekindle", type=pathlib.Path)
    ap.add_argument("--peers", type=pathlib.Path, default=engines.HERE / "rust/target/release/rekindle-peers", help="tract, rten and candle")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--seconds", type=float, default=0.5, help="of each program in each round")
    ap.add_argument("--only", default="", help="cases that this regular expression is found in")
    ap.add_argument("--minutes", type=float, help="begin no other case after these; --scaling and memory of conversions come on top")
    ap.add_argument("--quick", action="store_true", help="one short round, and no checkpoints")
    ap.add_argument("--scaling", action="store_true", help="also how times grow with batch, image, threads and file (scaling.py)")
    ap.add_argument("--data", type=pathlib.Path, help="the folder of Fashion-MNIST's files")
    ap.add_argument("--models", type=pathlib.Path, help="a folder of ONNX files that are timed too")
    ap.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()))
    ap.add_argument("--json", type=pathlib.Path, help="everything that was measured")
    args = ap.parse_args()
    if args.quick:
        args.rounds, args.seconds = 1, min(args.seconds, 0.2)
    begun, cores = time.time(), os.sched_getaffinity(0)
    engines.pin(args.threads)
    results = {}
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        setting = Setting(args, pathlib.Path(folder))
        try:
            for case in setting.cases():
                if args.minutes and time.time() - begun > 60 * args.minutes:
                    print(f"left out after {args.minutes:g} minutes: {case}", file=sys.stderr)
                    continue
                results[case] = measure(setting, case)
                if case.startswith("epoch-tensors") and REKINDLE in results.get(case.replace("-tensors", ""), {}):
                    results[case] = {REKINDLE: results[case.replace("-tensors", "")][REKINDLE]} | results[case]
                told = ", ".join(f"{engine} {ms(one['seconds'])}" for engine, one in results[case].items())
                print(f"{time.time() - begun:5.0f} s  {case}: {told}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("interrupted: what was measured so far follows", file=sys.stderr)
            args.scaling = False
        print(f"{versions(setting)}.\n")
        print(f"Milliseconds on {args.threads} threads, in brackets rekindle's time over the peer's.\n")
        engines.table(["", *ENGINES], times(results))
        print("Peak of memory in MiB, program and libraries included.\n")
        engines.table(["", *ENGINES], memory(results))
        if not args.only:
            engines.table(["", "MiB beside the mapped file"], converting(setting))
        if args.json:
            args.json.write_text(json.dumps(results, indent=1))
        if args.scaling:
            import scaling
            os.sched_setaffinity(0, cores)
            scaling.tables(setting.rekindle, setting.work, begun)
    print(f"{time.time() - begun:.0f} s in all", file=sys.stderr)


if __name__ == "__main__":
    main()
