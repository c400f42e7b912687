#include "engine/checkpoint/packed_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <utility>

#include <xxhash.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/json.h"
#include "engine/base/mutex.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/megatron_checkpoint.h"

namespace expertd {
namespace {

namespace fs = std::filesystem;

constexpr char kIndexName[] = "expertd_weights.json";
constexpr char kDataName[] = "expertd_weights.bin";

// Counts up with every change of the index or of tensor/panel_layout.h.
constexpr int64_t kVersion = 2;

constexpr int64_t kAlignment = 64;

// A tensor's place in the data file. A matrix has a format, a table a dtype, a vector is a matrix of fp32 of one row.
struct Entry {
  std::string kind;  // "matrix", "table" or "vector"
  std::string format;
  bool has_zero_points = false;
  int rows = 0;
  int cols = 0;
  int64_t offset = 0;
  int64_t size_bytes = 0;
  uint64_t checksum = 0;
};

uint64_t ChecksumOf(const std::byte* data, int64_t size_bytes) {
  return XXH3_64bits(data, static_cast<size_t>(size_bytes));
}

absl::StatusOr<Json> ReadIndex(const std::string& dir) {
  const std::string path = dir + "/" + kIndexName;
  ASSIGN_OR_RETURN(Json index, ReadJsonFile(path));
  if (!index.is_object()) return absl::InvalidArgumentError(StrCat(path, " is not a JSON object"));
  ASSIGN_OR_RETURN(const int64_t version, JsonInt(index, "version", 0, INT64_MAX));
  if (version != kVersion) {
    return absl::FailedPreconditionError(StrCat(path, " has version ", version, ", this expertd reads ", kVersion,
                                                "; make the folder anew with `expertd quantize`"));
  }
  return index;
}

absl::StatusOr<WeightFormat> FormatOf(const Json& index, const std::string& dir) {
  ASSIGN_OR_RETURN(const std::string name, JsonStringOr(index, "format", ""));
  const std::optional<WeightFormat> format = WeightFormatNamed(name);
  if (!format) return absl::InvalidArgumentError(StrCat(dir, "/", kIndexName, " has no known format"));
  return *format;
}

// The bytes that an entry of these facts must have; -1 where there is no such format.
int64_t BytesOf(const Entry& entry) {
  const std::optional<WeightFormat> format = WeightFormatNamed(entry.format);
  if (!format) return -1;
  if (entry.kind == "matrix") return PackedBytes(*format, entry.rows, entry.cols, entry.has_zero_points);
  if (IsInteger(*format)) return -1;
  return int64_t{entry.rows} * entry.cols * (*format == WeightFormat::kF32 ? 4 : 2);
}

absl::StatusOr<Entry> ParseEntry(const Json& json, int64_t data_bytes) {
  if (!json.is_object()) return absl::InvalidArgumentError("an entry is not an object");
  Entry entry;
  ASSIGN_OR_RETURN(entry.kind, JsonStringOr(json, "kind", ""));
  ASSIGN_OR_RETURN(entry.format, JsonStringOr(json, "format", ""));
  ASSIGN_OR_RETURN(entry.has_zero_points, JsonBoolOr(json, "zero_points", false));
  ASSIGN_OR_RETURN(const int64_t rows, JsonInt(json, "rows", 1, INT32_MAX / 2));
  ASSIGN_OR_RETURN(const int64_t cols, JsonInt(json, "cols", 1, INT32_MAX / 2));
  entry.rows = static_cast<int>(rows);
  entry.cols = static_cast<int>(cols);
  // Before any product of the two: no file is larger than 2^60 bytes.
  if (rows > (int64_t{1} << 60) / 8 / cols) return absl::InvalidArgumentError("an entry exceeds any file");
  ASSIGN_OR_RETURN(entry.offset, JsonInt(json, "offset", 0, data_bytes));
  entry.size_bytes = BytesOf(entry);
  if (entry.size_bytes < 0 || entry.offset % kAlignment != 0 || entry.size_bytes > data_bytes - entry.offset) {
    return absl::InvalidArgumentError("an entry does not lie inside the data file");
  }
  ASSIGN_OR_RETURN(const std::string checksum, JsonStringOr(json, "xxh3", ""));
  if (!absl::SimpleHexAtoi(checksum, &entry.checksum)) return absl::InvalidArgumentError("a checksum is malformed");
  return entry;
}

class PackedReader : public WeightReader {
 public:
  PackedReader(std::string path, WeightFormat format, std::map<std::string, Entry, std::less<>> entries,
               MappedFile file)
      : WeightReader(format),
        path_(std::move(path)),
        entries_(std::move(entries)),
        file_(std::make_shared<const MappedFile>(std::move(file))) {}

