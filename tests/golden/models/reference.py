"""What the reference models of this folder share: plain PyTorch on one whole sequence, no cache, no batch.

A reference is two functions: `tensor_shapes(config)`, the checkpoint's tensors by name, and `logits(config, weights,
tokens)`, [positions, vocab]. They are written from the published descriptions of the models to be read, not to be
fast, and compute in the dtype of the weights they are given: float32 to record, float64 to see how much rounding there
is in what was recorded.
"""

import torch


def linear(weights, name, x):
    return torch.nn.functional.linear(x, weights[name + ".weight"], weights.get(name + ".bias"))


def rms_norm(weights, name, x, eps):
    return weights[name + ".weight"] * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps))


def swiglu(weights, name, x):
    gate, up = linear(weights, name + ".gate_proj", x), linear(weights, name + ".up_proj", x)
    return linear(weights, name + ".down_proj", torch.nn.functional.silu(gate) * up)


def swiglu_shapes(name, hidden, inner):
    return {f"{name}.gate_proj.weight": [inner, hidden], f"{name}.up_proj.weight": [inner, hidden],
            f"{name}.down_proj.weight": [hidden, inner]}


def mixture(weights, name, x, chosen, shares):
    """Sum of the chosen experts' outputs by their shares. chosen, shares: [positions, experts per token]."""
    out = torch.zeros_like(x)
    for expert in chosen.unique().tolist():
        row, slot = (chosen == expert).nonzero(as_tuple=True)
        out[row] += shares[row, slot, None] * swiglu(weights, f"{name}.{expert}", x[row])
    return out


def split_heads(x, num_heads):
    """[positions, num_heads * d] -> [num_heads, positions, d]"""
    return x.unflatten(-1, (num_heads, -1)).transpose(0, 1)


def causal_attention(q, k, v, scale):
    """q, k: [heads, positions, d]; v: [heads, positions, dv] -> [positions, heads * dv]"""
    future = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).triu(1)
    scores = (scale * q @ k.transpose(1, 2)).masked_fill(future, float("-inf"))
    return (scores.softmax(-1) @ v).transpose(0, 1).flatten(1)


def angles(num_positions, inverse_frequencies):
    """[positions, pairs], in float64 whatever the model computes in."""
    return torch.arange(num_positions, dtype=torch.float64)[:, None] * inverse_frequencies
