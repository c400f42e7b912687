#include "engine/checkpoint/torch_archive.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/shard_index.h"

namespace expertd {
namespace {

constexpr char kSingleName[] = "/pytorch_model.bin";
constexpr char kIndexName[] = "/pytorch_model.bin.index.json";
constexpr size_t kMaxPickleBytes = 64 << 20;
constexpr size_t kMaxDimensions = 8;
constexpr size_t kMaxNameBytes = 1000;
constexpr int kMaxDepth = 16;         // of dicts in dicts
constexpr int kMaxVisited = 1 << 17;  // entries of all dicts

constexpr std::string_view kRebuildTensor = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kRebuildParameter = "torch._utils._rebuild_parameter";

// What files of PyTorch and of Megatron are made of beside the builtin containers. The classes after the storages are
// only looked over: arguments of the training, states of random generators, scales of the loss (by the names that
// Megatron's older modules had; no published file was at hand to show which occur).
constexpr std::string_view kClasses[] = {
    kRebuildTensor,
    kRebuildParameter,
    "torch.FloatStorage",
    "torch.HalfStorage",
    "torch.BFloat16Storage",
    "torch.DoubleStorage",
    "torch.LongStorage",
    "torch.IntStorage",
    "torch.ShortStorage",
    "torch.CharStorage",
    "torch.ByteStorage",
    "torch.BoolStorage",
    "torch.Size",
    "torch.device",
    "torch.float32",
    "torch.float16",
    "torch.bfloat16",
    "torch.float64",
    "torch.int64",
    "torch.int32",
    "torch.uint8",
    "torch.bool",
    "argparse.Namespace",
    "_codecs.encode",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "fp16.loss_scaler.DynamicLossScaler",
    "fp16.loss_scaler.LossScaler",
    "megatron.fp16.loss_scaler.DynamicLossScaler",
    "megatron.fp16.loss_scaler.LossScaler",
};

struct StorageType {
  std::string_view name;
  int64_t element_bytes;
  std::optional<DType> supported;
};

constexpr StorageType kStorageTypes[] = {
    {"torch.FloatStorage", 4, DType::kF32},     {"torch.HalfStorage", 2, DType::kF16},
    {"torch.BFloat16Storage", 2, DType::kBF16}, {"torch.DoubleStorage", 8, std::nullopt},
    {"torch.LongStorage", 8, std::nullopt},     {"torch.IntStorage", 4, std::nullopt},
    {"torch.ShortStorage", 2, std::nullopt},    {"torch.CharStorage", 1, std::nullopt},
    {"torch.ByteStorage", 1, std::nullopt},     {"torch.BoolStorage", 1, std::nullopt},
};

// Collects the tensors of nested dicts.
class TensorCollector {
 public:
  TensorCollector(const Pickle& pickle, const ZipDirectory& members, const std::string& prefix)
      : pickle_(pickle), members_(members), prefix_(prefix) {}

  absl::Status Visit(const Pickle::Value& dict, const std::string& path, int depth) {
    if (depth > kMaxDepth) return absl::InvalidArgumentError(StrCat("dicts are more than ", kMaxDepth, " deep"));
    for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
      if (++num_visited_ > kMaxVisited) return absl::InvalidArgumentError("its dicts have too many entries");
      const Pickle::Value& key = pickle_.at(dict.items[i]);
      if (key.kind != Pickle::Kind::kText) continue;
      const std::string name = path.empty() ? std::string(key.text) : StrCat(path, ".", key.text);
      if (name.size() > kMaxNameBytes) {
        return absl::InvalidArgumentError(StrCat("the name of tensor ", ShowName(name), " is too long"));
      }
      RETURN_IF_ERROR(VisitEntry(pickle_.at(dict.items[i + 1]), name, depth));
    }
    return absl::OkStatus();
  }

  TorchTensors Take() { return std::move(tensors_); }

 private:
  using Kind = Pickle::Kind;
  using Value = Pickle::Value;

  absl::Status VisitEntry(const Value& value, const std::string& name, int depth) {
    if (value.kind == Kind::kDict) return Visit(value, name, depth + 1);
    if (value.kind != Kind::kObject) return absl::OkStatus();
    const Value* object = &value;
    if (object->text == kRebuildParameter) {  // around a tensor
      const std::span<const Pickle::Ref> wrapped = ArgumentsOf(*object);
      if (wrapped.empty()) return Malformed(name, "is a parameter of nothing");
      object = &pickle_.at(wrapped[0]);
    }
    if (object->kind != Kind::kObject || object->text != kRebuildTensor) return absl::OkStatus();
    ASSIGN_OR_RETURN(TorchTensor tensor, ReadTensor(*object, name));
    tensors_.insert_or_assign(name, std::move(tensor));  // as in Python, the last of two equal keys
    return absl::OkStatus();
  }

