// Safetensors: 8 bytes of header length (little-endian), a JSON header {name: {dtype, shape, data_offsets}}, and the
// bytes of the tensors, without holes. Format: https://huggingface.co/docs/safetensors (and its "format" section).
#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/json_events.h"
#include "engine/checkpoint/shard_index.h"
#include "engine/checkpoint/weight_source.h"
#include "engine/platform/memory.h"

namespace expertd {
namespace {

constexpr size_t kMaxDimensions = 8;
constexpr int64_t kLengthBytes = 8;

struct DTypeEntry {
  std::string_view name;
  int bits;
  std::optional<DType> supported;
};

// Every type of the format, so that sizes can be checked; those without a DType are refused when asked for.
constexpr std::array<DTypeEntry, 22> kDTypes = {{
    {"F32", 32, DType::kF32},         {"F16", 16, DType::kF16},         {"BF16", 16, DType::kBF16},
    {"F8_E4M3", 8, DType::kF8E4M3},   {"F8_E8M0", 8, DType::kF8E8M0},   {"I8", 8, DType::kI8},
    {"U8", 8, DType::kU8},            {"I32", 32, DType::kI32},         {"I64", 64, DType::kI64},
    {"F64", 64, std::nullopt},        {"C64", 64, std::nullopt},        {"F8_E5M2", 8, std::nullopt},
    {"F8_E4M3FNUZ", 8, std::nullopt}, {"F8_E5M2FNUZ", 8, std::nullopt}, {"F6_E2M3", 6, std::nullopt},
    {"F6_E3M2", 6, std::nullopt},     {"F4", 4, std::nullopt},          {"U64", 64, DType::kU64},
    {"U32", 32, std::nullopt},        {"I16", 16, std::nullopt},        {"U16", 16, std::nullopt},
    {"BOOL", 8, std::nullopt},
}};

const DTypeEntry* FindDType(std::string_view name) {
  const auto entry = std::ranges::find(kDTypes, name, &DTypeEntry::name);
  return entry == kDTypes.end() ? nullptr : &*entry;
}

// A tensor as the header of its file describes it.
struct Entry {
  const DTypeEntry* dtype = nullptr;
  std::vector<int64_t> shape;
  int64_t begin = 0;  // bytes, from the end of the header
  int64_t end = 0;
};

using Entries = absl::flat_hash_map<std::string, Entry>;

class HeaderReader : public JsonEvents {
 public:
  Entries Take() { return std::move(entries_); }

  bool start_object(size_t) override {
    if (level_ == kOutside) return Enter(kFile);
    if (level_ == kTensor || level_ == kMetadata || level_ == kShape || level_ == kOffsets || !has_key_) {
      return Fail("an object");
    }
    has_key_ = false;
    return Enter(name_ == "__metadata__" ? kMetadata : kTensor);
  }

  bool key(string_t& key) override {
    if (level_ == kFile) {
      name_ = key;
      has_key_ = true;
      entry_ = {};
      offsets_.clear();
      has_shape_ = has_offsets_ = false;
      if (key != "__metadata__") return entries_.contains(key) ? Stop(StrCat("has two tensors ", ShowName(key))) : true;
      if (std::exchange(has_metadata_, true)) return Stop("has two __metadata__");
      return true;
    }
    field_ = key;
    return true;
  }

  bool string(string_t& value) override {
    if (level_ == kMetadata) return true;
    if (level_ != kTensor || field_ != "dtype") return Fail(StrCat("the text \"", ShowName(value), "\""));
    if (entry_.dtype != nullptr) return Stop(StrCat("tensor ", ShowName(name_), " has two dtypes"));
    entry_.dtype = FindDType(value);
    if (entry_.dtype == nullptr) {
      return Stop(StrCat("tensor ", ShowName(name_), " has the unknown dtype ", ShowName(value)));
    }
    return true;
  }

