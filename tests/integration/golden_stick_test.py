"""Folders of MindFormers and golden-stick against their dequantized twins under Hugging Face names.

As checkpoint_formats_test.py does it: random codes in each form, and the float32 weights that they stand for.
"""

import json
import re

import numpy as np
import pytest

from checkpoint_formats_test import BF16, EXACT, Raw, ROUTED, distance, logits, row_scales, spread, write_folder
from conftest import ROOT, run

GOLDEN = ROOT / "tests/golden/models/deepseek_v3"
CONFIG = json.loads((GOLDEN / "config.json").read_text()) | {"num_nextn_predict_layers": 0}
WIDE = CONFIG | {"hidden_size": 256, "moe_intermediate_size": 128}  # room for groups of codes
INPUT_SCALE, INPUT_ZERO = np.float32(0.03125), -17

ATTENTION = {"q_a_proj": "q2l_proj", "q_b_proj": "l2q_proj", "kv_a_proj_with_mqa": "kv2l", "kv_b_proj": "lkv2kv",
             "o_proj": "wo"}
MLP = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
OTHERS = {"model.embed_tokens.weight": "model.tok_embeddings.embedding_weight",
          "model.norm.weight": "model.norm_out.weight", ".input_layernorm.": ".attention_norm.",
          ".post_attention_layernorm.": ".ffn_norm.", ".self_attn.q_a_layernorm.": ".attention.lq_norm.",
          ".self_attn.kv_a_layernorm.": ".attention.lkv_norm.",
          ".mlp.gate.weight": ".feed_forward.routed_experts.router.dense.weight",
          ".mlp.gate.e_score_correction_bias": ".feed_forward.routed_experts.router.e_score_correction_bias"}


# --- the model under Hugging Face names ------------------------------------------------------------------------------

def linears(config):
    """(name, outputs, inputs); of experts, the name up to their number, and behind it."""
    hidden, heads, rope = config["hidden_size"], config["num_attention_heads"], config["qk_rope_head_dim"]
    nope, value, inner = config["qk_nope_head_dim"], config["v_head_dim"], config["moe_intermediate_size"]
    latent, rank = config["kv_lora_rank"], config["q_lora_rank"]
    for layer in range(config["num_hidden_layers"]):
        attention, mlp = f"model.layers.{layer}.self_attn.", f"model.layers.{layer}.mlp."
        yield attention + "q_a_proj", rank, hidden
        yield attention + "q_b_proj", heads * (nope + rope), rank
        yield attention + "kv_a_proj_with_mqa", latent + rope, hidden
        yield attention + "kv_b_proj", heads * (nope + value), latent
        yield attention + "o_proj", hidden, heads * value
        is_dense = layer < config["first_k_dense_replace"]
        for prefix in [mlp] if is_dense else [mlp + "experts.*.", mlp + "shared_experts."]:
            width = config["intermediate_size"] if is_dense else inner
            yield prefix + "gate_proj", width, hidden
            yield prefix + "up_proj", width, hidden
            yield prefix + "down_proj", hidden, width


def others(config, rng):
    """What no form quantizes."""
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    tensors = {"model.embed_tokens.weight": rng.normal(size=(vocab, hidden)),
               "lm_head.weight": rng.normal(size=(vocab, hidden)) / np.sqrt(hidden),
               "model.norm.weight": 1 + rng.normal(size=hidden) / 8}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for norm, size in {"input_layernorm": hidden, "post_attention_layernorm": hidden,
                           "self_attn.q_a_layernorm": config["q_lora_rank"],
                           "self_attn.kv_a_layernorm": config["kv_lora_rank"]}.items():
            tensors[f"{prefix}{norm}.weight"] = 1 + rng.normal(size=size) / 8
        if layer >= config["first_k_dense_replace"]:
            experts = config["n_routed_experts"]
            tensors[prefix + "mlp.gate.weight"] = rng.normal(size=(experts, hidden)) / np.sqrt(hidden)
            tensors[prefix + "mlp.gate.e_score_correction_bias"] = rng.normal(size=experts) / 8
    return {name: values.astype(np.float32) for name, values in tensors.items()}


# --- MindFormers' names and layouts ----------------------------------------------------------------------------------

def rename(name):
    for port, file in OTHERS.items():
        name = name.replace(port, file)
    return name