  // Vectors and tables have the names of their tensors; matrices have names of their own.
  bool Has(std::string_view tensor) const override { return entries_.contains(tensor); }
  int64_t total_bytes() const override { return file_->size_bytes(); }

  absl::StatusOr<WeightMatrix> Matrix(const MatrixSpec& spec) override {
    ASSIGN_OR_RETURN(const Entry* const entry, FindEntry("matrix", spec.name));
    // A matrix that does not say how it is held may be held otherwise than most: checkpoints mix formats.
    const std::string format(spec.format ? WeightFormatName(*spec.format) : std::string_view(entry->format));
    ASSIGN_OR_RETURN(SharedBytes bytes, Read(spec.name, *entry, format, spec.num_rows(), spec.cols));
    return WeightMatrix::Over(
        PackedShape(*WeightFormatNamed(format), spec.num_rows(), spec.cols, entry->has_zero_points), std::move(bytes));
  }

  absl::StatusOr<std::vector<float>> Vector(std::string_view tensor, int size) override {
    ASSIGN_OR_RETURN(const Entry* const entry, FindEntry("vector", tensor));
    ASSIGN_OR_RETURN(const SharedBytes bytes, Read(tensor, *entry, "f32", 1, size));
    std::vector<float> values(static_cast<size_t>(size));
    std::memcpy(values.data(), bytes.data, static_cast<size_t>(bytes.size_bytes));
    return values;
  }

  absl::StatusOr<SharedBytes> Table(std::string_view tensor, int rows, int cols, DType dtype) override {
    ASSIGN_OR_RETURN(const Entry* const entry, FindEntry("table", tensor));
    return Read(tensor, *entry, DTypeName(dtype), rows, cols);
  }

 private:
  absl::StatusOr<const Entry*> FindEntry(std::string_view kind, std::string_view name) const {
    const auto found = entries_.find(name);
    if (found != entries_.end() && found->second.kind == kind) return &found->second;
    return absl::NotFoundError(StrCat(path_, " has no ", kind, " ", ShowName(name)));
  }

  // The bytes of an entry, checked: reading all of them now also brings them into memory, by all threads at once.
  absl::StatusOr<SharedBytes> Read(std::string_view name, const Entry& entry, std::string_view format, int rows,
                                   int cols) {
    if (entry.rows != rows || entry.cols != cols || entry.format != format) {
      return absl::InvalidArgumentError(StrCat(path_, ": ", ShowName(name), " is ", entry.rows, " x ", entry.cols, " ",
                                               entry.format, "; config.json calls for ", rows, " x ", cols, " ",
                                               format));
    }
    const std::byte* const data = file_->data() + entry.offset;
    if (ChecksumOf(data, entry.size_bytes) != entry.checksum) {
      return absl::DataLossError(StrCat(path_, ": the bytes of ", ShowName(name), " do not have their checksum"));
    }
    CountBytes(entry.size_bytes);
    return SharedBytes{data, entry.size_bytes, file_};
  }

  const std::string path_;
  const std::map<std::string, Entry, std::less<>> entries_;
  const std::shared_ptr<const MappedFile> file_;
};

absl::Status WriteError(const std::string& path) {
  const int error = errno;
  const std::string message = StrCat(path, " cannot be written: ", std::strerror(error));
  if (error == ENOSPC || error == EDQUOT) return absl::ResourceExhaustedError(message);
  return error == EACCES ? absl::PermissionDeniedError(message) : absl::DataLossError(message);
}

// A new file, written from its beginning to its end.
class OutputFile {
 public:
  OutputFile() = default;
  ~OutputFile() {
    if (fd_ >= 0) close(fd_);
  }
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  absl::Status Open(const std::string& path) {
    path_ = path;
    fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    return fd_ >= 0 ? absl::OkStatus() : WriteError(path_);
  }

  absl::Status Append(const void* data, int64_t size_bytes) {
    const auto* from = static_cast<const char*>(data);
    while (size_bytes > 0) {
      const ssize_t written = write(fd_, from, static_cast<size_t>(size_bytes));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return WriteError(path_);
      from += written;
      size_bytes -= written;
      offset_ += written;
    }
    return absl::OkStatus();
  }

  int64_t offset() const { return offset_; }

  // Waits until the bytes are on the disk.
  absl::Status Close() {
    const bool is_synced = fsync(fd_) == 0;
    const bool is_closed = close(std::exchange(fd_, -1)) == 0;
    return is_synced && is_closed ? absl::OkStatus() : WriteError(path_);
  }

