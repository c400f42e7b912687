#include "engine/text/jieba.h"

#include <filesystem>
#include <initializer_list>
#include <utility>

#include "absl/status/status.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/tokenizer_files.h"
#include "engine/text/unicode.h"

namespace expertd {
namespace {

// jieba's big dictionary has 8.6 MB, its table of emissions 1.3 MB.
constexpr int64_t kMaxDictionaryBytes = int64_t{64} << 20;
constexpr int64_t kMaxEmissionsBytes = int64_t{16} << 20;

// [\u4E00-\u9FD5a-zA-Z0-9+#&\._%\-]
bool IsOfWords(char32_t c) {
  constexpr std::u32string_view kSigns = U"+#&._%-";
  return IsHan(c) || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
         kSigns.find(c) != kSigns.npos;
}

// The first that exists; "" when none does.
std::string FirstFile(std::initializer_list<std::string> paths) {
  for (const std::string& path : paths) {
    if (FileExists(path)) return path;
  }
  return "";
}

absl::Status Missing(const std::string& model_dir, std::string_view what, std::string_view remedy) {
  return absl::FailedPreconditionError(StrCat("the tokenizer of ", model_dir, " needs jieba's ", what, ": put ", remedy,
                                              ", or install Debian's python3-jieba"));
}

}  // namespace

absl::StatusOr<JiebaFiles> FindJiebaFiles(const std::string& model_dir, const std::string& jieba_dict,
                                          std::string_view package_folder) {
  JiebaFiles files;
  if (jieba_dict.empty()) {
    files.dictionary = FirstFile(
        {model_dir + "/jieba.dict.txt", model_dir + "/dict.txt", StrCat(package_folder, "/dict.txt")});
    if (files.dictionary.empty()) {
      return Missing(model_dir, "dict.txt and prob_emit.py",
                     "both into that folder, or elsewhere and name the first with --jieba-dict");
    }
  } else {
    if (!FileExists(jieba_dict)) {
      return absl::FailedPreconditionError(StrCat("--jieba-dict is ", jieba_dict, "; there is no such file"));
    }
    files.dictionary = jieba_dict;
  }
  const std::string folder = std::filesystem::path(files.dictionary).parent_path().string();
  files.emissions = FirstFile({folder + "/prob_emit.py", folder + "/finalseg/prob_emit.py", model_dir + "/prob_emit.py",
                               StrCat(package_folder, "/finalseg/prob_emit.py")});
  if (files.emissions.empty()) {
    return Missing(model_dir, "prob_emit.py", "it into that folder or beside the dictionary");
  }
  return files;
}

absl::StatusOr<Jieba> Jieba::Load(const JiebaFiles& files) {
  ASSIGN_OR_RETURN(const std::string dictionary_text, ReadFile(files.dictionary, kMaxDictionaryBytes));
  ASSIGN_OR_RETURN(const std::string emissions_text, ReadFile(files.emissions, kMaxEmissionsBytes));
  absl::StatusOr<JiebaDictionary> dictionary = JiebaDictionary::Parse(dictionary_text);
  if (!dictionary.ok()) return Annotate(files.dictionary, dictionary.status());
  absl::StatusOr<JiebaHmm> hmm = JiebaHmm::Parse(emissions_text);
  if (!hmm.ok()) return Annotate(files.emissions, hmm.status());
  return Jieba(*std::move(dictionary), *std::move(hmm));
}

std::vector<uint32_t> Jieba::WordEnds(std::string_view text) const {
  std::vector<uint32_t> word_ends;
  std::vector<char32_t> block;
  std::vector<uint32_t> character_ends, block_ends;  // of the block: bytes of each character, characters of each word
  for (size_t offset = 0; offset < text.size();) {
    block.clear(), character_ends.clear(), block_ends.clear();
    char32_t character = 0;
    size_t next = offset;
    while (next < text.size()) {
      size_t end = next;
      character = DecodeUtf8(text, &end);
      if (!IsOfWords(character)) break;
      block.push_back(character);
      character_ends.push_back(static_cast<uint32_t>(end));
      next = end;
    }
    AppendWordEnds(block, &block_ends);
    for (const uint32_t end : block_ends) word_ends.push_back(character_ends[end - 1]);
    if (next < text.size()) {  // a character outside blocks is a word, and so is a line break of two
      DecodeUtf8(text, &next);
      if (character == '\r' && next < text.size() && text[next] == '\n') ++next;
      word_ends.push_back(static_cast<uint32_t>(next));
    }
    offset = next;
  }
  return word_ends;
}

std::vector<uint32_t> Jieba::MostLikelyEnds(std::span<const char32_t> block) const {
  std::vector<double> best(block.size() + 1);  // of what follows, by where it begins
  std::vector<uint32_t> ends(block.size());    // of the word that begins there
  for (size_t begin = block.size(); begin-- > 0;) {
    JiebaDictionary::Node node = JiebaDictionary::kRoot;
    for (size_t end = begin; end < block.size();) {
      node = dictionary_.Child(node, block[end]);
      if (node == JiebaDictionary::kNone) break;
      ++end;
      if (!dictionary_.IsWord(node)) continue;
      const double sum = dictionary_.LogProbability(node) + best[end];
      // Of equally likely words the longest wins.
      if (ends[begin] == 0 || sum >= best[begin]) {
        best[begin] = sum;
        ends[begin] = static_cast<uint32_t>(end);
      }
    }
    if (ends[begin] == 0) {
      best[begin] = dictionary_.unknown_log_probability() + best[begin + 1];
      ends[begin] = static_cast<uint32_t>(begin + 1);
    }
  }
  return ends;
}

bool Jieba::IsWord(std::span<const char32_t> characters) const {
  JiebaDictionary::Node node = JiebaDictionary::kRoot;
  for (const char32_t character : characters) {
    node = dictionary_.Child(node, character);
    if (node == JiebaDictionary::kNone) return false;
  }
  return dictionary_.IsWord(node);
}

void Jieba::AppendWordEnds(std::span<const char32_t> block, std::vector<uint32_t>* ends) const {
  const std::vector<uint32_t> likely_ends = MostLikelyEnds(block);
  for (size_t begin = 0; begin < block.size();) {
    // A run of single characters may hide words that the dictionary doesn't have.
    size_t run_end = begin;
    while (run_end < block.size() && likely_ends[run_end] == run_end + 1) ++run_end;
    const std::span<const char32_t> run = block.subspan(begin, run_end - begin);
    if (run.size() > 1 && !IsWord(run)) {
      hmm_.AppendWordEnds(run, begin, ends);
    } else {
      for (size_t i = begin; i < run_end; ++i) ends->push_back(static_cast<uint32_t>(i + 1));
    }
    begin = run_end;
    if (begin < block.size()) {
      begin = likely_ends[begin];
      ends->push_back(static_cast<uint32_t>(begin));
    }
  }
}

}  // namespace expertd
