#include "engine/text/jinja/loop.h"

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/builtins.h"

namespace expertd::jinja {

absl::StatusOr<std::optional<Value>> LoopObject::PullItem(Runtime& runtime) {
  if (items_ == nullptr) return std::nullopt;
  return items_->Next(runtime);
}

absl::StatusOr<std::optional<Value>> LoopObject::Advance(Runtime& runtime) {
  std::optional<Value> item;
  if (after_.has_value()) {
    item = std::exchange(after_, std::nullopt);
  } else {
    ASSIGN_OR_RETURN(item, PullItem(runtime));
  }
  if (!item.has_value()) return item;
  ++index0_;
  before_ = std::exchange(current_, *item);
  return item;
}

absl::Status LoopObject::PeekNext(Runtime& runtime) {
  if (after_.has_value()) return absl::OkStatus();
  ASSIGN_OR_RETURN(after_, PullItem(runtime));
  return absl::OkStatus();
}

absl::StatusOr<std::optional<int64_t>> LoopObject::Length(Runtime& runtime) {
  if (length_.has_value()) return length_;
  ASSIGN_OR_RETURN(length_, jinja::Length(runtime, iterable_));
  if (length_.has_value()) return length_;
  // A lazy sequence is drawn to its end to be counted.
  std::vector<Value> rest;
  while (true) {
    ASSIGN_OR_RETURN(std::optional<Value> item, PullItem(runtime));
    if (!item.has_value()) break;
    rest.push_back(*std::move(item));
    RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(rest.size() * sizeof(Value))));
  }
  length_ = static_cast<int64_t>(rest.size()) + index0_ + 1 + (after_.has_value() ? 1 : 0);
  items_ = IterateItems(std::move(rest));
  return length_;
}

absl::StatusOr<std::string> LoopObject::Repr(Runtime& runtime) {
  ASSIGN_OR_RETURN(const std::optional<int64_t> length, Length(runtime));
  return StrCat("<LoopContext ", index0_ + 1, "/", *length, ">");
}

absl::StatusOr<std::optional<Value>> LoopObject::CountAttribute(Runtime& runtime, std::string_view name) {
  if (name == "index0") return Value::Integer(index0_);
  if (name == "index") return Value::Integer(index0_ + 1);
  if (name == "first") return Value::Bool(index0_ == 0);
  if (name == "depth0") return Value::Integer(loop_depth_);
  if (name == "depth") return Value::Integer(loop_depth_ + 1);
  if (name != "length" && name != "revindex" && name != "revindex0") return std::nullopt;
  ASSIGN_OR_RETURN(const std::optional<int64_t> length, Length(runtime));
  if (name == "length") return Value::Integer(*length);
  return Value::Integer(*length - index0_ - (name == "revindex0" ? 1 : 0));
}

absl::StatusOr<std::optional<Value>> LoopObject::Attribute(Runtime& runtime, std::string_view name) {
  ASSIGN_OR_RETURN(std::optional<Value> count, CountAttribute(runtime, name));
  if (count.has_value()) return count;
  if (name == "last" || name == "nextitem") {
    RETURN_IF_ERROR(PeekNext(runtime));
    if (name == "last") return Value::Bool(!after_.has_value());
    return after_.has_value() ? *after_ : runtime.NewUndefined("there is no next item");
  }
  if (name == "previtem") {
    return index0_ == 0 || before_.is_missing() ? runtime.NewUndefined("there is no previous item") : before_;
  }
  if (name != "cycle" && name != "changed") return std::nullopt;
  auto self = std::static_pointer_cast<LoopObject>(shared_from_this());
  const bool is_cycle = name == "cycle";
  const auto call = [self, is_cycle](Runtime& runtime, const CallArguments& arguments) {
    return is_cycle ? self->Cycle(runtime, arguments) : self->Changed(runtime, arguments);
  };
  ASSIGN_OR_RETURN(Value method, NewFunction(runtime, std::string(name), call, depth()));
  return method;
}

absl::StatusOr<Value> LoopObject::Cycle(Runtime&, const CallArguments& arguments) {
  if (arguments.positional.empty()) return TypeError("no items for cycling given");
  return arguments.positional[static_cast<size_t>(index0_) % arguments.positional.size()];
}

absl::StatusOr<Value> LoopObject::Changed(Runtime& runtime, const CallArguments& arguments) {
  bool is_same = last_changed_.has_value() && last_changed_->size() == arguments.positional.size();
  for (size_t i = 0; is_same && i < arguments.positional.size(); ++i) {
    ASSIGN_OR_RETURN(is_same, Equal(runtime, (*last_changed_)[i], arguments.positional[i]));
  }
  if (is_same) return Value::Bool(false);
  if (!last_changed_.has_value()) runtime.KeepUntilEnd(shared_from_this());  // it may now hold itself
  last_changed_ = arguments.positional;
  return Value::Bool(true);
}

absl::StatusOr<Value> LoopObject::Call(Runtime& runtime, CallArguments arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("loop", {{"iterable"}}, arguments));
  if (recursive_ == nullptr) {
    return TypeError("The loop must have the 'recursive' marker to be called recursively.");
  }
  RETURN_IF_ERROR(runtime.Spend(1));
  return interpreter_->RunRecursiveLoop(*recursive_, home_, *bound[0], loop_depth_ + 1);
}

void LoopObject::Clear() {
  iterable_ = Value();
  items_ = nullptr;
  after_ = std::nullopt;
  current_ = before_ = Value();
  last_changed_ = std::nullopt;
}

}  // namespace expertd::jinja
