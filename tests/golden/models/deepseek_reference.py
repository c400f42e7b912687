"""DeepSeek-V2 and V3: multi-head latent attention in its naive form, YaRN, three routers, shared experts."""

import math

import torch

from reference import angles, causal_attention, linear, mixture, rms_norm, split_heads, swiglu, swiglu_shapes


def layer_shapes(config, name, is_dense):
    hidden, heads, latent = config["hidden_size"], config["num_attention_heads"], config["kv_lora_rank"]
    nope, rope, value = config["qk_nope_head_dim"], config["qk_rope_head_dim"], config["v_head_dim"]
    attention, mlp = name + ".self_attn.", name + ".mlp"
    shapes = {name + ".input_layernorm.weight": [hidden], name + ".post_attention_layernorm.weight": [hidden]}
    if rank := config["q_lora_rank"]:
        shapes |= {attention + "q_a_proj.weight": [rank, hidden], attention + "q_a_layernorm.weight": [rank],
                   attention + "q_b_proj.weight": [heads * (nope + rope), rank]}
    else:
        shapes |= {attention + "q_proj.weight": [heads * (nope + rope), hidden]}
    shapes |= {attention + "kv_a_proj_with_mqa.weight": [latent + rope, hidden],
               attention + "kv_a_layernorm.weight": [latent],
               attention + "kv_b_proj.weight": [heads * (nope + value), latent],
               attention + "o_proj.weight": [hidden, heads * value]}
    if config.get("attention_bias"):
        shapes |= {attention + "q_a_proj.bias": [rank]} if rank else {}
        shapes |= {attention + "kv_a_proj_with_mqa.bias": [latent + rope], attention + "o_proj.bias": [hidden]}
    if is_dense:
        return shapes | swiglu_shapes(mlp, hidden, config["intermediate_size"])
    shapes |= {mlp + ".gate.weight": [config["n_routed_experts"], hidden]}
    if config["topk_method"] == "noaux_tc":
        shapes |= {mlp + ".gate.e_score_correction_bias": [config["n_routed_experts"]]}
    for expert in range(config["n_routed_experts"]):
        shapes |= swiglu_shapes(f"{mlp}.experts.{expert}", hidden, config["moe_intermediate_size"])
    inner = config["n_shared_experts"] * config["moe_intermediate_size"]
    return shapes | swiglu_shapes(mlp + ".shared_experts", hidden, inner)


def tensor_shapes(config):
    vocab, hidden, layers = config["vocab_size"], config["hidden_size"], config["num_hidden_layers"]
    shapes = {"model.embed_tokens.weight": [vocab, hidden]}
    for layer in range(layers):
        shapes |= layer_shapes(config, f"model.layers.{layer}", layer < config["first_k_dense_replace"])
    # Layers beyond num_hidden_layers draft the token after the next; the model's own logits need nothing of them.
    for layer in range(layers, layers + config.get("num_nextn_predict_layers", 0)):
        name = f"model.layers.{layer}"
        shapes |= layer_shapes(config, name, is_dense=False)
        shapes |= {name + ".embed_tokens.weight": [vocab, hidden], name + ".enorm.weight": [hidden],
                   name + ".hnorm.weight": [hidden], name + ".eh_proj.weight": [hidden, 2 * hidden],
                   name + ".shared_head.norm.weight": [hidden], name + ".shared_head.head.weight": [vocab, hidden]}
    return shapes | {"model.norm.weight": [hidden], "lm_head.weight": [vocab, hidden]}


def mscale(factor, m):
    return 1.0 if factor <= 1 else 0.1 * m * math.log(factor) + 1.0


