#!/usr/bin/env python3
"""Records a short session of the program as an animated SVG that needs no player.

    python docs/images/record.py PATH_OF_REKINDLE > docs/images/terminal.svg

Each command runs in one empty folder on a pseudo terminal; each line appears when it was printed, long waits shortened. Standard
library only.
"""
import html
import os
import pty
import re
import sys
import tempfile
import time

COMMANDS = [
    "rekindle train fashion_mnist_sample --epochs 3 --device flex",
    "rekindle export checkpoints/fashion_mnist_sample clothes.onnx",
    "rekindle inspect clothes.onnx | head -n 12",
]
WIDTH, LONGEST, PAUSE = 118, 0.6, 1.2  # characters; seconds between lines at most; seconds before a command


def run(command, folder, program):
    """(seconds, line) as they are finished; what a carriage return wrote over is left out."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ.update(PATH=os.path.dirname(program) + ":" + os.environ["PATH"], COLUMNS=str(WIDTH), NO_COLOR="1", TERM="dumb")
        os.execvp("bash", ["bash", "-c", command])
    started, text = time.time(), b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            break
        if not piece:
            break
        text += piece
        while b"\n" in text:
            line, text = text.split(b"\n", 1)
            line = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", line.rstrip(b"\r")).rsplit(b"\r", 1)[-1]
            yield time.time() - started, line.decode(errors="replace")
    os.waitpid(pid, 0)


def main():
    program = os.path.abspath(sys.argv[1])
    at, shown = 0.3, []
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            shown.append((at, "$ " + command, True))
            before, at = 0.0, at + PAUSE / 2
            for seconds, line in run(command, folder, program):
                at += min(seconds - before, LONGEST)
                before = seconds
                for start in range(0, max(len(line), 1), WIDTH):
                    shown.append((at, line[start : start + WIDTH], False))
            at += PAUSE
    height = 20 * len(shown) + 40
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH * 8 + 40}" height="{height}" role="img" aria-label="A session of rekindle">')
    print("<style>text{font:13px ui-monospace,monospace;fill:#d8dee9;white-space:pre;animation:show .01s both}.c{fill:#88c0d0}"
          "@keyframes show{from{opacity:0}}@media(prefers-reduced-motion:reduce){text{animation:none}}</style>")
    print(f'<rect width="100%" height="{height}" rx="10" fill="#20242c"/>')
    for row, (seconds, line, is_command) in enumerate(shown):
        kind = ' class="c"' if is_command else ""
        print(f'<text{kind} x="20" y="{34 + 20 * row}" xml:space="preserve" style="animation-delay:{seconds:.2f}s">{html.escape(line)}</text>')
    print("</svg>")


if __name__ == "__main__":
    main()
