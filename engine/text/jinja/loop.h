// The variable `loop` of a for loop.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/value.h"

namespace expertd::jinja {

// Walks the items of a loop and answers loop.index, loop.last and the like. It may be kept by the template beyond the
// loop; it then no longer advances.
class LoopObject final : public Object {
 public:
  // `recursive` is the loop's node when the loop may be called to run again on an inner list, else null.
  LoopObject(Runtime* runtime, Value iterable, IteratorPtr items, Interpreter* interpreter, const ForNode* recursive,
             Activation* home, int depth)
      : Object(runtime, 256, iterable.depth() + 1),
        iterable_(std::move(iterable)),
        items_(std::move(items)),
        interpreter_(interpreter),
        recursive_(recursive),
        home_(home),
        loop_depth_(depth) {}

  absl::StatusOr<std::optional<Value>> Advance(Runtime& runtime);
  // The loop is over: lets go of what refers to the running template.
  void Finish() { items_ = nullptr; }

  std::string TypeName() const override { return "jinja2.runtime.LoopContext"; }
  absl::StatusOr<std::string> Repr(Runtime& runtime) override;
  absl::StatusOr<std::optional<Value>> Attribute(Runtime& runtime, std::string_view name) override;
  bool IsCallable() const override { return true; }
  absl::StatusOr<Value> Call(Runtime& runtime, CallArguments arguments) override;
  absl::StatusOr<std::optional<int64_t>> Length(Runtime& runtime) override;
  void Clear() override;

 private:
  absl::StatusOr<std::optional<Value>> PullItem(Runtime& runtime);
  absl::Status PeekNext(Runtime& runtime);
  absl::StatusOr<std::optional<Value>> CountAttribute(Runtime& runtime, std::string_view name);
  absl::StatusOr<Value> Cycle(Runtime& runtime, const CallArguments& arguments);
  absl::StatusOr<Value> Changed(Runtime& runtime, const CallArguments& arguments);

  Value iterable_;
  IteratorPtr items_;
  Interpreter* const interpreter_;
  const ForNode* const recursive_;
  Activation* const home_;
  const int loop_depth_;
  int64_t index0_ = -1;
  std::optional<int64_t> length_;
  std::optional<Value> after_;  // an item that was peeked at
  Value current_;
  Value before_;
  std::optional<std::vector<Value>> last_changed_;
};

}  // namespace expertd::jinja
