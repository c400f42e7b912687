#include "engine/text/jieba_dictionary.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "absl/status/status.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/unicode.h"

namespace expertd {
namespace {

// Bounds what looking up one place of a text can cost. The longest word that jieba brings has 48 bytes.
constexpr size_t kMaxWordBytes = 256;

std::string_view WithoutBlanks(std::string_view line) {
  constexpr std::string_view kBlanks = " \t\n\r\v\f";
  const size_t begin = line.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return line.substr(begin, line.find_last_not_of(kBlanks) + 1 - begin);
}

// Whole of `text`; nullopt when it isn't a number in range.
std::optional<uint32_t> ParseFrequency(std::string_view text) {
  uint32_t frequency = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), frequency);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return frequency;
}

std::string_view CutLine(std::string_view* text) {
  const size_t end = std::min(text->find('\n'), text->size());
  const std::string_view line = text->substr(0, end);
  text->remove_prefix(std::min(end + 1, text->size()));
  return line;
}

}  // namespace

absl::StatusOr<JiebaDictionary> JiebaDictionary::Parse(std::string_view text) {
  std::vector<Word> words;
  uint64_t total = 0;
  for (int line_number = 1; !text.empty(); ++line_number) {
    const std::string_view line = WithoutBlanks(CutLine(&text));
    const auto wrong = [&](std::string_view what) {
      return absl::InvalidArgumentError(StrCat("line ", line_number, ": ", what));
    };
    const size_t word_size = line.find(' ');
    if (word_size == std::string_view::npos || word_size == 0) return wrong("must be a word, a space, a frequency");
    if (word_size > kMaxWordBytes) {
      return wrong(StrCat("the word has ", word_size, " bytes; at most ", kMaxWordBytes));
    }
    const std::string_view word = line.substr(0, word_size);
    if (FindInvalidUtf8(word)) return wrong("the word is not UTF-8");
    std::string_view frequency_text = line.substr(word_size + 1);
    frequency_text = frequency_text.substr(0, frequency_text.find(' '));
    const std::optional<uint32_t> frequency = ParseFrequency(frequency_text);
    if (!frequency) return wrong(StrCat("the frequency is \"", frequency_text.substr(0, 40), "\"; must be 0..2^32-1"));
    words.push_back({word, *frequency});
    total += *frequency;
  }
  if (total == 0) return absl::InvalidArgumentError("there is no word with a frequency above 0");

  const auto precedes = [](const Word& a, const Word& b) { return a.text < b.text; };
  std::stable_sort(words.begin(), words.end(), precedes);
  const auto same = [](const Word& a, const Word& b) { return a.text == b.text; };
  // From behind, so that the last of several stays.
  words.erase(words.begin(), std::unique(words.rbegin(), words.rend(), same).base());
  return JiebaDictionary(words, std::log(static_cast<double>(total)));
}

JiebaDictionary::JiebaDictionary(const std::vector<Word>& words, double log_total) : log_total_(log_total) {
  // The words that begin with a node, as a range, and how long that beginning is. Bytes of UTF-8 sort as characters do.
  struct Span {
    uint32_t begin, end, num_bytes;
  };
  std::vector<Span> spans{{0, static_cast<uint32_t>(words.size()), 0}};
  characters_.push_back(0);
  for (size_t node = 0; node < spans.size(); ++node) {
    Span span = spans[node];
    first_children_.push_back(static_cast<Node>(spans.size()));
    double log_probability = kNotAWord;
    if (words[span.begin].text.size() == span.num_bytes) {
      const uint32_t frequency = words[span.begin++].frequency;
      // In this order, rounded twice: jieba compares sums of these, and nearly equal ones are common.
      if (frequency > 0) log_probability = std::log(static_cast<double>(frequency)) - log_total_;
    }
    log_probabilities_.push_back(log_probability);
    while (span.begin < span.end) {
      size_t num_bytes = span.num_bytes;
      const char32_t character = DecodeUtf8(words[span.begin].text, &num_bytes);
      const auto has_other_character = [&](const Word& word) {
        size_t unused = span.num_bytes;
        return DecodeUtf8(word.text, &unused) != character;
      };
      const auto end = std::find_if(words.begin() + span.begin, words.begin() + span.end, has_other_character);
      const auto end_index = static_cast<uint32_t>(end - words.begin());
      characters_.push_back(character);
      spans.push_back({span.begin, end_index, static_cast<uint32_t>(num_bytes)});
      span.begin = end_index;
    }
  }
  first_children_.push_back(static_cast<Node>(spans.size()));
  characters_.shrink_to_fit(), first_children_.shrink_to_fit(), log_probabilities_.shrink_to_fit();
}

JiebaDictionary::Node JiebaDictionary::Child(Node node, char32_t character) const {
  const auto begin = characters_.begin() + first_children_[node], end = characters_.begin() + first_children_[node + 1];
  const auto found = std::lower_bound(begin, end, character);
  return found == end || *found != character ? kNone : static_cast<Node>(found - characters_.begin());
}

}  // namespace expertd
