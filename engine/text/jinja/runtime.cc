#include "engine/text/jinja/runtime.h"

#include <algorithm>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd::jinja {
namespace {

int DepthOf(const std::vector<Value>& items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return depth + 1;
}

}  // namespace

absl::Status TypeError(std::string message) { return absl::InvalidArgumentError(std::move(message)); }
absl::Status ValueError(std::string message) { return absl::InvalidArgumentError(std::move(message)); }

Runtime::~Runtime() {
  for (const std::shared_ptr<Object>& object : kept_) object->Clear();
}

absl::Status Runtime::StepsExhausted() const {
  return absl::ResourceExhaustedError(
      StrCat("the template takes more than ", options_.limits.max_steps, " steps to render"));
}

absl::Status Runtime::CanAllocate(int64_t size_bytes) const {
  if (size_bytes >= 0 && size_bytes <= options_.limits.max_live_bytes - live_bytes_) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      StrCat("the values of the template take more than ", options_.limits.max_live_bytes, " bytes"));
}

absl::Status Runtime::CheckDepth(int depth) const {
  if (depth <= kMaxValueDepth) return absl::OkStatus();
  return absl::ResourceExhaustedError(StrCat("values are nested more than ", kMaxValueDepth, " deep"));
}

absl::StatusOr<Value> Runtime::NewString(std::string text, bool is_markup) {
  const auto size_bytes = static_cast<int64_t>(text.size());
  RETURN_IF_ERROR(CanAllocate(size_bytes));
  RETURN_IF_ERROR(SpendBytes(size_bytes));
  return Value::FromShared(Value::Type::kString, std::make_shared<StringObject>(this, std::move(text), is_markup));
}

absl::StatusOr<Value> Runtime::NewSequence(Value::Type type, std::vector<Value> items, bool is_group) {
  const auto num_items = static_cast<int64_t>(items.size());
  RETURN_IF_ERROR(CanAllocate(num_items * static_cast<int64_t>(sizeof(Value))));
  RETURN_IF_ERROR(Spend(1 + num_items / 2));
  const int depth = DepthOf(items);
  RETURN_IF_ERROR(CheckDepth(depth));
  return Value::FromShared(type, std::make_shared<ListObject>(this, std::move(items), depth, is_group));
}

absl::StatusOr<Value> Runtime::NewGroup(Value grouper, Value list) {
  return NewSequence(Value::Type::kTuple, {std::move(grouper), std::move(list)}, /*is_group=*/true);
}

Value Runtime::NewUndefined(std::string message) {
  return Value::FromShared(Value::Type::kUndefined, std::make_shared<UndefinedObject>(this, std::move(message)));
}

absl::Status Runtime::EnterLevel() {
  ++depth_;
  if (depth_ <= kMaxCallDepth) return absl::OkStatus();
  return absl::ResourceExhaustedError(StrCat("the template nests or recurses more than ", kMaxCallDepth, " deep"));
}

}  // namespace expertd::jinja
