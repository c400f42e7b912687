#include "server/auth.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <fstream>

#include "engine/base/strings.h"
#include "engine/request/errors.h"

namespace expertd {
namespace {

constexpr size_t kMinKeyLength = 16;
constexpr size_t kMaxKeyLength = 512;
constexpr std::string_view kScheme = "bearer ";

absl::Status Refused(std::string_view message) {
  return MakeError(absl::StatusCode::kUnauthenticated, message,
                   {.reason = std::string(error_reason::kApiKeyInvalid)});
}

char ToLower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

}  // namespace

KeyRing::KeyRing(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) hashes_.push_back(HashOf(key));
}

absl::StatusOr<KeyRing> KeyRing::Load(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(StrCat("--api-key-file ", path, " can't be read"));
  std::vector<std::string> keys;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    const std::string_view key = Trim(std::string_view(line).substr(0, line.find('#')));
    if (key.empty()) continue;
    const bool has_blank = key.find_first_of(" \t") != std::string_view::npos;
    if (key.size() < kMinKeyLength || key.size() > kMaxKeyLength || has_blank) {
      return absl::InvalidArgumentError(StrCat("--api-key-file ", path, " line ", number, ": a key has ", kMinKeyLength,
                                               "..", kMaxKeyLength, " characters and no blanks"));
    }
    keys.emplace_back(key);
  }
  if (file.bad()) return absl::NotFoundError(StrCat("--api-key-file ", path, " can't be read"));
  if (keys.empty()) return absl::InvalidArgumentError(StrCat("--api-key-file ", path, " has no key"));
  return KeyRing(keys);
}

KeyRing::Hash KeyRing::HashOf(std::string_view key) {
  Hash hash;
  SHA256(reinterpret_cast<const uint8_t*>(key.data()), key.size(), hash.data());
  return hash;
}

absl::Status KeyRing::Check(std::string_view authorization) const {
  if (hashes_.empty()) return absl::OkStatus();
  if (authorization.empty()) return Refused("an API key is needed: metadata 'authorization: Bearer KEY'");
  const bool has_scheme =
      authorization.size() > kScheme.size() &&
      std::equal(kScheme.begin(), kScheme.end(), authorization.begin(), [](char a, char b) { return a == ToLower(b); });
  if (!has_scheme) return Refused("the metadata 'authorization' must be 'Bearer KEY'");
  const Hash hash = HashOf(Trim(authorization.substr(kScheme.size())));
  // All keys are compared, each in constant time.
  int num_equal = 0;
  for (const Hash& known : hashes_) num_equal += CRYPTO_memcmp(known.data(), hash.data(), hash.size()) == 0;
  return num_equal > 0 ? absl::OkStatus() : Refused("the API key is not known");
}

}  // namespace expertd
