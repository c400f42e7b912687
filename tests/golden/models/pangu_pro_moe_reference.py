"""Pangu Pro MoE (mixture of grouped experts), and openPangu-Embedded, the same decoder with a dense MLP."""

import torch

from reference import angles, causal_attention, linear, mixture, rms_norm, split_heads, swiglu, swiglu_shapes


def tensor_shapes(config):
    vocab, hidden, heads = config["vocab_size"], config["hidden_size"], config["num_attention_heads"]
    kv = hidden // heads * config["num_key_value_heads"]
    experts = config.get("num_experts", 0)
    shapes = {"model.embed_tokens.weight": [vocab, hidden]}
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        shapes |= {name + ".input_layernorm.weight": [hidden], name + ".post_attention_layernorm.weight": [hidden]}
        for part, rows in (("q", hidden), ("k", kv), ("v", kv), ("o", hidden)):
            shapes |= {f"{name}.self_attn.{part}_proj.weight": [rows, hidden],
                       f"{name}.self_attn.{part}_proj.bias": [rows]}
        if not experts:
            shapes |= swiglu_shapes(name + ".mlp", hidden, config["intermediate_size"])
            continue
        shapes |= {name + ".mlp.gate.weight": [experts, hidden], name + ".mlp.router_scale": [1, experts]}
        for expert in range(experts):
            shapes |= swiglu_shapes(f"{name}.mlp.experts.{expert}", hidden, config["moe_intermediate_size"])
        shapes |= swiglu_shapes(name + ".mlp.shared_expert", hidden, config["shared_expert_intermediate_size"])
    return shapes | {"model.norm.weight": [hidden], "lm_head.weight": [vocab, hidden]}


def rotate(config, x):
    """x: [heads, positions, d]; dimension j turns with j + d/2."""
    dim = x.shape[-1]
    angle = angles(x.shape[-2], config["rope_theta"] ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim))
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def attention(config, weights, name, x):
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    q = rotate(config, split_heads(linear(weights, name + ".q_proj", x), heads))
    k = rotate(config, split_heads(linear(weights, name + ".k_proj", x), kv_heads))
    v = split_heads(linear(weights, name + ".v_proj", x), kv_heads)
    k, v = k.repeat_interleave(heads // kv_heads, 0), v.repeat_interleave(heads // kv_heads, 0)
    return linear(weights, name + ".o_proj", causal_attention(q, k, v, q.shape[-1] ** -0.5))


def route(config, weights, name, x):
    """The best expert of every group; there are as many groups as experts per token."""
    groups = config["num_experts_per_tok"]
    size = config["num_experts"] // groups
    shares = linear(weights, name + ".gate", x).softmax(-1)  # over all experts, and not normalized again
    chosen = shares.unflatten(-1, (groups, size)).argmax(-1) + size * torch.arange(groups)
    return chosen, shares.gather(-1, chosen) * weights[name + ".router_scale"][0][chosen]


def mlp(config, weights, name, x):
    if name + ".gate.weight" not in weights:
        return swiglu(weights, name, x)
    chosen, shares = route(config, weights, name, x)
    return mixture(weights, name + ".experts", x, chosen, shares) + swiglu(weights, name + ".shared_expert", x)


def logits(config, weights, tokens):
    eps = config["rms_norm_eps"]
    x = weights["model.embed_tokens.weight"][tokens]
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        x = x + attention(config, weights, name + ".self_attn", rms_norm(weights, name + ".input_layernorm", x, eps))
        x = x + mlp(config, weights, name + ".mlp", rms_norm(weights, name + ".post_attention_layernorm", x, eps))
    return linear(weights, "lm_head", rms_norm(weights, "model.norm", x, eps))