  bool start_array(size_t) override {
    if (level_ == kTensor && field_ == "shape" && !std::exchange(has_shape_, true)) return Enter(kShape);
    if (level_ == kTensor && field_ == "data_offsets" && !std::exchange(has_offsets_, true)) return Enter(kOffsets);
    return Fail("an array");
  }

  bool number_unsigned(number_unsigned_t value) override {
    if ((level_ != kShape && level_ != kOffsets) || value > static_cast<uint64_t>(INT64_MAX)) {
      return Fail(StrCat("the number ", value));
    }
    std::vector<int64_t>& numbers = level_ == kShape ? entry_.shape : offsets_;
    if (numbers.size() >= (level_ == kShape ? kMaxDimensions : 2)) return Fail("one number too many");
    numbers.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool end_array() override { return Enter(kTensor); }

  bool end_object() override {
    if (level_ == kFile) return Enter(kDone);
    if (level_ == kTensor && !FinishTensor()) return false;
    return Enter(kFile);
  }

 private:
  enum Level { kOutside, kFile, kMetadata, kTensor, kShape, kOffsets, kDone };

  bool Enter(Level level) {
    level_ = level;
    return true;
  }

  bool FinishTensor() {
    if (entry_.dtype == nullptr || !has_shape_ || offsets_.size() != 2) {
      return Stop(StrCat("tensor ", ShowName(name_), " lacks its dtype, shape or data_offsets"));
    }
    entry_.begin = offsets_[0];
    entry_.end = offsets_[1];
    entries_.emplace(name_, std::move(entry_));
    return true;
  }

  std::string Where() const override {
    if (level_ == kOutside || level_ == kDone) return "";
    if (level_ == kFile || level_ == kMetadata) return StrCat(" at ", ShowName(name_));
    return StrCat(" in ", ShowName(field_), " of tensor ", ShowName(name_));
  }

  Entries entries_;
  Level level_ = kOutside;
  std::string name_;
  std::string field_;
  Entry entry_;
  std::vector<int64_t> offsets_;
  bool has_key_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
  bool has_metadata_ = false;
};

// Bytes that shape and dtype imply; nullopt when they do not fit an int64_t or are no whole number of bytes.
std::optional<int64_t> ImpliedBytes(const Entry& entry) {
  int64_t elements = 1;
  for (const int64_t extent : entry.shape) {
    if (__builtin_mul_overflow(elements, extent, &elements)) return std::nullopt;
  }
  int64_t bits = 0;
  if (__builtin_mul_overflow(elements, int64_t{entry.dtype->bits}, &bits) || bits % 8 != 0) return std::nullopt;
  return bits / 8;
}

// Every tensor has the size that its shape implies, and together they cover the data exactly once.
absl::Status CheckEntries(const Entries& entries, int64_t data_bytes) {
  std::vector<const Entries::value_type*> in_file_order;
  in_file_order.reserve(entries.size());
  for (const auto& named : entries) {
    const Entry& entry = named.second;
    if (entry.begin > entry.end || entry.end > data_bytes) {
      return absl::InvalidArgumentError(StrCat("tensor ", ShowName(named.first), " lies at bytes ", entry.begin, "..",
                                               entry.end, " of data that has ", data_bytes, " bytes"));
    }
    if (ImpliedBytes(entry) != entry.end - entry.begin) {
      return absl::InvalidArgumentError(StrCat("tensor ", ShowName(named.first), " has shape ", ShowShape(entry.shape),
                                               " and dtype ", entry.dtype->name, ", which are not the ",
                                               entry.end - entry.begin, " bytes it has"));
    }
    in_file_order.push_back(&named);
  }
  std::ranges::sort(in_file_order, {},
                    [](const auto* named) { return std::pair(named->second.begin, named->second.end); });
  int64_t covered = 0;
  for (const auto* named : in_file_order) {
    if (named->second.begin != covered) {
      return absl::InvalidArgumentError(StrCat("tensor ", ShowName(named->first), " begins at byte ",
                                               named->second.begin, " of the data; the one before ends at ", covered));
    }
    covered = named->second.end;
  }
  if (covered == data_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("the tensors end at byte ", covered, " of data that has ", data_bytes, " bytes"));
}

// One mapped file and its checked header.
struct Shard {
  MappedFile file;
  const std::byte* data = nullptr;
  Entries entries;
};

absl::Status ReadShardHeader(Shard& shard) {
  const int64_t size_bytes = shard.file.size_bytes();
  if (size_bytes < kLengthBytes) {
    return absl::InvalidArgumentError(StrCat("has ", size_bytes, " bytes; a safetensors file has at least 8"));
  }
  uint64_t header_bytes = 0;
  for (int i = 0; i < kLengthBytes; ++i) {
    header_bytes |= std::to_integer<uint64_t>(shard.file.data()[i]) << (8 * i);
  }
  const int64_t limit = std::min(kMaxJsonEventBytes, size_bytes - kLengthBytes);
  if (header_bytes > static_cast<uint64_t>(limit)) {
    return absl::InvalidArgumentError(
        StrCat("header length is ", header_bytes, "; at most ", limit, " (file of ", size_bytes, " bytes)"));
  }
  const auto* text = reinterpret_cast<const char*>(shard.file.data() + kLengthBytes);
  HeaderReader reader;
  if (const absl::Status read = ReadJsonEvents({text, header_bytes}, reader); !read.ok()) {
    return absl::InvalidArgumentError(StrCat("header: ", ToStdView(read.message())));
  }
  shard.entries = reader.Take();
  shard.data = shard.file.data() + kLengthBytes + header_bytes;
  return CheckEntries(shard.entries, size_bytes - kLengthBytes - static_cast<int64_t>(header_bytes));
}

absl::StatusOr<std::unique_ptr<Shard>> OpenShard(const std::string& path) {
  auto shard = std::make_unique<Shard>();
  ASSIGN_OR_RETURN(shard->file, MappedFile::Open(path));
  if (const absl::Status read = ReadShardHeader(*shard); !read.ok()) return WithPath(path, read);
  return shard;
}

class SafetensorsSource : public WeightSource {
 public:
  // All tensors of one file.
  explicit SafetensorsSource(std::unique_ptr<Shard> shard) {
    for (auto& [name, entry] : shard->entries) Add(name, *shard, std::move(entry));
    shard->entries.clear();
    shards_.push_back(std::move(shard));
  }

