// Attention over the paged cache, grouped-query and latent: how a step is cut, and that the cut has no influence on any
// bit.
#include "engine/layers/attention.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "engine/kernels/kernels.h"
#include "engine/platform/cpu.h"
#include "engine/platform/thread_pool.h"
#include "tests/unit/layers/support/memory_source.h"
#include "tests/unit/layers/support/random.h"

namespace expertd {
namespace {

constexpr int kHidden = 64;
constexpr int kBlockSize = 32;
constexpr int kNumBlocks = 96;
constexpr GqaSpec kSpec = {.num_heads = 8, .num_kv_heads = 2, .head_dim = 32};
constexpr RopeSpec kRope = {.rotary_dim = kSpec.head_dim};

std::vector<float> RandomFloats(int64_t count, uint32_t seed) { return RandomNormal(count, seed, 0.25f); }

constexpr MlaSpec kLatentSpec = {.num_heads = 32,
                                 .q_lora_rank = 24,
                                 .kv_lora_rank = 32,
                                 .qk_nope_head_dim = 16,
                                 .qk_rope_head_dim = 8,
                                 .v_head_dim = 16,
                                 .score_scale = 0.3};
constexpr RopeSpec kLatentRope = {.rotary_dim = kLatentSpec.qk_rope_head_dim};

std::unique_ptr<Attention> MakeAttention(const GqaSpec&) {
  constexpr int kQueryWidth = kSpec.num_heads * kSpec.head_dim, kKvWidth = kSpec.num_kv_heads * kSpec.head_dim;
  MemorySource source;
  source.Add("q.weight", {kQueryWidth, kHidden}, RandomFloats(kQueryWidth * kHidden, 1));
  source.Add("k.weight", {kKvWidth, kHidden}, RandomFloats(kKvWidth * kHidden, 2));
  source.Add("v.weight", {kKvWidth, kHidden}, RandomFloats(kKvWidth * kHidden, 3));
  source.Add("o.weight", {kHidden, kQueryWidth}, RandomFloats(kHidden * kQueryWidth, 4));
  return *LoadGqaAttention(kSpec, kHidden, 1e-6, {.q = "q", .k = "k", .v = "v", .output = "o"},
                           *MakeSourceReader(source, WeightFormat::kF32));
}

std::unique_ptr<Attention> MakeAttention(const MlaSpec& spec) {
  const int query_width = spec.num_heads * spec.query_head_dim(), value_width = spec.num_heads * spec.v_head_dim;
  const int up_width = spec.num_heads * (spec.qk_nope_head_dim + spec.v_head_dim);
  MemorySource source;
  source.Add("q_a.weight", {spec.q_lora_rank, kHidden}, RandomFloats(spec.q_lora_rank * kHidden, 1));
  source.Add("q_norm.weight", {spec.q_lora_rank}, RandomFloats(spec.q_lora_rank, 2));
  source.Add("q_b.weight", {query_width, spec.q_lora_rank}, RandomFloats(query_width * spec.q_lora_rank, 3));
  source.Add("kv_a.weight", {spec.cached_dim(), kHidden}, RandomFloats(spec.cached_dim() * kHidden, 4));
  source.Add("kv_norm.weight", {spec.kv_lora_rank}, RandomFloats(spec.kv_lora_rank, 5));
  source.Add("kv_b.weight", {up_width, spec.kv_lora_rank}, RandomFloats(up_width * spec.kv_lora_rank, 6));
  source.Add("o.weight", {kHidden, value_width}, RandomFloats(kHidden * value_width, 7));
  const MlaNames names = {.q_down = "q_a",
                          .q_norm = "q_norm",
                          .q_up = "q_b",
                          .kv_down = "kv_a",
                          .kv_norm = "kv_norm",
                          .kv_up = "kv_b",
                          .output = "o"};
  return *LoadMlaAttention(spec, kHidden, 1e-6, names, *MakeSourceReader(source, WeightFormat::kF32));
}

KvCacheSpec CacheOf(const GqaSpec& spec, KvFormat format) {
  return {.num_layers = 1,
          .num_kv_heads = spec.num_kv_heads,
          .head_dim = spec.head_dim,
          .value_dim = spec.head_dim,
          .block_size = kBlockSize,
          .num_blocks = kNumBlocks,
          .format = format};
}

KvCacheSpec CacheOf(const MlaSpec& spec, KvFormat format) {
  return {.num_layers = 1,
          .num_kv_heads = 1,
          .head_dim = spec.cached_dim(),
          .value_dim = spec.kv_lora_rank,
          .has_values = false,
          .block_size = kBlockSize,
          .num_blocks = kNumBlocks,
          .format = format};
}

struct SequenceShape {
  int num_computed = 0;
  int num_tokens = 1;
};

// One layer with a cache that holds earlier tokens of every sequence.
class Bench {
 public:
  template <typename Spec>
  Bench(const Spec& spec, const RopeSpec& rope, KvFormat format, int num_threads)
      : shape_(ShapeOf(spec)), attention_(MakeAttention(spec)), rope_(rope, 4096), pool_(num_threads) {
    kv_ = *KvCache::Create(CacheOf(spec, format));
  }

