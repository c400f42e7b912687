// Writes files of PyTorch for tests: stored ZIP archives, and pickles put together from their instructions, so that
// malformed ones can be written as well.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace expertd {

struct ZipMember {
  std::string name;
  std::string content;
};

enum class ZipSizes { k32, k64 };

// A stored archive. With k64, sizes and offsets stand in the fields for archives beyond 4 GiB.
std::string ZipBytes(const std::vector<ZipMember>& members, ZipSizes sizes = ZipSizes::k32);

// Pieces of pickles, each of which leaves one value on the stack; "N" is None, ")" an empty tuple.
namespace pickled {
std::string Text(std::string_view text);
std::string Int(int32_t value);
std::string Float(double value);
std::string Tuple(std::initializer_list<std::string> items);
std::string Counts(const std::vector<int64_t>& counts);  // a tuple of integers
std::string Dict(const std::vector<std::pair<std::string, std::string>>& entries);  // text keys to pieces
std::string OrderedDict(const std::vector<std::pair<std::string, std::string>>& entries);
std::string Class(std::string_view module, std::string_view name);
std::string Call(const std::string& callee, const std::string& arguments);
std::string WithState(const std::string& object, const std::string& state);

// A tensor over the member data/<key>.
struct Tensor {
  std::string key;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;
  std::string storage = "FloatStorage";
  int64_t storage_elements = 0;
  int64_t offset = 0;
};
std::string Piece(const Tensor& tensor);
}  // namespace pickled

// "archive/data.pkl" of `piece`, "archive/data/0", "archive/data/1", ... of `storages`.
std::string TorchBytes(const std::string& piece, const std::vector<std::string>& storages,
                       ZipSizes sizes = ZipSizes::k32);

// Collects tensors of fp32 for a file: the values of each are a storage of its own.
class TorchFile {
 public:
  // The piece of the tensor.
  std::string Add(const std::vector<int64_t>& shape, const std::vector<float>& values);
  std::string Bytes(const std::string& piece) const { return TorchBytes(piece, storages_); }

 private:
  std::vector<std::string> storages_;
};

}  // namespace expertd
