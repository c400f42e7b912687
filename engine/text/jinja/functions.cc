// Callable values, the global functions of templates, and the objects those make.
#include <algorithm>
#include <ctime>
#include <limits>

#include "absl/time/time.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/builtins.h"

namespace expertd::jinja {
namespace {

// jinja2's sandbox refuses longer ranges.
constexpr int64_t kMaxRangeLength = 100000;
constexpr size_t kMaxTimeTextBytes = 1 << 16;

class FunctionObject final : public Object {
 public:
  FunctionObject(Runtime* runtime, std::string name, NativeFunction function, int depth)
      : Object(runtime, 96, depth + 1), name_(std::move(name)), function_(std::move(function)) {}
  std::string TypeName() const override { return "builtin_function_or_method"; }
  absl::StatusOr<std::string> Repr(Runtime&) override { return StrCat("<built-in function ", name_, ">"); }
  bool IsCallable() const override { return true; }
  absl::StatusOr<Value> Call(Runtime& runtime, CallArguments arguments) override {
    return function_(runtime, std::move(arguments));
  }

 private:
  const std::string name_;
  const NativeFunction function_;
};

class GeneratorObject final : public Object {
 public:
  GeneratorObject(Runtime* runtime, std::string type_name, IteratorPtr items, int depth)
      : Object(runtime, 128, depth + 1), type_name_(std::move(type_name)), items_(std::move(items)) {}
  std::string TypeName() const override { return type_name_; }
  bool IsIterable() const override { return true; }
  absl::StatusOr<IteratorPtr> Iterate(Runtime&) override;
  absl::StatusOr<std::optional<Value>> Next(Runtime& runtime) {
    if (is_running_) return ValueError("generator already executing");
    Level level(runtime);
    RETURN_IF_ERROR(level.status());
    is_running_ = true;
    absl::StatusOr<std::optional<Value>> item = items_->Next(runtime);
    is_running_ = false;
    return item;
  }

 private:
  const std::string type_name_;
  const IteratorPtr items_;
  bool is_running_ = false;
};

// All walks of a generator draw from the same items.
class GeneratorIterator final : public Iterator {
 public:
  explicit GeneratorIterator(std::shared_ptr<GeneratorObject> generator) : generator_(std::move(generator)) {}
  absl::StatusOr<std::optional<Value>> Next(Runtime& runtime) override { return generator_->Next(runtime); }

 private:
  const std::shared_ptr<GeneratorObject> generator_;
};

absl::StatusOr<IteratorPtr> GeneratorObject::Iterate(Runtime&) {
  return std::make_unique<GeneratorIterator>(std::static_pointer_cast<GeneratorObject>(shared_from_this()));
}

class CountingIterator final : public Iterator {
 public:
  explicit CountingIterator(RangeBounds bounds) : bounds_(bounds) {}
  absl::StatusOr<std::optional<Value>> Next(Runtime& runtime) override {
    RETURN_IF_ERROR(runtime.Spend(1));
    if (position_ >= bounds_.length) return std::nullopt;
    return Value::Integer(bounds_.start + bounds_.step * position_++);
  }

