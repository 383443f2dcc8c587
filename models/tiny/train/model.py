"""Training model: the published Qwen3.5-MoE text maths in plain PyTorch, tuned for a CPU.

Parameter names equal the checkpoint's (`model.language_model.*`, `lm_head.weight`, `mtp.*`).
Several documents may share a row: `doc` ids cut attention, the convolution and the
recurrent state at document borders, so packing leaks nothing.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Shape:
    """Sizes of the network; the defaults are the shipped model's."""

    vocab: int = 3072
    hidden: int = 256
    layers: int = 8
    interval: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    rotary: int = 16
    theta: float = 1e7
    lin_k_heads: int = 2
    lin_v_heads: int = 4
    lin_dim: int = 32
    conv: int = 4
    experts: int = 16
    top_k: int = 2
    width: int = 128
    shared_width: int = 128
    eps: float = 1e-6
    chunk: int = 64

    def is_full(self, i):
        """True when layer i is a full-attention layer."""
        return (i + 1) % self.interval == 0


def param(*shape, std=None):
    """A parameter drawn from N(0, std), std defaulting to 1/sqrt(fan_in)."""
    std = 1.0 / math.sqrt(shape[-1]) if std is None else std
    return nn.Parameter(torch.randn(*shape) * std)


class Weight(nn.Module):
    """Holder that gives a tensor the name `<module>.weight`."""

    def __init__(self, tensor):
        super().__init__()
        self.weight = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)


def linear(x, holder):
    """x @ W^T in the dtype chosen by autocast."""
    return F.linear(x, holder.weight)


def rms1p(x, holder, eps=1e-6):
    """Zero-centred RMS norm: x / rms(x) * (1 + w), in float32."""
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * (1.0 + holder.weight)


class Experts(torch.autograd.Function):
    """Routed SwiGLU over rows sorted by expert; one matmul per expert and projection.

    Rows x [N, H] are already sorted, `counts[e]` of them per expert. The compute dtype is
    `dtype`; gradients of the weights are accumulated in float32.
    """

    @staticmethod
    def forward(ctx, x, gate_up, down, counts, dtype):
        xs, wg, wd = x.to(dtype), gate_up.to(dtype), down.to(dtype)
        h = torch.empty(x.shape[0], wg.shape[1], dtype=dtype)
        y = torch.empty(x.shape[0], wd.shape[1], dtype=dtype)
        spans, start = [], 0
        for n in counts:
            spans.append((start, start + n))
            start += n
        for e, (a, b) in enumerate(spans):
            if b > a:
                torch.mm(xs[a:b], wg[e].t(), out=h[a:b])
        g, u = h.chunk(2, dim=-1)
        act = F.silu(g) * u
        for e, (a, b) in enumerate(spans):
            if b > a:
                torch.mm(act[a:b], wd[e].t(), out=y[a:b])
        ctx.save_for_backward(xs, h, act, wg, wd)
        ctx.spans, ctx.in_dtype = spans, x.dtype
        return y

    @staticmethod
    def backward(ctx, dy):
        xs, h, act, wg, wd = ctx.saved_tensors
        dy = dy.to(xs.dtype).contiguous()
        da = torch.empty_like(act)
        dwg, dwd = torch.zeros_like(wg), torch.zeros_like(wd)
        for e, (a, b) in enumerate(ctx.spans):
            if b > a:
                torch.mm(dy[a:b], wd[e], out=da[a:b])
                torch.mm(dy[a:b].t(), act[a:b], out=dwd[e])
        g, u = h.chunk(2, dim=-1)
        s = torch.sigmoid(g)
        dh = torch.cat([da * u * s * (1 + g * (1 - s)), da * g * s], dim=-1)
        dx = torch.empty_like(xs)
        for e, (a, b) in enumerate(ctx.spans):
            if b > a:
                torch.mm(dh[a:b], wg[e], out=dx[a:b])
                torch.mm(dh[a:b].t(), xs[a:b], out=dwg[e])
        return dx.to(ctx.in_dtype), dwg.float(), dwd.float(), None, None


