"""Muon for matrices, AdamW for everything else; both take the schedule's factor per step."""

import torch


def orthogonalise(g, steps=5):
    """Newton-Schulz iteration towards the orthogonal factor of g [..., M, N] (bfloat16)."""
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True) + 1e-7).bfloat16()
    for _ in range(steps):
        a = x @ x.mT
        b = -4.7750 * a + 2.0315 * (a @ a)
        x = 3.4445 * x + b @ x
    return (x.mT if tall else x).float()


def matrix_view(name, p):
    """p as a batch of matrices: one per expert, gate and up apart; None when Muon does not apply."""
    if name.endswith("gate_up_proj"):
        return p.view(p.shape[0] * 2, p.shape[1] // 2, p.shape[2])
    if name.endswith("down_proj") and p.dim() == 3:
        return p
    adam = ("embed_tokens", "lm_head", "mlp.gate.", "shared_expert_gate", "conv1d", "in_proj_a", "in_proj_b")
    return p if p.dim() == 2 and not any(a in name for a in adam) else None


class Optimiser:
    """Keeps the moments in plain tensors, so that a checkpoint is one dictionary."""

    def __init__(self, named, muon_lr=0.02, adam_lr=3e-3, momentum=0.95, betas=(0.9, 0.98), decay=0.02):
        self.named = list(named)
        self.muon_lr, self.adam_lr, self.momentum, self.betas, self.decay = muon_lr, adam_lr, momentum, betas, decay
        self.state = {}
        self.count = 0

    def zero(self):
        """Forgets the gradients."""
        for _, p in self.named:
            p.grad = None

    @torch.no_grad()
    def step(self, factor):
        """One update with both learning rates scaled by factor."""
        self.count += 1
        torch.nn.utils.clip_grad_norm_([p for _, p in self.named if p.grad is not None], 1.0)
        for name, p in self.named:
            if p.grad is None:
                continue
            if matrix_view(name, p) is not None:
                self.muon(name, p, factor)
            else:
                self.adam(name, p, factor)

    def muon(self, name, p, factor):
        buf = self.state.setdefault(name, torch.zeros_like(p))
        buf.lerp_(p.grad, 1 - self.momentum)
        g = matrix_view(name, p.grad.lerp(buf, self.momentum))
        rows, cols = g.shape[-2:]
        lr = self.muon_lr * factor
        p.mul_(1 - lr * self.decay)
        p.sub_(orthogonalise(g).view_as(p) * (lr * max(1.0, rows / cols) ** 0.5))

    def adam(self, name, p, factor):
        m, v = self.state.setdefault(name, (torch.zeros_like(p), torch.zeros_like(p)))
        m.lerp_(p.grad, 1 - self.betas[0])
        v.lerp_(p.grad.square(), 1 - self.betas[1])
        c1, c2 = 1 - self.betas[0] ** self.count, 1 - self.betas[1] ** self.count
        p.sub_(m / c1 / ((v / c2).sqrt() + 1e-8) * (self.adam_lr * factor))
