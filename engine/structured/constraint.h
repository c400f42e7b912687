// Constraint: a grammar compiled for a vocabulary, shared by all sequences whose output must match it.
// ConstraintCursor: how far one sequence has come, and which tokens it may write next.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/structured/automaton.h"
#include "engine/structured/grammar.h"
#include "engine/structured/transition_network.h"
#include "engine/structured/vocabulary.h"

namespace expertd {

// Tokens that may come next: all plain ones of up to so many characters, and some others.
struct TokenMask {
  int plain_characters = 0;      // Vocabulary::PlainTokens; 0: none of these
  std::vector<int32_t> tokens;   // the others, in any order
  std::vector<uint64_t> words;   // or, when they are many, as a bit set of the vocabulary; else empty

  bool empty() const { return plain_characters == 0 && tokens.empty() && words.empty(); }
};

// Thread-safe. What it learns about its grammar while it is used it keeps; when that is more than kMaxBytes, it forgets
// all but where its cursors are. What it answers does not depend on that.
class Constraint {
 public:
  static constexpr int64_t kMaxBytes = int64_t{16} << 20;

  // Memory of all constraints of an engine.
  using LiveBytes = std::shared_ptr<std::atomic<int64_t>>;

  // Errors: InvalidArgument, as TransitionNetwork::Create has them, and for a grammar of too many readings.
  static absl::StatusOr<std::shared_ptr<Constraint>> Create(const Grammar& grammar,
                                                            std::shared_ptr<const Vocabulary> vocabulary,
                                                            LiveBytes live_bytes);
  ~Constraint();
  Constraint(const Constraint&) = delete;
  Constraint& operator=(const Constraint&) = delete;

  const Vocabulary& vocabulary() const { return *vocabulary_; }

  // Memory, about, but for the vocabulary's.
  int64_t num_bytes() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class ConstraintCursor;

  using State = Automaton::State;

  // Where plain characters lead from a state.
  struct PlainStep {
    enum class Kind { kSame, kNone, kMixed };  // all to one state; none anywhere; some here, some there
    Kind kind = Kind::kMixed;
    State next = Automaton::kDead;             // kSame
  };

  Constraint(TransitionNetwork network, std::shared_ptr<const Vocabulary> vocabulary, LiveBytes live_bytes);

  State Read(State state, int32_t token) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Null when the states to look at take more than kMaxBytes.
  std::shared_ptr<const TokenMask> MaskOf(State state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::optional<TokenMask> MakeMask(State state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // How many plain characters may follow whatever they are; nullopt when it depends on them.
  std::optional<int> CountFreePlainCharacters(State state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  PlainStep PlainStepOf(State state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  PlainStep FindPlainStep(State state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool AddTokens(const Vocabulary::Trie& trie, State state, std::vector<int32_t>& tokens)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<State> AddCursor(State state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t LearntBytes() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return automaton_.num_bytes() + mask_bytes_; }
  void Account() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const TransitionNetwork network_;
  const std::shared_ptr<const Vocabulary> vocabulary_;
  const LiveBytes live_bytes_;

  mutable absl::Mutex mutex_;
  Automaton automaton_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<State, std::shared_ptr<const TokenMask>> masks_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<State, PlainStep> plain_steps_ ABSL_GUARDED_BY(mutex_);
  int64_t mask_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t accounted_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t max_bytes_ ABSL_GUARDED_BY(mutex_) = kMaxBytes;  // learnt: beyond, Forget
  size_t max_cursors_ ABSL_GUARDED_BY(mutex_) = 64;        // listed: beyond, those that are gone are dropped
  std::vector<std::weak_ptr<State>> cursor_states_ ABSL_GUARDED_BY(mutex_);
};

// What may stand before the text that the constraint holds for: a model's reasoning, and then anything up to a token
// that begins that text.
struct ConstraintPrelude {
  int32_t open_token = -1, close_token = -1;  // the marks round the reasoning; -1: none
  bool is_open = false;                       // the prompt has opened it
  std::vector<int32_t> blank_tokens;          // line breaks: one may stand behind the closing mark
  int32_t trigger_token = -1;                 // may never come; -1: the constraint holds from the beginning
};

// Not thread-safe; those of one constraint may be used at once.
class ConstraintCursor {
 public:
  explicit ConstraintCursor(std::shared_ptr<Constraint> constraint, std::optional<ConstraintPrelude> prelude = {});
  ConstraintCursor(ConstraintCursor&&) = default;
  ConstraintCursor& operator=(ConstraintCursor&&) = default;

  // Another one at the same place.
  ConstraintCursor Clone() const;

  // Writes a token. One that is not allowed leads nowhere: nothing may follow it, nor the output end.
  void Advance(int32_t token);

  // The output may end here.
  bool may_end() const { return may_end_; }
  // It must: nothing may follow.
  bool must_end() const { return may_end_ && !may_go_on_; }

  // What may be written next besides an end, as a mask of vocabulary(). Null when everything may: within reasoning, and
  // before the trigger.
  // May take a moment where the grammar was not yet used. Nothing is allowed where finding out would take too much
  // memory: a grammar of very many readings.
  std::shared_ptr<const TokenMask> AllowedTokens() const;

  const Vocabulary& vocabulary() const { return constraint_->vocabulary(); }

 private:
  enum class Phase { kMayReason, kReasoning, kBehindReasoning, kAnswer };

  ConstraintCursor() = default;
  bool awaits_trigger() const {
    return prelude_ != nullptr && prelude_->trigger_token >= 0 && phase_ != Phase::kAnswer;
  }
  void SetState(Automaton::State state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(constraint_->mutex_);

  std::shared_ptr<Constraint> constraint_;
  std::shared_ptr<const ConstraintPrelude> prelude_;  // null: none
  Phase phase_ = Phase::kAnswer;
  std::shared_ptr<Automaton::State> state_;           // guarded by the constraint's mutex: it renumbers its states
  bool may_end_ = false, may_go_on_ = false;
};

}  // namespace expertd
