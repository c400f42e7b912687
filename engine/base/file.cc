#include "engine/base/file.h"

#include <filesystem>
#include <fstream>

#include "engine/base/strings.h"

namespace expertd {

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return absl::NotFoundError(StrCat("cannot open ", path));
  if (!std::filesystem::is_regular_file(path, error)) {
    return absl::InvalidArgumentError(StrCat(path, " is not a regular file"));
  }
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return absl::NotFoundError(StrCat("cannot open ", path));
  const int64_t size = file.tellg();
  if (size < 0 || size > max_bytes) {
    return absl::InvalidArgumentError(StrCat(path, " has ", size, " bytes; at most ", max_bytes));
  }
  std::string text(static_cast<size_t>(size), '\0');
  file.seekg(0);
  if (!file.read(text.data(), size)) return absl::InvalidArgumentError(StrCat("cannot read ", path));
  return text;
}

}  // namespace expertd
