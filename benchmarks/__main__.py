"""`python -m benchmarks [step | alignment | memory | ring]`: what there is to measure; all of it by default."""

import sys

from benchmarks import alignment, memory, ring, step

ALL = {"step": step.main, "alignment": alignment.main, "memory": memory.main, "ring": ring.main}

if __name__ == "__main__":
    chosen = sys.argv[1:2] if sys.argv[1:2] and sys.argv[1] in ALL else []
    del sys.argv[1 : 1 + len(chosen)]
    for name in chosen or ALL:
        ALL[name]()
