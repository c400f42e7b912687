// WeightSource: the named tensors of a checkpoint, whatever the files look like. Models ask it for tensors by name and
// shape; nothing above it knows a file format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/tensor/dtype.h"

namespace expertd {

// A look at a tensor inside a WeightSource, row-major, little-endian, valid as long as the source.
struct WeightTensor {
  std::vector<int64_t> shape;
  DType dtype = DType::kF32;
  const std::byte* data = nullptr;  // of any alignment
  int64_t size_bytes = 0;
  std::shared_ptr<const void> owner;  // of data that was put together from several places; else null
};

// Immutable; concurrent calls are safe.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  virtual bool Has(std::string_view name) const = 0;

  // Errors: NotFound when there is no such tensor, Unimplemented when there is no DType for its elements. Both name the
  // tensor.
  virtual absl::StatusOr<WeightTensor> Get(std::string_view name) const = 0;

  // All names, in lexical order.
  virtual std::vector<std::string> Names() const = 0;

  // Bytes of all tensors.
  virtual int64_t TotalBytes() const = 0;

  // Says that the tensor's bytes are not needed any more, so that a mapped file's pages leave this process. A hint.
  virtual void Release(const WeightTensor& tensor) const = 0;
};

// Opens the weights of the folder `dir`, by what it has: safetensors, else files of PyTorch, else a checkpoint of
// Megatron (megatron_checkpoint.h). Errors: as the functions that read them; NotFound when there is none, Unimplemented
// when there is only a .ckpt of MindSpore.
absl::StatusOr<std::unique_ptr<WeightSource>> OpenCheckpoint(const std::string& dir);

// Opens `dir`/model.safetensors, or the shards that `dir`/model.safetensors.index.json names; where there is neither,
// the one file or index called quant_model_weight*, or the one index called *_name_map.json. Files are mapped and only
// their headers are read. The files may be hostile: every length, offset, shape and name is checked, and an index may
// only name files in `dir` (after following links; links into the `blobs` folder of a Hugging Face cache are allowed,
// as its snapshots consist of them).
// Errors, one line each: NotFound (no checkpoint, or a shard is missing), InvalidArgument (malformed: names the file
// and what is wrong), ResourceExhausted (cannot be mapped).
absl::StatusOr<std::unique_ptr<WeightSource>> OpenSafetensors(const std::string& dir);

// Whether `dir` has files of PyTorch; reads none of them.
bool HasTorchFiles(const std::string& dir);

// Opens `dir`/pytorch_model.bin, or the files that `dir`/pytorch_model.bin.index.json names, each a dict of tensors.
// Hostile files and errors: as OpenSafetensors, and as TorchArchive (torch_archive.h).
absl::StatusOr<std::unique_ptr<WeightSource>> OpenTorchFiles(const std::string& dir);

// Get of a tensor of floats: Unimplemented when it has none, InvalidArgument unless the shape is `shape`; the message
// names the tensor and both shapes.
absl::StatusOr<WeightTensor> GetShaped(const WeightSource& source, std::string_view name,
                                       std::span<const int64_t> shape);

// The vector `name` of `size` elements as floats; a matrix of one row is one, too. Errors as GetShaped.
absl::StatusOr<std::vector<float>> ReadVector(const WeightSource& source, std::string_view name, int64_t size);

// "F8_E4M3": the name of an element type in files.
std::string ShowDType(DType dtype);

// "[3, 4]".
std::string ShowShape(std::span<const int64_t> shape);

// `name` as it may stand in a one-line message: control characters escaped, at most 300 characters.
std::string ShowName(std::string_view name);

}  // namespace expertd
