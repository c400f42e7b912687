"""Random checkpoints of the references' models, written as the published ones are stored."""

import argparse
import collections
import json
import random
import re

import numpy
import torch
from safetensors.torch import save_file

MEGATRON_NAMES = {
    "ln_1": "input_layernorm", "ln_2": "post_attention_layernorm", "attn.q_proj": "attention.query",
    "attn.k_proj": "attention.key", "attn.v_proj": "attention.value", "attn.c_proj": "attention.dense",
    "mlp.c_fc": "mlp.dense_h_to_4h", "mlp.c_proj": "mlp.dense_4h_to_h"}
SPLIT_BY_ROWS = re.compile(r"(query|key|value|dense_h_to_4h)\.(weight|bias)$")
SPLIT_BY_COLUMNS = re.compile(r"(attention\.dense|dense_4h_to_h)\.weight$")


def random_tensor(name, shape):
    """Large enough that logits spread and that every scale, bias and table matters."""
    x = torch.randn(shape)
    if name.endswith("e_score_correction_bias"):
        return -0.6 + 0.4 * x  # most scores that choose are negative
    if name.endswith("router_scale"):
        return 1.0 + 0.4 * x
    if name.endswith("bias"):  # PanGu-alpha has them everywhere: larger ones would drown the tokens
        return 0.2 * x if name.startswith("transformer.") else 0.5 * x
    if re.search(r"norm|\.ln_", name):
        return 1.0 + 0.2 * x
    if re.search(r"\.w[tpq]e\.", name):
        return {"wte": 0.25, "wpe": 0.125, "wqe": 1.0}[name.split(".")[1]] * x
    if "embed" in name:
        return 0.25 * x
    size = 1.4
    if re.search(r"\.experts\..*down_proj", name):
        size = 0.4  # where rounded weights choose the next best expert, the model is still the same
    elif re.search(r"self_attn\.q(_b)?_proj", name):
        size = 1.0  # and where they shift what attention looks at
    return size * x / shape[-1] ** 0.5


def random_weights(shapes, seed, dtype):
    torch.manual_seed(seed)
    return {name: random_tensor(name, shape).to(torch.float32 if "e_score_correction" in name else dtype)
            for name, shape in shapes.items()}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def save_folder(folder, config, weights, shard_bytes=None):
    """config.json, and model.safetensors or shards of about `shard_bytes` with their index."""
    folder.mkdir(parents=True)
    write_json(folder / "config.json", config)
    shards, sizes = [{}], [0]
    for name, tensor in weights.items():
        if shard_bytes and sizes[-1] and sizes[-1] + tensor.nbytes > shard_bytes:
            shards.append({})
            sizes.append(0)
        shards[-1][name] = tensor
        sizes[-1] += tensor.nbytes
    if len(shards) == 1:
        return save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    files = [f"model-{index + 1:05}-of-{len(shards):05}.safetensors" for index in range(len(shards))]
    for file, shard in zip(files, shards):
        save_file(shard, folder / file, metadata={"format": "pt"})
    write_json(folder / "model.safetensors.index.json", {
        "metadata": {"total_size": sum(sizes)},
        "weight_map": {name: file for file, shard in zip(files, shards) for name in shard}})


def with_port_buffers(config, weights):
    """What the Hugging Face port of PanGu-alpha saves besides: a copy of wte, and causal masks to be ignored."""
    positions = config["max_position_embeddings"]
    weights = weights | {"lm_head.weight": weights["transformer.wte.weight"].clone()}
    for layer in range(config["num_layers"]):
        weights[f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, positions, positions, dtype=torch.uint8).tril()
        weights[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    return weights


def state_dict(tensors):
    """As torch.nn.Module.state_dict returns it, with the attribute that pickles along."""
    state = collections.OrderedDict(tensors)
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    return state


def megatron_transformer(config, weights):
    last = config["num_layers"] - 1
    tensors = {}
    for name, tensor in weights.items():
        if match := re.fullmatch(r"transformer\.h\.(\d+)\.(.+)\.(weight|bias)", name):
            layer = "topQueryLayer" if int(match[1]) == last else f"layers.{match[1]}"
            tensors[f"{layer}.{MEGATRON_NAMES[match[2]]}.{match[3]}"] = tensor
        elif name.startswith("transformer.ln_f."):
            tensors[name.replace("transformer.ln_f", "final_layernorm")] = tensor
    return tensors


def rank_slice(name, tensor, rank, num_ranks):
    """A view of the whole tensor: torch.save keeps its storage, offset and strides, as published splits do."""
    if SPLIT_BY_ROWS.search(name):
        return tensor.chunk(num_ranks, 0)[rank]
    return tensor.chunk(num_ranks, 1)[rank] if SPLIT_BY_COLUMNS.search(name) else tensor


def save_megatron(folder, config, weights, num_ranks, top_query_key):
    """PanGu-alpha in Megatron's layout, one file per tensor-parallel rank, weights in the names of the port."""
    args = argparse.Namespace(
        num_layers=config["num_layers"] - 1,  # the query layer is not counted
        hidden_size=config["hidden_size"], num_attention_heads=config["num_heads"],
        max_position_embeddings=config["max_position_embeddings"], seq_length=config["max_position_embeddings"],
        layernorm_epsilon=config["layer_norm_epsilon"], padded_vocab_size=config["vocab_size"],
        make_vocab_size_divisible_by=128, model_parallel_size=num_ranks, fp16=True, params_dtype=torch.float16,
        apply_query_key_layer_scaling=False, lr=1e-4, load=None, tokenizer_type="GPT2BPETokenizer")
    random.seed(1)
    numpy.random.seed(1)
    torch.manual_seed(1)
    transformer = megatron_transformer(config, weights)
    for rank in range(num_ranks):
        words = weights["transformer.wte.weight"].chunk(num_ranks, 0)[rank]
        language_model = {
            "embedding": {"word_embeddings": state_dict({"weight": words}),
                          "position_embeddings": state_dict({"weight": weights["transformer.wpe.weight"]})},
            "transformer": state_dict({name: rank_slice(name, tensor, rank, num_ranks)
                                       for name, tensor in transformer.items()}),
            top_query_key: {"top_query_embeddings": state_dict({"weight": weights["transformer.wqe.weight"]})}}
        path = folder / "iter_0000001" / f"mp_rank_{rank:02}"
        path.mkdir(parents=True)
        torch.save({"args": args, "checkpoint_version": 1.0, "iteration": 1,
                    "model": {"language_model": language_model}, "random_rng_state": random.getstate(),
                    "np_rng_state": numpy.random.get_state(), "torch_rng_state": torch.get_rng_state()},
                   path / "model_optim_rng.pt")
    (folder / "latest_checkpointed_iteration.txt").write_text("1")
