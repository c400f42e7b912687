// StrCat and StrAppend that also take std::string_view. Debian's abseil is built with a string_view type of its own,
// so its StrCat does not; our code uses std::string_view throughout and this pair at the seam.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace expertd {

inline absl::string_view ToAbslView(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view ToStdView(absl::string_view text) { return {text.data(), text.size()}; }

namespace strings_internal {
template <typename T>
decltype(auto) Piece(const T& value) {
  if constexpr (std::is_same_v<T, std::string_view>) {
    return ToAbslView(value);
  } else {
    return (value);
  }
}
}  // namespace strings_internal

template <typename... Parts>
std::string StrCat(const Parts&... parts) {
  return absl::StrCat(strings_internal::Piece(parts)...);
}

template <typename... Parts>
void StrAppend(std::string* text, const Parts&... parts) {
  absl::StrAppend(text, strings_internal::Piece(parts)...);
}

}  // namespace expertd