 private:
  const RangeBounds bounds_;
  int64_t position_ = 0;
};

class RangeObject final : public Object {
 public:
  RangeObject(Runtime* runtime, RangeBounds bounds, Int stop) : Object(runtime, 64, 1), bounds_(bounds), stop_(stop) {}
  const RangeBounds& bounds() const { return bounds_; }
  std::string TypeName() const override { return "range"; }
  absl::StatusOr<std::string> Repr(Runtime&) override {
    std::string text = StrCat("range(", ReprOfInt(bounds_.start), ", ", ReprOfInt(stop_));
    if (bounds_.step != 1) StrAppend(&text, ", ", ReprOfInt(bounds_.step));
    return text + ")";
  }
  absl::StatusOr<std::optional<int64_t>> Length(Runtime&) override { return bounds_.length; }
  bool IsIterable() const override { return true; }
  bool HasSubscript() const override { return true; }
  absl::StatusOr<IteratorPtr> Iterate(Runtime&) override { return std::make_unique<CountingIterator>(bounds_); }
  absl::StatusOr<IteratorPtr> IterateReversed(Runtime&) override {
    const Int last = bounds_.start + bounds_.step * (bounds_.length - 1);
    return std::make_unique<CountingIterator>(RangeBounds{last, -bounds_.step, bounds_.length});
  }
  absl::StatusOr<std::optional<Value>> Item(Runtime&, const Value& index) override {
    if (!index.is_integral()) return std::nullopt;
    const Int position = index.integer() < 0 ? index.integer() + bounds_.length : index.integer();
    if (position < 0 || position >= bounds_.length) return std::nullopt;
    return Value::Integer(bounds_.start + bounds_.step * position);
  }
  absl::StatusOr<std::optional<Value>> Attribute(Runtime&, std::string_view name) override {
    if (name == "start") return Value::Integer(bounds_.start);
    if (name == "stop") return Value::Integer(stop_);
    if (name == "step") return Value::Integer(bounds_.step);
    return std::nullopt;
  }
  absl::StatusOr<bool> EqualTo(Runtime&, const Object& other) override {
    const auto* range = dynamic_cast<const RangeObject*>(&other);
    if (range == nullptr || range->bounds_.length != bounds_.length) return false;
    if (bounds_.length == 0) return true;
    return range->bounds_.start == bounds_.start && (bounds_.length == 1 || range->bounds_.step == bounds_.step);
  }

 private:
  const RangeBounds bounds_;
  const Int stop_;
};

// ---- views of dicts

class ViewIterator final : public Iterator {
 public:
  ViewIterator(Value dict, DictPart part, bool is_reversed)
      : dict_(std::move(dict)), part_(part), is_reversed_(is_reversed) {}
  absl::StatusOr<std::optional<Value>> Next(Runtime& runtime) override {
    RETURN_IF_ERROR(runtime.Spend(1));
    const DictEntries& entries = dict_.dict().entries;
    if (position_ >= entries.size()) return std::nullopt;
    const auto& [key, value] = entries[is_reversed_ ? entries.size() - 1 - position_ : position_];
    ++position_;
    if (part_ == DictPart::kKeys) return key;
    if (part_ == DictPart::kValues) return value;
    ASSIGN_OR_RETURN(Value pair, runtime.NewTuple({key, value}));
    return pair;
  }

 private:
  const Value dict_;
  const DictPart part_;
  const bool is_reversed_;
  size_t position_ = 0;
};

class DictViewObject final : public Object {
 public:
  DictViewObject(Runtime* runtime, Value dict, DictPart part)
      : Object(runtime, 48, dict.depth() + 1), dict_(std::move(dict)), part_(part) {}
  std::string TypeName() const override {
    return part_ == DictPart::kKeys ? "dict_keys" : part_ == DictPart::kValues ? "dict_values" : "dict_items";
  }
  absl::StatusOr<std::string> Repr(Runtime& runtime) override {
    ViewIterator items(dict_, part_, /*is_reversed=*/false);
    std::vector<Value> all;
    while (true) {
      ASSIGN_OR_RETURN(std::optional<Value> item, items.Next(runtime));
      if (!item.has_value()) break;
      all.push_back(*std::move(item));
    }
    ASSIGN_OR_RETURN(const Value list, runtime.NewList(std::move(all)));
    ASSIGN_OR_RETURN(const std::string text, jinja::Repr(runtime, list));
    return StrCat(TypeName(), "(", text, ")");
  }
  absl::StatusOr<std::optional<int64_t>> Length(Runtime&) override {
    return static_cast<int64_t>(dict_.dict().entries.size());
  }
  bool IsIterable() const override { return true; }
  absl::StatusOr<IteratorPtr> Iterate(Runtime&) override {
    return std::make_unique<ViewIterator>(dict_, part_, /*is_reversed=*/false);
  }
  absl::StatusOr<IteratorPtr> IterateReversed(Runtime&) override {
    return std::make_unique<ViewIterator>(dict_, part_, /*is_reversed=*/true);
  }
  absl::StatusOr<std::optional<bool>> Contains(Runtime& runtime, const Value& value) override {
    if (part_ != DictPart::kKeys) return std::nullopt;
    ASSIGN_OR_RETURN(const Value* found, DictFind(runtime, dict_.dict(), value));
    return found != nullptr;
  }

