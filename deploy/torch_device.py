"""Where torch computes."""

import torch


def torch_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA where there is a device, else the CPU.

    >>> torch_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
