"""Published quantized checkpoints against their dequantized twins.

A tiny model is written with random codes in each published form, and again as the float32 weights that those codes
stand for, decoded here by the forms' own definitions. The logits of both must agree: closely when the quantized folder
is loaded as floats, and within what 8-bit activations cost when its codes are kept.
"""

import json
import re

import numpy as np
import pytest

from conftest import run

LAYERS, HIDDEN, INTERMEDIATE, EXPERT_WIDTH, EXPERTS, VOCAB = 2, 256, 384, 128, 4, 96
HEADS, KV_HEADS, HEAD_DIM = 4, 2, 64
QUERY_RANK, LATENT, UNTURNED, TURNED, VALUE_DIM = 128, 64, 32, 32, 64  # of latent attention
TOKENS = ",".join(str((7 * i * i + 3) % VOCAB) for i in range(24))

# Relative distance of logits: of sums in float32; of weights rounded to bf16; of activations rounded to 8 bits; of
# either where it sends a token to another expert now and then; of biases in steps of quant_bias.
EXACT, BF16, INTEGER, ROUTED, STEPS = 2e-5, 0.02, 0.03, 0.2, 2e-4


# --- files -----------------------------------------------------------------------------------------------------------

LABELS = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(np.int8): "I8", np.dtype(np.int32): "I32",
          np.dtype(np.int64): "I64", np.dtype(np.uint8): "U8", np.dtype(np.uint64): "U64"}


class Raw:
    """Bytes with a type that numpy lacks."""

    def __init__(self, label, array):
        self.label, self.array = label, array


