// The two files of a batch, in OpenAI's format: a line for each request, and a line for each answer.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace expertd::batch {

// {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {...}}
struct BatchRequest {
  std::string custom_id;
  std::string url;
  std::string body;  // a JSON object
};

// Errors: InvalidArgument that says what is wrong: no JSON object; no custom_id of 1..512 bytes; a method that is not
// POST; a url other than /v1/chat/completions and /v1/completions; a body that is no object or asks for a stream.
absl::StatusOr<BatchRequest> ParseBatchRequest(std::string_view line);

// Reads requests one by one. Blank lines are left out. Not thread-safe.
class BatchInput {
 public:
  static absl::StatusOr<BatchInput> Open(const std::string& path);

  // False at the end. Errors name the file and the line.
  absl::StatusOr<bool> Next(BatchRequest* request);

 private:
  BatchInput(std::string path, std::ifstream file) : path_(std::move(path)), file_(std::move(file)) {}

  std::string path_;
  std::ifstream file_;
  int64_t line_number_ = 0;
};

struct BatchAnswer {
  std::string custom_id;
  std::string request_id;
  int status = 200;  // of HTTP
  std::string body;  // JSON
};

// Appends answers to a file, each as one line in one write, so that a file that was interrupted has whole lines and at
// most a beginning of one behind them, which Open removes. One process at a time holds the file. Not thread-safe.
class BatchOutput {
 public:
  // Makes the file or goes on with it. Errors: name the file: it can't be written; another run writes it; a line of it,
  // or what it ends in, is no answer.
  static absl::StatusOr<BatchOutput> Open(const std::string& path);

  BatchOutput(BatchOutput&& other) noexcept;
  BatchOutput& operator=(BatchOutput&&) = delete;
  ~BatchOutput();

  // What the file had when it was opened.
  bool HasAnswer(const std::string& custom_id) const { return answered_.contains(custom_id); }
  // Of these, errors.
  int64_t num_refused() const { return num_refused_; }

  absl::Status Append(const BatchAnswer& answer);

 private:
  BatchOutput(std::string path, int file) : path_(std::move(path)), file_(file) {}
  absl::Status ReadAnswers();

  std::string path_;
  int file_;
  absl::flat_hash_set<std::string> answered_;
  int64_t num_refused_ = 0;
};

}  // namespace expertd::batch