 private:
  const Value dict_;
  const DictPart part_;
};

// ---- namespaces

class NamespaceObject final : public Object {
 public:
  explicit NamespaceObject(Runtime* runtime) : Object(runtime, 96, 1), runtime_(runtime) {}
  ~NamespaceObject() override { runtime_->Charge(-charged_bytes_); }

  absl::Status Set(std::string_view name, Value value) {
    if (!name.empty() && name[0] == '_') {
      return absl::InvalidArgumentError(
          StrCat("Chat templates cannot store underscore-prefixed attributes on a namespace, but got ",
                 ReprOfString(name), ". Please rename the attribute."));
    }
    RETURN_IF_ERROR(runtime_->Spend(1 + static_cast<int64_t>(attributes_.size()) / 4));
    for (auto& [other, slot] : attributes_) {
      if (other == name) {
        slot = std::move(value);
        return absl::OkStatus();
      }
    }
    const auto entry_bytes = static_cast<int64_t>(sizeof(attributes_[0]) * 2 + name.size());
    RETURN_IF_ERROR(runtime_->CanAllocate(entry_bytes));
    runtime_->Charge(entry_bytes);
    charged_bytes_ += entry_bytes;
    attributes_.emplace_back(std::string(name), std::move(value));
    return absl::OkStatus();
  }

  std::string TypeName() const override { return "Namespace"; }
  absl::StatusOr<std::string> Repr(Runtime& runtime) override {
    if (is_in_repr_) return std::string("<Namespace {...}>");
    is_in_repr_ = true;
    absl::StatusOr<std::string> text = ReprOfAttributes(runtime);
    is_in_repr_ = false;
    return text;
  }
  absl::StatusOr<std::optional<Value>> Attribute(Runtime& runtime, std::string_view name) override {
    RETURN_IF_ERROR(runtime.Spend(1 + static_cast<int64_t>(attributes_.size()) / 4));
    for (const auto& [other, value] : attributes_) {
      if (other == name) return value;
    }
    return std::nullopt;
  }
  void Clear() override { attributes_.clear(); }

 private:
  absl::StatusOr<std::string> ReprOfAttributes(Runtime& runtime) {
    std::string text = "<Namespace {";
    for (const auto& [name, value] : attributes_) {
      if (text.back() != '{') text += ", ";
      ASSIGN_OR_RETURN(const std::string part, jinja::Repr(runtime, value));
      RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(text.size() + part.size())));
      text += StrCat(ReprOfString(name), ": ", part);
    }
    return text + "}>";
  }

  Runtime* const runtime_;
  std::vector<std::pair<std::string, Value>> attributes_;
  int64_t charged_bytes_ = 0;
  bool is_in_repr_ = false;
};

// ---- cycler and joiner

class CyclerObject final : public Object {
 public:
  CyclerObject(Runtime* runtime, Value items) : Object(runtime, 48, items.depth() + 1), items_(std::move(items)) {}
  std::string TypeName() const override { return "jinja2.utils.Cycler"; }
  absl::StatusOr<std::optional<Value>> Attribute(Runtime& runtime, std::string_view name) override {
    if (name == "items") return items_;
    if (name == "pos") return Value::Integer(static_cast<Int>(position_));
    if (name == "current") return items_.items()[position_];
    if (name != "next" && name != "reset") return std::nullopt;
    auto self = std::static_pointer_cast<CyclerObject>(shared_from_this());
    const bool is_next = name == "next";
    const auto call = [self, is_next](Runtime&, const CallArguments&) { return self->Move(is_next); };
    ASSIGN_OR_RETURN(Value method, NewFunction(runtime, std::string(name), call, depth()));
    return method;
  }

 private:
  absl::StatusOr<Value> Move(bool is_next) {
    if (!is_next) {
      position_ = 0;
      return Value::None();
    }
    const Value current = items_.items()[position_];
    position_ = (position_ + 1) % items_.items().size();
    return current;
  }

  const Value items_;
  size_t position_ = 0;
};