def padded_slots(experts, counts, unit_rows=128):
    """(slot of each sorted row, rows per expert) with every expert rounded up to unit_rows.

    The matmul library compiles a kernel per shape, so few distinct shapes matter more than
    the wasted rows; padding rows carry weight 0.
    """
    padded = (counts + unit_rows - 1) // unit_rows * unit_rows
    shift = (padded.cumsum(0) - padded) - (counts.cumsum(0) - counts)
    return torch.arange(experts.numel()) + shift[experts], padded.tolist()


class MoE(nn.Module):
    """Top-k softmax router, fused experts, and a sigmoid-gated shared expert."""

    def __init__(self, s):
        super().__init__()
        self.s = s
        self.gate = Weight(param(s.experts, s.hidden, std=0.5 / math.sqrt(s.hidden)))
        self.experts = nn.Module()
        self.experts.gate_up_proj = param(s.experts, 2 * s.width, s.hidden)
        self.experts.down_proj = param(s.experts, s.hidden, s.width, std=0.3 / math.sqrt(s.width))
        self.shared_expert = nn.Module()
        self.shared_expert.gate_proj = Weight(param(s.shared_width, s.hidden))
        self.shared_expert.up_proj = Weight(param(s.shared_width, s.hidden))
        self.shared_expert.down_proj = Weight(param(s.hidden, s.shared_width, std=0.3 / math.sqrt(s.shared_width)))
        self.shared_expert_gate = Weight(param(1, s.hidden))

    def forward(self, x, dtype, stats):
        """x [N, H] float32 -> [N, H]; appends (counts, aux loss) to stats."""
        s, n = self.s, x.shape[0]
        probs = F.softmax(F.linear(x.float(), self.gate.weight), dim=-1)
        top, idx = probs.topk(s.top_k, dim=-1)
        top = top / top.sum(-1, keepdim=True)
        flat = idx.reshape(-1)
        order = torch.argsort(flat, stable=True)
        counts = torch.bincount(flat, minlength=s.experts)
        share = counts.float() / flat.numel()
        stats.append((counts, s.experts * (share * probs.mean(0)).sum()))
        slots, padded = padded_slots(flat.index_select(0, order), counts)
        rows = torch.zeros(sum(padded), dtype=torch.long).index_copy_(0, slots, order // s.top_k)
        scale = torch.zeros(sum(padded)).index_copy(0, slots, top.reshape(-1).index_select(0, order))
        y = Experts.apply(x.index_select(0, rows), self.experts.gate_up_proj, self.experts.down_proj, padded, dtype)
        routed = torch.zeros_like(x).index_add_(0, rows, y.float() * scale.unsqueeze(1))
        return routed + self.shared(x)

    def shared(self, x):
        """The shared expert, scaled by its sigmoid gate."""
        e = self.shared_expert
        y = linear(F.silu(linear(x, e.gate_proj)) * linear(x, e.up_proj), e.down_proj)
        return torch.sigmoid(linear(x, self.shared_expert_gate).float()) * y.float()


class DeltaNet(nn.Module):
    """Gated DeltaNet mixer (chunked form, float32 recurrence)."""

    def __init__(self, s):
        super().__init__()
        self.s = s
        k, v = s.lin_k_heads * s.lin_dim, s.lin_v_heads * s.lin_dim
        self.in_proj_qkv = Weight(param(2 * k + v, s.hidden))
        self.conv1d = Weight(param(2 * k + v, 1, s.conv, std=0.1))
        self.start_as_induction(k)
        self.in_proj_z = Weight(param(v, s.hidden))
        self.in_proj_b = Weight(param(s.lin_v_heads, s.hidden))
        self.in_proj_a = Weight(param(s.lin_v_heads, s.hidden, std=0.2 / math.sqrt(s.hidden)))
        dt = torch.exp(torch.empty(s.lin_v_heads).uniform_(math.log(5e-4), math.log(5e-3)))
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.A_log = nn.Parameter(torch.empty(s.lin_v_heads).uniform_(1, 8).log())
        self.norm = Weight(torch.ones(s.lin_dim))
        self.out_proj = Weight(param(s.hidden, v, std=0.3 / math.sqrt(v)))

    @torch.no_grad()
    def start_as_induction(self, k):
        """Starts the layer as "what followed these tokens before?", which recall needs.

        Query and key rows are equal, and the keys' filters lag one token behind the queries':
        the key written with token s describes tokens s-1 and s-2, the query of t describes
        t and t-1. From a plain start this alignment takes most of a small training budget.
        Half of the key heads look mostly at the last token (copying), half at the one before it
        (`key = value`). Small taps keep SiLU near its linear part, so unlike keys stay unlike.
        """
        w, qkv = self.conv1d.weight, self.in_proj_qkv.weight
        qkv[k:2 * k] = qkv[:k]
        w[: 2 * k] = 0
        for head, taps in enumerate(((0.1, 0.3, 0.02), (0.3, 0.1, 0.02))):
            rows = slice(head * self.s.lin_dim, (head + 1) * self.s.lin_dim)
            sign = torch.randn(self.s.lin_dim, 3).sign() * torch.tensor(taps)
            for lag in range(3):
                w[:k][rows, 0, -1 - lag] = sign[:, lag]
                w[k:2 * k][rows, 0, -2 - lag] = sign[:, lag]
        w[2 * k:, 0, -1] += 1.0

    def convolve(self, x, doc):
        """Depthwise causal convolution over [B, T, C] that stops at document borders."""
        w = self.conv1d.weight[:, 0, :].to(x.dtype)
        y = x * w[:, -1]
        for back in range(1, self.s.conv):
            same = (doc[:, back:] == doc[:, :-back]).unsqueeze(-1)
            y = y + F.pad(x[:, :-back] * w[:, -1 - back] * same, (0, 0, back, 0))
        return F.silu(y)

    def forward(self, x, ctx):
        """x [B, T, H] -> [B, T, H]; T a multiple of the chunk."""
        s, (b, t, _) = self.s, x.shape
        k_dim = s.lin_k_heads * s.lin_dim
        mixed = self.convolve(linear(x, self.in_proj_qkv), ctx["doc"]).float()
        q, k, v = mixed.split([k_dim, k_dim, s.lin_v_heads * s.lin_dim], dim=-1)
        z = linear(x, self.in_proj_z).float().view(b, t, s.lin_v_heads, s.lin_dim)
        xf = x.float()
        beta = torch.sigmoid(F.linear(xf, self.in_proj_b.weight))
        g = -self.A_log.exp() * F.softplus(F.linear(xf, self.in_proj_a.weight) + self.dt_bias)
        g = g.masked_fill(ctx["first"].unsqueeze(-1), -40.0)
        rep = s.lin_v_heads // s.lin_k_heads
        q, k = (unit(a.view(b, t, s.lin_k_heads, s.lin_dim)).repeat_interleave(rep, 2) for a in (q, k))
        o = delta_rule(q * s.lin_dim**-0.5, k, v.view(b, t, s.lin_v_heads, s.lin_dim), g, beta, s.chunk)
        o = o * torch.rsqrt(o.pow(2).mean(-1, keepdim=True) + s.eps) * self.norm.weight * F.silu(z)
        return linear(o.reshape(b, t, -1), self.out_proj).float()


def unit(x):
    """L2-normalise the last axis with eps inside the root."""
    return x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) + 1e-6)


