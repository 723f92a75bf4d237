"""What a chapter does first: fix the seeds, and say on what it runs."""
import platform
import random

import torch

import lwcourse


def pick_device() -> torch.device:
    """A CUDA graphics card when there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def setup(seed: int = 0) -> torch.device:
    """Seed Python, NumPy and PyTorch; print versions, device and threads; return the device to use."""
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    device = pick_device()
    print(f"lwcourse {lwcourse.__version__}, PyTorch {torch.__version__}, Python {platform.python_version()}, "  # noqa: T201
          f"device {device}, {torch.get_num_threads()} threads, seed {seed}")
    return device
