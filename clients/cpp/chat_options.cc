#include "clients/cpp/chat_options.h"

#include "engine/base/flags.h"
#include "engine/base/range_check.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"

namespace expertd {

absl::Status ChatOptions::Validate() const {
  RETURN_IF_ERROR(client.Validate());
  if (once && prompt.empty()) return absl::InvalidArgumentError("--once needs --prompt TEXT");
  if (FindInvalidUtf8(prompt)) return absl::InvalidArgumentError("--prompt is not UTF-8");
  if (FindInvalidUtf8(system)) return absl::InvalidArgumentError("--system is not UTF-8");
  return CheckNotNegative("--timeout", timeout_seconds);
}

void AddChatFlags(CLI::App& command, ChatOptions& options) {
  AddClientFlags(command, options.client);
  command.add_option("--prompt", options.prompt, "The first turn");
  command.add_flag("--once", options.once, "Answer --prompt and end");
  command.add_option("--system", options.system, "The system message");
  command.add_flag("--stats", options.stats, "Show tokens and times after each answer");
  command.add_option("--temperature", options.temperature, "0 for greedy [the model's]");
  command.add_option("--top-p", options.top_p, "Sample from the likeliest that add up to this [the model's]");
  command.add_option("--top-k", options.top_k, "Sample from so many of the likeliest; 0: from all [the model's]");
  AddSeedFlag(command, options.seed, "The same seed gives the same answer [drawn by the server]");
  command.add_option("--max-tokens", options.max_tokens, "Most tokens of an answer [as many as fit]");
  command.add_option("--timeout", options.timeout_seconds, "Seconds for an answer; 0: no limit [0]");
}

}  // namespace expertd
