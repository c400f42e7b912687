// The table of one instruction set, from the bodies that were included before.
constexpr Kernels kTable = {
    .isa = EXPERTD_ISA_NAME,
    .matmul = Matmul,
    .rms_norm = RmsNorm,
    .add = AddInPlace,
    .add_scaled = AddScaled,
    .silu_mul = SiluMul,
    .rope = Rope,
    .softmax = Softmax,
    .argmax = Argmax,
    .store_kv = StoreKv,
    .attention = Attention,
    .attention_scratch_floats = AttentionScratchFloats,
};
