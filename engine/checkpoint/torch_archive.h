// TorchArchive: a file that torch.save wrote (PyTorch 1.6 and later) - a ZIP archive of a pickle, data.pkl, and of the
// bytes of its tensors, data/0, data/1, ... Nothing of the pickle is executed (pickle.h).
// Format: torch/serialization.py and torch/_utils.py of PyTorch.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/checkpoint/pickle.h"
#include "engine/checkpoint/weight_source.h"
#include "engine/checkpoint/zip_directory.h"
#include "engine/platform/memory.h"

namespace expertd {

// A tensor of an archive, or why it cannot be read.
struct TorchTensor {
  WeightTensor tensor;           // as it would be if it were contiguous
  std::vector<int64_t> strides;  // bytes from element to element in each dimension; empty: it is contiguous
  std::string refusal;           // "has the storage ..."; empty: it can be read

  // The tensor, put together in memory of its own if it is not contiguous. Errors: Unimplemented, the message without
  // the tensor's name; ResourceExhausted.
  absl::StatusOr<WeightTensor> Read() const;
};

using TorchTensors = std::map<std::string, TorchTensor, std::less<>>;

// Immutable; concurrent calls are safe.
class TorchArchive {
 public:
  // Maps `path` and reads its pickle. The file may be hostile. Errors lead with the path: as MappedFile::Open,
  // ReadZipDirectory and Pickle::Read; InvalidArgument (no data.pkl), Unimplemented (big-endian).
  static absl::StatusOr<std::unique_ptr<TorchArchive>> Open(const std::string& path);

  const std::string& path() const { return path_; }
  const Pickle& pickle() const { return pickle_; }

  // All tensors in `dict` and in the dicts that it holds, by their keys, joined with dots; what is no tensor is left
  // out. They point into the archive. Errors: InvalidArgument, naming the tensor (its bytes do not lie in the archive,
  // malformed), or when there are too many or too deep.
  absl::StatusOr<TorchTensors> TensorsIn(const Pickle::Value& dict) const;

  // As WeightSource::Release; other archives' tensors are left alone.
  void Release(const WeightTensor& tensor) const;

 private:
  TorchArchive(std::string path, MappedFile file) : path_(std::move(path)), file_(std::move(file)) {}
  absl::Status ReadContents();

  const std::string path_;
  const MappedFile file_;
  ZipDirectory members_;
  std::string prefix_;  // of the members: "archive/"
  Pickle pickle_;
};

}  // namespace expertd
