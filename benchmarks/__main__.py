"""`python -m benchmarks [step | serve | messages | alignment | memory | ring | statistics | rates]`: measures.

By default all but the last, which wants to know where its tables are.
"""

import sys

from benchmarks import alignment, memory, messages, rates, ring, serve, statistics, step

ALL = {
    "step": step.main,
    "serve": serve.main,
    "messages": messages.main,
    "alignment": alignment.main,
    "memory": memory.main,
    "ring": ring.main,
    "statistics": statistics.main,
}
NAMED = ALL | {"rates": rates.main}  # which takes an argument

if __name__ == "__main__":
    chosen = sys.argv[1:2] if sys.argv[1:2] and sys.argv[1] in NAMED else []
    del sys.argv[1 : 1 + len(chosen)]
    for name in chosen or ALL:
        NAMED[name]()
