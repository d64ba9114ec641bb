"""The types of words modulo 2^64, and of what multiplies them.

Nothing in here computes.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]  # 2-D wherever the protocol speaks of it
Signed = NDArray[np.int64]
Kernel = Callable[[Words, Words, Words], None]  # out = a b
