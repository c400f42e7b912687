// `expertd logits`: the logits of every position of a token sequence, as a NumPy file: how anyone checks this engine
// against another implementation.
#include <algorithm>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/engine_flags.h"
#include "engine/forward/forward_batch.h"
#include "engine/forward/forward_context.h"
#include "engine/loader.h"
#include "engine/tools/tools.h"

namespace expertd {
namespace {

struct LogitsOptions {
  EngineConfig engine;
  std::vector<int32_t> token_ids;
  std::string output;
  int32_t chunk = 256;
};

// The header of a NumPy file, format 1.0, of a little-endian float32 array [rows, columns] in C order: magic, version,
// header length, then a Python literal padded with blanks so that the data begin at a multiple of 64 bytes.
std::string NumpyHeader(int64_t rows, int64_t columns) {
  std::string literal =
      absl::StrFormat("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", rows, columns);
  constexpr size_t kPrefix = 10;
  const size_t total = (kPrefix + literal.size() + 1 + 63) / 64 * 64;
  literal.append(total - kPrefix - literal.size() - 1, ' ');
  literal.push_back('\n');
  std::string header("\x93NUMPY\x01\x00", 8);
  header.push_back(static_cast<char>(literal.size() & 0xff));
  header.push_back(static_cast<char>(literal.size() >> 8));
  return header + literal;
}

absl::Status RunLogits(LogitsOptions options) {
  const int32_t num_tokens = static_cast<int32_t>(options.token_ids.size());
  if (options.chunk < 1) return absl::InvalidArgumentError(StrCat("--chunk is ", options.chunk, "; must be positive"));
  options.engine.max_num_seqs = 1;
  options.engine.max_num_batched_tokens = options.chunk;
  options.engine.max_model_len = num_tokens;
  options.engine.num_kv_blocks = (num_tokens + options.engine.block_size - 1) / options.engine.block_size;
  ASSIGN_OR_RETURN(LoadedModel loaded, LoadModelFolder(options.engine));
  for (int32_t id : options.token_ids) {
    if (id < 0 || id >= loaded.info.vocab_size) {
      return absl::InvalidArgumentError(
          StrCat("--token-ids has ", id, "; the model's ids are 0..", loaded.info.vocab_size - 1));
    }
  }
  std::ofstream file(options.output, std::ios::binary | std::ios::trunc);
  if (!file) return absl::InvalidArgumentError(StrCat("--output ", options.output, " cannot be written"));
  file << NumpyHeader(num_tokens, loaded.info.vocab_size);

  ScratchArena scratch;
  ForwardContext context{*loaded.kernels, *loaded.pool, scratch};
  std::vector<float> logits;
  for (int32_t first = 0; first < num_tokens; first += options.chunk) {
    const int32_t rows = std::min(options.chunk, num_tokens - first);
    ForwardBatch batch;
    for (int32_t i = 0; i < rows; ++i) {
      batch.tokens.push_back(options.token_ids[static_cast<size_t>(first + i)]);
      batch.positions.push_back(first + i);
      batch.logits_rows.push_back(i);
    }
    for (int32_t block = 0; block < loaded.info.num_kv_blocks; ++block) batch.block_tables.push_back(block);
    batch.sequences.push_back({.first_row = 0,
                               .num_tokens = rows,
                               .num_computed = first,
                               .first_block = 0,
                               .num_blocks = loaded.info.num_kv_blocks});
    logits.resize(static_cast<size_t>(rows) * loaded.info.vocab_size);
    loaded.model->Forward(batch, *loaded.kv_cache, context, logits.data());
    file.write(reinterpret_cast<const char*>(logits.data()),
               static_cast<std::streamsize>(logits.size() * sizeof(float)));
  }
  file.close();
  if (!file) return absl::DataLossError(StrCat("--output ", options.output, " could not be written whole"));
  return absl::OkStatus();
}

}  // namespace

void AddLogitsCommand(CLI::App& app, int* exit_code) {
  CLI::App* command = app.add_subcommand("logits", "Write the logits of a token sequence as a NumPy file");
  auto options = std::make_shared<LogitsOptions>();
  AddModelFlags(*command, options->engine);
  command->add_option("--token-ids", options->token_ids, "The sequence: 1,2,3")->delimiter(',')->required();
  command->add_option("--output,-o", options->output, "The .npy file: float32 [tokens, vocab]")->required();
  command->add_option("--chunk", options->chunk, "Tokens computed at once; the bits do not depend on it [256]");
  command->callback([=] { *exit_code = ReportToUser(*command, RunLogits(*options)); });
}

}  // namespace expertd