  // The plan of a step of `shapes`, valid until the next step.
  AttentionStep Plan(const std::vector<SequenceShape>& shapes) {
    batch_ = {};
    for (const SequenceShape& shape : shapes) {
      const int num_blocks = (shape.num_computed + shape.num_tokens + kBlockSize - 1) / kBlockSize;
      const auto first_block = static_cast<int32_t>(batch_.block_tables.size());
      batch_.sequences.push_back(
          {batch_.num_tokens(), shape.num_tokens, shape.num_computed, first_block, num_blocks});
      for (int i = 0; i < num_blocks; ++i) batch_.block_tables.push_back(first_block + i);
      for (int i = 0; i < shape.num_tokens; ++i) {
        batch_.tokens.push_back(0);
        batch_.positions.push_back(shape.num_computed + i);
      }
    }
    return PlanAttention(batch_, shape_, *kv_, rope_, context_);
  }

  // The layer's output for the step: rows of random input that depend only on sequence and position.
  std::vector<float> Run(const std::vector<SequenceShape>& shapes) {
    ScratchArena::Scope scope(scratch_);
    const AttentionStep step = Plan(shapes);
    std::vector<float> x, residual(batch_.tokens.size() * kHidden, 0.0f);
    for (size_t i = 0; i < batch_.sequences.size(); ++i) {
      for (int row = 0; row < batch_.sequences[i].num_tokens; ++row) {
        const int position = batch_.sequences[i].num_computed + row;
        const auto seed = static_cast<uint32_t>(100'000 * i + position);
        const std::vector<float> values = RandomFloats(kHidden, seed);
        x.insert(x.end(), values.begin(), values.end());
      }
    }
    const LayerInput input = {.rows = InputRows::Floats(x.data(), kHidden)};  // weights are f32
    attention_->AddTo(input, step, /*layer=*/0, *kv_, residual.data(), context_);
    return residual;
  }

  ScratchArena& scratch() { return scratch_; }

 private:
  const AttentionShape shape_;
  const std::unique_ptr<Attention> attention_;
  const RopeTable rope_;
  ThreadPool pool_;
  ScratchArena scratch_;
  ForwardContext context_ = {.kernels = SelectKernels(DetectCpu()), .pool = pool_, .scratch = scratch_};
  std::unique_ptr<KvCache> kv_;
  ForwardBatch batch_;
};

// A long and a short context and the last rows of a prompt: keys of the first are cut from three threads on.
const std::vector<SequenceShape> kPrompt = {{0, 1800}, {0, 40}, {0, 600}};
const std::vector<SequenceShape> kStep = {{1800, 1}, {40, 1}, {600, 4}};

TEST(GqaAttentionTest, SharesTheKeysOfOneLongSequenceAmongThreads) {
  Bench bench(kSpec, kRope, KvFormat::kBF16, 8);
  ScratchArena::Scope scope(bench.scratch());

  const AttentionStep step = bench.Plan({{1800, 1}});

  ASSERT_EQ(step.parts.size(), 8u);  // two K/V heads, four parts of keys
  ASSERT_EQ(step.merges.size(), 2u);
  int next_part = 0;
  for (const AttentionPart& part : step.parts.subspan(0, 4)) {
    EXPECT_EQ(part.key_part_begin, next_part);
    EXPECT_EQ(part.group_end, 1);
    next_part = part.key_part_end;
  }
  EXPECT_EQ(next_part, NumAttentionParts(1801));
}

TEST(GqaAttentionTest, LeavesTheKeysOfManySequencesTogether) {
  Bench bench(kSpec, kRope, KvFormat::kBF16, 2);
  ScratchArena::Scope scope(bench.scratch());

  const AttentionStep step = bench.Plan(std::vector<SequenceShape>(16, {100, 1}));

  EXPECT_TRUE(step.parts_are_sequences);
  EXPECT_TRUE(step.merges.empty());
}

// A latent cache is read by all heads at once, so its keys are cut before its heads.
TEST(MlaAttentionTest, CutsKeysBeforeHeads) {
  Bench bench(kLatentSpec, kLatentRope, KvFormat::kBF16, 2);
  ScratchArena::Scope scope(bench.scratch());

  const AttentionStep step = bench.Plan({{1800, 1}});

  ASSERT_EQ(step.parts.size(), 8u);  // four parts of keys, two groups of heads
  EXPECT_EQ(step.parts[0].key_part_end, 1);
  EXPECT_EQ(step.parts[0].group_end, 1);
  EXPECT_EQ(step.merges.size(), 2u);
}

template <typename Spec>
void ExpectTheSameBitsWithAnyNumberOfThreads(const Spec& spec, const RopeSpec& rope) {
  for (const KvFormat format : kKvFormats) {
    Bench alone(spec, rope, format, 1);
    alone.Run(kPrompt);
    const std::vector<float> expected = alone.Run(kStep);
    for (const int num_threads : {2, 3, 5, 8}) {
      Bench bench(spec, rope, format, num_threads);
      bench.Run(kPrompt);

      const std::vector<float> actual = bench.Run(kStep);

      ASSERT_EQ(actual.size(), expected.size());
      EXPECT_EQ(std::memcmp(actual.data(), expected.data(), actual.size() * sizeof(float)), 0)
          << KvFormatName(format) << " on " << num_threads << " threads";
    }
  }
}

TEST(GqaAttentionTest, GivesTheSameBitsWithAnyNumberOfThreads) {
  ExpectTheSameBitsWithAnyNumberOfThreads(kSpec, kRope);
}

TEST(MlaAttentionTest, GivesTheSameBitsWithAnyNumberOfThreads) {
  ExpectTheSameBitsWithAnyNumberOfThreads(kLatentSpec, kLatentRope);
}

}  // namespace
}  // namespace expertd
