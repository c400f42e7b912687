// Drives a Model step by step without scheduler or sampler: sequences own blocks of a KV cache in a scattered order,
// and a step is a list of (sequence, tokens).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/forward/forward_context.h"
#include "engine/kernels/kernels.h"
#include "engine/kv/kv_cache.h"
#include "engine/models/model.h"
#include "engine/platform/thread_pool.h"

namespace expertd {

// The repository's recorded checkpoints.
std::string GoldenFolder(const std::string& name);
std::vector<std::string> GoldenNames();

std::unique_ptr<Model> LoadForTest(const std::string& dir, WeightFormat format);

struct HarnessOptions {
  KvFormat kv_format = KvFormat::kF32;
  int num_threads = 1;
  int block_size = 16;
  Isa isa_limit = Isa::kAmx;
  int num_blocks = 256;
};

class ModelHarness {
 public:
  using Options = HarnessOptions;

  explicit ModelHarness(const Model& model, Options options = {});

  // One sequence's share of a step: its next tokens.
  struct Feed {
    int sequence = 0;
    std::vector<int32_t> tokens;
    bool wants_logits = true;
  };

  // Runs one step and returns the logits of all rows of the feeds that want them, [rows, vocab].
  std::vector<float> Step(const std::vector<Feed>& feeds);

  // Runs `tokens` of a new sequence in chunks of `chunk` rows, alone: logits of all positions.
  std::vector<float> Run(const std::vector<int32_t>& tokens, int chunk);

  // `count` greedy tokens after `prompt`, fed one by one.
  std::vector<int32_t> Greedy(const std::vector<int32_t>& prompt, int count);

  // Ids of sequences are any numbers not used before.
  int NewSequence() { return next_sequence_++; }

  int64_t scratch_bytes() const { return scratch_.capacity_bytes(); }

 private:
  struct Sequence {
    int num_computed = 0;
    std::vector<int32_t> blocks;
  };

  Sequence& SequenceOf(int id);

  const Model& model_;
  const Options options_;
  std::unique_ptr<KvCache> kv_;
  ThreadPool pool_;
  ScratchArena scratch_;
  std::vector<Sequence> sequences_;
  int next_sequence_ = 0;
  int num_blocks_used_ = 0;
};

}  // namespace expertd
