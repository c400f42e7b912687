// Characters and the few Unicode properties that tokenizers ask for. Tables come from utf8proc (Unicode 15 in Debian
// 12); the `tokenizers` package carries tables of Unicode 13 to 16, depending on the component, so characters assigned
// since then may be classified differently.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/utf8.h"
#include "engine/text/tokenizer.h"

namespace expertd {

// OK when all of `text` is UTF-8; otherwise InvalidArgument that names the offset of the first wrong byte.
absl::Status CheckUtf8(std::string_view text);

// Character at *offset of well-formed text; advances *offset behind it.
char32_t DecodeUtf8(std::string_view text, size_t* offset);

// Character that ends at *offset (> 0) of well-formed text; moves *offset to its beginning.
char32_t DecodeUtf8Backward(std::string_view text, size_t* offset);

void AppendUtf8(char32_t character, std::string* text);

bool IsWhitespace(char32_t character);   // property White_Space, 25 characters
bool IsNumeric(char32_t character);      // general category N
bool IsPunctuation(char32_t character);  // general category P, or an ASCII sign such as $ or +
bool IsWord(char32_t character);         // what \w means: Alphabetic, M, Nd, Pc, joiners (UTS #18)

// Lower case of one character; İ (U+0130) becomes two characters.
void AppendLowercase(char32_t character, std::string* text);

// Canonical and compatibility normalization (UAX #15) of one cluster at a time, so that the caller can keep track of
// where text comes from. Immutable; thread-safe.
class UnicodeNormalizer {
 public:
  enum class Form { kNfc, kNfd, kNfkc, kNfkd };

  explicit UnicodeNormalizer(Form form);
  ~UnicodeNormalizer();
  UnicodeNormalizer(UnicodeNormalizer&&) noexcept;

  // Next range of well-formed `text` at or behind `from` whose normalization may differ from itself and doesn't depend
  // on its surroundings; empty at the end of the text when there is none. `from` is 0 or the end of a previous range.
  ByteRange NextCluster(std::string_view text, size_t from) const;

  // Normalized form of a cluster (or of any well-formed text). O(n log n).
  std::string Normalize(std::string_view cluster) const;

 private:
  struct Tables;
  bool IsStable(char32_t character) const;

  Form form_;
  std::unique_ptr<const Tables> tables_;
};

}  // namespace expertd