class JoinerObject final : public Object {
 public:
  JoinerObject(Runtime* runtime, Value separator)
      : Object(runtime, 48, separator.depth() + 1), separator_(std::move(separator)) {}
  std::string TypeName() const override { return "jinja2.utils.Joiner"; }
  bool IsCallable() const override { return true; }
  absl::StatusOr<Value> Call(Runtime& runtime, CallArguments) override {
    if (!std::exchange(is_used_, true)) return runtime.NewString("");
    return separator_;
  }
  absl::StatusOr<std::optional<Value>> Attribute(Runtime&, std::string_view name) override {
    if (name == "sep") return separator_;
    if (name == "used") return Value::Bool(is_used_);
    return std::nullopt;
  }

 private:
  const Value separator_;
  bool is_used_ = false;
};

// ---- the global functions

absl::StatusOr<Value> Range(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("range", {{""}, {"", true}, {"", true}}, arguments));
  constexpr std::string_view kWhat = "'range' arguments must be integers";
  Int start = 0, step = 1;
  ASSIGN_OR_RETURN(Int stop, ToIndex(*bound[0], kWhat));
  if (bound[1].has_value()) {
    start = stop;
    ASSIGN_OR_RETURN(stop, ToIndex(*bound[1], kWhat));
  }
  if (bound[2].has_value()) {
    ASSIGN_OR_RETURN(step, ToIndex(*bound[2], kWhat));
  }
  return NewRange(runtime, start, stop, step);
}

// dict(pairs or mapping, **more), as entries.
absl::Status AddToDict(Runtime& runtime, std::string_view function, const CallArguments& arguments,
                       DictBuilder* builder) {
  if (arguments.positional.size() > 1) {
    return TypeError(StrCat(function, " expected at most 1 argument, got ", arguments.positional.size()));
  }
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.is_dict()) {
      for (const auto& [key, value] : source.dict().entries) RETURN_IF_ERROR(builder->Set(key, value));
      RETURN_IF_ERROR(runtime.Spend(static_cast<int64_t>(source.dict().entries.size())));
    } else {
      ASSIGN_OR_RETURN(const std::vector<Value> pairs, ToVector(runtime, source));
      for (const Value& pair : pairs) {
        ASSIGN_OR_RETURN(std::vector<Value> items, ToVector(runtime, pair));
        if (items.size() != 2) return ValueError("dictionary update sequence element must have length 2");
        RETURN_IF_ERROR(builder->Set(std::move(items[0]), std::move(items[1])));
      }
    }
  }
  for (const auto& [name, value] : arguments.keywords) {
    ASSIGN_OR_RETURN(Value key, runtime.NewString(name));
    RETURN_IF_ERROR(builder->Set(std::move(key), value));
  }
  return absl::OkStatus();
}

class DictFunctionObject final : public Object {
 public:
  explicit DictFunctionObject(Runtime* runtime) : Object(runtime, 16, 1) {}
  std::string TypeName() const override { return "TemplateDict"; }
  bool IsCallable() const override { return true; }
  absl::StatusOr<Value> Call(Runtime& runtime, CallArguments arguments) override {
    DictBuilder builder(&runtime);
    RETURN_IF_ERROR(AddToDict(runtime, "dict", arguments, &builder));
    return std::move(builder).Build();
  }
  absl::StatusOr<std::optional<Value>> Attribute(Runtime& runtime, std::string_view name) override {
    if (name != "fromkeys") return std::nullopt;
    ASSIGN_OR_RETURN(Value method, NewFunction(runtime, "fromkeys", FromKeys));
    return method;
  }

 private:
  static absl::StatusOr<Value> FromKeys(Runtime& runtime, const CallArguments& arguments) {
    ASSIGN_OR_RETURN(const auto bound, BindArguments("fromkeys", {{""}, {"", true}}, arguments));
    ASSIGN_OR_RETURN(std::vector<Value> keys, ToVector(runtime, *bound[0]));
    DictBuilder builder(&runtime);
    for (Value& key : keys) RETURN_IF_ERROR(builder.Set(std::move(key), bound[1].value_or(Value::None())));
    return std::move(builder).Build();
  }
};

