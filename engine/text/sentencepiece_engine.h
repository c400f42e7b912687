// The sentencepiece library behind plain types: its header declares absl::string_view, which abseil's own headers
// declare otherwise, so the two can't meet in one file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace expertd {

// Immutable; thread-safe.
class SentencePieceEngine {
 public:
  ~SentencePieceEngine();

  // `serialized`: a model that ParseSentencePieceModel has accepted. Returns null and sets *error when the library
  // doesn't take it.
  static std::unique_ptr<SentencePieceEngine> Load(const std::string& serialized, std::string* error);

  struct Item {
    int32_t id;
    uint32_t begin, end;  // bytes of the text; 0 unless asked for
  };

  // Pieces of well-formed `text`. Returns false and sets *error when the library fails.
  bool Encode(std::string_view text, bool with_offsets, std::vector<Item>* items, std::string* error) const;

 private:
  struct Processor;
  explicit SentencePieceEngine(std::unique_ptr<const Processor> processor);

  std::unique_ptr<const Processor> processor_;
};

}  // namespace expertd
