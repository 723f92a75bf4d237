"""What a chapter does first: fix the seeds, and say on what it runs."""
import platform
import random

import torch

import lwcourse
from lwcourse.tables import counted


def setup(seed: int = 0) -> torch.device:
    """Seed Python, NumPy and PyTorch; print versions, device and threads; return the device to use.

    Raises ValueError unless `seed` is a whole number from 0 to 2^32 - 1, what all three take.
    """
    import numpy as np

    from lwcourse.train import pick_device

    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to {2**32 - 1}, got {seed!r}")
    seed = int(seed)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    device = pick_device()
    print(f"lwcourse {lwcourse.__version__}, PyTorch {torch.__version__}, Python {platform.python_version()}, "  # noqa: T201
          f"device {device}, {counted(torch.get_num_threads(), 'thread')}, seed {seed}")
    return device