absl::StatusOr<Value> MakeNamespace(Runtime& runtime, const CallArguments& arguments) {
  DictBuilder builder(&runtime);
  RETURN_IF_ERROR(AddToDict(runtime, "namespace", arguments, &builder));
  ASSIGN_OR_RETURN(const Value attributes, std::move(builder).Build());
  ASSIGN_OR_RETURN(Value result, runtime.NewObject<NamespaceObject>());
  // It can hold itself, so the runtime takes it apart in the end.
  runtime.KeepUntilEnd(std::static_pointer_cast<Object>(result.shared()));
  for (const auto& [name, value] : attributes.dict().entries) {
    if (!name.is_string()) return TypeError("attributes of a namespace must have strings as names");
    RETURN_IF_ERROR(static_cast<NamespaceObject&>(result.object()).Set(name.text(), value));
  }
  return result;
}

absl::StatusOr<Value> MakeCycler(Runtime& runtime, const CallArguments& arguments) {
  if (arguments.positional.empty()) return absl::InvalidArgumentError("at least one item has to be provided");
  ASSIGN_OR_RETURN(Value items, runtime.NewTuple(arguments.positional));
  return runtime.NewObject<CyclerObject>(std::move(items));
}

absl::StatusOr<Value> MakeJoiner(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("joiner", {{"sep", true}}, arguments));
  ASSIGN_OR_RETURN(Value separator, runtime.NewString(", "));
  return runtime.NewObject<JoinerObject>(bound[0].value_or(std::move(separator)));
}

absl::StatusOr<Value> RaiseException(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("raise_exception", {{"message"}}, arguments));
  ASSIGN_OR_RETURN(const std::string message, Str(runtime, *bound[0]));
  runtime.was_raised = true;
  return absl::InvalidArgumentError(message);
}

// Python fills in these itself: microseconds, and the zone, which its local time does not know.
std::string ExpandPythonDirectives(std::string_view format, int64_t microseconds) {
  std::string text;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) {
      text += format[i];
      continue;
    }
    const char directive = format[++i];
    if (directive == 'f') {
      std::string digits = std::to_string(microseconds);
      text += std::string(6 - digits.size(), '0') + digits;
    } else if (directive != 'z' && directive != 'Z') {
      text += '%';
      text += directive;
    }
  }
  return text;
}

absl::StatusOr<Value> StrftimeNow(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("strftime_now", {{"format"}}, arguments));
  ASSIGN_OR_RETURN(const std::string_view format, ToText(*bound[0], "strftime() argument 1"));
  if (format.size() > kMaxTimeTextBytes / 16) return ValueError("the format of strftime_now is too long");
  const absl::Time now = runtime.Now();
  const std::tm parts = absl::ToTM(now, runtime.options().time_zone);
  const int64_t microseconds = (absl::ToUnixMicros(now) % 1000000 + 1000000) % 1000000;
  // A mark at the end tells an empty result from one that does not fit.
  const std::string marked = ExpandPythonDirectives(format, microseconds) + "|";
  std::string text(kMaxTimeTextBytes, '\0');
  const size_t size = std::strftime(text.data(), text.size(), marked.c_str(), &parts);
  if (size == 0) return ValueError("the result of strftime_now is too long");
  text.resize(size - 1);
  return runtime.NewString(std::move(text));
}

}  // namespace

absl::StatusOr<Bound> BindArguments(std::string_view function, std::initializer_list<Parameter> parameters,
                                    const CallArguments& arguments) {
  if (arguments.positional.size() > parameters.size()) {
    return TypeError(StrCat(function, "() takes at most ", parameters.size(), " arguments (",
                            arguments.positional.size(), " given)"));
  }
  Bound bound(parameters.size());
  std::copy(arguments.positional.begin(), arguments.positional.end(), bound.begin());
  for (const auto& [name, value] : arguments.keywords) {
    const auto parameter = std::find_if(parameters.begin(), parameters.end(),
                                        [&name](const Parameter& p) { return !p.name.empty() && p.name == name; });
    if (parameter == parameters.end()) {
      return TypeError(StrCat(function, "() got an unexpected keyword argument '", name, "'"));
    }
    std::optional<Value>& slot = bound[static_cast<size_t>(parameter - parameters.begin())];
    if (slot.has_value()) return TypeError(StrCat(function, "() got multiple values for argument '", name, "'"));
    slot = value;
  }
  size_t i = 0;
  for (const Parameter& parameter : parameters) {
    if (!bound[i++].has_value() && !parameter.is_optional) {
      return TypeError(StrCat(function, "() missing required argument ", parameter.name.empty() ? "" : "'",
                              parameter.name, parameter.name.empty() ? "" : "' ", "(pos ", i, ")"));
    }
  }
  return bound;
}