  static absl::Status Malformed(std::string_view name, std::string_view what) {
    return absl::InvalidArgumentError(StrCat("tensor ", ShowName(name), " ", what));
  }

  std::span<const Pickle::Ref> ArgumentsOf(const Value& call) const { return pickle_.at(call.arguments).items; }

  // A tuple of integers >= 0.
  std::optional<std::vector<int64_t>> ReadCounts(const Value& tuple) const {
    if (tuple.kind != Kind::kList || tuple.items.size() > kMaxDimensions) return std::nullopt;
    std::vector<int64_t> counts;
    for (const Pickle::Ref item : tuple.items) {
      const Value& value = pickle_.at(item);
      if (value.kind != Kind::kInt || value.integer < 0) return std::nullopt;
      counts.push_back(value.integer);
    }
    return counts;
  }

  struct Storage {
    const StorageType* type = nullptr;
    std::span<const std::byte> bytes;  // of all its elements
    int64_t num_elements = 0;
  };

  // ("storage", class, key, device, number of elements): the member data/<key>.
  absl::StatusOr<Storage> ReadStorage(const Value& value, std::string_view name) const {
    const absl::Status malformed = Malformed(name, "has a malformed storage");
    if (value.kind != Kind::kPersistent) return malformed;
    const std::span<const Pickle::Ref> fields = ArgumentsOf(value);
    if (fields.size() < 5) return malformed;
    const Value &type = pickle_.at(fields[1]), &key = pickle_.at(fields[2]), &size = pickle_.at(fields[4]);
    if (pickle_.at(fields[0]).text != "storage" || type.kind != Kind::kClass || key.kind != Kind::kText ||
        size.kind != Kind::kInt || size.integer < 0) {
      return malformed;
    }
    const auto* const known = std::ranges::find(kStorageTypes, type.text, &StorageType::name);
    if (known == std::end(kStorageTypes)) return malformed;
    const auto member = members_.find(StrCat(prefix_, "data/", key.text));
    if (member == members_.end()) return Malformed(name, StrCat("has its bytes in ", ShowName(key.text), ", not here"));
    const auto size_bytes = static_cast<int64_t>(member->second.size());
    if (size.integer > size_bytes / known->element_bytes) {
      return Malformed(name, StrCat("has a storage of ", size.integer, " elements in ", size_bytes, " bytes"));
    }
    return Storage{known, member->second, size.integer};
  }

  // _rebuild_tensor_v2(storage, offset, size, stride, ...), offset and strides in elements.
  absl::StatusOr<TorchTensor> ReadTensor(const Value& call, std::string_view name) const {
    const std::span<const Pickle::Ref> fields = ArgumentsOf(call);
    if (fields.size() < 4) return Malformed(name, "has too few arguments");
    ASSIGN_OR_RETURN(const Storage storage, ReadStorage(pickle_.at(fields[0]), name));
    const Value& offset = pickle_.at(fields[1]);
    std::optional<std::vector<int64_t>> shape = ReadCounts(pickle_.at(fields[2]));
    const std::optional<std::vector<int64_t>> strides = ReadCounts(pickle_.at(fields[3]));
    if (offset.kind != Kind::kInt || offset.integer < 0 || !shape || !strides || shape->size() != strides->size()) {
      return Malformed(name, "has a malformed offset, size or stride");
    }
    ASSIGN_OR_RETURN(const Extent extent, Measure(*shape, *strides, name));
    if (offset.integer > storage.num_elements || extent.reach > storage.num_elements - offset.integer ||
        extent.num_elements > storage.num_elements) {
      return Malformed(name, StrCat("of shape ", ShowShape(*shape), " and strides ", ShowShape(*strides),
                                    " does not lie at element ", offset.integer, " of a storage of ",
                                    storage.num_elements));
    }
    TorchTensor found;
    if (!storage.type->supported) {
      found.refusal = StrCat("has the storage ", storage.type->name, "; supported are float32, float16 and bfloat16");
      return found;
    }
    const int64_t bytes = storage.type->element_bytes;
    if (!extent.is_contiguous) {
      for (const int64_t stride : *strides) found.strides.push_back(stride * bytes);
    }
    found.tensor = {.shape = *std::move(shape),
                    .dtype = *storage.type->supported,
                    .data = storage.bytes.data() + offset.integer * bytes,
                    .size_bytes = extent.num_elements * bytes};
    return found;
  }

  struct Extent {
    int64_t num_elements = 1;
    int64_t reach = 1;  // elements of the storage from the first to behind the last
    bool is_contiguous = true;
  };