def module_of(name):
    prefix, _, last = name.rpartition(".")
    if last in ATTENTION:
        return prefix.replace("self_attn", "attention") + "." + ATTENTION[last]
    prefix = prefix.replace("mlp.experts.*", "feed_forward.routed_experts.ffn")
    return prefix.replace("mlp", "feed_forward") + "." + MLP[last]


def turn(config, name, rows):
    """Rotated rows: of each head's last ones those at even places, then those at odd ones."""
    rope = config["qk_rope_head_dim"]
    heads = {"q_b_proj": config["num_attention_heads"], "kv_a_proj_with_mqa": 1}.get(name.rpartition(".")[2])
    if heads is None:
        return rows
    by_head = rows.reshape(heads, -1, *rows.shape[1:])
    plain, rotated = by_head[:, :-rope], by_head[:, -rope:]
    return np.concatenate([plain, rotated[:, 0::2], rotated[:, 1::2]], axis=1).reshape(rows.shape)


def array_of(tensor):
    return tensor.array if isinstance(tensor, Raw) else tensor


def like(tensor, array):
    return Raw(tensor.label, array) if isinstance(tensor, Raw) else array


def join(first, second, axis):
    return like(first, np.concatenate([array_of(first), array_of(second)], axis=axis))


def fuse(tensors, first, second, joint):
    """The linears `first` and `second` as one, along their outputs: the last axis of all but plain weights."""
    for name in [name for name in tensors if f".{first}." in name]:
        other = name.replace(f".{first}.", f".{second}.")
        one, two = tensors.pop(name), tensors.pop(other)
        is_rows = name.endswith(".weight") and array_of(one).ndim == 2
        kept = one if ".quant_op." in name else join(one, two, 0 if is_rows else -1)
        tensors[name.replace(f".{first}.", f".{joint}.")] = kept


def halve_latent_up(config, tensors):
    for name in [name for name in tensors if ".lkv2kv." in name]:
        rows = tensors.pop(name)
        by_head = array_of(rows).reshape(config["num_attention_heads"], -1, config["kv_lora_rank"])
        nope = config["qk_nope_head_dim"]
        for half, part in (("lkv2kv_k_nope", by_head[:, :nope]), ("lkv2kv_v", by_head[:, nope:])):
            tensors[name.replace("lkv2kv", half)] = like(rows, part.reshape(-1, part.shape[-1]))


def fuse_all(config, tensors):
    fuse(tensors, "w1", "w3", "w_gate_hidden")
    fuse(tensors, "q2l_proj", "kv2l", "qkv2l")
    halve_latent_up(config, tensors)


# --- the forms: tensors by the ending of their names, outputs first, and the weights that they stand for -------------

def plain(rng, n, k):
    weight = (rng.normal(size=(n, k)) / np.sqrt(k)).astype(np.float32)
    return {".weight": weight}, weight


def static(deq_as=np.float32, smooth=False):
    def quantize(rng, n, k):
        q = rng.integers(-128, 128, size=(n, k), dtype=np.int8)
        scale = row_scales(rng, n, 1, k, 127)
        inputs = INPUT_SCALE * (rng.uniform(0.5, 2, size=k).astype(np.float32) if smooth else np.ones(1, np.float32))
        deq = (scale[:, 0] * INPUT_SCALE).astype(np.float32)
        stored = {"._layer.weight": q, ".quant_op.input_scale": inputs,
                  ".quant_op.input_zp": np.array([INPUT_ZERO], np.int8),
                  "._layer.matmul.quant_bias": (-INPUT_ZERO * q.astype(np.int32).sum(axis=1)).astype(np.int32),
                  "._layer.matmul.dequant_scale": deq if deq_as is np.float32 else deq.view(np.uint32).astype(deq_as)}
        return stored, q * (deq[:, None] / inputs)
    return quantize


def dynamic(rng, n, k):
    q = rng.integers(-128, 128, size=(n, k), dtype=np.int8)
    scale = row_scales(rng, n, 1, k, 127)
    return {"._layer.weight": q, "._layer.matmul.weight_scale": scale[:, 0]}, q * scale


