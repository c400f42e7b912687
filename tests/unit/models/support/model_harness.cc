#include "tests/unit/models/support/model_harness.h"

#include <algorithm>
#include <filesystem>

#include "engine/base/log.h"
#include "engine/models/model_sizes.h"
#include "engine/platform/cpu.h"

namespace expertd {

std::string GoldenFolder(const std::string& name) {
  return std::string(EXPERTD_SOURCE_DIR) + "/tests/golden/models/" + name;
}

std::vector<std::string> GoldenNames() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(GoldenFolder(""))) {
    if (std::filesystem::exists(entry.path() / "golden.json")) names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

std::unique_ptr<Model> LoadForTest(const std::string& dir, WeightFormat format) {
  ThreadPool pool(2);
  absl::StatusOr<std::unique_ptr<Model>> model = LoadModel(dir, {.weight_format = format}, pool);
  EXPERTD_CHECK(model.ok(), model.status().message());
  return *std::move(model);
}

ModelHarness::ModelHarness(const Model& model, Options options)
    : model_(model), options_(options), pool_(options.num_threads) {
  auto kv = KvCache::Create(KvSpecFor(model.config(), options.block_size, options.num_blocks, options.kv_format));
  EXPERTD_CHECK(kv.ok(), kv.status().message());
  kv_ = *std::move(kv);
}

ModelHarness::Sequence& ModelHarness::SequenceOf(int id) {
  if (id >= static_cast<int>(sequences_.size())) sequences_.resize(static_cast<size_t>(id) + 1);
  return sequences_[id];
}

std::vector<float> ModelHarness::Step(const std::vector<Feed>& feeds) {
  ForwardBatch batch;
  for (const Feed& feed : feeds) {
    Sequence& sequence = SequenceOf(feed.sequence);
    const int end = sequence.num_computed + static_cast<int>(feed.tokens.size());
    while (static_cast<int>(sequence.blocks.size()) * options_.block_size < end) {
      EXPERTD_CHECK(num_blocks_used_ < options_.num_blocks);
      // Taken from the end and with gaps in between: nothing may rely on neighbouring blocks.
      sequence.blocks.push_back(options_.num_blocks - 1 - (num_blocks_used_++ * 37) % options_.num_blocks);
    }
    batch.sequences.push_back({.first_row = batch.num_tokens(),
                               .num_tokens = static_cast<int32_t>(feed.tokens.size()),
                               .num_computed = sequence.num_computed,
                               .first_block = static_cast<int32_t>(batch.block_tables.size()),
                               .num_blocks = static_cast<int32_t>(sequence.blocks.size())});
    batch.block_tables.insert(batch.block_tables.end(), sequence.blocks.begin(), sequence.blocks.end());
    for (const int32_t token : feed.tokens) {
      if (feed.wants_logits) batch.logits_rows.push_back(batch.num_tokens());
      batch.positions.push_back(sequence.num_computed++);
      batch.tokens.push_back(token);
    }
  }
  std::vector<float> logits(batch.logits_rows.size() * static_cast<size_t>(model_.config().vocab_size));
  ForwardContext context = {SelectKernels(DetectCpu(), options_.isa_limit), pool_, scratch_};
  model_.Forward(batch, *kv_, context, logits.data());
  return logits;
}

std::vector<float> ModelHarness::Run(const std::vector<int32_t>& tokens, int chunk) {
  const int sequence = NewSequence();
  std::vector<float> logits;
  for (size_t begin = 0; begin < tokens.size(); begin += static_cast<size_t>(chunk)) {
    const size_t end = std::min(tokens.size(), begin + static_cast<size_t>(chunk));
    const std::vector<float> part = Step({{sequence, {tokens.begin() + begin, tokens.begin() + end}}});
    logits.insert(logits.end(), part.begin(), part.end());
  }
  return logits;
}

std::vector<int32_t> ModelHarness::Greedy(const std::vector<int32_t>& prompt, int count) {
  const int sequence = NewSequence();
  const int vocab = model_.config().vocab_size;
  std::vector<int32_t> generated;
  std::vector<int32_t> fed = prompt;
  while (static_cast<int>(generated.size()) < count) {
    const std::vector<float> logits = Step({{sequence, fed}});
    const auto last = logits.end() - vocab;
    generated.push_back(static_cast<int32_t>(std::max_element(last, logits.end()) - last));
    fed = {generated.back()};
  }
  return generated;
}

}  // namespace expertd