def inverse_unit_lower(a):
    """(I + a)^-1 for strictly lower triangular a [..., C, C], by doubling (a is nilpotent)."""
    c = a.shape[-1]
    eye = torch.eye(c, dtype=a.dtype)
    inv, power = eye - a, a
    for _ in range(int(math.log2(c)) - 1):
        power = power @ power
        inv = inv + inv @ power
    return inv


def delta_rule(q, k, v, g, beta, c):
    """Chunked gated delta rule; q, k, v [B, T, h, D], g and beta [B, T, h], zero initial state."""
    b, t, h, d = q.shape
    n = t // c
    q, k, v = (a.transpose(1, 2).reshape(b, h, n, c, d) for a in (q, k, v))
    g, beta = (a.transpose(1, 2).reshape(b, h, n, c) for a in (g, beta))
    cum = g.cumsum(-1)
    lower = torch.ones(c, c, dtype=torch.bool).tril()
    decay = (cum.unsqueeze(-1) - cum.unsqueeze(-2)).masked_fill(~lower, -1e4).exp()
    kt = k.transpose(-1, -2)
    a = ((k * beta.unsqueeze(-1)) @ kt * decay).tril(-1)
    inner = (q @ kt) * decay
    fade = cum.exp().unsqueeze(-1)
    uw = torch.linalg.solve_triangular(
        a, torch.cat([v * beta.unsqueeze(-1), k * beta.unsqueeze(-1) * fade], -1), upper=False, unitriangular=True)
    u, w = uw.split(d, -1)
    qf = q * fade
    kf = (k * (cum[..., -1:] - cum).exp().unsqueeze(-1)).transpose(-1, -2)
    last = cum[..., -1].exp()[..., None, None]
    state, out = None, []
    for i in range(n):
        if state is None:
            vn = u[:, :, i]
            out.append(inner[:, :, i] @ vn)
            state = kf[:, :, i] @ vn
        else:
            vn = u[:, :, i] - w[:, :, i] @ state
            out.append(qf[:, :, i] @ state + inner[:, :, i] @ vn)
            state = state * last[:, :, i] + kf[:, :, i] @ vn
    return torch.stack(out, 2).reshape(b, h, t, d).transpose(1, 2)