  static absl::StatusOr<Extent> Measure(std::span<const int64_t> shape, std::span<const int64_t> strides,
                                        std::string_view name) {
    Extent extent;
    for (size_t i = shape.size(); i-- > 0;) {
      extent.is_contiguous = extent.is_contiguous && (shape[i] == 1 || strides[i] == extent.num_elements);
      int64_t last = 0;
      if (__builtin_mul_overflow(extent.num_elements, shape[i], &extent.num_elements) ||
          __builtin_mul_overflow(std::max<int64_t>(shape[i] - 1, 0), strides[i], &last) ||
          __builtin_add_overflow(extent.reach, last, &extent.reach)) {
        return Malformed(name, "is too large");
      }
    }
    if (extent.num_elements == 0) return Extent{.num_elements = 0, .reach = 0};
    return extent;
  }

  const Pickle& pickle_;
  const ZipDirectory& members_;
  const std::string& prefix_;
  TorchTensors tensors_;
  int num_visited_ = 0;
};

// Copies a tensor of these strides, in bytes, row by row to `out`; returns where the copy ends.
std::byte* CopyStrided(const std::byte* from, std::span<const int64_t> shape, std::span<const int64_t> strides,
                       int64_t element_bytes, std::byte* out) {
  const bool is_run = shape.empty() || (shape.size() == 1 && strides[0] == element_bytes);
  if (is_run) {
    const int64_t size_bytes = element_bytes * (shape.empty() ? 1 : shape[0]);
    std::memcpy(out, from, static_cast<size_t>(size_bytes));
    return out + size_bytes;
  }
  for (int64_t i = 0; i < shape[0]; ++i) {
    out = CopyStrided(from + i * strides[0], shape.subspan(1), strides.subspan(1), element_bytes, out);
  }
  return out;
}

// The folder inside the archive, whose name is free: that of the one data.pkl.
absl::StatusOr<std::string> FindPrefix(const ZipDirectory& members) {
  constexpr std::string_view kPickle = "data.pkl";
  for (const auto& [name, bytes] : members) {
    const size_t slash = name.find('/');
    if (slash != std::string::npos && std::string_view(name).substr(slash + 1) == kPickle) {
      return name.substr(0, slash + 1);
    }
  }
  return absl::InvalidArgumentError("has no data.pkl; torch.save of PyTorch 1.6 and later writes one");
}

std::string_view TextOf(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Whether a file begins as torch.save began it before PyTorch 1.6: with a pickle of the number 0x1950a86a20f9469cfc6c,
// behind an instruction of two bytes that says the protocol.
bool IsOldFormat(std::span<const std::byte> file) {
  constexpr std::string_view kMagic = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
  constexpr std::string_view kProtocol = "\x80";
  const std::string_view text = TextOf(file);
  return text.starts_with(kProtocol) && text.size() > 2 && text.substr(2).starts_with(kMagic);
}

class TorchSource : public WeightSource {
 public:
  void Add(const std::string& name, TorchTensor found) {
    total_bytes_ += found.tensor.size_bytes;
    tensors_.emplace(name, std::move(found));
  }
  void Keep(std::unique_ptr<TorchArchive> archive) { archives_.push_back(std::move(archive)); }

  bool Has(std::string_view name) const override { return tensors_.contains(name); }

  absl::StatusOr<WeightTensor> Get(std::string_view name) const override {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      return absl::NotFoundError(StrCat("tensor ", ShowName(name), " is missing from the checkpoint"));
    }
    absl::StatusOr<WeightTensor> tensor = found->second.Read();
    if (tensor.ok()) return tensor;
    return absl::Status(tensor.status().code(),
                        StrCat("tensor ", ShowName(name), " ", ToStdView(tensor.status().message())));
  }

  std::vector<std::string> Names() const override {
    std::vector<std::string> names;
    for (const auto& named : tensors_) names.push_back(named.first);
    return names;
  }

  int64_t TotalBytes() const override { return total_bytes_; }

  void Release(const WeightTensor& tensor) const override {
    for (const auto& archive : archives_) archive->Release(tensor);
  }

 private:
  std::vector<std::unique_ptr<TorchArchive>> archives_;
  TorchTensors tensors_;
  int64_t total_bytes_ = 0;
};

// One file and all its tensors.
struct Shard {
  std::unique_ptr<TorchArchive> archive;
  TorchTensors tensors;
};

absl::StatusOr<Shard> OpenShard(const std::string& path) {
  Shard shard;
  ASSIGN_OR_RETURN(shard.archive, TorchArchive::Open(path));
  absl::StatusOr<TorchTensors> tensors = shard.archive->TensorsIn(shard.archive->pickle().root());
  if (!tensors.ok()) return WithPath(path, tensors.status());
  shard.tensors = *std::move(tensors);
  return shard;
}

absl::StatusOr<std::unique_ptr<WeightSource>> OpenIndexed(const std::string& dir, const std::string& index_path) {
  using WeightMap = std::map<std::string, std::string>;
  ASSIGN_OR_RETURN(const WeightMap weight_map, ReadShardIndex(index_path));
  std::map<std::string, Shard> shards;
  auto source = std::make_unique<TorchSource>();
  for (const auto& [name, file] : weight_map) {
    if (!shards.contains(file)) {
      const absl::StatusOr<std::string> path = ResolveShard(dir, file);
      if (!path.ok()) return WithPath(index_path, path.status());
      ASSIGN_OR_RETURN(shards[file], OpenShard(*path));
    }
    const TorchTensors& tensors = shards[file].tensors;
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      return WithPath(index_path, absl::InvalidArgumentError(StrCat("says that ", ShowName(file), " has tensor ",
                                                                    ShowName(name), "; it has not")));
    }
    source->Add(name, found->second);
  }
  for (auto& named : shards) source->Keep(std::move(named.second.archive));
  return source;
}

}  // namespace

