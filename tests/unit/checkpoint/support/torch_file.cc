#include "tests/unit/checkpoint/support/torch_file.h"

#include <bit>

namespace expertd {
namespace {

// Little-endian.
std::string Number(uint64_t value, int width) {
  std::string bytes;
  for (int i = 0; i < width; ++i) bytes.push_back(static_cast<char>(value >> (8 * i)));
  return bytes;
}

std::string Zeros(size_t count) { return std::string(count, '\0'); }

constexpr uint64_t kIn64 = 0xffffffff;

std::string LocalHeader(const ZipMember& member) {
  std::string header = "PK\x03\x04" + Zeros(14) + Number(member.content.size(), 4) +
                       Number(member.content.size(), 4) + Number(member.name.size(), 2) + Number(3, 2);
  return header + member.name + "FB\x01";  // padding, as PyTorch writes it
}

std::string DirectoryEntry(const ZipMember& member, uint64_t offset, ZipSizes sizes) {
  const bool is_64 = sizes == ZipSizes::k64;
  const uint64_t size = member.content.size();
  const std::string extra = is_64 ? Number(1, 2) + Number(24, 2) + Number(size, 8) + Number(size, 8) + Number(offset, 8)
                                  : std::string();
  return "PK\x01\x02" + Zeros(16) + Number(is_64 ? kIn64 : size, 4) + Number(is_64 ? kIn64 : size, 4) +
         Number(member.name.size(), 2) + Number(extra.size(), 2) + Zeros(10) + Number(is_64 ? kIn64 : offset, 4) +
         member.name + extra;
}

}  // namespace

std::string ZipBytes(const std::vector<ZipMember>& members, ZipSizes sizes) {
  std::string bytes, directory;
  for (const ZipMember& member : members) {
    directory += DirectoryEntry(member, bytes.size(), sizes);
    bytes += LocalHeader(member) + member.content;
  }
  const uint64_t begin = bytes.size(), count = members.size();
  bytes += directory;
  if (sizes == ZipSizes::k64) {
    const uint64_t end = bytes.size();
    bytes += "PK\x06\x06" + Number(44, 8) + Zeros(12) + Number(count, 8) + Number(count, 8) +
             Number(directory.size(), 8) + Number(begin, 8);
    bytes += "PK\x06\x07" + Number(0, 4) + Number(end, 8) + Number(1, 4);
  }
  const bool is_64 = sizes == ZipSizes::k64;
  return bytes + "PK\x05\x06" + Number(0, 4) + Number(count, 2) + Number(count, 2) +
         Number(is_64 ? kIn64 : directory.size(), 4) + Number(is_64 ? kIn64 : begin, 4) + Number(0, 2);
}

namespace pickled {

std::string Text(std::string_view text) { return "X" + Number(text.size(), 4) + std::string(text); }

std::string Int(int32_t value) { return "J" + Number(static_cast<uint32_t>(value), 4); }

std::string Float(double value) { return "G" + Number(__builtin_bswap64(std::bit_cast<uint64_t>(value)), 8); }

std::string Tuple(std::initializer_list<std::string> items) {
  std::string piece = "(";
  for (const std::string& item : items) piece += item;
  return piece + "t";
}

std::string Counts(const std::vector<int64_t>& counts) {
  std::string piece = "(";
  for (const int64_t count : counts) piece += "\x8a\x08" + Number(static_cast<uint64_t>(count), 8);
  return piece + "t";
}

namespace {
std::string Entries(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string piece = "(";
  for (const auto& [key, value] : entries) piece += Text(key) + value;
  return piece + "u";
}
}  // namespace

std::string Dict(const std::vector<std::pair<std::string, std::string>>& entries) { return "}" + Entries(entries); }

std::string OrderedDict(const std::vector<std::pair<std::string, std::string>>& entries) {
  return Call(Class("collections", "OrderedDict"), ")") + Entries(entries);
}

std::string Class(std::string_view module, std::string_view name) {
  return "c" + std::string(module) + "\n" + std::string(name) + "\n";
}

std::string Call(const std::string& callee, const std::string& arguments) { return callee + arguments + "R"; }

std::string WithState(const std::string& object, const std::string& state) { return object + state + "b"; }

std::string Piece(const Tensor& tensor) {
  const std::string storage = Tuple({Text("storage"), Class("torch", tensor.storage), Text(tensor.key), Text("cpu"),
                                     "\x8a\x08" + Number(static_cast<uint64_t>(tensor.storage_elements), 8)}) +
                              "Q";
  return Call(Class("torch._utils", "_rebuild_tensor_v2"),
              Tuple({storage, "\x8a\x08" + Number(static_cast<uint64_t>(tensor.offset), 8), Counts(tensor.shape),
                     Counts(tensor.strides), "\x89", OrderedDict({})}));
}

}  // namespace pickled

std::string TorchBytes(const std::string& piece, const std::vector<std::string>& storages, ZipSizes sizes) {
  std::vector<ZipMember> members = {{"archive/data.pkl", "\x80\x02" + piece + "."}};
  for (size_t i = 0; i < storages.size(); ++i) members.push_back({"archive/data/" + std::to_string(i), storages[i]});
  return ZipBytes(members, sizes);
}

std::string TorchFile::Add(const std::vector<int64_t>& shape, const std::vector<float>& values) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  const std::string key = std::to_string(storages_.size());
  storages_.emplace_back(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  return pickled::Piece({.key = key,
                         .shape = shape,
                         .strides = strides,
                         .storage_elements = static_cast<int64_t>(values.size())});
}

}  // namespace expertd
