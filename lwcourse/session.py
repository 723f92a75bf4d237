"""What a chapter does first: fix the seeds, and say on what it runs."""
import platform
import random

import torch

import lwcourse
from lwcourse.tables import counted


def setup(seed: int = 0) -> torch.device:
    """Seed Python, NumPy and PyTorch; print versions, device and threads; return the device to use."""
    import numpy as np

    from lwcourse.train import pick_device

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    device = pick_device()
    print(f"lwcourse {lwcourse.__version__}, PyTorch {torch.__version__}, Python {platform.python_version()}, "  # noqa: T201
          f"device {device}, {counted(torch.get_num_threads(), 'thread')}, seed {seed}")
    return device
