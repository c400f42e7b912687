"""The recorded checkpoints, and how a fresh one of each family is drawn.

A case is a dict: `family`, `config` (config.json; for transformers' families, arguments of its class), and how it is
stored: `dtype`, `shard_bytes`, and what only one family has (`stacked`, `legacy`, `buffers`, `num_ranks`).
"""

BASE = dict(vocab_size=96, hidden_size=48, intermediate_size=80, num_hidden_layers=2, max_position_embeddings=512,
            rms_norm_eps=1e-6, eos_token_id=[1, 2], bos_token_id=0)
MOE = dict(moe_intermediate_size=20, num_experts=6, num_experts_per_tok=2, norm_topk_prob=True)
DEEPSEEK = dict(
    hidden_act="silu", attention_bias=False, tie_word_embeddings=False, bos_token_id=0, eos_token_id=1,
    rms_norm_eps=1e-6, rope_theta=10000, rope_scaling=None, max_position_embeddings=1024,
    moe_layer_freq=1, first_k_dense_replace=1)
DEEPSEEK_V3 = dict(DEEPSEEK, model_type="deepseek_v3", architectures=["DeepseekV3ForCausalLM"],
                   topk_method="noaux_tc", scoring_func="sigmoid")
DEEPSEEK_V2 = dict(DEEPSEEK, model_type="deepseek_v2", architectures=["DeepseekV2ForCausalLM"],
                   scoring_func="softmax")
PANGU = dict(hidden_act="silu", tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=0,
             rms_norm_eps=1e-5, rope_theta=16000000.0, max_position_embeddings=1024)
PANGU_PRO_MOE = dict(PANGU, model_type="PanguProMoE", architectures=["PanguProMoEForCausalLM"])
OPENPANGU = dict(PANGU, model_type="PanguEmbedded", architectures=["PanguEmbeddedForCausalLM"], bias=True)
PANGU_ALPHA = dict(
    model_type="gpt_pangu", architectures=["GPTPanguForCausalLM"], intermediate_size=None, layer_norm_epsilon=1e-5,
    scale_attn_weights=True, attn_pdrop=0.1, embd_pdrop=0.1, resid_pdrop=0.1, bos_token_id=9, eos_token_id=9,
    max_position_embeddings=128)


def rope(theta=10000.0, **more):
    return {"rope_type": "default", "rope_theta": theta, **more}


def yarn(factor, original, mscale, mscale_all_dim, beta_fast=32):
    return {"type": "yarn", "factor": factor, "original_max_position_embeddings": original, "beta_fast": beta_fast,
            "beta_slow": 1, "mscale": mscale, "mscale_all_dim": mscale_all_dim}


def mla(heads, q_lora, kv_lora, nope, rope, value):
    return dict(num_attention_heads=heads, num_key_value_heads=heads, q_lora_rank=q_lora, kv_lora_rank=kv_lora,
                qk_nope_head_dim=nope, qk_rope_head_dim=rope, v_head_dim=value)


def experts(routed, chosen, inner, shared, groups=1, kept_groups=1, scale=1.0, normalized=False):
    return dict(n_routed_experts=routed, num_experts_per_tok=chosen, moe_intermediate_size=inner,
                n_shared_experts=shared, n_group=groups, topk_group=kept_groups, routed_scaling_factor=scale,
                norm_topk_prob=normalized)


