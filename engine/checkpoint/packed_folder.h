// Packed folders: a model whose weights are already as they lie in memory, made once by `expertd quantize` and mapped
// when served, at the speed of the page cache. Beside the model's small files such a folder has
//   expertd_weights.json  the version, the format, and for each matrix, vector and table its place and checksum
//   expertd_weights.bin   their bytes, each from a multiple of 64 on; matrices as tensor/panel_layout.h says
// The bytes are the same for every instruction set.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/checkpoint/weight_reader.h"

namespace expertd {

// Whether `dir` is a packed folder; reads none of it.
bool IsPackedFolder(const std::string& dir);

// How the matrices of a packed folder are held; nothing when `dir` is no packed folder. Errors: InvalidArgument (a
// malformed index), FailedPrecondition (made by another version, which is named with the remedy).
absl::StatusOr<std::optional<WeightFormat>> FindPackedFormat(const std::string& dir);

// Reads a packed folder. What it hands out is checked against its checksum and stays mapped as long as it is held.
// Errors: as FindPackedFormat, and NotFound; the reader's own: NotFound, InvalidArgument (another shape or format than
// config.json calls for), DataLoss (damaged bytes).
absl::StatusOr<std::unique_ptr<WeightReader>> OpenPackedFolder(const std::string& dir);

// Writes a packed folder beside its final place and puts it there at the end, so that it is whole or not there at all.
// Thread-safe but for Finish.
class PackedFolderWriter {
 public:
  // Errors: AlreadyExists when there is anything at `dir`, InvalidArgument or PermissionDenied when it cannot be made.
  static absl::StatusOr<std::unique_ptr<PackedFolderWriter>> Create(const std::string& dir, WeightFormat format);
  virtual ~PackedFolderWriter() = default;  // removes what was not finished

  // Hands on what `reader` reads, and writes it. Matrices that it returns have their shape but no bytes, so that a
  // model larger than memory can be packed; they must not be read. `reader` and this must outlive it.
  virtual std::unique_ptr<WeightReader> Tee(WeightReader& reader) = 0;

  // Writes the small file `name`, which Finish then does not copy. Errors: as Finish.
  virtual absl::Status AddFile(const std::string& name, std::string_view content) = 0;

  // Copies the small files of `model_dir` (config, tokenizer, templates), completes the index, makes all of it durable
  // and renames the folder. Errors: ResourceExhausted (disk), DataLoss (could not be written).
  virtual absl::Status Finish(const std::string& model_dir) = 0;
};

}  // namespace expertd
