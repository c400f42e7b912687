// The table of one instruction set: all bodies, compiled for the flags of the including source (engine/CMakeLists.txt),
// which names itself by EXPERTD_ISA_NAME and sets EXPERTD_TILES where it has AMX. All of it has internal linkage (see
// vector.h).
#include "engine/kernels/simd/vector.h"
// After the operations that they are written in.
#include "engine/kernels/simd/elementwise.inl"
#include "engine/kernels/simd/input_rows.inl"
#include "engine/kernels/simd/float_matmul.inl"
#include "engine/kernels/simd/dot_matmul.inl"
#if defined(EXPERTD_TILES)
#include "engine/kernels/simd/tiles.h"
#include "engine/kernels/simd/tile_matmul.inl"
#endif
#include "engine/kernels/simd/matmul.inl"
#include "engine/kernels/simd/attention.inl"
#if defined(EXPERTD_TILES)
#include "engine/kernels/simd/latent_tiles.inl"
#endif
#include "engine/kernels/simd/latent_attention.inl"
#include "engine/kernels/simd/logits.inl"
#include "engine/kernels/simd/store_kv.inl"
#include "engine/kernels/simd/peak.inl"

constexpr Kernels kTable = {
    .isa = EXPERTD_ISA_NAME,
#if defined(__AVX512BF16__)
    .bf16_input = InputForm::kBF16,
#else
    .bf16_input = InputForm::kF32,
#endif
    .matmul = Matmul,
    .quantize = Quantize,
    .round_to_bf16 = RoundToBf16,
    .rms_norm = RmsNorm,
    .layer_norm = LayerNorm,
    .add = AddInPlace,
    .add_scaled = AddScaled,
    .silu_mul = SiluMul,
    .gelu_erf = GeluErf,
    .gelu_tanh = GeluTanh,
    .rope = Rope,
    .softmax = Softmax,
    .argmax = Argmax,
    .summarize_logits = SummarizeLogits,
    .logit_masses = LogitMasses,
    .sum_masses = SumMasses,
    .find_logits = FindLogits,
    .store_kv = StoreKv,
    .attention = Attention,
    .attention_scratch_floats = AttentionScratchFloats,
    .merge_attention = MergeAttention,
    .run_products = RunProducts,
};