absl::StatusOr<WeightTensor> TorchTensor::Read() const {
  if (!refusal.empty()) return absl::UnimplementedError(refusal);
  if (strides.empty()) return tensor;
  ASSIGN_OR_RETURN(AlignedBuffer buffer, AlignedBuffer::Allocate(tensor.size_bytes));
  CopyStrided(tensor.data, tensor.shape, strides, DTypeBytes(tensor.dtype), buffer.data());
  const SharedBytes bytes = SharedBytes::Of(std::move(buffer));
  WeightTensor copy = tensor;
  copy.data = bytes.data;
  copy.owner = bytes.owner;
  return copy;
}

absl::StatusOr<std::unique_ptr<TorchArchive>> TorchArchive::Open(const std::string& path) {
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  std::unique_ptr<TorchArchive> archive(new TorchArchive(path, std::move(file)));
  if (const absl::Status read = archive->ReadContents(); !read.ok()) return WithPath(path, read);
  return archive;
}

absl::Status TorchArchive::ReadContents() {
  if (IsOldFormat(file_.bytes())) {
    return absl::UnimplementedError("is in PyTorch's old format, of before 1.6, which is not read; load it with "
                                    "torch.load and write it anew with torch.save of PyTorch 1.6 or later");
  }
  ASSIGN_OR_RETURN(members_, ReadZipDirectory(file_.bytes()));
  ASSIGN_OR_RETURN(prefix_, FindPrefix(members_));
  if (const auto order = members_.find(prefix_ + "byteorder");
      order != members_.end() && TextOf(order->second) != "little") {
    return absl::UnimplementedError(StrCat("byteorder is ", ShowName(TextOf(order->second)), "; must be little"));
  }
  const std::span<const std::byte> data = members_.find(prefix_ + "data.pkl")->second;
  if (data.size() > kMaxPickleBytes) {
    return absl::InvalidArgumentError(StrCat("data.pkl has ", data.size(), " bytes; at most ", kMaxPickleBytes));
  }
  ASSIGN_OR_RETURN(pickle_, Pickle::Read(data, kClasses));
  return absl::OkStatus();
}

absl::StatusOr<TorchTensors> TorchArchive::TensorsIn(const Pickle::Value& dict) const {
  if (dict.kind != Pickle::Kind::kDict) return absl::InvalidArgumentError("is no dict of tensors");
  TensorCollector collector(pickle_, members_, prefix_);
  RETURN_IF_ERROR(collector.Visit(dict, "", 0));
  return collector.Take();
}

void TorchArchive::Release(const WeightTensor& tensor) const {
  if (tensor.data < file_.data() || tensor.data >= file_.data() + file_.size_bytes()) return;
  file_.DontNeed(tensor.data - file_.data(), tensor.size_bytes);
}

bool HasTorchFiles(const std::string& dir) {
  std::error_code error;
  return std::filesystem::exists(dir + kSingleName, error) || std::filesystem::exists(dir + kIndexName, error);
}

absl::StatusOr<std::unique_ptr<WeightSource>> OpenTorchFiles(const std::string& dir) {
  const std::string single = dir + kSingleName;
  std::error_code error;
  if (!std::filesystem::exists(single, error)) return OpenIndexed(dir, dir + kIndexName);
  ASSIGN_OR_RETURN(Shard shard, OpenShard(single));
  auto source = std::make_unique<TorchSource>();
  for (auto& [name, tensor] : shard.tensors) source->Add(name, std::move(tensor));
  source->Keep(std::move(shard.archive));
  return source;
}

}  // namespace expertd
