// The index of a checkpoint in several files, as Hugging Face folders have it for safetensors and PyTorch files:
// {"metadata": {...}, "weight_map": {tensor: file}}.
#pragma once

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace expertd {

// The most files that a checkpoint may have.
inline constexpr size_t kMaxShards = 4096;

// Tensor names to file names. Errors: as MappedFile::Open, InvalidArgument (malformed, or more than kMaxShards files);
// they lead with the path.
absl::StatusOr<std::map<std::string, std::string>> ReadShardIndex(const std::string& path);

// The path of the file `name` of `dir` that an index names. It may only be a file in `dir`, after following links;
// links into the `blobs` folder of a Hugging Face cache are allowed, as its snapshots consist of them. Errors:
// InvalidArgument, NotFound.
absl::StatusOr<std::string> ResolveShard(const std::string& dir, const std::string& name);

// `status` with `path` before its message.
absl::Status WithPath(const std::string& path, const absl::Status& status);

}  // namespace expertd
