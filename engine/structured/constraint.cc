#include "engine/structured/constraint.h"

#include <algorithm>
#include <utility>

#include "engine/base/status_macros.h"

namespace expertd {
namespace {

// More tokens than one in so many are a bit set.
constexpr size_t kMinTokensPerListed = 64;

// The bytes that begin a character of two, three and four bytes, with what may stand in second place.
struct Utf8Lead {
  uint8_t first, last;                // of the lead
  uint8_t second_first, second_last;  // of the byte behind it
  int num_further;                    // bytes behind these, each 0x80..0xBF
};
constexpr Utf8Lead kUtf8Leads[] = {{0xC2, 0xDF, 0x80, 0xBF, 0}, {0xE0, 0xE0, 0xA0, 0xBF, 1},
                                   {0xE1, 0xEC, 0x80, 0xBF, 1}, {0xED, 0xED, 0x80, 0x9F, 1},
                                   {0xEE, 0xEF, 0x80, 0xBF, 1}, {0xF0, 0xF0, 0x90, 0xBF, 2},
                                   {0xF1, 0xF3, 0x80, 0xBF, 2}, {0xF4, 0xF4, 0x80, 0x8F, 2}};

// Calls `step` with the states behind the bytes of a range, once for each class of bytes; stops when it is false.
template <typename Step>
bool ForEachStep(Automaton& automaton, Automaton::State state, int first, int last, Step step) {
  int last_class = -1;
  for (int byte = first; byte <= last; ++byte) {
    const int byte_class = automaton.network().class_of(static_cast<uint8_t>(byte));
    if (byte_class == last_class) continue;
    last_class = byte_class;
    if (!step(automaton.NextOfClass(state, byte_class))) return false;
  }
  return true;
}

// Whether `num_bytes` further bytes of a character lead to `target`, whatever they are.
bool TailLeadsTo(Automaton& automaton, Automaton::State state, int first, int last, int num_further,
                 Automaton::State target) {
  Automaton::State checked = Automaton::kDead;
  return ForEachStep(automaton, state, first, last, [&](Automaton::State next) {
    if (next == Automaton::kDead) return false;
    if (num_further == 0) return next == target;
    if (next == checked) return true;
    checked = next;
    return TailLeadsTo(automaton, next, 0x80, 0xBF, num_further - 1, target);
  });
}

// Whether all plain ASCII characters lead to `target`.
bool AsciiLeadsTo(Automaton& automaton, Automaton::State state, Automaton::State target) {
  const auto is_target = [&](Automaton::State next) { return next == target; };
  return ForEachStep(automaton, state, ' ', '!', is_target) && ForEachStep(automaton, state, '#', '[', is_target) &&
         ForEachStep(automaton, state, ']', '~', is_target);
}

}  // namespace

absl::StatusOr<std::shared_ptr<Constraint>> Constraint::Create(const Grammar& grammar,
                                                               std::shared_ptr<const Vocabulary> vocabulary,
                                                               LiveBytes live_bytes) {
  ASSIGN_OR_RETURN(TransitionNetwork network, TransitionNetwork::Create(grammar));
  std::shared_ptr<Constraint> constraint(
      new Constraint(std::move(network), std::move(vocabulary), std::move(live_bytes)));
  absl::MutexLock lock(&constraint->mutex_);
  if (constraint->automaton_.start() == Automaton::kDead) {
    return absl::InvalidArgumentError("the constraint has too many readings at its beginning");
  }
  return constraint;
}

Constraint::Constraint(TransitionNetwork network, std::shared_ptr<const Vocabulary> vocabulary, LiveBytes live_bytes)
    : network_(std::move(network)), vocabulary_(std::move(vocabulary)), live_bytes_(std::move(live_bytes)),
      automaton_(network_) {
  absl::MutexLock lock(&mutex_);
  Account();
}

Constraint::~Constraint() {
  absl::MutexLock lock(&mutex_);
  live_bytes_->fetch_sub(accounted_bytes_);
}

int64_t Constraint::num_bytes() const {
  absl::MutexLock lock(&mutex_);
  return accounted_bytes_;
}

void Constraint::Account() {
  const int64_t num_bytes = network_.num_bytes() + LearntBytes();
  live_bytes_->fetch_add(num_bytes - accounted_bytes_);
  accounted_bytes_ = num_bytes;
}

std::shared_ptr<Constraint::State> Constraint::AddCursor(State state) {
  if (cursor_states_.size() >= max_cursors_) {
    std::erase_if(cursor_states_, [](const auto& weak) { return weak.expired(); });
    max_cursors_ = std::max(max_cursors_, 2 * cursor_states_.size());
  }
  auto cursor_state = std::make_shared<State>(state);
  cursor_states_.push_back(cursor_state);
  return cursor_state;
}

void Constraint::Forget() {
  std::vector<std::shared_ptr<State>> cursors;
  std::vector<State> states;
  for (const std::weak_ptr<State>& weak : cursor_states_) {
    cursors.push_back(weak.lock());
    states.push_back(cursors.back() == nullptr ? Automaton::kDead : *cursors.back());
  }
  automaton_.ForgetAllBut(states);
  for (size_t i = 0; i < cursors.size(); ++i) {
    if (cursors[i] != nullptr) *cursors[i] = states[i];
  }
  masks_.clear();
  plain_steps_.clear();
  mask_bytes_ = 0;
  max_bytes_ = LearntBytes() + kMaxBytes;
}

Constraint::State Constraint::Read(State state, int32_t token) {
  if (state == Automaton::kDead || token < 0 || token >= vocabulary_->size()) return Automaton::kDead;
  const std::string_view bytes = vocabulary_->bytes_of(token);
  // Where a grammar names a token that has bytes too, the token is meant.
  if (const State named = automaton_.NextToken(state, token); named != Automaton::kDead || bytes.empty()) return named;
  for (const char byte : bytes) {
    state = automaton_.Next(state, static_cast<uint8_t>(byte));
    if (state == Automaton::kDead) break;
  }
  return state;
}

std::shared_ptr<const TokenMask> Constraint::MaskOf(State state) {
  if (const auto found = masks_.find(state); found != masks_.end()) return found->second;
  std::optional<TokenMask> mask = MakeMask(state);
  if (!mask.has_value()) return nullptr;
  auto shared = std::make_shared<const TokenMask>(*std::move(mask));
  mask_bytes_ += static_cast<int64_t>(sizeof(TokenMask) + shared->tokens.size() * sizeof(int32_t) +
                                      shared->words.size() * sizeof(uint64_t) + 64);
  masks_.emplace(state, shared);
  return shared;
}

std::optional<TokenMask> Constraint::MakeMask(State state) {
  TokenMask mask;
  mask.tokens = automaton_.Tokens(state);
  const std::optional<int> num_free = CountFreePlainCharacters(state);
  if (num_free.has_value()) {
    mask.plain_characters = *num_free;
  } else if (!AddTokens(vocabulary_->plain(), state, mask.tokens)) {
    return std::nullopt;
  }
  if (!AddTokens(vocabulary_->special(), state, mask.tokens)) return std::nullopt;
  if (mask.tokens.size() * kMinTokensPerListed > static_cast<size_t>(vocabulary_->size())) {
    mask.words.resize(vocabulary_->num_words());
    for (const int32_t token : mask.tokens) {
      mask.words[static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64);
    }
    mask.tokens = {};
  }
  return mask;
}

// False when the automaton has grown too large.
bool Constraint::AddTokens(const Vocabulary::Trie& trie, State state, std::vector<int32_t>& tokens) {
  std::vector<State> path = {state};  // by depth
  const size_t num_nodes = trie.nodes.size();
  for (size_t i = 0; i < num_nodes;) {
    const Vocabulary::Node& node = trie.nodes[i];
    const State next = automaton_.Next(path[node.depth - size_t{1}], node.byte);
    if (next == Automaton::kDead) {
      i = static_cast<size_t>(node.end);
      continue;
    }
    if (path.size() <= node.depth) path.resize(size_t{node.depth} + 1);
    path[node.depth] = next;
    const auto first = trie.tokens.begin() + node.first_token;
    if (node.num_tokens > 0) tokens.insert(tokens.end(), first, first + node.num_tokens);
    if (LearntBytes() > max_bytes_) return false;
    ++i;
  }
  return true;
}

std::optional<int> Constraint::CountFreePlainCharacters(State state) {
  const int max_count = vocabulary_->max_plain_characters();
  for (int count = 0; count < max_count; ++count) {
    const PlainStep step = PlainStepOf(state);
    if (step.kind == PlainStep::Kind::kNone) return count;
    if (step.kind == PlainStep::Kind::kMixed) return std::nullopt;
    if (step.next == state) return max_count;
    state = step.next;
  }
  return max_count;
}

Constraint::PlainStep Constraint::PlainStepOf(State state) {
  if (const auto found = plain_steps_.find(state); found != plain_steps_.end()) return found->second;
  const PlainStep step = FindPlainStep(state);
  plain_steps_.emplace(state, step);
  mask_bytes_ += 2 * static_cast<int64_t>(sizeof(PlainStep));
  return step;
}

Constraint::PlainStep Constraint::FindPlainStep(State state) {
  const State target = automaton_.Next(state, 'a');
  if (!AsciiLeadsTo(automaton_, state, target)) return {};
  for (const Utf8Lead& lead : kUtf8Leads) {
    State checked = Automaton::kDead;
    const bool is_same = ForEachStep(automaton_, state, lead.first, lead.last, [&](State next) {
      if (next == Automaton::kDead || target == Automaton::kDead) return next == target;
      if (next == checked) return true;
      checked = next;
      return TailLeadsTo(automaton_, next, lead.second_first, lead.second_last, lead.num_further, target);
    });
    if (!is_same) return {};
  }
  if (target == Automaton::kDead) return {.kind = PlainStep::Kind::kNone};
  return {.kind = PlainStep::Kind::kSame, .next = target};
}

ConstraintCursor::ConstraintCursor(std::shared_ptr<Constraint> constraint, std::optional<ConstraintPrelude> prelude)
    : constraint_(std::move(constraint)) {
  if (prelude.has_value()) {
    phase_ = prelude->is_open ? Phase::kReasoning : Phase::kMayReason;
    prelude_ = std::make_shared<const ConstraintPrelude>(*std::move(prelude));
  }
  absl::MutexLock lock(&constraint_->mutex_);
  state_ = constraint_->AddCursor(constraint_->automaton_.start());
  SetState(*state_);
  if (phase_ == Phase::kReasoning) may_end_ = false;
}

ConstraintCursor ConstraintCursor::Clone() const {
  ConstraintCursor clone;
  clone.constraint_ = constraint_;
  clone.prelude_ = prelude_;
  clone.phase_ = phase_;
  clone.may_end_ = may_end_;
  clone.may_go_on_ = may_go_on_;
  absl::MutexLock lock(&constraint_->mutex_);
  clone.state_ = constraint_->AddCursor(*state_);
  return clone;
}

void ConstraintCursor::SetState(Automaton::State state) {
  *state_ = state;
  const bool is_alive = state != Automaton::kDead;
  may_end_ = awaits_trigger() || (is_alive && constraint_->automaton_.accepts(state));
  may_go_on_ = awaits_trigger() || (is_alive && constraint_->automaton_.has_next(state));
}

void ConstraintCursor::Advance(int32_t token) {
  if (phase_ == Phase::kMayReason && token == prelude_->open_token) {
    phase_ = Phase::kReasoning;
    may_end_ = false;
    may_go_on_ = true;
    return;
  }
  if (phase_ == Phase::kReasoning && token != prelude_->close_token) return;
  absl::MutexLock lock(&constraint_->mutex_);
  if (phase_ == Phase::kReasoning) {
    phase_ = Phase::kBehindReasoning;
    return SetState(*state_);
  }
  if (awaits_trigger() && token != prelude_->trigger_token) return;
  const bool is_blank = phase_ == Phase::kBehindReasoning &&
                        std::find(prelude_->blank_tokens.begin(), prelude_->blank_tokens.end(), token) !=
                            prelude_->blank_tokens.end();
  phase_ = Phase::kAnswer;
  if (is_blank) return;
  SetState(constraint_->Read(*state_, token));
  if (constraint_->LearntBytes() > constraint_->max_bytes_) constraint_->Forget();
  constraint_->Account();
}

std::shared_ptr<const TokenMask> ConstraintCursor::AllowedTokens() const {
  if (phase_ == Phase::kReasoning || awaits_trigger()) return nullptr;
  std::shared_ptr<const TokenMask> mask;
  {
    absl::MutexLock lock(&constraint_->mutex_);
    if (*state_ != Automaton::kDead) {
      mask = constraint_->MaskOf(*state_);
      if (mask == nullptr) {
        constraint_->Forget();
        mask = constraint_->MaskOf(*state_);
      }
    }
    constraint_->Account();
  }
  if (mask == nullptr) mask = std::make_shared<const TokenMask>();
  if (phase_ == Phase::kAnswer) return mask;
  // At the beginning of the answer the marks may stand too.
  auto further = std::make_shared<TokenMask>(*mask);
  const auto allow = [&](int32_t token) {
    if (token < 0 || token >= vocabulary().size()) return;
    if (further->words.empty()) {
      further->tokens.push_back(token);
    } else {
      further->words[static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64);
    }
  };
  if (phase_ == Phase::kMayReason) allow(prelude_->open_token);
  if (phase_ == Phase::kBehindReasoning) {
    for (const int32_t token : prelude_->blank_tokens) allow(token);
  }
  return further;
}

}  // namespace expertd
