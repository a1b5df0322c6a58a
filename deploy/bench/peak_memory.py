"""The most memory that this process held, on Linux."""

import os
from pathlib import Path


def reset_peak_memory() -> int:
    """Begin anew to watch the peak of resident memory; returns what is resident now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_memory_bytes() -> int:
    """The most that was resident since then."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kilobytes) * 1_024
