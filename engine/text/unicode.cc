#include "engine/text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <vector>

#include "absl/status/status.h"
#include "engine/base/strings.h"

namespace expertd {
namespace {

// Nothing above this code point has a decomposition, a combining class or takes part in a composition but the scripts
// and ideographs below; the next assigned planes hold ideographs (3), tags and variation selectors (14), private use.
constexpr char32_t kNumTableCodePoints = 0x30000;

uint8_t Byte(std::string_view text, size_t i) { return static_cast<uint8_t>(text[i]); }

utf8proc_category_t Category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

int CombiningClass(char32_t c) {
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class;
}

bool IsCompatibility(UnicodeNormalizer::Form form) {
  return form == UnicodeNormalizer::Form::kNfkc || form == UnicodeNormalizer::Form::kNfkd;
}

bool IsComposed(UnicodeNormalizer::Form form) {
  return form == UnicodeNormalizer::Form::kNfc || form == UnicodeNormalizer::Form::kNfkc;
}

void AppendDecomposition(char32_t c, bool compatibility, std::vector<utf8proc_int32_t>* out) {
  constexpr int kLongestDecomposition = 18;  // U+FDFA
  std::array<utf8proc_int32_t, 2 * kLongestDecomposition> buffer;
  int boundary_class = 0;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_STABLE |
                                                      (compatibility ? UTF8PROC_COMPAT : 0));
  const utf8proc_ssize_t n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), buffer.data(), buffer.size(),
                                                     options, &boundary_class);
  if (n <= 0 || n > static_cast<utf8proc_ssize_t>(buffer.size())) {
    out->push_back(static_cast<utf8proc_int32_t>(c));
  } else {
    out->insert(out->end(), buffer.begin(), buffer.begin() + n);
  }
}

// Canonical ordering: stable sort of each run of marks. utf8proc's own ordering takes quadratic time on long runs.
void SortMarks(std::vector<utf8proc_int32_t>* characters) {
  const auto combining_class = [](utf8proc_int32_t c) { return CombiningClass(static_cast<char32_t>(c)); };
  auto begin = characters->begin();
  while (begin != characters->end()) {
    begin = std::find_if(begin, characters->end(), [&](auto c) { return combining_class(c) != 0; });
    const auto end = std::find_if(begin, characters->end(), [&](auto c) { return combining_class(c) == 0; });
    std::stable_sort(begin, end, [&](auto a, auto b) { return combining_class(a) < combining_class(b); });
    begin = end;
  }
}

void Compose(std::vector<utf8proc_int32_t>* characters) {
  const utf8proc_ssize_t n =
      utf8proc_normalize_utf32(characters->data(), static_cast<utf8proc_ssize_t>(characters->size()),
                               static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  if (n >= 0) characters->resize(static_cast<size_t>(n));
}

}  // namespace

absl::Status CheckUtf8(std::string_view text) {
  if (const std::optional<size_t> offset = FindInvalidUtf8(text)) {
    return absl::InvalidArgumentError(StrCat("text is not UTF-8: malformed at byte ", *offset));
  }
  return absl::OkStatus();
}

char32_t DecodeUtf8(std::string_view text, size_t* offset) {
  const size_t i = *offset;
  const uint8_t lead = Byte(text, i);
  const auto tail = [&](size_t k) { return static_cast<char32_t>(Byte(text, i + k) & 0x3F); };
  if (lead < 0x80) {
    *offset = i + 1;
    return lead;
  }
  if (lead < 0xE0) {
    *offset = i + 2;
    return (char32_t{lead} & 0x1F) << 6 | tail(1);
  }
  if (lead < 0xF0) {
    *offset = i + 3;
    return (char32_t{lead} & 0x0F) << 12 | tail(1) << 6 | tail(2);
  }
  *offset = i + 4;
  return (char32_t{lead} & 0x07) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3);
}

char32_t DecodeUtf8Backward(std::string_view text, size_t* offset) {
  size_t begin = *offset - 1;
  while (begin > 0 && (Byte(text, begin) & 0xC0) == 0x80) --begin;
  *offset = begin;
  size_t end = begin;
  return DecodeUtf8(text, &end);
}

