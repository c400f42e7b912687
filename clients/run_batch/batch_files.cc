#include "clients/run_batch/batch_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "engine/base/json.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd::batch {
namespace {

constexpr size_t kMaxCustomIdBytes = 512;
constexpr size_t kMaxInputLineBytes = 32 << 20;    // as a body over REST
constexpr size_t kMaxOutputLineBytes = 512 << 20;  // far above what a server answers
constexpr std::string_view kBlanks = " \t\r";
constexpr std::string_view kLineBegin = R"({"id":"batch_)";  // of each answer, as Append writes it

absl::Status FileError(const std::string& path, std::string_view what) {
  return absl::FailedPreconditionError(StrCat(path, ": ", what));
}

// The member when it is a string, else "".
std::string StringOf(const Json& json, std::string_view name) {
  const Json* member = JsonFind(json, name);
  return member != nullptr && member->is_string() ? member->get<std::string>() : "";
}

// Like std::getline, but false at a line of more than `max_bytes`, which `*is_too_long` tells.
bool GetLine(std::ifstream& file, size_t max_bytes, std::string* line, bool* is_too_long) {
  line->clear();
  *is_too_long = false;
  for (char c; file.get(c);) {
    if (c == '\n') return true;
    *is_too_long = line->size() >= max_bytes;
    if (*is_too_long) return false;
    line->push_back(c);
  }
  return !line->empty();
}

absl::Status WriteAll(int file, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t size = write(file, bytes.data(), bytes.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return absl::UnavailableError(strerror(errno));
    bytes.remove_prefix(static_cast<size_t>(size));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BatchRequest> ParseBatchRequest(std::string_view line) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(line));
  if (!json.is_object()) return absl::InvalidArgumentError("is no JSON object");
  BatchRequest request{.custom_id = StringOf(json, "custom_id"), .url = StringOf(json, "url")};
  if (request.custom_id.empty() || request.custom_id.size() > kMaxCustomIdBytes) {
    return absl::InvalidArgumentError(StrCat("custom_id must be a text of 1..", kMaxCustomIdBytes, " bytes"));
  }
  if (StringOf(json, "method") != "POST") return absl::InvalidArgumentError("method must be POST");
  if (request.url != "/v1/chat/completions" && request.url != "/v1/completions") {
    return absl::InvalidArgumentError(
        StrCat("url is '", request.url, "'; must be /v1/chat/completions or /v1/completions"));
  }
  const Json* body = JsonFind(json, "body");
  if (body == nullptr || !body->is_object()) return absl::InvalidArgumentError("body must be a JSON object");
  const Json* stream = JsonFind(*body, "stream");
  if (stream != nullptr && *stream == true) return absl::InvalidArgumentError("body.stream must be false in a batch");
  request.body = DumpJson(*body);
  return request;
}

absl::StatusOr<BatchInput> BatchInput::Open(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored)) {
    return FileError(path, "is no regular file; a batch is read twice");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) return FileError(path, StrCat("can't be read: ", strerror(errno)));
  return BatchInput(path, std::move(file));
}

absl::StatusOr<bool> BatchInput::Next(BatchRequest* request) {
  bool is_too_long = false;
  for (std::string line; GetLine(file_, kMaxInputLineBytes, &line, &is_too_long);) {
    ++line_number_;
    if (line.find_first_not_of(kBlanks) == std::string::npos) continue;
    absl::StatusOr<BatchRequest> parsed = ParseBatchRequest(line);
    if (!parsed.ok()) {
      return absl::InvalidArgumentError(
          StrCat(path_, ", line ", line_number_, ": ", ToStdView(parsed.status().message())));
    }
    *request = *std::move(parsed);
    return true;
  }
  if (is_too_long) {
    return absl::InvalidArgumentError(
        StrCat(path_, ", line ", line_number_ + 1, ": has more than ", kMaxInputLineBytes, " bytes"));
  }
  if (file_.bad()) return FileError(path_, StrCat("can't be read: ", strerror(errno)));
  return false;
}

absl::StatusOr<BatchOutput> BatchOutput::Open(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored)) {
    return FileError(path, "is no file that a batch can go on with");
  }
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file < 0) return FileError(path, StrCat("can't be written: ", strerror(errno)));
  BatchOutput output(path, file);
  if (flock(file, LOCK_EX | LOCK_NB) != 0) return FileError(path, "another run writes it");
  RETURN_IF_ERROR(output.ReadAnswers());
  return output;
}

BatchOutput::BatchOutput(BatchOutput&& other) noexcept
    : path_(std::move(other.path_)), file_(std::exchange(other.file_, -1)), answered_(std::move(other.answered_)),
      num_refused_(other.num_refused_) {}

BatchOutput::~BatchOutput() {
  if (file_ >= 0) close(file_);
}

absl::Status BatchOutput::ReadAnswers() {
  std::ifstream lines(path_, std::ios::binary);
  int64_t num_whole_bytes = 0, number = 0;
  bool is_too_long = false;
  const auto not_an_answer = [&](int64_t line_number) {
    return FileError(path_, StrCat("line ", line_number, " is no answer of a batch; name another output file"));
  };
  for (std::string line; GetLine(lines, kMaxOutputLineBytes, &line, &is_too_long);) {
    if (lines.eof()) {  // no line break at its end
      // What a run that was interrupted leaves, and nobody else's text.
      const bool is_ours = line.starts_with(kLineBegin) || kLineBegin.starts_with(line);
      if (!is_ours) return FileError(path_, "ends in what is no answer of a batch; name another output file");
      break;
    }
    ++number;
    num_whole_bytes += static_cast<int64_t>(line.size()) + 1;
    const absl::StatusOr<Json> json = ParseJson(line, /*max_depth=*/256);
    const std::string custom_id = json.ok() ? StringOf(*json, "custom_id") : "";
    if (custom_id.empty() || JsonFind(*json, "response") == nullptr) return not_an_answer(number);
    answered_.insert(custom_id);
    const Json* status = JsonFind((*json)["response"], "status_code");
    if (status != nullptr && *status != 200) ++num_refused_;
  }
  if (is_too_long) return not_an_answer(number + 1);
  if (ftruncate(file_, num_whole_bytes) != 0) return FileError(path_, StrCat("can't be cut: ", strerror(errno)));
  return absl::OkStatus();
}

absl::Status BatchOutput::Append(const BatchAnswer& answer) {
  Json response;
  response["status_code"] = answer.status;
  response["request_id"] = answer.request_id;
  ASSIGN_OR_RETURN(response["body"], ParseJson(answer.body, /*max_depth=*/128));
  Json line;
  line["id"] = StrCat("batch_", answer.request_id);
  line["custom_id"] = answer.custom_id;
  line["response"] = std::move(response);
  line["error"] = nullptr;
  const off_t size = lseek(file_, 0, SEEK_END);
  const absl::Status written = WriteAll(file_, DumpJson(line) + "\n");
  if (written.ok()) return written;
  // Without the part of the line that was written, if the disk allows that: the next run could not go on behind it.
  if (size < 0 || ftruncate(file_, size) != 0) LogWarning("batch_line_cut", {{"file", path_}});
  return FileError(path_, StrCat("can't be written: ", ToStdView(written.message())));
}

}  // namespace expertd::batch
