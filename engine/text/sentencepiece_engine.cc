#include "engine/text/sentencepiece_engine.h"

#include <sentencepiece_processor.h>

#include <utility>

namespace expertd {

struct SentencePieceEngine::Processor {
  sentencepiece::SentencePieceProcessor processor;
};

SentencePieceEngine::SentencePieceEngine(std::unique_ptr<const Processor> processor)
    : processor_(std::move(processor)) {}
SentencePieceEngine::~SentencePieceEngine() = default;

std::unique_ptr<SentencePieceEngine> SentencePieceEngine::Load(const std::string& serialized, std::string* error) {
  auto processor = std::make_unique<Processor>();
  const sentencepiece::util::Status status = processor->processor.LoadFromSerializedProto(serialized);
  if (!status.ok()) {
    *error = status.ToString();
    return nullptr;
  }
  return std::unique_ptr<SentencePieceEngine>(new SentencePieceEngine(std::move(processor)));
}

bool SentencePieceEngine::Encode(std::string_view text, bool with_offsets, std::vector<Item>* items,
                                 std::string* error) const {
  items->clear();
  if (!with_offsets) {
    std::vector<int> ids;
    const sentencepiece::util::Status status = processor_->processor.Encode(text, &ids);
    if (!status.ok()) *error = status.ToString();
    for (const int id : ids) items->push_back({id, 0, 0});
    return status.ok();
  }
  sentencepiece::ImmutableSentencePieceText pieces;
  const sentencepiece::util::Status status = processor_->processor.Encode(text, pieces.mutable_proto());
  if (!status.ok()) *error = status.ToString();
  for (const auto& piece : pieces.pieces()) {
    items->push_back({static_cast<int32_t>(piece.id()), piece.begin(), piece.end()});
  }
  return status.ok();
}

}  // namespace expertd