 private:
  std::string path_;
  int fd_ = -1;
  int64_t offset_ = 0;
};

// Small files that belong to a model: everything but weights, whatever they are called.
bool IsWeightFile(const fs::path& path) {
  for (const char* ending : {".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth",
                             ".gguf", ".ckpt", ".h5", ".msgpack", ".onnx"}) {
    if (path.filename().string().ends_with(ending)) return true;
  }
  return false;
}

absl::Status CopySmallFiles(const std::string& from, const std::string& to) {
  constexpr uintmax_t kMaxBytes = 64 << 20;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(from, error)) {
    const fs::path& path = entry.path();
    const std::string name = path.filename().string();
    if (!entry.is_regular_file(error) || name.starts_with('.') || IsWeightFile(path)) continue;
    // The index of another packed folder, and descriptions of tensors that are not in this one.
    if (name == kIndexName || name == kMegatronLatestName || name.starts_with("quant_model_")) continue;
    if (entry.file_size(error) > kMaxBytes || fs::exists(fs::path(to) / name, error)) continue;
    fs::copy_file(path, fs::path(to) / name, error);
    if (error) return absl::DataLossError(StrCat(path.string(), " cannot be copied: ", error.message()));
  }
  return error ? absl::NotFoundError(StrCat(from, " cannot be read: ", error.message())) : absl::OkStatus();
}

class Writer : public PackedFolderWriter {
 public:
  Writer(std::string dir, std::string unfinished, WeightFormat format)
      : dir_(std::move(dir)), unfinished_(std::move(unfinished)), format_(format) {}
  ~Writer() override {
    if (is_finished_) return;
    std::error_code ignored;
    fs::remove_all(unfinished_, ignored);
  }

  absl::Status Open() { return data_.Open(unfinished_ + "/" + kDataName); }

  // `entry` but for offset and checksum; its bytes are at `data`.
  absl::Status Add(std::string_view name, const Entry& entry, const void* data) ABSL_LOCKS_EXCLUDED(mutex_) {
    const uint64_t checksum = ChecksumOf(static_cast<const std::byte*>(data), entry.size_bytes);
    MutexLock lock(&mutex_);
    constexpr char kZeros[kAlignment] = {};
    RETURN_IF_ERROR(data_.Append(kZeros, (kAlignment - data_.offset() % kAlignment) % kAlignment));
    entries_.push_back({{"name", std::string(name)},
                        {"kind", entry.kind},
                        {"format", entry.format},
                        {"rows", entry.rows},
                        {"cols", entry.cols},
                        {"offset", data_.offset()},
                        {"xxh3", absl::StrCat(absl::Hex(checksum, absl::kZeroPad16))}});
    if (entry.has_zero_points) entries_.back()["zero_points"] = true;
    return data_.Append(data, entry.size_bytes);
  }

  std::unique_ptr<WeightReader> Tee(WeightReader& reader) override;

  absl::Status AddFile(const std::string& name, std::string_view content) override {
    OutputFile file;
    RETURN_IF_ERROR(file.Open(unfinished_ + "/" + name));
    RETURN_IF_ERROR(file.Append(content.data(), static_cast<int64_t>(content.size())));
    return file.Close();
  }

  absl::Status Finish(const std::string& model_dir) override {
    MutexLock lock(&mutex_);
    RETURN_IF_ERROR(CopySmallFiles(model_dir, unfinished_));
    RETURN_IF_ERROR(data_.Close());
    const Json index = {{"version", kVersion},
                        {"format", std::string(WeightFormatName(format_))},
                        {"data_bytes", data_.offset()},
                        {"entries", std::move(entries_)}};
    RETURN_IF_ERROR(AddFile(kIndexName, DumpJson(index, 1)));
    std::error_code error;
    fs::rename(unfinished_, dir_, error);
    if (error) return absl::DataLossError(StrCat(dir_, " cannot be put in place: ", error.message()));
    is_finished_ = true;
    return absl::OkStatus();
  }

 private:
  const std::string dir_, unfinished_;
  const WeightFormat format_;
  bool is_finished_ = false;
  Mutex mutex_;
  OutputFile data_ ABSL_GUARDED_BY(mutex_);
  Json entries_ ABSL_GUARDED_BY(mutex_) = Json::array();
};

class TeeReader : public WeightReader {
 public:
  TeeReader(WeightReader& reader, Writer& writer) : WeightReader(reader.format()), reader_(reader), writer_(writer) {}

  bool Has(std::string_view tensor) const override { return reader_.Has(tensor); }
  int64_t total_bytes() const override { return reader_.total_bytes(); }
  absl::Status Finish() override { return reader_.Finish(); }

  absl::StatusOr<WeightMatrix> Matrix(const MatrixSpec& spec) override {
    ASSIGN_OR_RETURN(const WeightMatrix matrix, reader_.Matrix(spec));
    Count();
    const Entry entry = {.kind = "matrix",
                         .format = std::string(WeightFormatName(matrix.format())),
                         .has_zero_points = matrix.packed().has_zero_points,
                         .rows = matrix.rows(),
                         .cols = matrix.cols(),
                         .size_bytes = matrix.size_bytes()};
    RETURN_IF_ERROR(writer_.Add(spec.name, entry, matrix.bytes().data()));
    return WeightMatrix::Over(matrix.packed(), SharedBytes());
  }