CASES = {
    # 7 query heads to a K/V head, head_dim as derived, biases, tied.
    "qwen2_tied_7to1": dict(family="qwen2", config=dict(
        BASE, hidden_size=56, num_attention_heads=7, num_key_value_heads=1, tie_word_embeddings=True,
        rope_parameters=rope(1e6))),
    # Untied, bfloat16 file, YaRN.
    "qwen2_bf16_yarn": dict(family="qwen2", dtype="bfloat16", config=dict(
        BASE, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False,
        rope_parameters=rope(1e4, rope_type="yarn", factor=4.0, original_max_position_embeddings=32))),
    # head_dim other than hidden / heads, untied, 3:1, in shards.
    "qwen3_sharded": dict(family="qwen3", shard_bytes=40_000, config=dict(
        BASE, num_attention_heads=6, num_key_value_heads=2, head_dim=20, tie_word_embeddings=False,
        rope_parameters=rope(1e6))),
    # float16 file, tied, linear rope, as many K/V heads as heads, biases, the older spelling of the config.
    "qwen3_f16_linear": dict(family="qwen3", dtype="float16", legacy=True, config=dict(
        BASE, num_attention_heads=4, num_key_value_heads=4, head_dim=16, tie_word_embeddings=True, attention_bias=True,
        rope_parameters=rope(1e4, rope_type="linear", factor=2.0))),
    # Experts one by one, 4:1, head_dim other than hidden / heads.
    "qwen3_moe": dict(family="qwen3_moe", config=dict(
        BASE, **MOE, num_attention_heads=4, num_key_value_heads=1, head_dim=24, tie_word_embeddings=False,
        rope_parameters=rope(1e6))),
    # Stacked experts, dense layers among them, probabilities not normalized, bfloat16, three experts per token.
    "qwen3_moe_stacked": dict(family="qwen3_moe", dtype="bfloat16", stacked=True, config=dict(
        {**BASE, **MOE}, num_hidden_layers=4, decoder_sparse_step=2, mlp_only_layers=[3], num_attention_heads=4,
        num_key_value_heads=2, head_dim=12, tie_word_embeddings=True, norm_topk_prob=False, moe_intermediate_size=40,
        num_experts=5, num_experts_per_tok=3, rope_parameters=rope(1e4))),
    # As published: query latent, YaRN, groups by their two best, most biases negative; a drafting layer to skip.
    "deepseek_v3": dict(family="deepseek_v3", dtype="bfloat16", config=DEEPSEEK_V3 | dict(
        vocab_size=160, hidden_size=40, intermediate_size=80, num_hidden_layers=3, num_nextn_predict_layers=1,
        rope_scaling=yarn(8, 128, 1.0, 1.0, beta_fast=8))
        | mla(4, q_lora=24, kv_lora=32, nope=16, rope=8, value=12)
        | experts(16, 4, 12, shared=1, groups=4, kept_groups=2, scale=2.5, normalized=True)),
    # float32 file in shards, no YaRN, two dense layers, shares scaled without being normalized.
    "deepseek_v3_sharded": dict(family="deepseek_v3", shard_bytes=90_000, config=DEEPSEEK_V3 | dict(
        vocab_size=136, hidden_size=32, intermediate_size=72, num_hidden_layers=4, first_k_dense_replace=2)
        | mla(2, q_lora=20, kv_lora=40, nope=24, rope=16, value=20)
        | experts(8, 3, 20, shared=2, groups=4, kept_groups=3, scale=1.5)),
    # No groups, softmax shares as they are, two shared experts, direct queries.
    "deepseek_v2_lite": dict(family="deepseek_v2", dtype="bfloat16", config=DEEPSEEK_V2 | dict(
        vocab_size=150, hidden_size=48, intermediate_size=88, num_hidden_layers=3, topk_method="greedy",
        bos_token_id=10, eos_token_id=11, rope_scaling=yarn(40, 256, 0.707, 0.707))
        | mla(4, q_lora=None, kv_lora=32, nope=16, rope=16, value=12) | experts(8, 3, 20, shared=2)),
    # Groups by their best, shares scaled; the two mscales differ, so that cosine and sine are scaled too; biases.
    "deepseek_v2": dict(family="deepseek_v2", config=DEEPSEEK_V2 | dict(
        attention_bias=True, vocab_size=152, hidden_size=32, intermediate_size=64, num_hidden_layers=3, topk_method="group_limited_greedy",
        rope_scaling=yarn(4, 64, 1.0, 0.707, beta_fast=4))
        | mla(4, q_lora=16, kv_lora=24, nope=8, rope=8, value=16)
        | experts(12, 3, 12, shared=2, groups=3, kept_groups=2, scale=4.0)),
    # Normalized shares are not scaled.
    "deepseek_v2_normalized": dict(family="deepseek_v2", dtype="bfloat16", config=DEEPSEEK_V2 | dict(
        vocab_size=140, hidden_size=32, intermediate_size=64, num_hidden_layers=3, topk_method="greedy")
        | mla(2, q_lora=None, kv_lora=24, nope=16, rope=8, value=16)
        | experts(6, 2, 24, shared=1, scale=4.0, normalized=True)),
    # Groups of three experts, four of them; biases everywhere in attention.
    "pangu_pro_moe": dict(family="pangu_pro_moe", dtype="bfloat16", config=PANGU_PRO_MOE | dict(
        vocab_size=160, hidden_size=48, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
        num_experts=12, num_experts_per_tok=4, moe_intermediate_size=12, shared_expert_intermediate_size=24)),
    "openpangu_embedded": dict(family="openpangu_embedded", config=OPENPANGU | dict(
        vocab_size=150, hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2)),
    # Two blocks and the query layer; the GELU of the training.
    "pangu_alpha_tanh": dict(family="pangu_alpha", config=PANGU_ALPHA | dict(
        vocab_size=150, hidden_size=40, num_layers=3, num_heads=5, activation_function="gelu_new")),
    # As the port is saved: exact GELU, lm_head and masks besides.
    "pangu_alpha_erf": dict(family="pangu_alpha", dtype="float16", buffers=True, config=PANGU_ALPHA | dict(
        vocab_size=150, hidden_size=48, intermediate_size=160, num_layers=4, num_heads=3,
        activation_function="gelu")),
    # Megatron's layout; in two ranks with the name that the Evolution model has for the top-query table.
    "pangu_alpha_megatron": dict(
        family="pangu_alpha_megatron", dtype="float16", num_ranks=1,
        config=PANGU_ALPHA | dict(vocab_size=160, hidden_size=48, num_layers=4, num_heads=4,
                                  activation_function="gelu_new")),
    "pangu_alpha_megatron_tp2": dict(
        family="pangu_alpha_megatron", dtype="float16", num_ranks=2, top_query_key="task_embedding",
        config=PANGU_ALPHA | dict(vocab_size=192, hidden_size=32, num_layers=4, num_heads=4,
                                  activation_function="gelu_new")),
}