def four_bits(group=None, ending="weight_scale"):
    """Codes stay one to a byte here: they are packed where experts are stacked."""
    def quantize(rng, n, k):
        q = rng.integers(-8, 8, size=(n, k), dtype=np.int8)
        scale = row_scales(rng, n, k // group if group else 1, k, 8)
        dense = q * spread(scale, k, group)
        noise = rng.integers(0, 1 << 32, size=scale.shape, dtype=np.uint64) << np.uint64(32)
        stored = {"._layer.weight": q, f"._layer.matmul.{ending}": scale.view(np.uint32).astype(np.uint64) | noise,
                  "._layer.matmul.gmm_bias": 8 * dense.sum(axis=1)}
        return stored, dense
    return quantize


def stack(experts, is_packed):
    """[E, inputs, outputs] of weights, [E, groups, outputs] or [E, outputs] of the rest."""
    tensors = {}
    for ending in experts[0]:
        values = np.stack([expert[ending] for expert in experts])
        if ending.startswith(".quant_op."):
            values = values[0]
        elif values.ndim == 3:
            values = values.transpose(0, 2, 1)
        if is_packed and ending == "._layer.weight":
            nibbles = values.astype(np.uint8) & 15
            values = (nibbles[..., 0::2] | nibbles[..., 1::2] << 4).view(np.int8)
        tensors[ending] = values
    return tensors


class Form:
    def __init__(self, attention, mlp, experts, becomes, is_fused=False, config=WIDE):
        self.attention, self.mlp, self.experts, self.becomes = attention, mlp, experts, becomes
        self.is_fused, self.config = is_fused, config

    def of(self, name):
        kinds = {"kv_b_proj": plain, "self_attn": self.attention, "experts.*": self.experts}
        return next((form for kind, form in kinds.items() if kind in name), self.mlp)


# 3 layers of 4 linears in the attention beside kv_b_proj; 3 of the dense layer and 6 of shared experts; 96 of experts.
FORMS = {
    "floats": Form(plain, plain, plain, ["float->bf16="]),
    "floats_fused": Form(plain, plain, plain, ["float->bf16="], is_fused=True),
    "static": Form(static(), static(), static(), ["golden_stick_w8a8->int8=117"]),
    "static_i64": Form(static(np.int64), static(np.int64), static(np.int64), ["golden_stick_w8a8->int8=117"],
                       config=CONFIG),
    "static_smooth": Form(static(), static(smooth=True), static(),
                          ["golden_stick_w8a8->int8=108", "golden_stick_w8a8->bf16=9"]),
    "dynamic": Form(dynamic, dynamic, dynamic, ["golden_stick_w8a8_dynamic->int8=117"], config=CONFIG),
    "dynamic_fused": Form(dynamic, dynamic, dynamic, ["golden_stick_w8a8_dynamic->int8=117"], is_fused=True),
    "mixed": Form(static(), dynamic, dynamic,
                  ["golden_stick_w8a8->int8=12", "golden_stick_w8a8_dynamic->int8=105"]),
    "mixed_fused": Form(static(), dynamic, plain,
                        ["golden_stick_w8a8->int8=12", "golden_stick_w8a8_dynamic->int8=9", "float->bf16="],
                        is_fused=True),
    "a8w4": Form(static(), dynamic, four_bits(128),
                 ["golden_stick_w8a8->int8=12", "golden_stick_w8a8_dynamic->int8=9", "golden_stick_a8w4->int4=96"]),
    "a8w4_fused": Form(static(), dynamic, four_bits(128), ["golden_stick_a8w4->int4=96"], is_fused=True),
    "a8w4_small": Form(static(), dynamic, four_bits(64, "w_scale"), ["golden_stick_a8w4->bf16=96"]),
    "a8w4_channel": Form(static(), dynamic, four_bits(), ["golden_stick_a8w4->int4=96"], config=CONFIG),
}


def make(form, rng):
    """The tensors of `form` under MindFormers' names, and what they stand for under Hugging Face's."""
    config, dense = form.config, others(form.config, rng)
    tensors = {rename(name): values for name, values in dense.items()}
    for name, n, k in linears(config):
        quantize, is_expert = form.of(name), ".*." in name
        made = [quantize(rng, n, k) for _ in range(config["n_routed_experts"] if is_expert else 1)]
        for e, (_, weight) in enumerate(made):
            dense[name.replace("*", str(e)) + ".weight"] = np.ascontiguousarray(weight, np.float32)
        is_packed = any("gmm_bias" in ending for ending in made[0][0])
        stored = stack([stored for stored, _ in made], is_packed) if is_expert else made[0][0]
        for ending, values in stored.items():
            tensors[module_of(name) + ending] = values if ".quant_op." in ending else turn(config, name, values)
    if form.is_fused:
        fuse_all(config, tensors)
    return tensors, dense


@pytest.mark.parametrize("name", FORMS)
def test_a_folder_means_what_its_dequantized_twin_says(tmp_path, name):
    form = FORMS[name]
    tensors, dense = make(form, np.random.default_rng(5))
    quantized = write_folder(tmp_path / "quantized", form.config, tensors)
    expected, _ = logits(write_folder(tmp_path / "dense", form.config, dense), "--dtype", "float32")

    floats, _ = logits(quantized, "--dtype", "float32", "--quantization", "none")
    kept, log = logits(quantized)

    assert distance(floats, expected) < EXACT
    assert distance(kept, expected) < (ROUTED if "float" not in name else 2 * BF16)
    [line] = re.findall(r"event=weights_imported.*", log)
    assert [part for part in form.becomes if f" {part}" not in line] == []


def shift(config, tensors, dense, rng):
    """Gives the norms before the latents biases, and the linear maps behind them biases that undo a part of them."""
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for norm, names in (("input_layernorm", ["q_a_proj", "kv_a_proj_with_mqa"]),
                            ("self_attn.q_a_layernorm", ["q_b_proj"])):
            beta = rng.normal(size=dense[f"{prefix}{norm}.weight"].shape).astype(np.float32) / 4
            dense[f"{prefix}{norm}.bias"] = beta
            for name in [f"{prefix}self_attn.{name}" for name in names]:
                matmul = module_of(name) + "._layer.matmul."
                deq = tensors[matmul + "dequant_scale"]
                steps = rng.integers(-10_000, 10_000, size=deq.shape, dtype=np.int32)
                tensors[matmul + "quant_bias"] = tensors[matmul + "quant_bias"] + steps
                tensors[module_of(name) + ".quant_op.beta"] = beta
                bias = np.empty_like(deq)
                bias[turn(config, name, np.arange(len(deq)))] = steps * deq
                dense[name + ".bias"] = bias


@pytest.mark.parametrize("is_fused", [False, True])
def test_betas_are_biases_of_norms_and_quant_biases_undo_them(tmp_path, is_fused):
    form, rng = FORMS["mixed"], np.random.default_rng(5)
    tensors, dense = make(form, rng)
    plain_dense = dict(dense)
    shift(form.config, tensors, dense, rng)
    if is_fused:
        fuse_all(form.config, tensors)
    expected, _ = logits(write_folder(tmp_path / "dense", form.config, dense), "--dtype", "float32")
    without, _ = logits(write_folder(tmp_path / "plain", form.config, plain_dense), "--dtype", "float32")
    quantized = write_folder(tmp_path / "quantized", form.config, tensors)

    floats, _ = logits(quantized, "--dtype", "float32", "--quantization", "none")
    kept, _ = logits(quantized)

    assert distance(without, expected) > 2 * ROUTED
    assert distance(floats, expected) < EXACT
    assert distance(kept, expected) < ROUTED


def test_linear_maps_behind_one_norm_must_agree_on_its_bias(tmp_path):
    tensors, _ = make(FORMS["static_i64"], np.random.default_rng(5))
    tensors["model.layers.1.attention.kv2l.quant_op.beta"] = np.full(CONFIG["hidden_size"], 0.5, np.float32)

    assert ("model.layers.1.attention.q2l_proj and model.layers.1.attention.kv2l follow one norm, but add different "
            "biases to it (quant_op.beta)" in refusal(tmp_path, tensors))


def read_safetensors(path):
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8:8 + size])
    header.pop("__metadata__", None)
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        kind = {"BF16": np.uint16, "F32": np.float32}[entry["dtype"]]
        array = np.frombuffer(content[8 + size + begin:8 + size + end], kind).reshape(entry["shape"])
        yield name, Raw(entry["dtype"], array)


