// Chinese word segmentation as the Python package jieba 0.42 does it by default (accurate mode, with its hidden Markov
// model): the words, cut at the same places. PanGu-alpha's tokenizer separates words so before it looks for pieces.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/jieba_dictionary.h"
#include "engine/text/jieba_hmm.h"

namespace expertd {

// Where Debian's python3-jieba puts the package.
inline constexpr std::string_view kDebianJiebaFolder = "/usr/lib/python3/dist-packages/jieba";

struct JiebaFiles {
  std::string dictionary;  // dict.txt
  std::string emissions;   // prob_emit.py
};

// The files to segment with: the dictionary is `jieba_dict` where that isn't empty, else jieba.dict.txt or dict.txt of
// the model's folder, else dict.txt of the package; the emissions are prob_emit.py beside the dictionary, in its folder
// finalseg, in the model's folder, or in the package. Errors: FailedPrecondition that says what to do.
absl::StatusOr<JiebaFiles> FindJiebaFiles(const std::string& model_dir, const std::string& jieba_dict,
                                          std::string_view package_folder = kDebianJiebaFolder);

// Immutable; thread-safe.
class Jieba {
 public:
  Jieba(JiebaDictionary dictionary, JiebaHmm hmm) : dictionary_(std::move(dictionary)), hmm_(std::move(hmm)) {}

  // Errors name the file: those of JiebaDictionary::Parse and JiebaHmm::Parse, and NotFound.
  static absl::StatusOr<Jieba> Load(const JiebaFiles& files);

  // Byte offsets at which the words of well-formed `text` (below 4 GiB) end: ascending, the last one the size of the
  // text. O(n) times the length of the longest word of the dictionary.
  std::vector<uint32_t> WordEnds(std::string_view text) const;

 private:
  // A run of characters that words can be made of, ends counted in characters.
  void AppendWordEnds(std::span<const char32_t> block, std::vector<uint32_t>* ends) const;
  std::vector<uint32_t> MostLikelyEnds(std::span<const char32_t> block) const;
  bool IsWord(std::span<const char32_t> characters) const;

  JiebaDictionary dictionary_;
  JiebaHmm hmm_;
};

}  // namespace expertd
