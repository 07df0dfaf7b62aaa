"""The programs that are compared: how each is started and asked for a turn."""
from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent

# glibc gives large blocks back to the system and faults them in again at every step; with these PyTorch is faster.
TUNED = {"MALLOC_TRIM_THRESHOLD_": "1000000000", "MALLOC_MMAP_THRESHOLD_": "1000000000"}


def pin(threads):
    """This process and all that it starts, on the first cores."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < threads:
        raise SystemExit(f"{threads} threads were asked for, and there are {len(cores)} cores")
    os.sched_setaffinity(0, set(cores[:threads]))


def environment(threads, work, extra=None):
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "MATMUL_NUM_THREADS")
    return os.environ | {name: str(threads) for name in names} | {"TMPDIR": str(work), "RUST_BACKTRACE": "0"} | (extra or {})


# Seconds of a turn at saving: the first runs of a process meet memory that it has never used, which in a virtual machine may be slow.
SAVING = 3.0


def seconds_for(case, seconds):
    """How long a turn at a case is: a file of gigabytes must be saved several times too."""
    if not case.startswith("save"):
        return seconds
    megabytes = case.rpartition("/")[2].removesuffix("MB")
    return max(seconds, SAVING, int(megabytes) / 100 if megabytes.isdigit() else 0)


class Failed(Exception):
    """A program ended or complained instead of answering."""


class Resident:
    """A program that stays and takes turns (turns.py): set up once, measured whenever it is its turn."""

    def __init__(self, command, case, env):
        self.case, self.errors = case, tempfile.TemporaryFile()
        command = list(map(str, command))
        # The cores that the caller is on; none of the others.
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)

    def set_up(self, case=None):
        """Waits until nothing but turns is left to do."""
        self._answer()
        self._ask(case, 0)
        self._answer()

    def turn(self, seconds, case=None):
        self._ask(case, seconds)
        answer = json.loads(self._answer())
        return statistics.median(answer["seconds"]), answer["peak"]

    def _ask(self, case, seconds):
        try:
            self.process.stdin.write(f"{case or self.case} {seconds}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # what it said is read below

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            raise Failed(complaint(self.errors.read().decode(errors="replace")))
        return line

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
        self.errors.close()


class Bench:
    """`rekindle bench`, a process for each turn."""

    # Answers of more than one row, so that the work is not done again for the next of them.
    answers = {}

    def __init__(self, command, case, env, row=None):
        self.command, self.case, self.env, self.row = list(map(str, command)), case, env, row

    def set_up(self):
        pass

    def turn(self, seconds, case=None):
        command = [*self.command, case or self.case, "--json", "--runs", "100000", "--seconds", str(max(seconds, 0.01))]
        rows = self.answers.get(tuple(command))
        if rows is None:
            done = subprocess.run([word for word in command if word], env=self.env, capture_output=True, text=True)
            if done.returncode != 0:
                raise Failed(complaint(done.stderr))
            rows = json.loads(done.stdout)
        if self.row:
            self.answers[tuple(command)] = rows
        row = next(row for row in rows if self.row is None or row["name"] == self.row)
        return row["median_seconds"], row["peak_memory_bytes"]

    def close(self):
        pass


class Process:
    """A whole process, from its start to its end."""

    def __init__(self, command, env, repeat=3):
        self.command, self.env, self.repeat = list(map(str, command)), env, repeat

    def set_up(self):
        self.once()  # its files are then in the system's cache

    def once(self):
        started = time.perf_counter()
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(self.command, env=self.env, stdout=subprocess.DEVNULL, stderr=errors)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                errors.seek(0)
                raise Failed(complaint(errors.read().decode(errors="replace")))
        return time.perf_counter() - started, usage.ru_maxrss * 1024

    def turn(self, _seconds):
        runs = [self.once() for _ in range(self.repeat)]
        return statistics.median(seconds for seconds, _ in runs), max(peak for _, peak in runs)

    def close(self):
        pass


def complaint(text):
    """The line of an error that says what it is."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    named = [line for line in lines if line.lower().startswith("error")]
    return (named or lines[-1:] or ["it ended without a word"])[0]


def python(script, *arguments):
    return [sys.executable, HERE / script, *arguments]


def ms(seconds):
    value = seconds * 1e3
    for limit, digits in ((100, 0), (10, 1), (1, 2)):
        if value >= limit:
            return f"{value:.{digits}f}"
    return f"{value:.3f}"


def table(header, rows):
    """Markdown: the first column to the left, the others to the right."""
    print("| " + " | ".join(header) + " |")
    print("|---" + "|---:" * (len(header) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)
