#include "engine/base/terminal_text.h"

#include <unistd.h>

#include "engine/base/utf8.h"

namespace expertd {
namespace {

bool IsControl(std::string_view character) {
  const auto lead = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return lead < 0x20 || lead == 0x7f;
  return lead == 0xc2 && static_cast<unsigned char>(character[1]) < 0xa0;  // U+0080..U+009F
}

}  // namespace

std::string WithoutControls(std::string_view text) {
  std::string shown;
  shown.reserve(text.size());
  while (!text.empty()) {
    const Utf8Scan scan = ScanUtf8(text);
    const std::string_view character = text.substr(0, scan.num_bytes);
    text.remove_prefix(scan.num_bytes);
    if (scan.kind != Utf8Scan::Kind::kComplete) {
      shown += kReplacementCharacter;  // its bytes may be controls to a terminal that does not speak UTF-8
    } else if (character == "\n" || character == "\t" || !IsControl(character)) {
      shown += character;
    }
  }
  return shown;
}

std::string ForStandardOutput(const std::string& text) {
  static const bool is_terminal = isatty(STDOUT_FILENO) == 1;
  return is_terminal ? WithoutControls(text) : text;
}

}  // namespace expertd