def inverse_frequencies(config):
    """[rope dim / 2]. YaRN keeps the fast pairs, divides the slow ones by the factor, and blends in between."""
    dim, base, scaling = config["qk_rope_head_dim"], config["rope_theta"], config.get("rope_scaling")
    frequencies = base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    if not scaling:
        return frequencies

    def pair_of(rotations):  # the pair that turns so often over the original context
        original = scaling["original_max_position_embeddings"]
        return dim * math.log(original / (2 * math.pi * rotations)) / (2 * math.log(base))

    low = max(math.floor(pair_of(scaling["beta_fast"])), 0)
    high = min(math.ceil(pair_of(scaling["beta_slow"])), dim - 1)
    ramp = ((torch.arange(dim // 2, dtype=torch.float64) - low) / max(high - low, 0.001)).clamp(0, 1)
    return frequencies * (1 - ramp) + frequencies / scaling["factor"] * ramp


def rotate(config, x):
    """x: [..., positions, rope dim], pairs adjacent. The two mscales only cancel where they are equal."""
    angle = angles(x.shape[-2], inverse_frequencies(config))
    scaling = config.get("rope_scaling")
    size = mscale(scaling["factor"], scaling["mscale"]) / mscale(scaling["factor"], scaling["mscale_all_dim"]) \
        if scaling else 1.0
    cos, sin = (size * angle.cos()).to(x.dtype), (size * angle.sin()).to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


def attention(config, weights, name, x):
    nope, rope, value = config["qk_nope_head_dim"], config["qk_rope_head_dim"], config["v_head_dim"]
    heads, eps = config["num_attention_heads"], config["rms_norm_eps"]
    if config["q_lora_rank"]:
        q = rms_norm(weights, name + ".q_a_layernorm", linear(weights, name + ".q_a_proj", x), eps)
        q = linear(weights, name + ".q_b_proj", q)
    else:
        q = linear(weights, name + ".q_proj", x)
    q_nope, q_rope = split_heads(q, heads).split([nope, rope], -1)
    latent, k_rope = linear(weights, name + ".kv_a_proj_with_mqa", x).split([config["kv_lora_rank"], rope], -1)
    latent = rms_norm(weights, name + ".kv_a_layernorm", latent, eps)  # the shared rope key is not normalized
    k_nope, v = split_heads(linear(weights, name + ".kv_b_proj", latent), heads).split([nope, value], -1)

    q = torch.cat([q_nope, rotate(config, q_rope)], -1)
    k = torch.cat([k_nope, rotate(config, k_rope).expand(heads, -1, -1)], -1)
    scale = (nope + rope) ** -0.5
    if scaling := config.get("rope_scaling"):
        scale *= mscale(scaling["factor"], scaling["mscale_all_dim"]) ** 2
    return linear(weights, name + ".o_proj", causal_attention(q, k, v, scale))


def keep_best_groups(config, scores, group_scores, excluded):
    """Scores of the experts outside the topk_group best groups become `excluded`. scores: [positions, experts]"""
    kept = group_scores.topk(config["topk_group"]).indices
    dropped = torch.ones_like(group_scores, dtype=torch.bool).scatter(-1, kept, False)
    return scores.masked_fill(dropped.repeat_interleave(scores.shape[-1] // config["n_group"], -1), excluded)


def route(config, weights, name, x):
    """The experts of every position and their shares, both [positions, experts per token]."""
    method, num_chosen = config["topk_method"], config["num_experts_per_tok"]
    router_logits = linear(weights, name, x)
    scores = router_logits.sigmoid() if config["scoring_func"] == "sigmoid" else router_logits.softmax(-1)
    choice = scores
    if method == "noaux_tc":
        choice = scores + weights[name + ".e_score_correction_bias"]
        in_groups = choice.unflatten(-1, (config["n_group"], -1))
        # Not 0: with a negative bias a kept expert may lie below that.
        choice = keep_best_groups(config, choice, in_groups.topk(2).values.sum(-1), float("-inf"))
    elif method == "group_limited_greedy":
        choice = keep_best_groups(config, scores, scores.unflatten(-1, (config["n_group"], -1)).amax(-1), 0.0)
    chosen = choice.topk(num_chosen).indices
    shares = scores.gather(-1, chosen)
    if config["norm_topk_prob"]:
        shares = shares / (shares.sum(-1, keepdim=True) + 1e-20)
    # V3 scales always; V2 scales only what it did not normalize.
    if method == "noaux_tc" or not config["norm_topk_prob"]:
        shares = shares * config["routed_scaling_factor"]
    return chosen, shares


def mlp(config, weights, name, x):
    if name + ".gate.weight" not in weights:
        return swiglu(weights, name, x)
    chosen, shares = route(config, weights, name + ".gate", x)
    return mixture(weights, name + ".experts", x, chosen, shares) + swiglu(weights, name + ".shared_experts", x)


def logits(config, weights, tokens):
    eps = config["rms_norm_eps"]
    x = weights["model.embed_tokens.weight"][tokens]
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        x = x + attention(config, weights, name + ".self_attn", rms_norm(weights, name + ".input_layernorm", x, eps))
        x = x + mlp(config, weights, name + ".mlp", rms_norm(weights, name + ".post_attention_layernorm", x, eps))
    return linear(weights, "lm_head", rms_norm(weights, "model.norm", x, eps))
