#!/usr/bin/env python3
"""Records tiny random checkpoints and what transformers computes with them.

Run by hand with torch, transformers 5 and safetensors installed; the outputs are kept in the repository:

    python tests/golden/models/record.py [case ...]

Per case a folder with the checkpoint (config.json, generation_config.json, *.safetensors), `golden.json` (prompts and
greedy tokens) and `logits.f32` (little-endian float32, the logits of every prompt position, [positions, vocab]).
Everything is computed in float32 on the weights as they were saved. The initial weights are larger than usual, so
that logits spread; a seed is taken only when the best and the second best logit of every greedy step lie apart.
"""

import json
import pathlib
import shutil
import sys

import numpy
import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
GREEDY_TOKENS = 64
MIN_MARGIN = 2e-3
MIN_DISTINCT = 6  # tokens of a continuation: one that repeats itself would test little

BASE = dict(vocab_size=96, hidden_size=48, intermediate_size=80, num_hidden_layers=2, max_position_embeddings=512,
            rms_norm_eps=1e-6, eos_token_id=[1, 2], bos_token_id=0)
MOE = dict(moe_intermediate_size=20, num_experts=6, num_experts_per_tok=2, norm_topk_prob=True)


def rope(theta=10000.0, **more):
    return {"rope_type": "default", "rope_theta": theta, **more}


# Each case: class, config, and how it is stored.
CASES = {
    # 7 query heads to a K/V head, head_dim as derived, biases, tied.
    "qwen2_tied_7to1": dict(model="Qwen2", config=dict(
        BASE, hidden_size=56, num_attention_heads=7, num_key_value_heads=1, tie_word_embeddings=True,
        rope_parameters=rope(1e6))),
    # Untied, bfloat16 file, YaRN.
    "qwen2_bf16_yarn": dict(model="Qwen2", dtype="bfloat16", config=dict(
        BASE, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False,
        rope_parameters=rope(1e4, rope_type="yarn", factor=4.0, original_max_position_embeddings=32))),
    # head_dim other than hidden / heads, untied, 3:1, in shards.
    "qwen3_sharded": dict(model="Qwen3", shard_bytes=40_000, config=dict(
        BASE, num_attention_heads=6, num_key_value_heads=2, head_dim=20, tie_word_embeddings=False,
        rope_parameters=rope(1e6))),
    # float16 file, tied, linear rope, as many K/V heads as heads, biases, the older spelling of the config.
    "qwen3_f16_linear": dict(model="Qwen3", dtype="float16", legacy=True, config=dict(
        BASE, num_attention_heads=4, num_key_value_heads=4, head_dim=16, tie_word_embeddings=True, attention_bias=True,
        rope_parameters=rope(1e4, rope_type="linear", factor=2.0))),
    # Experts one by one, 4:1, head_dim other than hidden / heads.
    "qwen3_moe": dict(model="Qwen3Moe", config=dict(
        BASE, **MOE, num_attention_heads=4, num_key_value_heads=1, head_dim=24, tie_word_embeddings=False,
        rope_parameters=rope(1e6))),
    # Stacked experts, dense layers among them, probabilities not normalized, bfloat16, three experts per token.
    "qwen3_moe_stacked": dict(model="Qwen3Moe", dtype="bfloat16", stacked=True, config=dict(
        {**BASE, **MOE}, num_hidden_layers=4, decoder_sparse_step=2, mlp_only_layers=[3], num_attention_heads=4,
        num_key_value_heads=2, head_dim=12, tie_word_embeddings=True, norm_topk_prob=False, moe_intermediate_size=40,
        num_experts=5, num_experts_per_tok=3, rope_parameters=rope(1e4))),
}

PROMPTS = [[5], [17, 3, 88, 41, 9, 60, 60, 2, 71], [(7 * i * i + 11 * i + 3) % 96 for i in range(70)]]


def make_model(case, seed):
    config_class = getattr(transformers, case["model"] + "Config")
    model_class = getattr(transformers, case["model"] + "ForCausalLM")
    torch.manual_seed(seed)
    config = config_class(**case["config"])
    config._attn_implementation = "eager"
    model = model_class(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.copy_(1.0 + 0.2 * torch.randn_like(weight))
            elif name.endswith("bias"):
                weight.copy_(0.5 * torch.randn_like(weight))
            elif "embed" in name:
                weight.copy_(0.25 * torch.randn_like(weight))
            else:
                weight.copy_(1.4 * torch.randn_like(weight) / weight.shape[-1] ** 0.5)
    return model.to(getattr(torch, case.get("dtype", "float32")))


def stack_experts(folder, config):
    """Rewrites experts that were saved one by one as two tensors per layer."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}.mlp.experts."
        if prefix + "0.gate_proj.weight" not in tensors:
            continue
        take = lambda e, part: tensors.pop(f"{prefix}{e}.{part}_proj.weight")
        experts = range(config["num_experts"])
        tensors[prefix + "gate_up_proj"] = torch.stack([torch.cat([take(e, "gate"), take(e, "up")]) for e in experts])
        tensors[prefix + "down_proj"] = torch.stack([take(e, "down") for e in experts])
    save_file(tensors, path, metadata={"format": "pt"})


def spell_as_older(folder):
    """config.json as transformers 4 wrote it: torch_dtype, rope_theta and rope_scaling."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["torch_dtype"] = config.pop("dtype")
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    config["rope_scaling"] = {"type": parameters.pop("rope_type"), **parameters}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def greedy(model, prompt):
    """Greedy continuation, and the smallest margin of all steps."""
    tokens, margin, cache, fed = [], float("inf"), None, list(prompt)
    for _ in range(GREEDY_TOKENS):
        out = model(torch.tensor([fed]), past_key_values=cache, use_cache=True)
        best = torch.topk(out.logits[0, -1], 2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        if margin < MIN_MARGIN:
            break
        tokens.append(int(best.indices[0]))
        cache, fed = out.past_key_values, tokens[-1:]
    return tokens, margin


def record(name, case, seed):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model = make_model(case, seed)
    model.save_pretrained(folder, max_shard_size=case.get("shard_bytes", 10**9))
    model_class = type(model)
    loaded = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    prompts, logits = [], []
    with torch.no_grad():
        for prompt in PROMPTS:
            tokens, margin = greedy(loaded, prompt)
            if margin < MIN_MARGIN or len(set(tokens)) < MIN_DISTINCT:
                return False
            prompts.append({"prompt": prompt, "greedy": tokens})
            logits.append(loaded(torch.tensor([prompt])).logits[0].numpy())
    if case.get("stacked"):
        stack_experts(folder, case["config"])
    if case.get("legacy"):
        spell_as_older(folder)
    numpy.concatenate(logits).astype("<f4").tofile(folder / "logits.f32")
    text = json.dumps({"transformers": transformers.__version__, "seed": seed, "prompts": prompts})
    (folder / "golden.json").write_text(text + "\n")
    return True


def main():
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in sys.argv[1:] or CASES:
        seed = next(seed for seed in range(200) if record(name, CASES[name], seed))
        size = sum(path.stat().st_size for path in (HERE / name).iterdir())
        print(f"{name}: seed {seed}, {size} bytes")


if __name__ == "__main__":
    main()