  // The tensors that an index assigns to shards.
  SafetensorsSource() = default;

  void Add(const std::string& name, const Shard& shard, Entry entry) {
    total_bytes_ += entry.end - entry.begin;
    tensors_.emplace(name, Located{&shard, std::move(entry)});
  }
  void Keep(std::unique_ptr<Shard> shard) { shards_.push_back(std::move(shard)); }

  bool Has(std::string_view name) const override { return tensors_.contains(ToAbslView(name)); }

  absl::StatusOr<WeightTensor> Get(std::string_view name) const override {
    const auto found = tensors_.find(ToAbslView(name));
    if (found == tensors_.end()) {
      return absl::NotFoundError(StrCat("tensor ", ShowName(name), " is missing from the checkpoint"));
    }
    const auto& [shard, entry] = found->second;
    if (!entry.dtype->supported.has_value()) {
      return absl::UnimplementedError(
          StrCat("tensor ", ShowName(name), " has dtype ", entry.dtype->name, "; no format that is read has it"));
    }
    return WeightTensor{entry.shape, *entry.dtype->supported, shard->data + entry.begin, entry.end - entry.begin};
  }

  std::vector<std::string> Names() const override {
    std::vector<std::string> names;
    names.reserve(tensors_.size());
    for (const auto& named : tensors_) names.push_back(named.first);
    std::ranges::sort(names);
    return names;
  }

  int64_t TotalBytes() const override { return total_bytes_; }

