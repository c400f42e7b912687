// FakeEngine: an Engine without a model, for tests of the server. A test waits for a request, pushes its outputs by
// hand (or has every request answered at once), and sees what was aborted.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/base/strings.h"
#include "engine/engine.h"
#include "engine/request/errors.h"

namespace expertd {

// A token per byte; 256 is special and written "<|end|>".
class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr TokenId kEnd = 256;

  absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text, const EncodeOptions& options) const override {
    auto encoding = EncodeWithOffsets(text, options);
    if (!encoding.ok()) return encoding.status();
    return std::move(encoding->ids);
  }

  absl::StatusOr<Encoding> EncodeWithOffsets(std::string_view text, const EncodeOptions& options) const override {
    Encoding encoding;
    for (size_t i = 0; i < text.size();) {
      const bool is_end = options.parse_special_tokens && text.substr(i).starts_with(kEndText);
      const size_t length = is_end ? kEndText.size() : 1;
      encoding.ids.push_back(is_end ? kEnd : static_cast<unsigned char>(text[i]));
      encoding.offsets.push_back({i, i + length});
      i += length;
    }
    if (options.add_special_tokens) {
      encoding.ids.push_back(kEnd);
      encoding.offsets.push_back({text.size(), text.size()});
    }
    return encoding;
  }

  std::string_view TokenBytes(TokenId id) const override {
    static const std::string bytes = [] {
      std::string all;
      for (int byte = 0; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
      return all;
    }();
    if (id == kEnd) return kEndText;
    return id >= 0 && id < kEnd ? std::string_view(bytes).substr(id, 1) : std::string_view();
  }
  std::string_view TokenText(TokenId id) const override { return TokenBytes(id); }
  int vocab_size() const override { return kEnd + 1; }
  bool IsSpecial(TokenId id) const override { return id == kEnd; }
  std::optional<TokenId> TokenToId(std::string_view piece) const override {
    if (piece == kEndText) return kEnd;
    if (piece.size() == 1) return static_cast<unsigned char>(piece[0]);
    return std::nullopt;
  }
  std::optional<TokenId> bos() const override { return std::nullopt; }
  std::optional<TokenId> eos() const override { return kEnd; }
  std::optional<TokenId> unk() const override { return std::nullopt; }
  std::optional<TokenId> pad() const override { return std::nullopt; }
  bool strips_leading_space() const override { return false; }
  bool RestartsText(TokenId) const override { return false; }

 private:
  static constexpr std::string_view kEndText = "<|end|>";
};

// Thread-safe.
class FakeEngine final : public Engine {
 public:
  static constexpr absl::Duration kPatience = absl::Seconds(20);  // a test that waits longer has failed

  FakeEngine() {
    info_.model_name = "fake";
    info_.architecture = "FakeForCausalLM";
    info_.vocab_size = 512;
    info_.max_model_len = 1024;
    info_.max_num_seqs = 8;
    info_.block_size = 32;
    info_.num_kv_blocks = 100;
    info_.has_chat_template = true;
    info_.eos_token_ids = {ByteTokenizer::kEnd};
    info_.fingerprint = "fake-1";
  }

  // Every request is answered at once with these deltas for each candidate.
  void AnswerAtOnce(std::vector<std::string> deltas) {
    absl::MutexLock lock(&mutex_);
    answer_ = std::move(deltas);
  }

  // Submit returns this.
  void RefuseWith(absl::Status status) {
    absl::MutexLock lock(&mutex_);
    refusal_ = std::move(status);
  }

  // Submit does not return before Unblock.
  void BlockSubmit() {
    absl::MutexLock lock(&mutex_);
    is_blocked_ = true;
  }
  void UnblockSubmit() {
    absl::MutexLock lock(&mutex_);
    is_blocked_ = false;
  }
  // Waits until so many calls of Submit wait to be unblocked.
  bool AwaitBlocked(int count) {
    absl::MutexLock lock(&mutex_);
    const auto reached = [&] { return num_blocked_ >= count; };
    return mutex_.AwaitWithTimeout(absl::Condition(&reached), kPatience);
  }

