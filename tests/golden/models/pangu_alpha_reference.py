"""PanGu-alpha, in the names of its Hugging Face port. The last of num_layers is the query layer."""

import torch
from torch.nn.functional import gelu, layer_norm

from reference import causal_attention, linear, split_heads


def tensor_shapes(config):
    vocab, hidden, positions = config["vocab_size"], config["hidden_size"], config["max_position_embeddings"]
    inner = config["intermediate_size"] or 4 * hidden
    shapes = {"transformer.wte.weight": [vocab, hidden], "transformer.wpe.weight": [positions, hidden],
              "transformer.wqe.weight": [positions, hidden]}
    for layer in range(config["num_layers"]):
        name = f"transformer.h.{layer}."
        for norm in ("ln_1", "ln_2"):
            shapes |= {name + norm + ".weight": [hidden], name + norm + ".bias": [hidden]}
        for part in ("q_proj", "k_proj", "v_proj", "c_proj"):
            shapes |= {f"{name}attn.{part}.weight": [hidden, hidden], f"{name}attn.{part}.bias": [hidden]}
        shapes |= {name + "mlp.c_fc.weight": [inner, hidden], name + "mlp.c_fc.bias": [inner],
                   name + "mlp.c_proj.weight": [hidden, inner], name + "mlp.c_proj.bias": [hidden]}
    return shapes | {"transformer.ln_f.weight": [hidden], "transformer.ln_f.bias": [hidden]}


def normed(config, weights, name, x):
    return layer_norm(x, x.shape[-1:], weights[name + ".weight"], weights[name + ".bias"],
                      config["layer_norm_epsilon"])


def decoder_layer(config, weights, name, x, queries=None):
    """`queries` takes the place of the normed stream before q_proj, and only there."""
    heads = config["num_heads"]
    u = normed(config, weights, name + ".ln_1", x)
    q = split_heads(linear(weights, name + ".attn.q_proj", u if queries is None else queries), heads)
    k = split_heads(linear(weights, name + ".attn.k_proj", u), heads)
    v = split_heads(linear(weights, name + ".attn.v_proj", u), heads)
    x = x + linear(weights, name + ".attn.c_proj", causal_attention(q, k, v, q.shape[-1] ** -0.5))
    u = linear(weights, name + ".mlp.c_fc", normed(config, weights, name + ".ln_2", x))
    # The port calls the exact GELU "gelu"; "gelu_new" is the approximation that the models were trained with.
    u = gelu(u, approximate="none" if config["activation_function"] == "gelu" else "tanh")
    return x + linear(weights, name + ".mlp.c_proj", u)


def logits(config, weights, tokens):
    positions = torch.arange(len(tokens))
    last = config["num_layers"] - 1
    x = weights["transformer.wte.weight"][tokens] + weights["transformer.wpe.weight"][positions]
    for layer in range(last):
        x = decoder_layer(config, weights, f"transformer.h.{layer}", x)
    x = normed(config, weights, "transformer.ln_f", x)  # before the query layer, whose residual it is
    x = decoder_layer(config, weights, f"transformer.h.{last}", x, weights["transformer.wqe.weight"][positions])
    return x @ weights["transformer.wte.weight"].T