class Attention(nn.Module):
    """Grouped-query attention with per-head q/k norms, partial rotary and a sigmoid output gate."""

    def __init__(self, s):
        super().__init__()
        self.s = s
        self.q_proj = Weight(param(2 * s.heads * s.head_dim, s.hidden))
        self.k_proj = Weight(param(s.kv_heads * s.head_dim, s.hidden))
        self.v_proj = Weight(param(s.kv_heads * s.head_dim, s.hidden))
        self.o_proj = Weight(param(s.hidden, s.heads * s.head_dim, std=0.3 / math.sqrt(s.heads * s.head_dim)))
        self.q_norm = Weight(torch.zeros(s.head_dim))
        self.k_norm = Weight(torch.zeros(s.head_dim))

    def rotate(self, x, cos, sin):
        r = self.s.rotary
        a, rest = x[..., :r], x[..., r:]
        half = torch.cat([-a[..., r // 2:], a[..., : r // 2]], -1)
        return torch.cat([a * cos + half * sin, rest], -1)

    def forward(self, x, ctx):
        """x [B, T, H] -> [B, T, H]; ctx holds cos/sin [T, rotary] and the boolean mask [B,1,T,T]."""
        s, (b, t, _) = self.s, x.shape
        q, gate = linear(x, self.q_proj).view(b, t, s.heads, 2 * s.head_dim).chunk(2, -1)
        q = rms1p(q, self.q_norm, s.eps).transpose(1, 2)
        k = rms1p(linear(x, self.k_proj).view(b, t, s.kv_heads, s.head_dim), self.k_norm, s.eps).transpose(1, 2)
        v = linear(x, self.v_proj).view(b, t, s.kv_heads, s.head_dim).transpose(1, 2).float()
        q, k = self.rotate(q, ctx["cos"], ctx["sin"]), self.rotate(k, ctx["cos"], ctx["sin"])
        rep = s.heads // s.kv_heads
        o = F.scaled_dot_product_attention(
            q, k.repeat_interleave(rep, 1), v.repeat_interleave(rep, 1), attn_mask=ctx["mask"])
        o = o.transpose(1, 2).reshape(b, t, -1) * torch.sigmoid(gate.reshape(b, t, -1).float())
        return linear(o, self.o_proj).float()


class Layer(nn.Module):
    """Pre-norm block: mixer then MoE, both residual."""

    def __init__(self, s, full):
        super().__init__()
        self.s, self.full = s, full
        if full:
            self.self_attn = Attention(s)
        else:
            self.linear_attn = DeltaNet(s)
        self.mlp = MoE(s)
        self.input_layernorm = Weight(torch.zeros(s.hidden))
        self.post_attention_layernorm = Weight(torch.zeros(s.hidden))

    def forward(self, x, ctx):
        mixer = self.self_attn if self.full else self.linear_attn
        x = x + mixer(rms1p(x, self.input_layernorm, self.s.eps), ctx)
        h = rms1p(x, self.post_attention_layernorm, self.s.eps)
        return x + self.mlp(h.view(-1, h.shape[-1]), ctx["dtype"], ctx["stats"]).view_as(x)


class TinyModel(nn.Module):
    """Trunk, head and one multi-token-prediction layer."""

    def __init__(self, s=Shape()):
        super().__init__()
        self.s = s
        self.model = nn.Module()
        self.model.language_model = lm = nn.Module()
        lm.embed_tokens = Weight(param(s.vocab, s.hidden, std=0.3))
        lm.layers = nn.ModuleList(Layer(s, s.is_full(i)) for i in range(s.layers))
        lm.norm = Weight(torch.zeros(s.hidden))
        self.lm_head = Weight(param(s.vocab, s.hidden, std=0.02))
        self.mtp = nn.Module()
        self.mtp.fc = Weight(param(s.hidden, 2 * s.hidden))
        self.mtp.pre_fc_norm_embedding = Weight(torch.zeros(s.hidden))
        self.mtp.pre_fc_norm_hidden = Weight(torch.zeros(s.hidden))
        self.mtp.norm = Weight(torch.zeros(s.hidden))
        self.mtp.layers = nn.ModuleList([Layer(s, True)])

    def context(self, doc, dtype):
        """Masks, rotary tables and statistics for one batch of document ids [B, T]."""
        t = doc.shape[1]
        freq = self.s.theta ** (-torch.arange(0, self.s.rotary, 2).float() / self.s.rotary)
        angle = torch.arange(t).float().unsqueeze(1) * freq
        angle = torch.cat([angle, angle], -1)
        first = F.pad(doc[:, 1:] != doc[:, :-1], (1, 0), value=True)
        mask = (doc.unsqueeze(2) == doc.unsqueeze(1)) & torch.ones(t, t, dtype=torch.bool).tril()
        return {"doc": doc, "first": first, "mask": mask.unsqueeze(1), "cos": angle.cos(), "sin": angle.sin(),
                "dtype": dtype, "stats": []}

    def trunk(self, ids, ctx):
        """ids [B, T] -> hidden after the final norm [B, T, H]."""
        lm = self.model.language_model
        x = F.embedding(ids, lm.embed_tokens.weight)
        for layer in lm.layers:
            x = layer(x, ctx)
        return rms1p(x, lm.norm, self.s.eps)

    def predict_ahead(self, hidden, next_ids, ctx):
        """MTP hidden: (hidden_t, x_{t+1}) -> the state whose logits predict x_{t+2}."""
        e = rms1p(F.embedding(next_ids, self.model.language_model.embed_tokens.weight), self.mtp.pre_fc_norm_embedding)
        h = rms1p(hidden, self.mtp.pre_fc_norm_hidden)
        u = linear(torch.cat([e, h], -1), self.mtp.fc).float()
        return rms1p(self.mtp.layers[0](u, ctx), self.mtp.norm)


def compile_blocks():
    """Fuses the element-wise work of the mixers, the norms and the shared expert (needs a C++ compiler)."""
    global rms1p
    rms1p = torch.compile(rms1p, dynamic=False)
    DeltaNet.forward = torch.compile(DeltaNet.forward, dynamic=False)
    Attention.forward = torch.compile(Attention.forward, dynamic=False)
    MoE.shared = torch.compile(MoE.shared, dynamic=False)