  void Release(const WeightTensor& tensor) const override {
    for (const auto& shard : shards_) {
      const std::byte* const begin = shard->file.data();
      if (tensor.data >= begin && tensor.data < begin + shard->file.size_bytes()) {
        shard->file.DontNeed(tensor.data - begin, tensor.size_bytes);
      }
    }
  }

 private:
  struct Located {
    const Shard* shard = nullptr;
    Entry entry;
  };

  std::vector<std::unique_ptr<Shard>> shards_;
  absl::flat_hash_map<std::string, Located> tensors_;
  int64_t total_bytes_ = 0;
};

absl::StatusOr<std::unique_ptr<WeightSource>> OpenIndexed(const std::string& dir, const std::string& index_path) {
  using WeightMap = std::map<std::string, std::string>;
  ASSIGN_OR_RETURN(const WeightMap weight_map, ReadShardIndex(index_path));
  auto source = std::make_unique<SafetensorsSource>();
  std::map<std::string, Shard*> open;
  for (const auto& [name, file] : weight_map) {
    Shard*& shard = open[file];
    if (shard == nullptr) {
      absl::StatusOr<std::string> path = ResolveShard(dir, file);
      if (!path.ok()) return WithPath(index_path, path.status());
      ASSIGN_OR_RETURN(std::unique_ptr<Shard> opened, OpenShard(*path));
      shard = opened.get();
      source->Keep(std::move(opened));
    }
    const auto entry = shard->entries.find(name);
    if (entry == shard->entries.end()) {
      return WithPath(index_path, absl::InvalidArgumentError(StrCat("says that ", ShowName(file), " has tensor ",
                                                                    ShowName(name), "; it has not")));
    }
    source->Add(name, *shard, entry->second);
  }
  return source;
}

// The one file of `dir` that begins with `prefix` and ends with `ending`; empty when there is none. Errors:
// InvalidArgument when there are several.
absl::StatusOr<std::string> FindOne(const std::string& dir, std::string_view prefix, std::string_view ending) {
  std::string found;
  std::error_code error;
  for (const std::filesystem::directory_entry& entry : std::filesystem::directory_iterator(dir, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix) || !name.ends_with(ending)) continue;
    if (!found.empty()) {
      return absl::InvalidArgumentError(StrCat(ShowName(dir), " has several files ", prefix, "*", ending));
    }
    found = entry.path().string();
  }
  return found;
}

absl::StatusOr<std::unique_ptr<WeightSource>> OpenSingle(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<Shard> shard, OpenShard(path));
  return std::make_unique<SafetensorsSource>(std::move(shard));
}

}  // namespace

absl::StatusOr<std::unique_ptr<WeightSource>> OpenSafetensors(const std::string& dir) {
  const std::string single = dir + "/model.safetensors";
  const std::string index = dir + "/model.safetensors.index.json";
  std::error_code error;
  if (std::filesystem::exists(single, error)) return OpenSingle(single);
  if (std::filesystem::exists(index, error)) return OpenIndexed(dir, index);
  // The names that Ascend's tools give, of any version.
  constexpr std::string_view kQuantized = "quant_model_weight";
  ASSIGN_OR_RETURN(const std::string quantized_index, FindOne(dir, kQuantized, ".safetensors.index.json"));
  if (!quantized_index.empty()) return OpenIndexed(dir, quantized_index);
  ASSIGN_OR_RETURN(const std::string quantized, FindOne(dir, kQuantized, ".safetensors"));
  if (!quantized.empty()) return OpenSingle(quantized);
  // The index that MindSpore writes.
  ASSIGN_OR_RETURN(const std::string name_map, FindOne(dir, "", "_name_map.json"));
  if (!name_map.empty()) return OpenIndexed(dir, name_map);
  return absl::NotFoundError(StrCat(ShowName(dir), " has no weights: neither model.safetensors, nor pytorch_model.bin, "
                                                   "nor an index of either (.index.json)"));
}

}  // namespace expertd
