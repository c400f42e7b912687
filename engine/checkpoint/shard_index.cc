#include "engine/checkpoint/shard_index.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string_view>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/json_events.h"
#include "engine/platform/memory.h"

namespace expertd {
namespace {

// Keys other than weight_map are skipped, whatever they hold.
class IndexReader : public JsonEvents {
 public:
  std::map<std::string, std::string> Take() { return std::move(weight_map_); }
  bool has_weight_map() const { return has_weight_map_; }

  bool key(string_t& key) override {
    if (depth_ == 1) {
      is_weight_map_ = key == "weight_map";
      if (is_weight_map_ && std::exchange(has_weight_map_, true)) return Stop("has two weight_map");
      return true;
    }
    if (is_weight_map_) name_ = key;
    return true;
  }
  bool string(string_t& value) override {
    if (!InWeightMap()) return Skip("a text");
    if (!weight_map_.emplace(name_, value).second) return Stop(StrCat("names tensor ", ShowName(name_), " twice"));
    return true;
  }
  bool start_object(size_t) override {
    if (depth_ >= 1 && is_weight_map_ && depth_ != 1) return Fail("an object");
    ++depth_;
    return true;
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(size_t) override {
    if (depth_ == 0 || is_weight_map_) return Fail("an array");
    ++depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool null() override { return Skip("a null"); }
  bool boolean(bool) override { return Skip("a boolean"); }
  bool number_integer(number_integer_t) override { return Skip("a number"); }
  bool number_unsigned(number_unsigned_t) override { return Skip("a number"); }
  bool number_float(number_float_t, const string_t&) override { return Skip("a number"); }

 private:
  bool InWeightMap() const { return is_weight_map_ && depth_ == 2; }
  bool Skip(std::string_view what) { return depth_ == 0 || is_weight_map_ ? Fail(what) : true; }
  std::string Where() const override {
    return is_weight_map_ ? StrCat(" at ", ShowName(name_), " of weight_map") : std::string();
  }

  std::map<std::string, std::string> weight_map_;
  std::string name_;
  int64_t depth_ = 0;
  bool is_weight_map_ = false;
  bool has_weight_map_ = false;
};

bool IsInside(const std::filesystem::path& file, const std::filesystem::path& folder) {
  const auto [in_folder, in_file] = std::ranges::mismatch(folder, file);
  return in_folder == folder.end() && in_file != file.end();
}

absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const MappedFile& file) {
  if (file.size_bytes() > kMaxJsonEventBytes) {
    return absl::InvalidArgumentError(StrCat("has ", file.size_bytes(), " bytes; at most ", kMaxJsonEventBytes));
  }
  IndexReader reader;
  RETURN_IF_ERROR(
      ReadJsonEvents({reinterpret_cast<const char*>(file.data()), static_cast<size_t>(file.size_bytes())}, reader));
  if (!reader.has_weight_map()) return absl::InvalidArgumentError("weight_map is missing");
  std::map<std::string, std::string> weight_map = reader.Take();
  std::set<std::string_view> files;
  for (const auto& named : weight_map) files.insert(named.second);
  if (files.size() > kMaxShards) return absl::InvalidArgumentError(StrCat("names more than ", kMaxShards, " files"));
  return weight_map;
}

}  // namespace

absl::StatusOr<std::map<std::string, std::string>> ReadShardIndex(const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  absl::StatusOr<std::map<std::string, std::string>> weight_map = ReadIndex(file);
  if (!weight_map.ok()) return WithPath(path, weight_map.status());
  return weight_map;
}

absl::StatusOr<std::string> ResolveShard(const std::string& dir, const std::string& name) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
      name.find('\\') != std::string::npos || name.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(StrCat("names the file \"", ShowName(name), "\"; must be a file of the folder"));
  }
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::canonical(dir, error);
  if (error) return absl::NotFoundError(StrCat("cannot open folder ", ShowName(dir)));
  const std::filesystem::path file = std::filesystem::canonical(folder / name, error);
  if (error) return absl::NotFoundError(StrCat("shard ", ShowName(name), " is missing from the folder"));
  if (IsInside(file, folder)) return file.string();
  // A snapshot of a Hugging Face cache consists of links: <repo>/snapshots/<revision>/<name> -> <repo>/blobs/<hash>.
  if (folder.parent_path().filename() == "snapshots" && IsInside(file, folder.parent_path().parent_path() / "blobs")) {
    return file.string();
  }
  return absl::InvalidArgumentError(StrCat("shard ", ShowName(name), " is a link that leaves the folder"));
}

absl::Status WithPath(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), StrCat(ShowName(path), ": ", ToStdView(status.message())));
}

}  // namespace expertd
