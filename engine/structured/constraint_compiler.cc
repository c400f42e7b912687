#include "engine/structured/constraint_compiler.h"

#include "engine/base/json.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/structured/ebnf.h"
#include "engine/structured/json_schema.h"
#include "engine/structured/regex.h"

namespace expertd {
namespace {

std::string KeyOf(const ConstraintSpec& spec) {
  std::string key =
      StrCat(static_cast<int>(spec.kind), ":", spec.text.size(), ":", spec.text, spec.choices.size(), ":");
  for (const std::string& choice : spec.choices) key += StrCat(choice.size(), ":", choice);
  if (spec.tool_calls.has_value()) key += KeyOf(*spec.tool_calls);
  return key;
}

absl::StatusOr<Grammar::Expression> AddForm(const ConstraintSpec& spec, Grammar& grammar) {
  switch (spec.kind) {
    case ConstraintSpec::Kind::kJsonSchema: {
      absl::StatusOr<Json> schema = ParseJson(spec.text, kMaxSchemaDepth);
      if (!schema.ok()) {
        return absl::InvalidArgumentError(StrCat("the schema is not JSON: ", ToStdView(schema.status().message())));
      }
      return AddJsonSchema(*schema, grammar);
    }
    case ConstraintSpec::Kind::kJsonObject: return AddJsonObject(grammar);
    case ConstraintSpec::Kind::kRegex: return AddRegex(spec.text, grammar);
    case ConstraintSpec::Kind::kGrammar: return AddEbnf(spec.text, grammar);
    case ConstraintSpec::Kind::kChoices: {
      std::vector<Grammar::Expression> choices;
      for (const std::string& choice : spec.choices) choices.push_back(grammar.Bytes(choice));
      return grammar.Choice(std::move(choices));
    }
    case ConstraintSpec::Kind::kToolCalls: return grammar.Nothing();
  }
  return absl::InternalError("a constraint of no kind");
}

absl::StatusOr<Grammar> ReadSpec(const ConstraintSpec& spec) {
  Grammar grammar;
  ASSIGN_OR_RETURN(Grammar::Expression start, AddForm(spec, grammar));
  if (spec.tool_calls.has_value()) {
    ASSIGN_OR_RETURN(const Grammar::Expression calls, AddToolCalls(*spec.tool_calls, grammar));
    start = grammar.Choice({start, calls});
  }
  grammar.SetStart(start);
  return grammar;
}

}  // namespace

ConstraintCompiler::ConstraintCompiler(int32_t vocab_size, std::function<std::string_view(int32_t)> bytes_of)
    : vocab_size_(vocab_size), bytes_of_(std::move(bytes_of)) {}

absl::StatusOr<std::shared_ptr<Constraint>> ConstraintCompiler::Compile(const ConstraintSpec& spec) {
  const std::string key = KeyOf(spec);
  if (std::shared_ptr<Constraint> found = Find(key); found != nullptr) return found;
  if (const int64_t live = live_bytes_->load(); live > kMaxLiveBytes) {
    return absl::ResourceExhaustedError(StrCat("the constraints of running requests take ", live,
                                               " bytes; the limit is ", kMaxLiveBytes));
  }
  ASSIGN_OR_RETURN(const Grammar grammar, ReadSpec(spec));
  absl::call_once(vocabulary_once_, [this] { vocabulary_ = std::make_shared<Vocabulary>(vocab_size_, bytes_of_); });
  ASSIGN_OR_RETURN(std::shared_ptr<Constraint> constraint, Constraint::Create(grammar, vocabulary_, live_bytes_));
  Keep(key, constraint);
  return constraint;
}

std::shared_ptr<Constraint> ConstraintCompiler::Find(const std::string& key) {
  absl::MutexLock lock(&mutex_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  cached_.splice(cached_.begin(), cached_, found->second);
  return found->second->second;
}

void ConstraintCompiler::Keep(const std::string& key, const std::shared_ptr<Constraint>& constraint) {
  absl::MutexLock lock(&mutex_);
  if (by_key_.contains(key)) return;  // somebody else was quicker
  cached_.emplace_front(key, constraint);
  by_key_.emplace(key, cached_.begin());
  // What they have learnt since they came counts too.
  int64_t num_bytes = 0;
  for (auto entry = cached_.begin(); entry != cached_.end();) {
    num_bytes += static_cast<int64_t>(2 * entry->first.size()) + entry->second->num_bytes();
    if (num_bytes <= kMaxCachedBytes || entry == cached_.begin()) {
      ++entry;
      continue;
    }
    by_key_.erase(entry->first);
    entry = cached_.erase(entry);
  }
}

}  // namespace expertd
