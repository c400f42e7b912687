// One rendering's purse and clock: counts the work, the live memory and the nesting of a rendering against its limits,
// and makes the values that are charged to it. Used by one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/text/jinja/jinja.h"
#include "engine/text/jinja/value.h"

namespace expertd::jinja {

// Errors as Python would raise them. All are InvalidArgument: the template or its input is at fault.
absl::Status TypeError(std::string message);
absl::Status ValueError(std::string message);

// Nesting of values (lists in lists) that a template may build or walk.
inline constexpr int kMaxValueDepth = 128;
// Nesting of expressions, statements and macro calls while rendering. The deepest templates of the tests then use less
// than 2 MiB of stack (measured with `ulimit -s`); a thread of 4 MiB is ample.
inline constexpr int kMaxCallDepth = 1200;

class Runtime {
 public:
  explicit Runtime(const RenderOptions& options) : options_(options) {}
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  // Pays for work; one unit is about what one node of an expression costs. Error: ResourceExhausted.
  absl::Status Spend(int64_t units) {
    steps_ += units;
    return steps_ <= options_.limits.max_steps ? absl::OkStatus() : StepsExhausted();
  }
  // Pays for touching `num_bytes` of text.
  absl::Status SpendBytes(int64_t num_bytes) { return Spend(1 + num_bytes / 32); }

  // Error: ResourceExhausted when `size_bytes` more would not fit. Call it before anything large is built.
  absl::Status CanAllocate(int64_t size_bytes) const;
  void Charge(int64_t size_bytes) { live_bytes_ += size_bytes; }
  int64_t live_bytes() const { return live_bytes_; }

  absl::StatusOr<Value> NewString(std::string text, bool is_markup = false);
  // A tuple of `groupby`.
  absl::StatusOr<Value> NewGroup(Value grouper, Value list);
  absl::StatusOr<Value> NewList(std::vector<Value> items) { return NewSequence(Value::Type::kList, std::move(items)); }
  absl::StatusOr<Value> NewTuple(std::vector<Value> items) {
    return NewSequence(Value::Type::kTuple, std::move(items));
  }
  Value NewUndefined(std::string message);
  // Makes an object of type T from (this runtime, arguments...).
  template <typename T, typename... Arguments>
  absl::StatusOr<Value> NewObject(Arguments&&... arguments);
  // Keeps `object` until the end of the rendering and clears it then.
  void KeepUntilEnd(std::shared_ptr<Object> object) { kept_.push_back(std::move(object)); }

  absl::Status EnterLevel();
  void LeaveLevel() { --depth_; }

  const RenderOptions& options() const { return options_; }
  absl::Time Now() const { return options_.clock ? options_.clock() : absl::Now(); }

  // The line being rendered, for messages.
  int line = 1;
  // Set when the template itself refused the input by raise_exception.
  bool was_raised = false;

 private:
  absl::StatusOr<Value> NewSequence(Value::Type type, std::vector<Value> items, bool is_group = false);
  absl::Status StepsExhausted() const;
  absl::Status CheckDepth(int depth) const;

  const RenderOptions& options_;
  int64_t steps_ = 0;
  int64_t live_bytes_ = 0;
  int depth_ = 0;
  std::vector<std::shared_ptr<Object>> kept_;
};

// Counts one level of nesting for the life of the object; check status() first.
class Level {
 public:
  explicit Level(Runtime& runtime) : runtime_(runtime), status_(runtime.EnterLevel()) {}
  ~Level() { runtime_.LeaveLevel(); }
  const absl::Status& status() const { return status_; }

 private:
  Runtime& runtime_;
  const absl::Status status_;
};

template <typename T, typename... Arguments>
absl::StatusOr<Value> Runtime::NewObject(Arguments&&... arguments) {
  auto object = std::make_shared<T>(this, std::forward<Arguments>(arguments)...);
  if (absl::Status status = CheckDepth(object->depth()); !status.ok()) return status;
  if (absl::Status status = CanAllocate(0); !status.ok()) return status;
  return Value::FromShared(Value::Type::kObject, std::move(object));
}

}  // namespace expertd::jinja