  void SetUnhealthy() {
    absl::MutexLock lock(&mutex_);
    is_healthy_ = false;
  }

  // Blocks until a request of this id was submitted; null when none came.
  std::shared_ptr<const Request> AwaitRequest(const std::string& id) {
    absl::MutexLock lock(&mutex_);
    const auto came = [&] { return requests_.contains(id); };
    if (!mutex_.AwaitWithTimeout(absl::Condition(&came), kPatience)) return nullptr;
    return requests_[id].request;
  }

  // Blocks until the request was aborted; OK when it was not.
  absl::Status AwaitAbort(const std::string& id) {
    absl::MutexLock lock(&mutex_);
    const auto came = [&] { return aborts_.contains(id); };
    if (!mutex_.AwaitWithTimeout(absl::Condition(&came), kPatience)) return absl::OkStatus();
    return aborts_[id];
  }
  int num_aborts() {
    absl::MutexLock lock(&mutex_);
    return static_cast<int>(aborts_.size());
  }
  int num_submitted() {
    absl::MutexLock lock(&mutex_);
    return static_cast<int>(requests_.size());
  }

  // Outputs by hand. Nothing happens when the request has ended.
  void Push(const std::string& id, StreamEvent event) {
    if (std::shared_ptr<GenerationStream> stream = LiveStream(id)) stream->Push(std::move(event));
  }
  void PushText(const std::string& id, const std::string& text) {
    DeltaEvent delta;
    delta.text = text;
    delta.num_tokens = 1;
    Push(id, std::move(delta));
  }
  void Finish(const std::string& id) {
    PushEnd(id, /*num_output_tokens=*/1);
    Close(id, absl::OkStatus());
  }
  void Close(const std::string& id, absl::Status status) {
    absl::MutexLock lock(&mutex_);
    CloseLocked(id, std::move(status));
  }

  absl::StatusOr<std::shared_ptr<GenerationStream>> Submit(std::shared_ptr<const Request> request) override {
    std::optional<std::vector<std::string>> answer;
    std::shared_ptr<GenerationStream> stream = std::make_shared<GenerationStream>();
    {
      absl::MutexLock lock(&mutex_);
      if (is_blocked_) {
        ++num_blocked_;
        mutex_.Await(absl::Condition(
            +[](bool* is_blocked) { return !*is_blocked; }, &is_blocked_));
        --num_blocked_;
      }
      if (is_draining_) return Error(absl::StatusCode::kUnavailable, error_reason::kDraining, "draining");
      if (!refusal_.ok()) return refusal_;
      const auto known = requests_.find(request->id());
      if (known != requests_.end() && known->second.is_live) {
        return Error(absl::StatusCode::kAlreadyExists, error_reason::kDuplicateRequestId,
                     StrCat("request '", request->id(), "' lives"));
      }
      requests_[request->id()] = {request, stream, /*is_live=*/true};
      answer = answer_;
    }
    if (answer.has_value()) AnswerNow(*request, *answer);
    return stream;
  }

  AbortOutcome Abort(std::string_view request_id, absl::Status status) override {
    absl::MutexLock lock(&mutex_);
    const std::string id(request_id);
    const auto known = requests_.find(id);
    if (known == requests_.end()) return AbortOutcome::kNotFound;
    if (!known->second.is_live) return AbortOutcome::kAlreadyFinished;
    aborts_[id] = status;
    CloseLocked(id, std::move(status));
    return AbortOutcome::kAborted;
  }

  absl::StatusOr<RenderedChat> RenderChat(const ChatInput& chat) const override {
    RenderedChat rendered;
    for (const Json& message : chat.messages) {
      rendered.text += StrCat(message["role"].get<std::string>(), ": ", message["content"].get<std::string>(), "\n");
    }
    rendered.tokens.assign(rendered.text.begin(), rendered.text.end());
    return rendered;
  }