def bf16(values):
    """float32 values that bf16 holds exactly, cut off."""
    return (np.asarray(values, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def as_bf16(values):
    return Raw("BF16", (bf16(values).view(np.uint32) >> np.uint32(16)).astype(np.uint16))


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, tensor in tensors.items():
        label, array = (tensor.label, tensor.array) if isinstance(tensor, Raw) else (LABELS[tensor.dtype], tensor)
        content = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": label, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def write_folder(path, config, tensors, files=None, weights="model.safetensors"):
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    for name, content in (files or {}).items():
        (path / name).write_text(json.dumps(content))
    write_safetensors(path / weights, tensors)
    return path


# --- the model -------------------------------------------------------------------------------------------------------

def config_of(family):
    config = {"architectures": [family + "ForCausalLM"], "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE,
              "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
              "head_dim": HEAD_DIM, "vocab_size": VOCAB, "max_position_embeddings": 128, "rms_norm_eps": 1e-6,
              "hidden_act": "silu", "tie_word_embeddings": False, "rope_theta": 10000.0, "torch_dtype": "bfloat16"}
    if family == "Qwen3Moe":
        config |= {"num_experts": EXPERTS, "num_experts_per_tok": 2, "moe_intermediate_size": EXPERT_WIDTH,
                   "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []}
    if family == "PanguProMoE":
        config |= {"num_experts": EXPERTS, "num_experts_per_tok": 2, "moe_intermediate_size": EXPERT_WIDTH,
                   "shared_expert_intermediate_size": EXPERT_WIDTH}
    if family == "DeepseekV3":
        config |= {"num_key_value_heads": HEADS, "q_lora_rank": QUERY_RANK, "kv_lora_rank": LATENT,
                   "qk_nope_head_dim": UNTURNED, "qk_rope_head_dim": TURNED, "v_head_dim": VALUE_DIM,
                   "first_k_dense_replace": 1, "n_routed_experts": EXPERTS, "num_experts_per_tok": 2,
                   "moe_intermediate_size": EXPERT_WIDTH, "n_shared_experts": 1, "n_group": 1, "topk_group": 1,
                   "norm_topk_prob": True, "routed_scaling_factor": 1.0}
    return config


def is_sparse(family, layer):
    return family in ("Qwen3Moe", "PanguProMoE") or (family == "DeepseekV3" and layer > 0)


def has_bias_by_config(family, module):
    biased = {"Qwen2": ("q_proj", "k_proj", "v_proj"), "PanguProMoE": ("q_proj", "k_proj", "v_proj", "o_proj")}
    return module.endswith(biased.get(family, ()))


def plain_tensors(family, rng):
    """What no form quantizes, in values that bf16 holds."""
    def normal(*shape, scale=1.0):
        return bf16(rng.normal(size=shape) * scale)

    tensors = {"model.embed_tokens.weight": normal(VOCAB, HIDDEN),
               "lm_head.weight": normal(VOCAB, HIDDEN, scale=HIDDEN ** -0.5),
               "model.norm.weight": 1 + normal(HIDDEN, scale=0.125)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        tensors[prefix + "input_layernorm.weight"] = 1 + normal(HIDDEN, scale=0.125)
        tensors[prefix + "post_attention_layernorm.weight"] = 1 + normal(HIDDEN, scale=0.125)
        if family == "DeepseekV3":
            attention = prefix + "self_attn."
            tensors[attention + "q_a_layernorm.weight"] = 1 + normal(QUERY_RANK, scale=0.125)
            tensors[attention + "kv_a_layernorm.weight"] = 1 + normal(LATENT, scale=0.125)
            rows = HEADS * (UNTURNED + VALUE_DIM)
            tensors[attention + "kv_b_proj.weight"] = normal(rows, LATENT, scale=LATENT ** -0.5)
        elif family not in ("Qwen2", "PanguProMoE"):
            tensors[prefix + "self_attn.q_norm.weight"] = 1 + normal(HEAD_DIM, scale=0.125)
            tensors[prefix + "self_attn.k_norm.weight"] = 1 + normal(HEAD_DIM, scale=0.125)
        if is_sparse(family, layer):
            tensors[prefix + "mlp.gate.weight"] = normal(EXPERTS, HIDDEN, scale=HIDDEN ** -0.5)
            if family == "DeepseekV3":
                tensors[prefix + "mlp.gate.e_score_correction_bias"] = normal(EXPERTS, scale=0.1)
    return {name: np.asarray(values, np.float32) for name, values in tensors.items()}


def modules_of(family):
    """(name, outputs, inputs) of every linear map that forms quantize."""
    for layer in range(LAYERS):
        attention, mlp = f"model.layers.{layer}.self_attn.", f"model.layers.{layer}.mlp."
        if family == "DeepseekV3":
            yield attention + "q_a_proj", QUERY_RANK, HIDDEN
            yield attention + "q_b_proj", HEADS * (UNTURNED + TURNED), QUERY_RANK
            yield attention + "kv_a_proj_with_mqa", LATENT + TURNED, HIDDEN
            yield attention + "o_proj", HIDDEN, HEADS * VALUE_DIM
        else:
            yield attention + "q_proj", HEADS * HEAD_DIM, HIDDEN
            yield attention + "k_proj", KV_HEADS * HEAD_DIM, HIDDEN
            yield attention + "v_proj", KV_HEADS * HEAD_DIM, HIDDEN
            yield attention + "o_proj", HIDDEN, HEADS * HEAD_DIM
        prefixes, width = [mlp], INTERMEDIATE
        if is_sparse(family, layer):
            prefixes, width = [mlp + f"experts.{e}." for e in range(EXPERTS)], EXPERT_WIDTH
            shared = {"DeepseekV3": "shared_experts.", "PanguProMoE": "shared_expert."}.get(family)
            prefixes += [mlp + shared] if shared else []
        for prefix in prefixes:
            yield prefix + "gate_proj", width, HIDDEN
            yield prefix + "up_proj", width, HIDDEN
            yield prefix + "down_proj", HIDDEN, width


# --- the forms: each yields a module's tensors, by the ending of their names, and the float32 weights they stand for ---

def row_scales(rng, n, groups, k, largest, dtype=np.float32):
    """Scales [n, groups] that give codes up to `largest` weights of the usual size."""
    return (rng.uniform(0.5, 1.5, size=(n, groups)) * 1.7 / largest / np.sqrt(k)).astype(dtype)


def spread(grid, k, group):
    """[n, groups] to [n, k]; the last group may be short."""
    return np.repeat(grid.astype(np.float32), group or k, axis=1)[:, :k]


def pack_words(codes, bits, axis):
    """Codes along `axis` into 32-bit words, from the low end on; what is missing is zero."""
    codes = np.moveaxis(np.asarray(codes, np.uint32), axis, -1)
    per_word = 32 // bits
    padding = -codes.shape[-1] % per_word
    codes = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, padding)])
    codes = codes.reshape(*codes.shape[:-1], -1, per_word)
    words = np.zeros(codes.shape[:-1], np.uint32)
    for place in range(per_word):
        words |= codes[..., place] << np.uint32(bits * place)
    return np.moveaxis(words, -1, axis).view(np.int32)


def e4m3_values():
    codes = np.arange(256)
    exponent, mantissa = codes >> 3 & 15, codes & 7
    values = np.where(exponent == 0, mantissa / 8 * 2.0 ** -6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    return np.where(codes & 128, -values, values).astype(np.float32)


def fp8(scales_as):
    def quantize(rng, n, k):
        codes = rng.integers(0, 256, size=(n, k), dtype=np.uint8)
        codes[codes & 0x7F == 0x7F] = 0x7E  # no NaN
        codes &= 0xBF  # of magnitudes below 2
        codes[0, :4] = [0x01, 0x3E, 0x08, 0xB8]
        grid = (-(-n // 128), -(-k // 128))
        if scales_as in ("F8_E8M0", "U8"):
            exponents = rng.integers(122, 125, size=grid, dtype=np.uint8)
            scales = 2.0 ** (exponents.astype(np.float32) - 127)
            stored = Raw(scales_as, exponents)
        else:
            scales = bf16(rng.uniform(0.05, 0.1, size=grid))
            stored = as_bf16(scales) if scales_as == "BF16" else scales
        dense = np.repeat(np.repeat(scales, 128, axis=0), 128, axis=1)[:n, :k]
        return ({".weight": Raw("F8_E4M3", codes), ".weight_scale_inv": stored},
                e4m3_values()[codes] * dense.astype(np.float32))
    return quantize


def ascend_static(deq_as=np.float32, also_dynamic=False, bias_beside=True):
    """W8A8: the scale and the bias are those of quant_bias, deq_scale, input_scale and input_offset."""
    def quantize(rng, n, k, bias=None):
        q = rng.integers(-128, 128, size=(n, k), dtype=np.int8)
        weight_scale = row_scales(rng, n, 1, k, 127)
        input_scale, offset = np.float32(0.03125), -17
        deq = (weight_scale[:, 0] * input_scale).astype(np.float32)
        sums = q.astype(np.int64).sum(axis=1)
        wanted = np.zeros(n) if bias is None else bias
        quant_bias = np.round(wanted / deq - offset * sums).astype(np.int32)
        tensors = {".weight": q, ".input_scale": np.array([input_scale]), ".input_offset": as_bf16([offset]),
                   ".quant_bias": quant_bias, ".weight_scale": weight_scale, ".weight_offset": 0 * weight_scale,
                   ".deq_scale": deq if deq_as is np.float32 else deq.view(np.uint32).astype(np.int64)}
        if bias is None:
            return tensors, q * weight_scale
        if bias_beside:
            tensors[".bias"] = bias.astype(np.float32)
        recovered = bias if also_dynamic and bias_beside else (quant_bias + offset * sums) * deq.astype(np.float64)
        return tensors, q * weight_scale, recovered.astype(np.float32)
    return quantize


def signed_codes(layout, bits, scale=".weight_scale", group=None, second_group=None, offsets=False, dtype=np.float32,
                 scale_shape=None):
    """Signed integers in bytes, or two to a byte along rows or columns."""
    def quantize(rng, n, k):
        half = 1 << (bits - 1)
        q = rng.integers(-half, half, size=(n, k), dtype=np.int8)
        groups = -(-k // group) if group else 1
        scales = row_scales(rng, n, groups, k, half, dtype)
        if scale_shape == ():
            scales = np.full((n, 1), scales[0, 0])
        stored = {".weight": q}
        nibbles = q.astype(np.uint8) & 15
        if layout == "rows":
            stored[".weight"] = (nibbles[0::2] | nibbles[1::2] << 4).view(np.int8)
        elif layout == "columns":
            stored[".weight"] = (nibbles[:, 0::2] | nibbles[:, 1::2] << 4).view(np.int8)
        stored[scale] = scales if scale_shape is None else scales[0].reshape(scale_shape)
        dense = q.astype(np.float32)
        if offsets:
            zero = rng.integers(-3, 4, size=(n, groups)).astype(np.float32)
            stored[".weight_offset"] = zero
            dense = dense - spread(zero, k, group)
        dense = dense * spread(scales, k, group)
        if second_group:
            second = rng.uniform(0.5, 1.5, size=(n, -(-k // second_group))).astype(np.float32).astype(np.float16)
            stored[".weight_scale_second"] = second.astype(np.float32)
            stored[".weight_offset_second"] = np.zeros_like(second, np.float32)
            stored[".scale_bias"] = 8 * dense.sum(axis=1, keepdims=True)
            dense = dense * spread(second, k, second_group)
        return stored, dense
    return quantize


def compressed_packed(bits, group, asymmetric=False, ordered=False, dtype=np.float16):
    def quantize(rng, n, k):
        u = rng.integers(0, 1 << bits, size=(n, k))
        groups = k // group if group else 1
        scales = row_scales(rng, n, groups, k, 1 << (bits - 1), dtype)
        half = 1 << (bits - 1)
        zero = np.full((n, groups), half)
        stored = {".weight_packed": pack_words(u, bits, axis=1), ".weight_shape": np.array([n, k], np.int64),
                  ".weight_scale": scales if dtype is not np.float32 else as_bf16(scales)}
        if dtype is np.float32:
            scales = bf16(scales)
        if asymmetric:
            zero = rng.integers(half - 2, half + 3, size=(n, groups))
            stored[".weight_zero_point"] = pack_words(zero, bits, axis=0)
        group_of = np.arange(k) // (k // groups)
        if ordered:
            group_of = rng.permutation(group_of)
            stored[".weight_g_idx"] = group_of.astype(np.int32)
        return stored, (u - zero[:, group_of]).astype(np.float32) * scales.astype(np.float32)[:, group_of]
    return quantize


def gptq(group, bits=4, stored_less=1, symmetric=True, ordered=False):
    def quantize(rng, n, k):
        u = rng.integers(0, 1 << bits, size=(n, k))
        groups = k // group if group > 0 else 1
        half = 1 << (bits - 1)
        scales = row_scales(rng, n, groups, k, half, np.float16)
        zero = np.full((n, groups), half)
        if not symmetric:
            zero = rng.integers(half - 3, half + 4, size=(n, groups))
            zero[0, 0] = (1 << bits) - 1 + stored_less  # the largest that can be stored
        group_of = np.arange(k) // (k // groups)
        if ordered:
            group_of = rng.permutation(group_of)
        stored = {".qweight": pack_words(u.T, bits, axis=0), ".scales": scales.T.copy(),
                  ".qzeros": pack_words((zero - stored_less).T, bits, axis=1), ".g_idx": group_of.astype(np.int32)}
        return stored, (u - zero[:, group_of]).astype(np.float32) * scales.astype(np.float32)[:, group_of]
    return quantize


def awq(group):
    order = [0, 2, 4, 6, 1, 3, 5, 7]  # the output at each place of a word

    def shuffled(codes):  # [rows, n]
        blocks = codes.reshape(codes.shape[0], -1, 8)[:, :, order]
        return pack_words(blocks.reshape(codes.shape), 4, axis=1)

    def quantize(rng, n, k):
        u, zero = rng.integers(0, 16, size=(k, n)), rng.integers(5, 12, size=(k // group, n))
        scales = row_scales(rng, n, k // group, k, 8, np.float16).T.copy()
        dense = (u - np.repeat(zero, group, axis=0)) * np.repeat(scales.astype(np.float32), group, axis=0)
        return {".qweight": shuffled(u), ".qzeros": shuffled(zero), ".scales": scales}, dense.T.astype(np.float32)
    return quantize


# --- outlier suppression ("m4"): biases of norms, which biases of linear maps undo ---

def shift(family, rng, quantized, dense):
    """Gives the quantized model biases that undo each other, wherever it can have one; `dense` stays what it means."""
    def add(module, bias):
        if module + ".quant_bias" in quantized:
            quantized[module + ".quant_bias"] += np.round(bias / quantized[module + ".deq_scale"]).astype(np.int32)
        else:
            quantized[module + ".bias"] = (quantized.get(module + ".bias", 0) + bias).astype(np.float32)

    def shift_norm(norm, behind):
        by = rng.normal(size=len(dense[norm + ".weight"])) * 0.5
        quantized[norm + ".bias"] = by.astype(np.float32)
        for module in behind:
            add(module, -dense[module + ".weight"] @ by)

    def shift_values(attention):
        if family == "DeepseekV3":  # what it adds to the scores of a query is the same for all its keys
            by = rng.normal(size=LATENT) * 0.5
            quantized[attention + "kv_a_layernorm.bias"] = by.astype(np.float32)
            up = dense[attention + "kv_b_proj.weight"].reshape(HEADS, UNTURNED + VALUE_DIM, LATENT)
            heads = up[:, UNTURNED:] @ by
        else:
            by = rng.normal(size=(KV_HEADS, HEAD_DIM)) * 0.5
            add(attention + "v_proj", by.ravel())
            heads = np.repeat(by, HEADS // KV_HEADS, axis=0)
        add(attention + "o_proj", -dense[attention + "o_proj.weight"] @ heads.ravel())

    def make_first_channel_constant(mlp):
        for module, constant in (("gate_proj", 1.5), ("up_proj", 1.0)):
            quantized[mlp + module + ".weight"][0] = dense[mlp + module + ".weight"][0] = 0
            if mlp + module + ".quant_bias" in quantized:
                quantized[mlp + module + ".quant_bias"][0] = 0
            add(mlp + module, constant * np.eye(1, len(dense[mlp + module + ".weight"]))[0])
        add(mlp + "down_proj", -dense[mlp + "down_proj.weight"][:, 0] * 1.5 / (1 + np.exp(-1.5)))

    shift_norm("model.norm", ["lm_head"])
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        modules = [name for name, _, _ in modules_of(family) if name.startswith(prefix)]
        for module in modules:
            if module.endswith("down_proj"):
                make_first_channel_constant(module.removesuffix("down_proj"))
        shift_values(prefix + "self_attn.")
        shift_norm(prefix + "input_layernorm",
                   [m for m in modules if m.endswith(("q_proj", "k_proj", "v_proj", "q_a_proj", "kv_a_proj_with_mqa"))])
        shift_norm(prefix + "post_attention_layernorm", [m for m in modules if m.endswith(("gate_proj", "up_proj"))] +
                   [prefix + "mlp.gate"] * is_sparse(family, layer))
        if family == "DeepseekV3":
            shift_norm(prefix + "self_attn.q_a_layernorm", [prefix + "self_attn.q_b_proj"])


def under_older_names(tensors):
    """Norms that have got a bias, one level lower."""
    for name in [name for name in tensors if name.endswith("layernorm.bias")]:
        norm = name.removesuffix(".bias")
        tensors |= {f"{norm}.module.{part}": tensors.pop(f"{norm}.{part}") for part in ("weight", "bias")}


FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}


def compressed(format_name, **weights):
    return {"quant_method": "compressed-tensors", "format": format_name, "ignore": ["lm_head", "re:.*mlp.gate$"],
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}


def gptq_config(**more):
    return {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True} | more


class Case:
    """A form: its config and how it stores a module. `types`: Ascend's type by the ending of the module, "" the rest."""

    def __init__(self, quantize, becomes, config=None, types=None, family="Qwen3", description=None,
                 weights="model.safetensors", other=None, is_shifted=False, change=lambda tensors: None):
        self.is_shifted, self.change = is_shifted, change
        self.quantize, self.becomes, self.config, self.types = quantize, becomes, config, types
        self.family, self.description, self.weights, self.other = family, description, weights, other or {}


W8A8, ASCEND = {"": "W8A8"}, {"version": "1.0.0", "model_quant_type": "W8A8"}
OLD = "quant_model_weight_w8a8.safetensors"
CASES = {
    "fp8_f32": Case(fp8("F32"), "fp8_block->bf16=14", FP8),
    "fp8_bf16_moe": Case(fp8("BF16"), "fp8_block->bf16=32", FP8, family="Qwen3Moe"),
    "fp8_e8m0": Case(fp8("F8_E8M0"), "fp8_block->bf16=14", FP8 | {"scale_fmt": "ue8m0"}),
    "fp8_e8m0_bytes": Case(fp8("U8"), "fp8_block->bf16=14", FP8),
    "ascend_w8a8": Case(ascend_static(), "ascend_w8a8->int8=14", types=W8A8, family="Qwen2"),
    "ascend_w8a8_i64": Case(ascend_static(np.int64, bias_beside=False), "ascend_w8a8->int8=14", types=W8A8,
                            family="Qwen2", weights=OLD),
    "ascend_mix": Case(ascend_static(also_dynamic=True), "ascend_w8a8_mix->int8=14", types={"": "W8A8_MIX"},
                       family="Qwen2"),
    "ascend_dynamic_moe": Case(signed_codes("bytes", 8), "ascend_w8a8_dynamic->int8=32", types={"": "W8A8_DYNAMIC"},
                               family="Qwen3Moe"),
    "ascend_dynamic_groups": Case(signed_codes("bytes", 8, group=128), "ascend_w8a8_dynamic->bf16=14",
                                  types={"": "W8A8_DYNAMIC"}, description={"group_size": 128}),
    "ascend_w8a16": Case(signed_codes("bytes", 8), "ascend_w8a16->int8=14", types={"": "W8A16"}),
    "ascend_w8a16_offsets": Case(signed_codes("bytes", 8, offsets=True), "ascend_w8a16->bf16=14",
                                 types={"": "W8A16"}),
    "ascend_w4a16_groups": Case(signed_codes("rows", 4, group=128, offsets=True), "ascend_w4a16->int4=14",
                                types={"": "W4A16"}, description={"group_size": 128}),
    "ascend_w4a16_small": Case(signed_codes("rows", 4, group=64, offsets=True), "ascend_w4a16->bf16=14",
                               types={"": "W4A16"}, description={"group_size": 64}),
    "ascend_w4a16_channel": Case(signed_codes("columns", 4), "ascend_w4a16->int4=14", types={"": "W4A16"}),
    "ascend_w4a16_bytes": Case(signed_codes("bytes", 4), "ascend_w4a16->int4=14", types={"": "W4A16"}),
    "ascend_w4a8_a_moe": Case(signed_codes("rows", 4), "ascend_w4a8_dynamic->int4=24", family="Qwen3Moe",
                              types={"": "W4A8_DYNAMIC", "self_attn": "W8A8_DYNAMIC"},
                              other={"self_attn": signed_codes("bytes", 8)}),
    "ascend_w4a8_b": Case(signed_codes("rows", 4, second_group=128), "ascend_w4a8_dynamic->int4=14",
                          types={"": "W4A8_DYNAMIC"}, description={"group_size": 128}),
    "ascend_w4a8_c": Case(signed_codes("bytes", 4, second_group=256), "ascend_w4a8_dynamic->int4=14",
                          types={"": "W4A8_DYNAMIC"}, description={"group_size": 256}),
    "ascend_w4a8_d": Case(signed_codes("bytes", 4), "ascend_w4a8_dynamic->int4=14", types={"": "W4A8_DYNAMIC"}),
    "ascend_mixed_qkv": Case(signed_codes("bytes", 8), "ascend_w8a8_dynamic->bf16=4",
                             types={"": "W8A8_DYNAMIC", "k_proj": "FLOAT"},
                             other={"k_proj": lambda rng, n, k: 2 * ({".weight": bf16(rng.normal(size=(n, k)) / 16)},)}),
    "ascend_m4": Case(signed_codes("bytes", 8), "ascend_w8a8_dynamic->int8=32", types={"": "W8A8_DYNAMIC"},
                      family="Qwen3Moe", is_shifted=True),
    "ascend_m4_static": Case(ascend_static(), "ascend_w8a8->int8=32", types=W8A8, family="Qwen3Moe", is_shifted=True,
                             change=under_older_names),
    "ascend_m4_biased": Case(ascend_static(), "ascend_w8a8->int8=14", types=W8A8, family="Qwen2", is_shifted=True),
    "ascend_m4_pangu": Case(signed_codes("bytes", 8), "ascend_w8a8->int8=8", family="PanguProMoE", is_shifted=True,
                            types={"": "W8A8_DYNAMIC", "self_attn": "W8A8"}, other={"self_attn": ascend_static()}),
    "ascend_m4_latent": Case(signed_codes("bytes", 8), "ascend_w8a8_dynamic->int8=26", types={"": "W8A8_DYNAMIC"},
                             family="DeepseekV3", is_shifted=True),
    "ascend_m4_latent_static": Case(signed_codes("bytes", 8), "ascend_w8a8->int8=8", family="DeepseekV3",
                                    types={"": "W8A8_DYNAMIC", "self_attn": "W8A8"}, is_shifted=True,
                                    other={"self_attn": ascend_static()}),
    "compressed_int8": Case(signed_codes("bytes", 8), "compressed_int8->int8=14",
                            compressed("int-quantized", num_bits=8, strategy="channel")),
    "compressed_int8_tensor": Case(signed_codes("bytes", 8, scale_shape=()), "compressed_int8->int8=14",
                                   compressed("int-quantized", num_bits=8, strategy="tensor")),
    "compressed_pack4_moe": Case(compressed_packed(4, 128), "compressed_packed4->int4=32",
                                 compressed("pack-quantized", num_bits=4, group_size=128), family="Qwen3Moe"),
    "compressed_pack4_channel": Case(compressed_packed(4, None, dtype=np.float32), "compressed_packed4->int4=14",
                                     compressed("pack-quantized", num_bits=4, strategy="channel")),
    "compressed_pack4_zeros": Case(compressed_packed(4, 128, asymmetric=True, dtype=np.float32),
                                   "compressed_packed4->int4=14",
                                   compressed("pack-quantized", num_bits=4, group_size=128, symmetric=False)),
    "compressed_pack4_order": Case(compressed_packed(4, 128, ordered=True), "compressed_packed4->bf16=14",
                                   compressed("pack-quantized", num_bits=4, group_size=128, actorder="group")),
    "compressed_pack8": Case(compressed_packed(8, None), "compressed_packed8->int8=14",
                             compressed("pack-quantized", num_bits=8, strategy="channel")),
    "gptq": Case(gptq(128), "gptq_int4->int4=14", gptq_config()),
    "gptq_moe": Case(gptq(-1), "gptq_int4->int4=32", gptq_config(group_size=-1), family="Qwen3Moe"),
    "gptq_zeros": Case(gptq(128, symmetric=False), "gptq_int4->int4=14", gptq_config(sym=False)),
    "gptq_v2": Case(gptq(128, stored_less=0, symmetric=False), "gptq_int4->int4=14",
                    gptq_config(sym=False, checkpoint_format="gptq_v2")),
    "gptq_order": Case(gptq(128, ordered=True), "gptq_int4->bf16=14", gptq_config(desc_act=True)),
    "gptq_small": Case(gptq(64), "gptq_int4->bf16=14", gptq_config(group_size=64)),
    "gptq_8_bit": Case(gptq(-1, bits=8), "gptq_int8->int8=14", gptq_config(bits=8, group_size=-1)),
    "awq": Case(awq(128), "awq_int4->int4=14", {"quant_method": "awq", "bits": 4, "group_size": 128,
                                                "version": "gemm", "zero_point": True}),
    "awq_small_moe": Case(awq(64), "awq_int4->bf16=32", {"quant_method": "awq", "bits": 4, "group_size": 64,
                                                         "version": "gemm"}, family="Qwen3Moe"),
}


def write_pair(tmp_path, case, change=lambda tensors: None):
    """The quantized folder, with its tensors after `change`, and the one of what it stands for."""
    rng = np.random.default_rng(5)
    config, plain = config_of(case.family), plain_tensors(case.family, rng)
    quantized, dense, description = dict(plain), dict(plain), {name: "FLOAT" for name in plain}
    for name, n, k in modules_of(case.family):
        other = next((ending for ending in case.other if ending in name), None)
        quantize = case.other[other] if other else case.quantize
        has_bias = has_bias_by_config(case.family, name)
        stored, weight, *bias = quantize(rng, n, k, **({"bias": rng.normal(size=n) * 0.3} if has_bias else {}))
        weight = weight if isinstance(weight, np.ndarray) else weight[".weight"]
        quantized |= {name + ending: values for ending, values in stored.items()}
        dense[name + ".weight"] = np.ascontiguousarray(weight, np.float32)
        if has_bias:
            dense[name + ".bias"] = bias[0]
        if case.types is not None:
            kind = next((kind for ending, kind in case.types.items() if ending and ending in name), case.types[""])
            description |= {name + ending: kind for ending in stored}
    if case.is_shifted:
        shift(case.family, rng, quantized, dense)
    for edit in (change, case.change):
        edit(quantized)
    files = {}
    if case.types is not None:
        files["quant_model_description.json"] = ASCEND | (case.description or {}) | description
    more = {"quantization_config": case.config} if case.config else {}
    return (write_folder(tmp_path / "quantized", config | more, quantized, files, case.weights),
            write_folder(tmp_path / "dense", config, dense))


def logits(folder, *flags):
    out = folder.parent / "logits.npy"
    result = run("logits", folder, "--token-ids", TOKENS, "--output", out, *flags)
    return np.load(out), result.stderr


def tolerance(case, becomes):
    return ROUTED if is_sparse(case.family, LAYERS - 1) else BF16 if "->bf16" in becomes else INTEGER


def distance(actual, expected):
    assert np.isfinite(actual).all()
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("name", CASES)
def test_a_quantized_folder_means_what_its_dequantized_twin_says(tmp_path, name):
    case = CASES[name]
    quantized, dense = write_pair(tmp_path, case)
    expected, _ = logits(dense, "--dtype", "float32")

    floats, _ = logits(quantized, "--dtype", "float32", "--quantization", "none")
    kept, log = logits(quantized)

    assert distance(floats, expected) < (STEPS if case.is_shifted else EXACT)
    assert distance(kept, expected) < tolerance(case, case.becomes)
    [line] = re.findall(r"event=weights_imported.*", log)
    assert f" {case.becomes}" in line


@pytest.mark.parametrize("name, kinds", [
    ("ascend_m4", ["model.norm", "lm_head", "input_layernorm", "post_attention_layernorm", "q_proj", "k_proj", "v_proj",
                   "o_proj", "gate_proj", "up_proj", "down_proj", "mlp.gate"]),
    ("ascend_m4_latent", ["input_layernorm", "post_attention_layernorm", "q_a_layernorm", "kv_a_layernorm", "q_a_proj",
                          "q_b_proj", "kv_a_proj_with_mqa", "o_proj", "mlp.gate", "layers.0.mlp.up_proj",
                          "shared_experts.down_proj"])])
def test_each_bias_of_outlier_suppression_matters(tmp_path, name, kinds):
    for kind in kinds:
        def drop(tensors):
            for bias in [bias for bias in tensors if bias.endswith(kind + ".bias")]:
                del tensors[bias]

        (tmp_path / kind).mkdir()
        quantized, dense = write_pair(tmp_path / kind, CASES[name], drop)
        expected, _ = logits(dense, "--dtype", "float32")
        actual, _ = logits(quantized, "--dtype", "float32", "--quantization", "none")
        assert distance(actual, expected) > 0.05, kind


def test_the_server_says_which_codes_it_keeps(tmp_path):
    quantized, dense = write_pair(tmp_path, CASES["gptq_zeros"])

    kept = run("generate", quantized, "--token-ids", TOKENS, "--max-tokens", "1").stderr
    converted = run("generate", quantized, "--token-ids", TOKENS, "--max-tokens", "1", "--quantization", "int8").stderr
    floats = run("generate", dense, "--token-ids", TOKENS, "--max-tokens", "1").stderr

    assert [re.search(r" dtype=(\w+)", log)[1] for log in (kept, converted, floats)] == ["gptq", "int8", "bf16"]


def test_a_config_alone_is_inspected_whatever_its_quantization(tmp_path):
    quantized, _ = write_pair(tmp_path, CASES["fp8_f32"])
    whole = json.loads(run("inspect", quantized, "--json").stdout)
    (quantized / "model.safetensors").unlink()

    alone = json.loads(run("inspect", quantized, "--json").stdout)

    assert alone["parameters"] == whole["parameters"]


def test_an_unknown_quantization_is_refused_before_anything_is_read(tmp_path):
    quantized, _ = write_pair(tmp_path, CASES["fp8_f32"])
    config = json.loads((quantized / "config.json").read_text())
    config["quantization_config"]["quant_method"] = "exl2"
    (quantized / "config.json").write_text(json.dumps(config))

    result = run("inspect", quantized, check=False)

    assert result.returncode == 1
    assert 'quant_method of quantization_config is "exl2"; supported are fp8' in result.stderr


@pytest.mark.parametrize("name", ["fp8_f32", "ascend_w8a8", "ascend_m4_latent_static", "ascend_w4a8_a_moe",
                                  "gptq_zeros", "awq_small_moe"])
def test_a_packed_folder_of_it_gives_the_same_bits(tmp_path, name):
    quantized, _ = write_pair(tmp_path, CASES[name])

    run("quantize", quantized, tmp_path / "packed", "--format", "auto")

    np.testing.assert_array_equal(logits(tmp_path / "packed")[0], logits(quantized)[0])


def test_the_form_of_the_checkpoint_may_be_named(tmp_path):
    quantized, _ = write_pair(tmp_path, CASES["ascend_w8a8"])

    np.testing.assert_array_equal(logits(quantized, "--quantization", "ascend")[0], logits(quantized)[0])
    other = run("inspect", quantized, "--quantization", "gptq", check=False)
    assert other.returncode != 0 and "--quantization is gptq, but" in other.stderr and other.stderr.endswith("ascend\n")


@pytest.mark.parametrize("name, wish", [("fp8_f32", "int8"), ("ascend_w8a8", "int8"), ("gptq_zeros", "int4"),
                                        ("awq_small_moe", "int8")])
def test_a_wish_converts_the_rest_and_keeps_codes_of_that_format(tmp_path, name, wish):
    quantized, dense = write_pair(tmp_path, CASES[name])
    expected, _ = logits(dense, "--dtype", "float32")

    actual, log = logits(quantized, "--quantization", wish)

    assert f"->{wish}=" in log
    assert distance(actual, expected) < tolerance(CASES[name], wish)


def spoil(tmp_path, name, change, description=None):
    """The error of a folder of the form `name` after `change` of its tensors."""
    case = CASES[name]
    rng = np.random.default_rng(5)
    tensors, said = plain_tensors(case.family, rng), {}
    for module, n, k in modules_of(case.family):
        has_bias = has_bias_by_config(case.family, module)
        stored, *_ = case.quantize(rng, n, k, **({"bias": np.ones(n)} if has_bias else {}))
        tensors |= {module + ending: values for ending, values in stored.items()}
        said |= {module + ending: case.types[""] for ending in stored} if case.types else {}
    change(tensors)
    config = config_of(case.family) | ({"quantization_config": case.config} if case.config else {})
    files = {"quant_model_description.json": said | (description or {})} if case.types else {}
    folder = write_folder(tmp_path / "spoilt", config, tensors, files)
    result = run("logits", folder, "--token-ids", "1", "--output", tmp_path / "x.npy", check=False)
    assert result.returncode != 0
    return result.stderr


Q = "model.layers.0.self_attn.q_proj"


def test_a_description_that_is_wrong_is_told_by_tensor_and_value(tmp_path):
    def to_floats(tensors):
        tensors[Q + ".weight"] = np.zeros((256, 256), np.float32)

    assert (f"tensor {Q}.weight has dtype F32 and shape [256, 256], but quant_model_description.json says W8A8_DYNAMIC"
            in spoil(tmp_path, "ascend_dynamic_moe", to_floats))


@pytest.mark.parametrize("said, message", [
    ("FLOAT", "has dtype I8, but quant_model_description.json says FLOAT"),
    ("W8A8S", f"quant_model_description.json says W8A8S of tensor {Q}.weight; supported are FLOAT, W8A8"),
    (None, "has dtype I8, but quant_model_description.json says nothing of it")])
def test_a_type_that_does_not_fit_is_told(tmp_path, said, message):
    assert message in spoil(tmp_path, "ascend_dynamic_moe", lambda tensors: None, {Q + ".weight": said})


def test_scales_must_be_finite(tmp_path):
    def to_nan(tensors):
        tensors[Q + ".weight_scale_inv"][1, 0] = np.nan

    assert f"tensor {Q}.weight_scale_inv has the value nan at 2; must be finite" in spoil(tmp_path, "fp8_f32", to_nan)


def test_a_bias_that_no_layer_adds_is_refused_by_name(tmp_path):
    def add_bias(tensors):
        tensors["model.embed_tokens.bias"] = np.full(VOCAB, 0.5, np.float32)

    assert "has the tensor model.embed_tokens.bias" in spoil(tmp_path, "ascend_w8a8", add_bias)


def test_a_bias_of_another_size_is_refused_by_name(tmp_path):
    def add_norm_bias(tensors):
        tensors["model.layers.1.input_layernorm.bias"] = np.full(HIDDEN - 1, 0.5, np.float32)

    assert "tensor model.layers.1.input_layernorm.bias has shape [255]" in spoil(tmp_path, "ascend_w8a8", add_norm_bias)


def test_groups_out_of_range_are_refused(tmp_path):
    def misplace(tensors):
        tensors[Q + ".g_idx"][5] = 2

    assert f"tensor {Q}.g_idx has the group 2; must be 0..1" in spoil(tmp_path, "gptq", misplace)


def test_words_of_another_shape_are_refused(tmp_path):
    def cut(tensors):
        tensors[Q + ".qweight"] = tensors[Q + ".qweight"][:, :8].copy()

    assert f"tensor {Q}.qweight has shape [256, 8]; must be [256, 32]" in spoil(tmp_path, "awq", cut)


def test_nibbles_in_bytes_must_be_nibbles(tmp_path):
    def overflow(tensors):
        tensors[Q + ".weight"][3, 3] = 9

    assert f"tensor {Q}.weight has the code 9; must be -8..7" in spoil(tmp_path, "ascend_w4a8_d", overflow)


@pytest.mark.parametrize("config, message", [
    ({"quant_method": "bitsandbytes"}, 'quant_method of quantization_config is "bitsandbytes"; supported are fp8,'),
    ({"quant_method": "awq", "bits": 4, "version": "gemv"}, 'version of quantization_config is "gemv"'),
    ({"quant_method": "gptq", "bits": 3}, "bits of quantization_config is 3; supported are 4 and 8"),
    ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"},
     'format of quantization_config is "nvfp4-pack-quantized"'),
    ({"quant_method": "ascend"}, "has no quant_model_description.json")])
def test_forms_that_are_not_read_are_named(tmp_path, config, message):
    folder = write_folder(tmp_path / "model", config_of("Qwen3") | {"quantization_config": config},
                          plain_tensors("Qwen3", np.random.default_rng(5)))

    result = run("logits", folder, "--token-ids", "1", "--output", tmp_path / "x.npy", check=False)

    assert result.returncode != 0 and message in result.stderr
