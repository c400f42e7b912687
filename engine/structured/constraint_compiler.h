// ConstraintCompiler: what a caller asks of an output's form, compiled; the compiled forms are kept for the next who
// asks the same.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/call_once.h"
#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/structured/constraint.h"
#include "engine/structured/tool_call_form.h"

namespace expertd {

struct ConstraintSpec {
  enum class Kind {
    kJsonSchema,  // `text`: the schema
    kJsonObject,  // any JSON object
    kRegex,       // `text` matches the whole output
    kGrammar,     // `text`: EBNF
    kChoices,     // one of `choices`
    kToolCalls,   // none but those of `tool_calls`
  };

  Kind kind = Kind::kJsonObject;
  std::string text;
  std::vector<std::string> choices;
  std::optional<ToolCallForm> tool_calls;  // may stand in place of what `kind` says
};

// Thread-safe.
class ConstraintCompiler {
 public:
  static constexpr int64_t kMaxCachedBytes = int64_t{128} << 20;
  // Of all constraints that are in use; beyond, new ones are refused.
  static constexpr int64_t kMaxLiveBytes = int64_t{1} << 30;

  // As the vocabulary's constructor has them; read at the first Compile.
  ConstraintCompiler(int32_t vocab_size, std::function<std::string_view(int32_t)> bytes_of);

  // Runs on the caller's thread; takes up to some tenths of a second for a large constraint. Errors: InvalidArgument
  // that names what is wrong with the constraint; ResourceExhausted when those in use take kMaxLiveBytes.
  absl::StatusOr<std::shared_ptr<Constraint>> Compile(const ConstraintSpec& spec);

 private:
  using Entry = std::pair<std::string, std::shared_ptr<Constraint>>;

  std::shared_ptr<Constraint> Find(const std::string& key) ABSL_LOCKS_EXCLUDED(mutex_);
  void Keep(const std::string& key, const std::shared_ptr<Constraint>& constraint) ABSL_LOCKS_EXCLUDED(mutex_);

  const int32_t vocab_size_;
  const std::function<std::string_view(int32_t)> bytes_of_;
  absl::once_flag vocabulary_once_;
  std::shared_ptr<const Vocabulary> vocabulary_;
  const Constraint::LiveBytes live_bytes_ = std::make_shared<std::atomic<int64_t>>(0);

  absl::Mutex mutex_;
  std::list<Entry> cached_ ABSL_GUARDED_BY(mutex_);  // the last one used first
  absl::flat_hash_map<std::string, std::list<Entry>::iterator> by_key_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace expertd