  absl::StatusOr<std::vector<float>> Vector(std::string_view tensor, int size) override {
    ASSIGN_OR_RETURN(std::vector<float> values, reader_.Vector(tensor, size));
    Count();
    const Entry entry = {
        .kind = "vector", .format = "f32", .rows = 1, .cols = size, .size_bytes = size * int64_t{sizeof(float)}};
    RETURN_IF_ERROR(writer_.Add(tensor, entry, values.data()));
    return values;
  }

  absl::StatusOr<SharedBytes> Table(std::string_view tensor, int rows, int cols, DType dtype) override {
    ASSIGN_OR_RETURN(const SharedBytes table, reader_.Table(tensor, rows, cols, dtype));
    Count();
    const Entry entry = {.kind = "table",
                         .format = std::string(DTypeName(dtype)),
                         .rows = rows,
                         .cols = cols,
                         .size_bytes = table.size_bytes};
    RETURN_IF_ERROR(writer_.Add(tensor, entry, table.data));
    return SharedBytes();
  }

 private:
  // What the reader below has read by now, counted here once.
  void Count() {
    MutexLock lock(&mutex_);
    const int64_t now = reader_.bytes_read();
    CountBytes(now - counted_);
    counted_ = now;
  }

  WeightReader& reader_;
  Writer& writer_;
  Mutex mutex_;
  int64_t counted_ ABSL_GUARDED_BY(mutex_) = 0;
};

std::unique_ptr<WeightReader> Writer::Tee(WeightReader& reader) { return std::make_unique<TeeReader>(reader, *this); }

}  // namespace

bool IsPackedFolder(const std::string& dir) {
  std::error_code error;
  return fs::exists(dir + "/" + kIndexName, error);
}

absl::StatusOr<std::optional<WeightFormat>> FindPackedFormat(const std::string& dir) {
  if (!IsPackedFolder(dir)) return std::nullopt;
  ASSIGN_OR_RETURN(const Json index, ReadIndex(dir));
  ASSIGN_OR_RETURN(const WeightFormat format, FormatOf(index, dir));
  return format;
}

absl::StatusOr<std::unique_ptr<WeightReader>> OpenPackedFolder(const std::string& dir) {
  ASSIGN_OR_RETURN(const Json index, ReadIndex(dir));
  ASSIGN_OR_RETURN(const WeightFormat format, FormatOf(index, dir));
  const std::string path = dir + "/" + kDataName;
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  ASSIGN_OR_RETURN(const int64_t data_bytes, JsonInt(index, "data_bytes", 0, INT64_MAX));
  if (data_bytes != file.size_bytes()) {
    return absl::DataLossError(StrCat(path, " has ", file.size_bytes(), " bytes; its index says ", data_bytes));
  }
  const Json* const list = JsonFind(index, "entries");
  if (list == nullptr || !list->is_array()) {
    return absl::InvalidArgumentError(StrCat(dir, "/", kIndexName, " has no list of entries"));
  }
  std::map<std::string, Entry, std::less<>> entries;
  for (const Json& json : *list) {
    absl::StatusOr<Entry> entry = ParseEntry(json, data_bytes);
    if (!entry.ok()) {
      return absl::InvalidArgumentError(
          StrCat(dir, "/", kIndexName, ": ", ToStdView(entry.status().message())));
    }
    ASSIGN_OR_RETURN(const std::string name, JsonStringOr(json, "name", ""));
    entries[name] = *std::move(entry);
  }
  return std::make_unique<PackedReader>(path, format, std::move(entries), std::move(file));
}

absl::StatusOr<std::unique_ptr<PackedFolderWriter>> PackedFolderWriter::Create(const std::string& dir,
                                                                               WeightFormat format) {
  const std::string place = fs::path(dir).lexically_normal().string();
  std::error_code error;
  if (fs::exists(fs::symlink_status(place, error))) {
    return absl::AlreadyExistsError(StrCat(dir, " is there already; name a folder that is not"));
  }
  std::string trimmed = place;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  const std::string unfinished = StrCat(trimmed, ".unfinished-", getpid());
  if (!fs::create_directory(unfinished, error)) {
    return absl::InvalidArgumentError(
        StrCat(unfinished, " cannot be made: ", error ? error.message() : "it is there already"));
  }
  auto writer = std::make_unique<Writer>(trimmed, unfinished, format);
  RETURN_IF_ERROR(writer->Open());
  return writer;
}

}  // namespace expertd
