// API keys: who may call. Keys are kept and compared as SHA-256 hashes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace expertd {

// Immutable; thread-safe.
class KeyRing {
 public:
  // No keys: every caller is let in.
  KeyRing() = default;

  // Reads a file of keys, one a line; blank lines and lines from # on are skipped, blanks at both ends are cut. Errors:
  // NotFound; InvalidArgument (names the line, never the key) for a key shorter than 16 or longer than 512 characters
  // or with a blank in it, and for a file without any key, which would let everybody in or nobody.
  static absl::StatusOr<KeyRing> Load(const std::string& path);

  // From the keys themselves.
  explicit KeyRing(const std::vector<std::string>& keys);

  bool needs_key() const { return !hashes_.empty(); }

  // `authorization` is the header's value ("Bearer KEY"; the scheme in any case), empty when there is none. The time
  // taken does not tell how much of a key was right. Unauthenticated API_KEY_INVALID.
  absl::Status Check(std::string_view authorization) const;

 private:
  using Hash = std::array<uint8_t, 32>;
  static Hash HashOf(std::string_view key);

  std::vector<Hash> hashes_;
};

}  // namespace expertd
