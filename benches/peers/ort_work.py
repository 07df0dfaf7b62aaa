#!/usr/bin/env python3
"""An ONNX file in ONNX Runtime, in turns (see turns.py): `python ort_work.py FILE NAME=1x3x224x224:f32...`.

Floats look like images, integers are all 1. With --once it runs a single time and ends.
"""
from __future__ import annotations

import os
import sys

import numpy as np
import onnxruntime as ort

import turns


def made_up(text):
    name, kind = text.rsplit("=", 1)
    shape, kind = kind.split(":")
    shape = tuple(map(int, shape.split("x")))
    if kind == "i64":
        return name, np.ones(shape, np.int64)
    count = np.prod(shape, dtype=np.int64)
    return name, ((np.arange(count) * 37 % 255) / 127.5 - 1).astype(np.float32).reshape(shape)


def main():
    words = [word for word in sys.argv[1:] if word != "--once"]
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = int(os.environ["OMP_NUM_THREADS"]), 1
    session = ort.InferenceSession(words[0], options, providers=["CPUExecutionProvider"])
    inputs = dict(map(made_up, words[1:]))
    if "--once" in sys.argv:
        print(session.run(None, inputs)[0].sum())
    else:
        turns.serve(lambda name: lambda: session.run(None, inputs))


if __name__ == "__main__":
    main()
