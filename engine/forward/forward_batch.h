// ForwardBatch: what one step computes, as flat arrays of plain numbers. The runner makes it from a StepPlan; models
// read it. It names no Sequence and holds no pointer, so it can be sent to another rank as bytes.
#pragma once

#include <cstdint>
#include <vector>

namespace expertd {

// One sequence's share of a step: `num_tokens` consecutive rows from `first_row`, at consecutive positions.
struct BatchSequence {
  int32_t first_row = 0;
  int32_t num_tokens = 0;
  // Tokens of this sequence already in the KV cache before this step: the position of its first row.
  int32_t num_computed = 0;
  // Its block table: block_tables[first_block, first_block + num_blocks); block i holds positions
  // [i * block_size, (i + 1) * block_size). num_blocks * block_size >= num_computed + num_tokens.
  int32_t first_block = 0;
  int32_t num_blocks = 0;
};

struct ForwardBatch {
  std::vector<int32_t> tokens;          // [num_tokens] ids in [0, vocab_size)
  std::vector<int32_t> positions;       // [num_tokens]
  std::vector<BatchSequence> sequences; // in row order, covering every row once
  std::vector<int32_t> block_tables;    // block ids of all sequences, one after another
  std::vector<int32_t> logits_rows;     // rows whose logits are wanted, ascending

  int num_tokens() const { return static_cast<int>(tokens.size()); }
};

}  // namespace expertd