void AppendUtf8(char32_t c, std::string* text) {
  if (c < 0x80) {
    text->push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    text->push_back(static_cast<char>(0xC0 | c >> 6));
    text->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else if (c < 0x10000) {
    text->push_back(static_cast<char>(0xE0 | c >> 12));
    text->push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    text->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else {
    text->push_back(static_cast<char>(0xF0 | c >> 18));
    text->push_back(static_cast<char>(0x80 | (c >> 12 & 0x3F)));
    text->push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    text->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  }
}

bool IsWhitespace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsNumeric(char32_t c) {
  const utf8proc_category_t category = Category(c);
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_NO;
}

bool IsPunctuation(char32_t c) {
  if (c < 0x80)
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
  const utf8proc_category_t category = Category(c);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool IsWord(char32_t c) {
  const bool is_lettered_symbol = (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
                                  (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
  if (is_lettered_symbol || c == 0x200C || c == 0x200D) return true;
  const utf8proc_category_t category = Category(c);
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) || category == UTF8PROC_CATEGORY_PC;
}

void AppendLowercase(char32_t c, std::string* text) {
  if (c == 0x130) {
    text->append("i\xCC\x87");
  } else {
    AppendUtf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), text);
  }
}

// Characters that a form leaves alone and that never join what stands in front of them, so that text may be cut there.
struct UnicodeNormalizer::Tables {
  std::bitset<kNumTableCodePoints> unstable;
};

UnicodeNormalizer::UnicodeNormalizer(Form form) : form_(form) {
  auto tables = std::make_unique<Tables>();
  std::vector<utf8proc_int32_t> decomposition;
  for (char32_t c = 0x80; c < kNumTableCodePoints; ++c) {
    if (CombiningClass(c) != 0) tables->unstable.set(c);
    decomposition.clear();
    AppendDecomposition(c, /*compatibility=*/false, &decomposition);
    // The last part of a decomposition can join what precedes it; so can the vowels and finals of Hangul.
    if (decomposition.size() > 1 && IsComposed(form)) tables->unstable.set(static_cast<size_t>(decomposition.back()));
    decomposition.clear();
    AppendDecomposition(c, IsCompatibility(form), &decomposition);
    if (IsComposed(form)) Compose(&decomposition);
    if (decomposition.size() != 1 || decomposition[0] != static_cast<utf8proc_int32_t>(c)) tables->unstable.set(c);
  }
  tables_ = std::move(tables);
}

UnicodeNormalizer::~UnicodeNormalizer() = default;
UnicodeNormalizer::UnicodeNormalizer(UnicodeNormalizer&&) noexcept = default;

bool UnicodeNormalizer::IsStable(char32_t c) const { return c >= kNumTableCodePoints || !tables_->unstable[c]; }

ByteRange UnicodeNormalizer::NextCluster(std::string_view text, size_t from) const {
  size_t cluster_begin = from;  // the last stable character seen, or `from`
  for (size_t i = from; i < text.size();) {
    if (const size_t ascii_end = SkipAscii(text, i); ascii_end > i) {
      cluster_begin = ascii_end - 1;
      i = ascii_end;
      continue;
    }
    size_t next = i;
    if (IsStable(DecodeUtf8(text, &next))) {
      cluster_begin = i;
      i = next;
      continue;
    }
    while (next < text.size()) {
      size_t behind = next;
      if (IsStable(DecodeUtf8(text, &behind))) break;
      next = behind;
    }
    return {cluster_begin, next};
  }
  return {text.size(), text.size()};
}

std::string UnicodeNormalizer::Normalize(std::string_view cluster) const {
  std::vector<utf8proc_int32_t> characters;
  for (size_t i = 0; i < cluster.size();) {
    AppendDecomposition(DecodeUtf8(cluster, &i), IsCompatibility(form_), &characters);
  }
  SortMarks(&characters);
  if (IsComposed(form_)) Compose(&characters);
  std::string normalized;
  for (const utf8proc_int32_t c : characters) AppendUtf8(static_cast<char32_t>(c), &normalized);
  return normalized;
}

}  // namespace expertd
