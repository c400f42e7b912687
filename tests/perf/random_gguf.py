"""Writes a GGUF file with random weights for one of shapes/, so that llama.cpp can be measured on it:

    pip install gguf numpy
    python tests/perf/random_gguf.py tests/perf/shapes/pangu-alpha-2.6b /tmp/q8.gguf --type Q8_0
    llama-bench -m /tmp/q8.gguf -t 2 -p 512 -n 64 -r 3
    llama-batched-bench -m /tmp/q8.gguf -t 2 -c 8192 -npp 32 -ntg 32 -npl 1,2,4,8,16,32,64

Weights have a mean of zero, as ours: otherwise a router sends every token to the same experts. The output matrix (with
tied embeddings, both) is Q8_0, as ours is int8.
"""

import argparse
import json
import math
import pathlib

import gguf
import numpy as np

Q8_0, Q4_0 = gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0
BLOCK = 32  # weights that share a scale
BLOCK_BYTES = {Q8_0: 34, Q4_0: 18}
BLOCKS_AT_ONCE = 1 << 20


def blocks(rng, kind, count, spread):
    """`count` blocks of random codes, as bytes; the weights' standard deviation is `spread`."""
    if kind == Q8_0:
        codes = rng.integers(-127, 128, (count, BLOCK), dtype=np.int8).view(np.uint8)
        scales = np.full((count, 1), spread / 73.3, np.float16)
    else:  # Q4_0: codes of 0 to 15 less 8, whose mean of -1/2 scales of either sign make zero
        codes = rng.integers(0, 256, (count, BLOCK // 2), dtype=np.uint8)
        scales = (rng.choice([-1, 1], (count, 1)) * spread / 4.6).astype(np.float16)
    return np.concatenate([scales.view(np.uint8), codes], axis=1)


def stand_in(config):
    """A Qwen2 of the same layers, widths and heads for PanGu-alpha, which llama.cpp has not."""
    hidden, heads = config["hidden_size"], config["num_heads"]
    return {
        "model_type": "qwen2",
        "vocab_size": config["vocab_size"],
        "hidden_size": hidden,
        "num_hidden_layers": config["num_layers"],
        "intermediate_size": 8 * hidden // 3 // BLOCK * BLOCK,  # three matrices that together are as large as the two
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": hidden // heads,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "tie_word_embeddings": True,
    }


def add_settings(file, config, kind):
    file.add_name("random")
    file.add_tokenizer_model("no_vocab")
    file.add_vocab_size(config["vocab_size"])
    file.add_context_length(1 << 17)
    file.add_embedding_length(config["hidden_size"])
    file.add_block_count(config["num_hidden_layers"])
    file.add_feed_forward_length(config.get("intermediate_size", 0))
    file.add_head_count(config["num_attention_heads"])
    file.add_head_count_kv(config["num_key_value_heads"])
    file.add_layer_norm_rms_eps(config["rms_norm_eps"])
    file.add_rope_freq_base(config["rope_theta"])
    file.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if kind == Q8_0 else gguf.LlamaFileType.MOSTLY_Q4_0)
    if "head_dim" in config:
        file.add_key_length(config["head_dim"])
        file.add_value_length(config["head_dim"])
    if "num_experts" in config:
        file.add_expert_count(config["num_experts"])
        file.add_expert_used_count(config["num_experts_per_tok"])
        file.add_expert_feed_forward_length(config["moe_intermediate_size"])


def layer_tensors(config):
    """(name, shape, content) of each tensor of a layer; content is one of CONTENTS."""
    hidden, heads, kv_heads = config["hidden_size"], config["num_attention_heads"], config["num_key_value_heads"]
    head_dim, is_moe = config.get("head_dim", hidden // heads), "num_experts" in config
    yield "attn_norm.weight", [hidden], "ones"
    yield "ffn_norm.weight", [hidden], "ones"
    for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
        yield f"attn_{name}.weight", [count * head_dim, hidden], "weights"
        if not is_moe:
            yield f"attn_{name}.bias", [count * head_dim], "zeros"
    yield "attn_output.weight", [hidden, heads * head_dim], "weights"
    width, experts, suffix = config.get("intermediate_size"), [], ""
    if is_moe:
        yield "attn_q_norm.weight", [head_dim], "ones"
        yield "attn_k_norm.weight", [head_dim], "ones"
        yield "ffn_gate_inp.weight", [config["num_experts"], hidden], "router"
        width, experts, suffix = config["moe_intermediate_size"], [config["num_experts"]], "_exps"
    yield f"ffn_gate{suffix}.weight", [*experts, width, hidden], "weights"
    yield f"ffn_up{suffix}.weight", [*experts, width, hidden], "weights"
    yield f"ffn_down{suffix}.weight", [*experts, hidden, width], "weights"


def model_tensors(config):
    vocabulary = [config["vocab_size"], config["hidden_size"]]
    yield "token_embd.weight", vocabulary, "head"
    if not config["tie_word_embeddings"]:
        yield "output.weight", vocabulary, "head"
    yield "output_norm.weight", [config["hidden_size"]], "ones"
    for layer in range(config["num_hidden_layers"]):
        for name, shape, content in layer_tensors(config):
            yield f"blk.{layer}.{name}", shape, content


def quantized(rng, shape, kind):
    count = math.prod(shape) // BLOCK
    parts = [blocks(rng, kind, min(BLOCKS_AT_ONCE, count - begin), shape[-1] ** -0.5)
             for begin in range(0, count, BLOCKS_AT_ONCE)]
    return np.concatenate(parts).reshape(*shape[:-1], -1)


CONTENTS = {
    "weights": quantized,
    "head": lambda rng, shape, kind: quantized(rng, shape, Q8_0),
    "router": lambda rng, shape, kind: rng.standard_normal(shape, np.float32) * shape[-1] ** -0.5,
    "ones": lambda rng, shape, kind: np.ones(shape, np.float32),
    "zeros": lambda rng, shape, kind: np.zeros(shape, np.float32),
}


def add_tensor_info(file, name, shape, content, kind):
    kind = {"weights": kind, "head": Q8_0}.get(content)
    if kind is None:
        return file.add_tensor_info(name, shape, np.dtype(np.float32), 4 * math.prod(shape))
    byte_shape = [*shape[:-1], shape[-1] // BLOCK * BLOCK_BYTES[kind]]
    return file.add_tensor_info(name, byte_shape, np.dtype(np.uint8), math.prod(byte_shape), raw_dtype=kind)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", type=pathlib.Path, help="folder with a config.json: Qwen2, Qwen3-MoE or PanGu-alpha")
    parser.add_argument("output")
    parser.add_argument("--type", choices=[Q8_0.name, Q4_0.name], required=True)
    args = parser.parse_args()
    config, kind = json.loads((args.shape / "config.json").read_text()), gguf.GGMLQuantizationType[args.type]
    if config["model_type"] == "gpt_pangu":
        config = stand_in(config)
    tensors, rng = list(model_tensors(config)), np.random.default_rng(1)
    file = gguf.GGUFWriter(args.output, {"qwen2": "qwen2", "qwen3_moe": "qwen3moe"}[config["model_type"]])
    add_settings(file, config, kind)
    for name, shape, content in tensors:
        add_tensor_info(file, name, shape, content, kind)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_ti_data_to_file()
    for _, shape, content in tensors:  # one at a time, as all may not fit into memory
        file.write_tensor_data(CONTENTS[content](rng, shape, kind))
    file.close()


if __name__ == "__main__":
    main()