@pytest.mark.parametrize("is_fused", [False, True])
def test_the_golden_model_under_the_names_of_mindformers_has_the_same_bits(tmp_path, is_fused):
    weights = dict(read_safetensors(GOLDEN / "model.safetensors"))
    tensors = {}
    for name, _, _ in linears(CONFIG):
        if ".*." in name:
            experts = [weights.pop(f"{name}.weight".replace("*", str(e))) for e in range(CONFIG["n_routed_experts"])]
            stacked = np.stack([expert.array for expert in experts]).transpose(0, 2, 1)
            tensors[module_of(name) + ".weight"] = like(experts[0], stacked)
        else:
            weight = weights.pop(name + ".weight")
            tensors[module_of(name) + ".weight"] = like(weight, turn(CONFIG, name, weight.array))
    tensors |= {rename(name): tensor for name, tensor in weights.items() if "layers.3." not in name}
    if is_fused:
        fuse_all(CONFIG, tensors)
    folder = write_folder(tmp_path / "model", CONFIG, tensors)
    (tmp_path / "golden").symlink_to(GOLDEN)

    np.testing.assert_array_equal(logits(folder)[0], logits(tmp_path / "golden")[0])


@pytest.mark.parametrize("name", ["mixed_fused", "a8w4"])
def test_a_packed_folder_of_it_gives_the_same_bits(tmp_path, name):
    folder = write_folder(tmp_path / "model", WIDE, make(FORMS[name], np.random.default_rng(5))[0])

    run("quantize", folder, tmp_path / "packed", "--format", "auto")

    np.testing.assert_array_equal(logits(tmp_path / "packed")[0], logits(folder)[0])


