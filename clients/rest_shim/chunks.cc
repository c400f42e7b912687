#include "clients/rest_shim/chunks.h"

#include <map>
#include <set>
#include <utility>

#include "clients/rest_shim/answer_json.h"
#include "clients/rest_shim/chat_json.h"
#include "clients/rest_shim/completions_json.h"

namespace expertd::rest {
namespace {

bool HasOutput(const v1::Delta& delta) {
  return !delta.text().empty() || !delta.reasoning().empty() || !delta.tool_calls().empty() ||
         !delta.logprobs().empty();
}

// What all forms share: the head of every chunk, and the usage.
class ChunkMakerBase : public ChunkMaker {
 public:
  explicit ChunkMakerBase(const StreamChoice& choice) : choice_(choice) {}

  std::optional<Json> ChunkOf(const v1::StreamGenerateResponse& event) final {
    using Event = v1::StreamGenerateResponse::EventCase;
    switch (event.event_case()) {
      case Event::kAccepted: head_ = HeadOf(event.accepted()); return std::nullopt;
      case Event::kPrompt: OnPrompt(event.prompt()); return std::nullopt;
      case Event::kDelta:
        if (!HasOutput(event.delta())) return std::nullopt;
        return Chunk(ChoiceOf(event.delta()), event.delta().has_usage() ? &event.delta().usage() : nullptr);
      case Event::kFinished: return Chunk(ChoiceOf(event.finished()), nullptr);
      default: return std::nullopt;
    }
  }

  Json UsageChunk(const v1::Usage& usage) final {
    Json json = head_;
    json["choices"] = Json::array();
    json["usage"] = UsageJson(usage);
    return json;
  }

 protected:
  virtual Json HeadOf(const v1::Accepted& accepted) const = 0;
  virtual void OnPrompt(const v1::PromptInfo&) {}
  virtual Json ChoiceOf(const v1::Delta& delta) = 0;
  virtual Json ChoiceOf(const v1::Finished& finished) = 0;

 private:
  Json Chunk(Json choice, const v1::Usage* usage) const {
    Json json = head_;
    json["choices"] = Json::array();
    json["choices"].push_back(std::move(choice));
    if (choice_.continuous_usage && usage != nullptr) {
      json["usage"] = UsageJson(*usage);
    } else if (choice_.include_usage) {
      json["usage"] = Json();
    }
    return json;
  }

  const StreamChoice choice_;
  Json head_;
};

class ChatChunks final : public ChunkMakerBase {
 public:
  using ChunkMakerBase::ChunkMakerBase;

 private:
  Json HeadOf(const v1::Accepted& accepted) const override { return ChatChunkJson(accepted); }
  Json ChoiceOf(const v1::Delta& delta) override { return ChatDeltaJson(delta, IsFirst(delta.index())); }
  Json ChoiceOf(const v1::Finished& finished) override { return ChatEndJson(finished, IsFirst(finished.index())); }

  bool IsFirst(uint32_t index) { return begun_.insert(index).second; }

  std::set<uint32_t> begun_;  // candidates that have had a chunk
};

class CompletionChunks final : public ChunkMakerBase {
 public:
  CompletionChunks(const StreamChoice& choice, std::string request_id, uint32_t first_index)
      : ChunkMakerBase(choice), request_id_(std::move(request_id)), first_index_(first_index) {}

 private:
  Json HeadOf(const v1::Accepted& accepted) const override { return CompletionChunkJson(request_id_, accepted); }

  void OnPrompt(const v1::PromptInfo& prompt) override { prompt_ = prompt; }

  Json ChoiceOf(const v1::Delta& delta) override {
    const auto [offset, is_first] = offsets_.try_emplace(delta.index(), 0);
    LegacyLogprobs logprobs(offset->second);
    if (is_first && !prompt_.text().empty()) logprobs.AddPrompt(prompt_);
    for (const v1::TokenLogprob& token : delta.logprobs()) logprobs.Add(token);
    offset->second = logprobs.offset();
    std::string text = is_first ? prompt_.text() + delta.text() : delta.text();
    return CompletionDeltaJson(first_index_ + delta.index(), std::move(text),
                               delta.logprobs().empty() ? Json() : logprobs.ToJson());
  }

  Json ChoiceOf(const v1::Finished& finished) override {
    const bool is_first = !offsets_.contains(finished.index());  // nothing was generated: the echo is still to come
    return CompletionEndJson(first_index_ + finished.index(), is_first ? prompt_.text() : "", finished);
  }

  const std::string request_id_;
  const uint32_t first_index_;
  v1::PromptInfo prompt_;                // its text is empty without echo
  std::map<uint32_t, size_t> offsets_;   // per candidate, for its logprobs
};

}  // namespace

std::unique_ptr<ChunkMaker> MakeChatChunks(const StreamChoice& choice) { return std::make_unique<ChatChunks>(choice); }

std::unique_ptr<ChunkMaker> MakeCompletionChunks(const StreamChoice& choice, std::string request_id,
                                                 uint32_t first_index) {
  return std::make_unique<CompletionChunks>(choice, std::move(request_id), first_index);
}

}  // namespace expertd::rest
