"""How tests start a run of several processes."""

from __future__ import annotations

import socket


def free_port() -> str:
    """A port of this machine that nobody listens at: one that is written down may be another run's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def torchrun(processes: int = 2) -> list[str]:
    """What comes behind `python` to start a module or a file in so many processes."""
    return ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", free_port()]