absl::StatusOr<Value> NewFunction(Runtime& runtime, std::string name, NativeFunction function, int depth) {
  return runtime.NewObject<FunctionObject>(std::move(name), std::move(function), depth);
}

absl::StatusOr<Value> CallValue(Runtime& runtime, const Value& callee, CallArguments arguments) {
  RETURN_IF_ERROR(runtime.Spend(1));
  if (callee.is_undefined()) return absl::InvalidArgumentError(callee.undefined().message);
  if (!callee.is_object()) return TypeError(StrCat("'", TypeName(callee), "' object is not callable"));
  // The object stays alive while it runs, even if the template drops it meanwhile.
  const Value held = callee;
  return held.object().Call(runtime, std::move(arguments));
}

absl::StatusOr<std::optional<Value>> FindGlobal(Runtime& runtime, std::string_view name) {
  if (name == "dict") {
    ASSIGN_OR_RETURN(Value function, runtime.NewObject<DictFunctionObject>());
    return function;
  }
  constexpr std::pair<std::string_view, absl::StatusOr<Value> (*)(Runtime&, const CallArguments&)> kFunctions[] = {
      {"range", Range},       {"namespace", MakeNamespace},        {"cycler", MakeCycler},
      {"joiner", MakeJoiner}, {"raise_exception", RaiseException}, {"strftime_now", StrftimeNow},
  };
  for (const auto& [other, function] : kFunctions) {
    if (other != name) continue;
    ASSIGN_OR_RETURN(Value value, NewFunction(runtime, std::string(name), function));
    return value;
  }
  return std::nullopt;
}

absl::StatusOr<Value> NewGenerator(Runtime& runtime, std::string type_name, IteratorPtr iterator, int depth) {
  return runtime.NewObject<GeneratorObject>(std::move(type_name), std::move(iterator), depth);
}

absl::StatusOr<Value> NewRange(Runtime& runtime, Int start, Int stop, Int step) {
  if (step == 0) return ValueError("range() arg 3 must not be zero");
  constexpr Int kFar = std::numeric_limits<int64_t>::max();
  if (std::max({start, stop, step}) > kFar || std::min({start, stop, step}) < -kFar) {
    return ValueError("Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
  }
  const Int distance = step > 0 ? stop - start : start - stop;
  const Int length = distance <= 0 ? 0 : (distance - 1) / (step > 0 ? step : -step) + 1;
  if (length > kMaxRangeLength) {
    return ValueError("Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
  }
  return runtime.NewObject<RangeObject>(RangeBounds{start, step, static_cast<int64_t>(length)}, stop);
}

std::optional<RangeBounds> AsRange(const Value& value) {
  if (!value.is_object()) return std::nullopt;
  const auto* range = dynamic_cast<const RangeObject*>(&value.object());
  return range == nullptr ? std::nullopt : std::optional(range->bounds());
}

absl::StatusOr<Value> NewDictView(Runtime& runtime, Value dict, DictPart part) {
  return runtime.NewObject<DictViewObject>(std::move(dict), part);
}

bool IsNamespace(const Value& value) {
  return value.is_object() && dynamic_cast<const NamespaceObject*>(&value.object()) != nullptr;
}

absl::Status SetNamespaceAttribute(const Value& object, std::string_view name, Value value) {
  if (!IsNamespace(object)) return absl::InvalidArgumentError("cannot assign attribute on non-namespace object");
  return static_cast<NamespaceObject&>(object.object()).Set(name, std::move(value));
}

}  // namespace expertd::jinja
