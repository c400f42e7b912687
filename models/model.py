"""A compact Qwen3-MoE in PyTorch, fast to train on a CPU.

Same mathematics as transformers' Qwen3MoeForCausalLM (train.py checks that the
logits agree), but tokens are sorted by expert once per layer, so that each
expert runs one matrix product over all of its tokens, and only positions that
carry loss reach the output head.  Experts are stacked while training;
`hf_state_dict` writes them one by one under their published names.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F


class _Dispatch(torch.autograd.Function):
    """x[token_of_slot], with a backward that gathers instead of scattering."""

    @staticmethod
    def forward(ctx, x, token_of_slot, slot_of_pick, top_k):
        ctx.save_for_backward(slot_of_pick)
        ctx.top_k = top_k
        return x.index_select(0, token_of_slot)

    @staticmethod
    def backward(ctx, grad):
        (slot_of_pick,) = ctx.saved_tensors
        picked = grad.index_select(0, slot_of_pick)
        return picked.view(-1, ctx.top_k, grad.shape[-1]).sum(1), None, None, None


class _Collect(torch.autograd.Function):
    """y[slot_of_pick]: a permutation, undone by its inverse in backward."""

    @staticmethod
    def forward(ctx, y, slot_of_pick, pick_of_slot):
        ctx.save_for_backward(pick_of_slot)
        return y.index_select(0, slot_of_pick)

    @staticmethod
    def backward(ctx, grad):
        (pick_of_slot,) = ctx.saved_tensors
        return grad.index_select(0, pick_of_slot), None, None


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        h, d = c["hidden_size"], c["head_dim"]
        self.heads, self.kv_heads, self.dim = c["num_attention_heads"], c["num_key_value_heads"], d
        self.q_proj = nn.Linear(h, self.heads * d, bias=False)
        self.k_proj = nn.Linear(h, self.kv_heads * d, bias=False)
        self.v_proj = nn.Linear(h, self.kv_heads * d, bias=False)
        self.o_proj = nn.Linear(self.heads * d, h, bias=False)
        self.q_norm = nn.RMSNorm(d, c["rms_norm_eps"])
        self.k_norm = nn.RMSNorm(d, c["rms_norm_eps"])

    def forward(self, x, rope, mask):
        b, t, _ = x.shape
        q = self.q_norm(self.q_proj(x).view(b, t, self.heads, self.dim)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(b, t, self.kv_heads, self.dim)).transpose(1, 2)
        v = self.v_proj(x).view(b, t, self.kv_heads, self.dim).transpose(1, 2)
        q, k = rotate(q, rope), rotate(k, rope)
        group = self.heads // self.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        if mask is None:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o_proj(out.transpose(1, 2).reshape(b, t, -1))


def rotate(x, rope):
    cos, sin = rope
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


class SparseMlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        h, m, e = c["hidden_size"], c["moe_intermediate_size"], c["num_experts"]
        self.num_experts, self.top_k = e, c["num_experts_per_tok"]
        self.gate = nn.Linear(h, e, bias=False)
        self.gate_up = nn.Parameter(torch.empty(e, 2 * m, h))
        self.down = nn.Parameter(torch.empty(e, h, m))

    def forward(self, x):
        """x: [num_tokens, hidden].  Returns the output and the balancing loss."""
        probs = F.softmax(self.gate(x).float(), -1)
        weight, expert = probs.topk(self.top_k, -1)
        weight = (weight / weight.sum(-1, keepdim=True)).to(x.dtype)
        flat = expert.flatten()
        pick_of_slot = torch.argsort(flat, stable=True)
        slot_of_pick = torch.empty_like(pick_of_slot)
        slot_of_pick[pick_of_slot] = torch.arange(flat.numel())
        counts = torch.bincount(flat, minlength=self.num_experts)
        rows = _Dispatch.apply(x, pick_of_slot // self.top_k, slot_of_pick, self.top_k)
        outs = []
        for gate_up, down, part in zip(self.gate_up, self.down, rows.split(counts.tolist())):
            gate, up = F.linear(part, gate_up).chunk(2, -1)
            outs.append(F.linear(F.silu(gate) * up, down))
        y = _Collect.apply(torch.cat(outs), slot_of_pick, pick_of_slot)
        y = (y.view(-1, self.top_k, y.shape[-1]) * weight.unsqueeze(-1)).sum(1)
        share = counts.to(probs.dtype) / flat.numel()
        balance = self.num_experts * (share * probs.mean(0)).sum()
        return y, balance


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.self_attn = Attention(c)
        self.post_attention_layernorm = nn.RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.mlp = SparseMlp(c)

    def forward(self, x, rope, mask):
        x = x + self.self_attn(self.input_layernorm(x), rope, mask)
        y, balance = self.mlp(self.post_attention_layernorm(x).flatten(0, 1))
        return x + y.view_as(x), balance


class Qwen3Moe(nn.Module):
    """c: the dictionary that becomes config.json."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = nn.RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        # Residual writers start smaller, as in GPT-2.
        depth_scale = (2 * c["num_hidden_layers"]) ** -0.5
        for layer in self.layers:
            layer.self_attn.o_proj.weight.data.mul_(depth_scale)
            layer.mlp.down.data.mul_(depth_scale)

    def rope(self, num_positions, dtype):
        d = self.c["head_dim"]
        inverse = self.c["rope_theta"] ** (-torch.arange(0, d, 2).float() / d)
        angle = torch.outer(torch.arange(num_positions).float(), inverse).repeat(1, 2)
        return angle.cos().to(dtype), angle.sin().to(dtype)

    def forward(self, ids, mask=None, keep=None):
        """ids: [batch, time].  mask: [batch, 1, time, time], added to the scores, or None for
        causal.  keep: indices into the flattened batch whose logits are wanted.
        Returns (logits [num_kept, vocab], mean balancing loss)."""
        x = self.embed_tokens(ids)
        rope = self.rope(ids.shape[1], x.dtype)
        balance = 0.0
        for layer in self.layers:
            x, b = layer(x, rope, mask)
            balance = balance + b / len(self.layers)
        x = x.flatten(0, 1)
        if keep is not None:
            x = x.index_select(0, keep)
        return F.linear(self.norm(x), self.embed_tokens.weight), balance

    def hf_state_dict(self, dtype):
        out = {}
        for name, tensor in self.state_dict().items():
            name = "model." + name
            if name.endswith("mlp.gate_up"):
                for e, both in enumerate(tensor):
                    gate, up = both.chunk(2, 0)
                    base = name.replace("gate_up", f"experts.{e}.")
                    out[base + "gate_proj.weight"] = gate
                    out[base + "up_proj.weight"] = up
            elif name.endswith("mlp.down"):
                for e, down in enumerate(tensor):
                    out[name.replace("down", f"experts.{e}.down_proj.weight")] = down
            else:
                out[name] = tensor
        return {k: v.detach().to(dtype).contiguous().clone() for k, v in out.items()}
