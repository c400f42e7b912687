// Speed of the kernels on one thread, beside OpenBLAS for the same products, and the cost of a parallel loop.
//
//   OPENBLAS_CORETYPE=SkylakeX OPENBLAS_NUM_THREADS=1 taskset -c 0 build/release/bin/kernels_benchmark
//       --benchmark_filter=Matmul
//
// OpenBLAS chooses its kernels by the CPU unless OPENBLAS_CORETYPE says otherwise: compare with the best it has.
// "Streamed" products take weights in turn from a set larger than the caches, as a forward pass does; "Cached" ones use
// one matrix again and again.
#include <benchmark/benchmark.h>
#include <cblas.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/kernels/kernels.h"
#include "engine/platform/memory.h"
#include "engine/platform/thread_pool.h"
#include "engine/tensor/weight_matrix.h"

namespace expertd {
namespace {

constexpr int64_t kStreamedBytes = int64_t{256} << 20;

std::vector<float> RandomFloats(int64_t count) {
  std::mt19937 bits(1);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(bits);
  return values;
}

void CountFlops(benchmark::State& state, int64_t rows, int64_t outputs, int64_t inputs, int64_t weight_bytes) {
  state.counters["GFLOP/s"] = benchmark::Counter(2e-9 * static_cast<double>(rows * outputs * inputs),
                                                 benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GB/s"] =
      benchmark::Counter(1e-9 * static_cast<double>(weight_bytes), benchmark::Counter::kIsIterationInvariantRate);
}

int64_t NumMatrices(bool streamed, int64_t bytes) {
  return streamed ? std::max<int64_t>(1, kStreamedBytes / bytes) : 1;
}

// Rows of x in the form that products with weights of `format` take.
struct Input {
  Input(const Kernels& kernels, WeightFormat format, const std::vector<float>& x, int num_rows, int cols) {
    rows.form = InputFormOf(format, kernels);
    if (rows.form == InputForm::kF32) {
      rows = InputRows::Floats(x.data(), cols);
      return;
    }
    rows.stride = PaddedInputs(WeightFormat::kInt4, cols) + 64;
    rows.sums_stride = 1 + (cols + kGroupInputs - 1) / kGroupInputs;
    bytes.resize(static_cast<size_t>(num_rows * rows.stride * 2));
    scales.resize(static_cast<size_t>(num_rows));
    sums.resize(static_cast<size_t>(num_rows * rows.sums_stride));
    for (int row = 0; row < num_rows; ++row) {
      const float* const from = x.data() + int64_t{row} * cols;
      if (rows.form == InputForm::kBF16) {
        kernels.round_to_bf16(from, cols, reinterpret_cast<BFloat16*>(bytes.data()) + row * rows.stride);
      } else {
        kernels.quantize(from, cols, bytes.data() + row * rows.stride, &scales[row],
                         sums.data() + row * rows.sums_stride);
      }
    }
    rows.data = bytes.data();
    rows.scales = scales.data();
    rows.sums = sums.data();
  }

  InputRows rows;
  std::vector<int8_t> bytes;
  std::vector<float> scales;
  std::vector<int32_t> sums;
};

void BM_Matmul(benchmark::State& state, Isa isa, WeightFormat format, bool streamed) {
  const Kernels& kernels = SelectKernels(DetectCpu(), isa);
  if (isa != Isa::kAmx && kernels.isa != IsaName(isa)) return state.SkipWithError("this CPU lacks the instructions");
  const int rows = static_cast<int>(state.range(0));
  const int outputs = static_cast<int>(state.range(1)), inputs = static_cast<int>(state.range(2));
  const std::vector<float> source = RandomFloats(int64_t{outputs} * inputs);
  const int64_t bytes = PackedBytes(format, outputs, inputs);
  std::vector<WeightMatrix> weights;
  for (int64_t i = 0; i < NumMatrices(streamed, bytes); ++i) {
    weights.push_back(*WeightMatrix::Pack(source.data(), DType::kF32, outputs, inputs, format));
  }
  const std::vector<float> x = RandomFloats(int64_t{rows} * inputs);
  const Input input(kernels, format, x, rows, inputs);
  std::vector<float> y(int64_t{rows} * outputs);
  size_t next = 0;
  for (auto _ : state) {
    kernels.matmul(input.rows, rows, weights[next].packed(), nullptr, 0, outputs, y.data(), outputs);
    next = next + 1 < weights.size() ? next + 1 : 0;
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  state.SetLabel(std::string(kernels.isa));
  CountFlops(state, rows, outputs, inputs, bytes);
}

void BM_MatmulOpenBlas(benchmark::State& state, bool streamed) {
  openblas_set_num_threads(1);
  const int rows = static_cast<int>(state.range(0));
  const int outputs = static_cast<int>(state.range(1)), inputs = static_cast<int>(state.range(2));
  const int64_t bytes = int64_t{outputs} * inputs * 4;
  const std::vector<float> source = RandomFloats(int64_t{outputs} * inputs);
  const std::vector<std::vector<float>> weights(NumMatrices(streamed, bytes), source);
  const std::vector<float> x = RandomFloats(int64_t{rows} * inputs);
  std::vector<float> y(int64_t{rows} * outputs);
  size_t next = 0;
  for (auto _ : state) {
    const float* w = weights[next].data();
    if (rows == 1) {
      cblas_sgemv(CblasRowMajor, CblasNoTrans, outputs, inputs, 1.0f, w, inputs, x.data(), 1, 0.0f, y.data(), 1);
    } else {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, outputs, inputs, 1.0f, x.data(), inputs, w, inputs,
                  0.0f, y.data(), outputs);
    }
    next = next + 1 < weights.size() ? next + 1 : 0;
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  state.SetLabel(openblas_get_corename());
  CountFlops(state, rows, outputs, inputs, bytes);
}

void MatmulShapes(benchmark::internal::Benchmark* benchmark) {
  constexpr std::pair<int, int> kWeights[] = {{2560, 2560}, {2048, 768}, {768, 2048}, {192, 192}};
  for (auto [outputs, inputs] : kWeights) {
    for (int rows : {1, 2, 4, 8, 16, 64, 512}) benchmark->Args({rows, outputs, inputs});
  }
}

// The best table of this machine, and lower ones by force.
#define EXPERTD_MATMULS(name, isa, streamed)                                                                   \
  BENCHMARK_CAPTURE(BM_Matmul, name##F32, isa, WeightFormat::kF32, streamed)->Apply(MatmulShapes);             \
  BENCHMARK_CAPTURE(BM_Matmul, name##Bf16, isa, WeightFormat::kBF16, streamed)->Apply(MatmulShapes);           \
  BENCHMARK_CAPTURE(BM_Matmul, name##Int8, isa, WeightFormat::kInt8, streamed)->Apply(MatmulShapes);           \
  BENCHMARK_CAPTURE(BM_Matmul, name##Int4, isa, WeightFormat::kInt4, streamed)->Apply(MatmulShapes)
EXPERTD_MATMULS(BestCached, Isa::kAmx, false);
EXPERTD_MATMULS(BestStreamed, Isa::kAmx, true);
EXPERTD_MATMULS(Avx512Cached, Isa::kAvx512, false);
EXPERTD_MATMULS(Avx512Streamed, Isa::kAvx512, true);
EXPERTD_MATMULS(Avx2VnniCached, Isa::kAvx2Vnni, false);
EXPERTD_MATMULS(Avx2Cached, Isa::kAvx2, false);
EXPERTD_MATMULS(Avx2Streamed, Isa::kAvx2, true);
BENCHMARK_CAPTURE(BM_MatmulOpenBlas, Cached, false)->Apply(MatmulShapes);
BENCHMARK_CAPTURE(BM_MatmulOpenBlas, Streamed, true)->Apply(MatmulShapes);

// Args: rows, context before them, heads, kv heads, head_dim.
void BM_Attention(benchmark::State& state, Isa isa, KvFormat format) {
  const Kernels& kernels = SelectKernels(DetectCpu(), isa);
  const int rows = static_cast<int>(state.range(0)), context = static_cast<int>(state.range(1));
  AttentionArgs args;
  args.num_rows = rows;
  args.first_position = context;
  args.num_heads = static_cast<int>(state.range(2));
  args.kv.format = format;
  args.kv.num_kv_heads = static_cast<int>(state.range(3));
  args.kv.head_dim = args.kv.value_dim = static_cast<int>(state.range(4));
  args.kv.block_size = 32;
  const int num_blocks = (context + rows + 31) / 32;
  const int64_t bytes = num_blocks * args.kv.num_kv_heads * KvTileBytes(format, args.kv.head_dim, 32);
  std::vector<uint8_t> keys(bytes, 0x3c), values(bytes, 0x3c);  // a small number in every format
  args.kv.key_base = keys.data();
  args.kv.value_base = values.data();
  std::vector<int32_t> block_table(num_blocks);
  for (int i = 0; i < num_blocks; ++i) block_table[i] = i;
  args.block_table = block_table.data();
  args.query_stride = args.output_stride = int64_t{args.num_heads} * args.kv.head_dim;
  const std::vector<float> queries = RandomFloats(rows * args.query_stride);
  std::vector<float> output(rows * args.output_stride);
  args.queries = queries.data();
  args.output = output.data();
  std::vector<float> scratch(kernels.attention_scratch_floats(args));
  for (auto _ : state) {
    kernels.attention(args, 0, args.kv.num_kv_heads, scratch.data());
    benchmark::ClobberMemory();
  }
  const double seen = rows * (context + 0.5 * (rows + 1));
  state.counters["GFLOP/s"] = benchmark::Counter(4e-9 * seen * args.num_heads * args.kv.head_dim,
                                                 benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GB/s"] = benchmark::Counter(
      2e-9 * static_cast<double>(context + rows) * args.kv.num_kv_heads * KvTokenBytes(format, args.kv.head_dim),
      benchmark::Counter::kIsIterationInvariantRate);
}

void AttentionShapes(benchmark::internal::Benchmark* benchmark) {
  for (auto [heads, kv_heads, head_dim] : {std::tuple(32, 4, 128), std::tuple(32, 8, 128), std::tuple(32, 8, 80),
                                           std::tuple(32, 32, 80), std::tuple(6, 2, 32)}) {
    benchmark->Args({1, 100, heads, kv_heads, head_dim});
    benchmark->Args({1, 2000, heads, kv_heads, head_dim});
    benchmark->Args({1, 16000, heads, kv_heads, head_dim});
    benchmark->Args({128, 0, heads, kv_heads, head_dim});
    benchmark->Args({512, 0, heads, kv_heads, head_dim});
    benchmark->Args({512, 1536, heads, kv_heads, head_dim});
  }
}

BENCHMARK_CAPTURE(BM_Attention, Avx512F32, Isa::kAvx512, KvFormat::kF32)->Apply(AttentionShapes);
BENCHMARK_CAPTURE(BM_Attention, Avx512Bf16, Isa::kAvx512, KvFormat::kBF16)->Apply(AttentionShapes);
BENCHMARK_CAPTURE(BM_Attention, BestBf16, Isa::kAmx, KvFormat::kBF16)->Apply(AttentionShapes);
BENCHMARK_CAPTURE(BM_Attention, Avx512Int8, Isa::kAvx512, KvFormat::kInt8)->Apply(AttentionShapes);
BENCHMARK_CAPTURE(BM_Attention, Avx2Bf16, Isa::kAvx2, KvFormat::kBF16)->Apply(AttentionShapes);

// Operations a second of products on registers alone, in the form of attention to a cache of `format`.
double ProductPeak(const Kernels& kernels, KvFormat format) {
  const InputForm form = format == KvFormat::kBF16 ? kernels.bf16_input : InputForm::kF32;
  double best = 0.0;
  for (int i = 0; i < 5; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const auto operations = static_cast<double>(kernels.run_products(form, 1 << 18));
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    best = std::max(best, operations / seconds.count());
  }
  return best;
}

// Bytes a second that one thread reads from memory at most.
double ReadPeak() {
  const std::vector<int64_t> numbers(kStreamedBytes / 8, 1);
  double best = 0.0;
  for (int i = 0; i < 3; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    benchmark::DoNotOptimize(std::accumulate(numbers.begin(), numbers.end(), int64_t{0}));
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    best = std::max(best, static_cast<double>(kStreamedBytes) / seconds.count());
  }
  return best;
}

// Attention to a latent cache of 512 + 64 elements a token, in turn from layers larger than the caches. Args: rows,
// context before them, heads. "of products" and "of reads" are shares of what one thread can multiply, and can read.
void BM_LatentAttention(benchmark::State& state, Isa isa, KvFormat format) {
  const Kernels& kernels = SelectKernels(DetectCpu(), isa);
  if (isa != Isa::kAmx && kernels.isa != IsaName(isa)) return state.SkipWithError("this CPU lacks the instructions");
  const int rows = static_cast<int>(state.range(0)), context = static_cast<int>(state.range(1));
  AttentionArgs args;
  args.num_rows = rows;
  args.first_position = context;
  args.num_heads = static_cast<int>(state.range(2));
  args.scale = 0.1f;
  args.kv = {.format = format, .num_kv_heads = 1, .head_dim = 576, .value_dim = 512, .block_size = 32};
  const int num_blocks = (context + rows + 31) / 32;
  const int64_t layer_bytes = num_blocks * KvTileBytes(format, args.kv.head_dim, 32);
  const int64_t num_layers = NumMatrices(/*streamed=*/true, layer_bytes);
  std::vector<AlignedBuffer> layers;
  for (int64_t i = 0; i < num_layers; ++i) {
    layers.push_back(*AlignedBuffer::Allocate(layer_bytes));
    std::fill_n(layers.back().data(), layer_bytes, std::byte{0x3c});  // a small number in every format
  }
  std::vector<int32_t> block_table(num_blocks);
  std::iota(block_table.begin(), block_table.end(), 0);
  args.block_table = block_table.data();
  args.query_stride = int64_t{args.num_heads} * args.kv.head_dim;
  args.output_stride = int64_t{args.num_heads} * args.kv.value_dim;
  const std::vector<float> queries = RandomFloats(rows * args.query_stride);
  std::vector<float> output(rows * args.output_stride);
  args.queries = queries.data();
  args.output = output.data();
  AlignedBuffer scratch = *AlignedBuffer::Allocate(4 * kernels.attention_scratch_floats(args));
  size_t next = 0;
  for (auto _ : state) {
    args.kv.key_base = layers[next].data();
    kernels.attention(args, 0, 1, reinterpret_cast<float*>(scratch.data()));
    next = next + 1 < layers.size() ? next + 1 : 0;
    benchmark::ClobberMemory();
  }
  state.SetLabel(std::string(kernels.isa));
  const double operations = 2.0 * rows * (context + 0.5 * (rows + 1)) * args.num_heads * (576 + 512);
  const auto rate = [](double count) {
    return benchmark::Counter(count, benchmark::Counter::kIsIterationInvariantRate);
  };
  state.counters["GFLOP/s"] = rate(1e-9 * operations);
  state.counters["GB/s"] = rate(1e-9 * static_cast<double>(layer_bytes));
  state.counters["of products"] = rate(operations / ProductPeak(kernels, format));
  state.counters["of reads"] = rate(static_cast<double>(layer_bytes) / ReadPeak());
}

void LatentShapes(benchmark::internal::Benchmark* benchmark) {
  for (int heads : {16, 128}) {
    benchmark->Args({1, 8192, heads});
    benchmark->Args({128, 4096, heads});
  }
}

BENCHMARK_CAPTURE(BM_LatentAttention, BestBf16, Isa::kAmx, KvFormat::kBF16)->Apply(LatentShapes);
BENCHMARK_CAPTURE(BM_LatentAttention, BestInt8, Isa::kAmx, KvFormat::kInt8)->Apply(LatentShapes);
BENCHMARK_CAPTURE(BM_LatentAttention, Avx512Bf16, Isa::kAvx512, KvFormat::kBF16)->Apply(LatentShapes);
BENCHMARK_CAPTURE(BM_LatentAttention, Avx2Bf16, Isa::kAvx2, KvFormat::kBF16)->Apply(LatentShapes);

void BM_RmsNorm(benchmark::State& state) {
  const Kernels& kernels = SelectKernels(DetectCpu());
  const int size = static_cast<int>(state.range(0));
  const std::vector<float> x = RandomFloats(size), weight = RandomFloats(size);
  std::vector<float> y(size);
  for (auto _ : state) {
    kernels.rms_norm(x.data(), weight.data(), 1e-6f, size, y.data());
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_RmsNorm)->Arg(192)->Arg(2560);

void BM_SiluMul(benchmark::State& state) {
  const Kernels& kernels = SelectKernels(DetectCpu());
  const int size = static_cast<int>(state.range(0));
  const std::vector<float> gate = RandomFloats(size), up = RandomFloats(size);
  std::vector<float> out(size);
  for (auto _ : state) {
    kernels.silu_mul(gate.data(), up.data(), size, out.data());
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_SiluMul)->Arg(100)->Arg(10240);

void BM_Argmax(benchmark::State& state) {
  const Kernels& kernels = SelectKernels(DetectCpu());
  const std::vector<float> x = RandomFloats(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(kernels.argmax(x.data(), static_cast<int>(x.size())));
}
BENCHMARK(BM_Argmax)->Arg(151936);

// What a layer pays for being parallel: a loop of one item per thread, each of which takes 5 microseconds. The time
// above 5 is the cost of handing out and gathering. Needs as many idle CPUs as threads.
void BM_ParallelFor(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(0)), {.pin_workers = state.range(1) != 0});
  const auto work = [](int, int) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(5);
    while (std::chrono::steady_clock::now() < end) continue;
  };
  for (auto _ : state) pool.ParallelFor(pool.num_threads(), work);
}
BENCHMARK(BM_ParallelFor)->ArgNames({"threads", "pinned"})->Args({1, 0})->Args({2, 0})->Args({2, 1})->UseRealTime();

}  // namespace
}  // namespace expertd

BENCHMARK_MAIN();
