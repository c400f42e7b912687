"""Models that transformers computes: the Qwen families, and what it can say of the references' checkpoints."""

import json

import torch
import transformers
from safetensors.torch import load_file, save_file

CLASSES = {"qwen2": "Qwen2", "qwen3": "Qwen3", "qwen3_moe": "Qwen3Moe", "deepseek_v2": "DeepseekV2",
           "deepseek_v3": "DeepseekV3", "openpangu_embedded": "Llama"}


def silence():
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def class_of(family, part):
    return getattr(transformers, CLASSES[family] + part)


def make_model(case, seed):
    torch.manual_seed(seed)
    config = class_of(case["family"], "Config")(**case["config"])
    config._attn_implementation = "eager"
    model = class_of(case["family"], "ForCausalLM")(config).eval()
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


def load(family, folder, **more):
    model = class_of(family, "ForCausalLM").from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", **more).eval()
    return lambda tokens: model(torch.tensor([tokens]), use_cache=False).logits[0]


def write(case, seed, folder):
    """Saves a random checkpoint and returns the function from tokens to logits of what was saved."""
    make_model(case, seed).save_pretrained(folder, max_shard_size=case.get("shard_bytes", 10**9))
    return load(case["family"], folder)


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


def respell(case, folder):
    """Other ways in which the same checkpoint is found stored."""
    if case.get("stacked"):
        stack_experts(folder, case["config"])
    if case.get("legacy"):
        spell_as_older(folder)


def disagreement(case, folder, prompts, logits):
    """Largest difference between a reference's logits and transformers'; None where it has no such model."""
    family, config = case["family"], case["config"]
    if family == "openpangu_embedded":
        llama = transformers.LlamaConfig(**{key: value for key, value in config.items() if key != "model_type"},
                                         attention_bias=config["bias"])
        compute = load(family, folder, config=llama)
    elif family == "deepseek_v3" or (family == "deepseek_v2" and not config["norm_topk_prob"]):
        compute = load(family, folder)
    else:
        return None
    return max(float((compute(entry["prompt"]) - expected).abs().max()) for entry, expected in zip(prompts, logits))
