"""Data parallelism over single-threaded processes.

On shared cores one process per core beats two threads: ranks wait for each other once per step,
threads at every operator.
"""

import subprocess
import sys

import torch
import torch.distributed as dist


def start(work, rank, ranks):
    """Joins the group; rank 0 starts the others with its own command line. Returns their handles."""
    if ranks == 1:
        return []
    meeting = work / "rendezvous"
    others = []
    if rank == 0:
        work.mkdir(parents=True, exist_ok=True)
        meeting.unlink(missing_ok=True)
        others = [subprocess.Popen([sys.executable, *sys.argv, "--rank", str(r)]) for r in range(1, ranks)]
    dist.init_process_group("gloo", init_method=f"file://{meeting.resolve()}", rank=rank, world_size=ranks)
    return others


def average(params, facts, ranks):
    """Averages the gradients over the ranks; returns rank 0's facts (floats; the others pass zeros)."""
    if ranks == 1:
        return facts
    grads = [p.grad for p in params]
    flat = torch.cat([g.reshape(-1) for g in grads] + [torch.tensor(facts, dtype=torch.float32)])
    dist.all_reduce(flat)
    at = 0
    for g in grads:
        g.copy_(flat[at:at + g.numel()].view_as(g)).div_(ranks)
        at += g.numel()
    return flat[at:].tolist()
