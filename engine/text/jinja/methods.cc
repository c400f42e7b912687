// The methods and properties of lists, tuples, dicts and numbers, and the finding of those of all values.
#include "engine/text/jinja/methods.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/builtins.h"

namespace expertd::jinja {
namespace {

class MethodObject final : public Object {
 public:
  MethodObject(Runtime* runtime, Value self, const NamedMethod* method)
      : Object(runtime, 64, self.depth() + 1), self_(std::move(self)), method_(method) {}
  std::string TypeName() const override { return "builtin_function_or_method"; }
  absl::StatusOr<std::string> Repr(Runtime&) override {
    return StrCat("<built-in method ", method_->name, " of ", jinja::TypeName(self_), " object>");
  }
  bool IsCallable() const override { return true; }
  absl::StatusOr<Value> Call(Runtime& runtime, CallArguments arguments) override {
    return method_->method(runtime, self_, arguments);
  }

 private:
  const Value self_;
  const NamedMethod* const method_;
};

// ---- lists, tuples and dicts

absl::StatusOr<Value> CountItems(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("count", {{""}}, arguments));
  int64_t count = 0;
  for (const Value& item : self.items()) {
    ASSIGN_OR_RETURN(const bool is_equal, Equal(runtime, item, *bound[0]));
    count += is_equal ? 1 : 0;
  }
  return Value::Integer(count);
}

absl::StatusOr<Value> IndexOfItem(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("index", {{""}, {"", true}, {"", true}}, arguments));
  const auto num_items = static_cast<int64_t>(self.items().size());
  ASSIGN_OR_RETURN(const int64_t start, WindowBound(bound[1], 0, num_items));
  ASSIGN_OR_RETURN(const int64_t end, WindowBound(bound[2], num_items, num_items));
  for (int64_t i = start; i < std::min(end, num_items); ++i) {
    ASSIGN_OR_RETURN(const bool is_equal, Equal(runtime, self.items()[static_cast<size_t>(i)], *bound[0]));
    if (is_equal) return Value::Integer(i);
  }
  return ValueError(StrCat("value is not in ", TypeName(self)));
}

absl::StatusOr<Value> Copy(Runtime&, const Value& self, const CallArguments& arguments) {
  RETURN_IF_ERROR(BindArguments("copy", {}, arguments).status());
  return self;
}

absl::StatusOr<Value> Get(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("get", {{""}, {"", true}}, arguments));
  ASSIGN_OR_RETURN(const Value* found, DictFind(runtime, self.dict(), *bound[0]));
  if (found != nullptr) return *found;
  return bound[1].value_or(Value::None());
}

template <DictPart kPart>
absl::StatusOr<Value> View(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  RETURN_IF_ERROR(BindArguments("dict method", {}, arguments).status());
  return NewDictView(runtime, self, kPart);
}

absl::StatusOr<Value> FromKeys(Runtime& runtime, const Value&, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Value function, [&]() -> absl::StatusOr<Value> {
    ASSIGN_OR_RETURN(std::optional<Value> dict, FindGlobal(runtime, "dict"));
    return GetAttribute(runtime, *dict, "fromkeys");
  }());
  return CallValue(runtime, function, arguments);
}

// ---- numbers

absl::StatusOr<Value> IsWhole(Runtime&, const Value& self, const CallArguments& arguments) {
  RETURN_IF_ERROR(BindArguments("is_integer", {}, arguments).status());
  return Value::Bool(std::isfinite(self.number()) && self.number() == std::floor(self.number()));
}

absl::StatusOr<Value> BitLength(Runtime&, const Value& self, const CallArguments& arguments) {
  RETURN_IF_ERROR(BindArguments("bit_length", {}, arguments).status());
  int num_bits = 0;
  for (Int rest = self.integer(); rest != 0; rest /= 2) ++num_bits;
  return Value::Integer(num_bits);
}

// Each sorted by name.
constexpr NamedMethod kSequenceMethods[] = {{"copy", Copy}, {"count", CountItems}, {"index", IndexOfItem}};

constexpr NamedMethod kDictMethods[] = {
    {"copy", Copy},
    {"fromkeys", FromKeys},
    {"get", Get},
    {"items", View<DictPart::kItems>},
    {"keys", View<DictPart::kKeys>},
    {"values", View<DictPart::kValues>},
};

constexpr NamedMethod kIntMethods[] = {{"bit_length", BitLength}};
constexpr NamedMethod kFloatMethods[] = {{"is_integer", IsWhole}};

std::span<const NamedMethod> MethodsOf(const Value& object) {
  switch (object.type()) {
    case Value::Type::kString: return StringMethods();
    case Value::Type::kList:
    case Value::Type::kTuple: return kSequenceMethods;
    case Value::Type::kDict: return kDictMethods;
    case Value::Type::kBool:
    case Value::Type::kInt: return kIntMethods;
    case Value::Type::kFloat: return kFloatMethods;
    default: return {};
  }
}

std::optional<Value> Property(const Value& object, std::string_view name) {
  if (object.is_tuple() && static_cast<const ListObject&>(*object.shared()).is_group) {
    if (name == "grouper") return object.items()[0];
    if (name == "list") return object.items()[1];
  }
  if (object.is_integral()) {
    if (name == "real" || name == "numerator") return Value::Integer(object.integer());
    if (name == "imag") return Value::Integer(0);
    if (name == "denominator") return Value::Integer(1);
  }
  if (object.is_float()) {
    if (name == "real") return object;
    if (name == "imag") return Value::Float(0.0);
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<int64_t> WindowBound(const std::optional<Value>& value, int64_t fallback, int64_t length) {
  if (!value.has_value() || value->is_none()) return fallback;
  ASSIGN_OR_RETURN(int64_t bound, ToInt64(*value, "slice indices must be integers or None"));
  if (bound < 0) bound = std::max<int64_t>(bound + length, 0);
  return bound;
}

absl::StatusOr<std::optional<Value>> BuiltinAttribute(Runtime& runtime, const Value& object, std::string_view name) {
  const std::span<const NamedMethod> methods = MethodsOf(object);
  const auto method = std::lower_bound(methods.begin(), methods.end(), name,
                                       [](const NamedMethod& entry, std::string_view key) { return entry.name < key; });
  const bool is_missing_from_tuples = object.is_tuple() && name == "copy";
  if (method == methods.end() || method->name != name || is_missing_from_tuples) return Property(object, name);
  ASSIGN_OR_RETURN(Value value, runtime.NewObject<MethodObject>(object, &*method));
  return value;
}

}  // namespace expertd::jinja
