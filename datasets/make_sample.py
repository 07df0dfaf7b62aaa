#!/usr/bin/env python3
"""Makes fashion-mnist-sample: the first images of each class of Fashion-MNIST, in the original order.

    python3 make_sample.py FOLDER [OUT]

FOLDER holds the four published files (train-images-idx3-ubyte.gz and so on); OUT is
fashion-mnist-sample beside this program if not given. Needs nothing but Python. The same input
gives the same images and labels; the packed bytes may differ with the version of zlib.
"""

import gzip
import pathlib
import struct
import sys

# Images of each of the ten classes.
PER_CLASS = {"train": 600, "t10k": 100}


def read(path):
    """The sizes and the values of an idx file."""
    data = gzip.decompress(path.read_bytes())
    rank = data[3]
    sizes = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    return sizes, data[4 + 4 * rank :]


def write(path, magic, sizes, values):
    """Writes an idx file, without a name or a time in its gzip header."""
    header = struct.pack(f">{1 + len(sizes)}I", magic, *sizes)
    path.write_bytes(gzip.compress(header + values, 9, mtime=0))


def main():
    source = pathlib.Path(sys.argv[1])
    default = pathlib.Path(__file__).parent / "fashion-mnist-sample"
    out = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else default
    out.mkdir(exist_ok=True)
    for split, per_class in PER_CLASS.items():
        (_, height, width), pixels = read(source / f"{split}-images-idx3-ubyte.gz")
        _, labels = read(source / f"{split}-labels-idx1-ubyte.gz")
        size = height * width
        left = [per_class] * 10
        images, chosen = bytearray(), bytearray()
        for at, label in enumerate(labels):
            if left[label]:
                left[label] -= 1
                images += pixels[at * size : (at + 1) * size]
                chosen.append(label)
        if any(left):
            sys.exit(f"{source}: some class has fewer than {per_class} images in {split}")
        write(out / f"{split}-images-idx3-ubyte.gz", 0x803, (len(chosen), height, width), bytes(images))
        write(out / f"{split}-labels-idx1-ubyte.gz", 0x801, (len(chosen),), bytes(chosen))
        print(f"{split}: {len(chosen)} images")


if __name__ == "__main__":
    main()