def fresh_qwen(draw, config):
    heads = draw.choice([4, 6, 8])
    config |= dict(vocab_size=draw.randrange(100, 300), hidden_size=8 * heads, num_attention_heads=heads,
                   num_key_value_heads=draw.choice([1, 2, heads]), intermediate_size=8 * draw.randrange(6, 14),
                   num_hidden_layers=draw.randrange(2, 5), tie_word_embeddings=draw.random() < 0.5,
                   rope_parameters=rope(draw.choice([1e4, 1e6])))
    if "head_dim" in config:
        config["head_dim"] = 4 * draw.randrange(2, 8)
    if "num_experts" in config:
        config |= dict(num_experts=draw.randrange(5, 17), num_experts_per_tok=draw.randrange(2, 5),
                       norm_topk_prob=draw.random() < 0.5, moe_intermediate_size=4 * draw.randrange(3, 9))


def fresh_deepseek(draw, config):
    groups, heads = draw.randrange(2, 5), draw.randrange(2, 6)
    config |= mla(heads, draw.choice([None, 4 * draw.randrange(4, 9)]), 8 * draw.randrange(2, 7),
                  nope=4 * draw.randrange(2, 7), rope=8 * draw.randrange(1, 4), value=4 * draw.randrange(2, 7))
    config |= experts(groups * draw.randrange(2, 6), draw.randrange(2, 5), 4 * draw.randrange(3, 8),
                      shared=draw.randrange(1, 4), groups=groups, kept_groups=draw.randrange(2, groups + 1),
                      scale=draw.choice([1.0, 1.5, 2.5, 4.0]), normalized=draw.random() < 0.5)
    mscale = draw.choice([0.707, 1.0])
    config |= dict(vocab_size=draw.randrange(100, 300), hidden_size=4 * heads * draw.randrange(2, 5),
                   intermediate_size=8 * draw.randrange(6, 14), num_hidden_layers=draw.randrange(3, 6),
                   first_k_dense_replace=draw.randrange(0, 3), num_nextn_predict_layers=0,
                   rope_scaling=draw.choice([None, yarn(draw.choice([4, 40]), 64, mscale, mscale, beta_fast=4)]))
    if config["model_type"] == "deepseek_v3":
        config["num_nextn_predict_layers"] = draw.randrange(2)
    else:
        config["topk_method"] = draw.choice(["greedy", "group_limited_greedy"])


def fresh_pangu(draw, config):
    kv_heads, groups = draw.randrange(1, 4), draw.randrange(2, 6)
    heads = kv_heads * draw.randrange(1, 4)
    config |= dict(vocab_size=draw.randrange(100, 300), hidden_size=heads * 4 * draw.randrange(2, 6),
                   num_hidden_layers=draw.randrange(2, 6), num_attention_heads=heads, num_key_value_heads=kv_heads)
    if "num_experts" in config:
        config |= dict(num_experts=groups * draw.randrange(2, 6), num_experts_per_tok=groups,
                       moe_intermediate_size=4 * draw.randrange(2, 8),
                       shared_expert_intermediate_size=8 * draw.randrange(2, 8))
    else:
        config["intermediate_size"] = 8 * draw.randrange(6, 14)


def fresh_pangu_alpha(draw, config):
    heads = 2 * draw.randrange(1, 4)
    config |= dict(vocab_size=2 * draw.randrange(50, 150), hidden_size=heads * 4 * draw.randrange(2, 5),
                   num_layers=draw.randrange(2, 6), num_heads=heads, max_position_embeddings=draw.randrange(100, 200))


# By family: the recorded case to start from, and what redraws its config.
FAMILIES = {
    "qwen2": ("qwen2_tied_7to1", fresh_qwen), "qwen3": ("qwen3_sharded", fresh_qwen),
    "qwen3_moe": ("qwen3_moe", fresh_qwen), "deepseek_v2": ("deepseek_v2", fresh_deepseek),
    "deepseek_v3": ("deepseek_v3", fresh_deepseek), "pangu_pro_moe": ("pangu_pro_moe", fresh_pangu),
    "openpangu_embedded": ("openpangu_embedded", fresh_pangu), "pangu_alpha": ("pangu_alpha_tanh", fresh_pangu_alpha),
    "pangu_alpha_megatron": ("pangu_alpha_megatron", fresh_pangu_alpha)}


def fresh_case(family, draw):
    """A case of other sizes, type and sharding; `draw` is a random.Random."""
    base, redraw = FAMILIES[family]
    case = CASES[base] | {"config": dict(CASES[base]["config"])}
    redraw(draw, case["config"])
    if family == "pangu_alpha_megatron":
        return case | dict(num_ranks=draw.choice([1, 2]))
    if family == "pangu_alpha":
        case |= dict(buffers=draw.random() < 0.5)
        case["config"]["activation_function"] = draw.choice(["gelu", "gelu_new"])
    dtype, shard_bytes = draw.choice(["float32", "bfloat16", "float16"]), draw.choice([10**9, 60_000])
    return case | dict(dtype=dtype, shard_bytes=shard_bytes)
