// The members of a ZIP archive that stores them as they are, which is how torch.save writes its files. Format:
// APPNOTE.TXT of PKWARE, version 6.3, with ZIP64 for archives and members beyond 4 GiB.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace expertd {

// Names to bytes, which lie in the archive.
using ZipDirectory = std::map<std::string, std::span<const std::byte>, std::less<>>;

// Reads the directory of `archive`, which may be hostile: everything that is handed out lies inside it. Errors:
// InvalidArgument (no archive, or a malformed one), Unimplemented (a member is compressed or encrypted; it is named).
absl::StatusOr<ZipDirectory> ReadZipDirectory(std::span<const std::byte> archive);

}  // namespace expertd