def test_its_form_is_known_by_its_tensors_whatever_the_config_says(tmp_path):
    original = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    folder = write_folder(tmp_path / "model", WIDE | original, make(FORMS["a8w4"], np.random.default_rng(5))[0])

    plan = json.loads(run("inspect", folder, "--quantization", "golden-stick", "--json").stdout)
    floats = json.loads(run("inspect", folder, "--quantization", "none", "--json").stdout)
    log = run("generate", folder, "--token-ids", "1", "--max-tokens", "1").stderr

    assert " dtype=golden-stick" in log
    loaded = float(re.search(r' weights="([0-9.]+) MiB"', log)[1]) * 2 ** 20
    assert plan["memory_plan"]["weight_bytes"] == pytest.approx(loaded, rel=0.1)
    assert floats["memory_plan"]["weight_bytes"] > 2 * loaded


# --- what is refused -------------------------------------------------------------------------------------------------

def refusal(tmp_path, tensors, config=CONFIG, **kwargs):
    folder = write_folder(tmp_path / "model", config, tensors, **kwargs)
    result = run("logits", folder, "--token-ids", "1", "--output", tmp_path / "x.npy", check=False)
    assert result.returncode != 0
    return result.stderr


WO = "model.layers.0.attention.wo"


@pytest.mark.parametrize("change, message", [
    (lambda tensors: tensors.pop(f"{WO}._layer.matmul.dequant_scale"),
     f"tensor {WO}._layer.matmul.dequant_scale is missing from the checkpoint"),
    (lambda tensors: tensors.update({f"{WO}._layer.weight": np.zeros((48, 40), np.int8)}),
     f"tensor {WO}._layer.weight has dtype I8 and shape [48, 40]; must be I8 of 40 outputs"),
    (lambda tensors: tensors.update({f"{WO}._layer.matmul.weight_zp": np.zeros(40, np.float32)}),
     f"tensor {WO}._layer.matmul.weight_zp is of a form of golden-stick that is not read")])
def test_a_damaged_folder_is_told_by_tensor_and_value(tmp_path, change, message):
    tensors, _ = make(FORMS["static_i64"], np.random.default_rng(5))
    change(tensors)

    assert message in refusal(tmp_path, tensors)


def test_other_families_are_named(tmp_path):
    name = "model.layers.0.attention.wo._layer.weight"
    config = {"architectures": ["Qwen3ForCausalLM"], "hidden_size": 64, "intermediate_size": 64, "vocab_size": 96,
              "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32,
              "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 10000.0}

    assert (f"tensor {name} is of MindSpore's golden-stick or MindFormers, which are read for DeepSeek only"
            in refusal(tmp_path, {name: np.zeros((2, 2), np.int8)}, config))


def test_a_checkpoint_of_mindspore_itself_is_named(tmp_path):
    message = refusal(tmp_path, {}, weights="rank_0.ckpt")

    assert "rank_0.ckpt is a checkpoint of MindSpore, which is read as safetensors only" in message