  void StartDraining() override {
    absl::MutexLock lock(&mutex_);
    is_draining_ = true;
  }
  bool WaitUntilIdle(absl::Duration timeout) override {
    absl::MutexLock lock(&mutex_);
    const auto is_idle = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return num_live_locked() == 0; };
    return mutex_.AwaitWithTimeout(absl::Condition(&is_idle), timeout);
  }
  EngineLoad Load() const override {
    absl::MutexLock lock(&mutex_);
    EngineLoad load;
    load.num_running = num_live_locked();
    load.blocks_free = info_.num_kv_blocks;
    load.is_draining = is_draining_;
    load.is_healthy = is_healthy_;
    return load;
  }
  const EngineInfo& info() const override { return info_; }
  RequestLimits request_limits() const override { return {.vocab_size = info_.vocab_size}; }
  const Tokenizer* tokenizer() const override { return &tokenizer_; }
  const ChatTemplate* chat_template() const override { return nullptr; }

 private:
  struct Entry {
    std::shared_ptr<const Request> request;
    std::shared_ptr<GenerationStream> stream;
    bool is_live = false;
  };

  static absl::Status Error(absl::StatusCode code, std::string_view reason, std::string_view message) {
    return MakeError(code, message, {.reason = std::string(reason)});
  }

  int num_live_locked() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    int count = 0;
    for (const auto& [id, entry] : requests_) count += entry.is_live;
    return count;
  }

  std::shared_ptr<GenerationStream> LiveStream(const std::string& id) {
    absl::MutexLock lock(&mutex_);
    const auto known = requests_.find(id);
    return known != requests_.end() && known->second.is_live ? known->second.stream : nullptr;
  }

  void CloseLocked(const std::string& id, absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto known = requests_.find(id);
    if (known == requests_.end() || !std::exchange(known->second.is_live, false)) return;
    known->second.stream->Close(std::move(status));
  }

  void PushEnd(const std::string& id, int num_output_tokens) {
    const std::shared_ptr<const Request> request = AwaitRequest(id);
    if (request == nullptr) return;
    for (int i = 0; i < request->spec().num_candidates; ++i) {
      FinishedEvent finished;
      finished.candidate_index = i;
      finished.reason = FinishReason::kMaxTokens;
      finished.num_output_tokens = num_output_tokens;
      finished.seed = request->spec().sampling.seed.value_or(0) + static_cast<uint64_t>(i);
      Push(id, std::move(finished));
    }
    SummaryEvent summary;
    summary.num_prompt_tokens = 3;
    summary.num_cached_tokens = 2;
    summary.num_output_tokens = num_output_tokens * request->spec().num_candidates;
    summary.num_reasoning_tokens = 1;
    summary.timing.queue = absl::Milliseconds(5);
    Push(id, std::move(summary));
  }

  void AnswerNow(const Request& request, const std::vector<std::string>& deltas) {
    PromptEvent prompt;
    prompt.num_prompt_tokens = 3;
    prompt.num_cached_tokens = 2;
    Push(request.id(), std::move(prompt));
    for (const std::string& text : deltas) {
      for (int i = 0; i < request.spec().num_candidates; ++i) {
        DeltaEvent delta;
        delta.candidate_index = i;
        delta.text = text;
        delta.num_tokens = 1;
        Push(request.id(), std::move(delta));
      }
    }
    PushEnd(request.id(), static_cast<int>(deltas.size()));
    Close(request.id(), absl::OkStatus());
  }

  EngineInfo info_;
  const ByteTokenizer tokenizer_;
  mutable absl::Mutex mutex_;
  std::map<std::string, Entry> requests_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Status> aborts_ ABSL_GUARDED_BY(mutex_);
  std::optional<std::vector<std::string>> answer_ ABSL_GUARDED_BY(mutex_);
  absl::Status refusal_ ABSL_GUARDED_BY(mutex_);
  int num_blocked_ ABSL_GUARDED_BY(mutex_) = 0;
  bool is_blocked_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_healthy_ ABSL_GUARDED_BY(mutex_) = true;
};

}  // namespace expertd
