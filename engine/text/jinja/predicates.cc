// What may follow `is` in a template: jinja2's tests.
#include <algorithm>
#include <iterator>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/builtins.h"

namespace expertd::jinja {
namespace {

template <bool (*kTest)(const Value&)>
absl::StatusOr<Value> OfValue(Runtime&, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("test", {{"value"}}, arguments));
  return Value::Bool(kTest(*bound[0]));
}

bool IsDefined(const Value& value) { return !value.is_undefined(); }
bool IsUndefined(const Value& value) { return value.is_undefined(); }
bool IsNone(const Value& value) { return value.is_none(); }
bool IsBoolean(const Value& value) { return value.is_bool(); }
bool IsFalse(const Value& value) { return value.is_bool() && !value.boolean(); }
bool IsTrue(const Value& value) { return value.is_bool() && value.boolean(); }
bool IsInteger(const Value& value) { return value.is_int(); }
bool IsFloat(const Value& value) { return value.is_float(); }
bool IsString(const Value& value) { return value.is_string(); }
bool IsMapping(const Value& value) { return value.is_dict(); }
bool IsNumber(const Value& value) { return value.is_number(); }
bool IsCallable(const Value& value) {
  // An undefined value has a __call__, if only to complain.
  return value.is_undefined() || (value.is_object() && value.object().IsCallable());
}
bool IsEscaped(const Value& value) { return value.is_string() && value.string().is_markup; }
bool HasSubscript(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is_sequence() || value.is_dict() ||
         (value.is_object() && value.object().HasSubscript());
}

// value % divisor == wanted, by the rules of the operator %.
absl::StatusOr<Value> HasRemainder(Runtime& runtime, const Value& value, const Value& divisor, Int wanted) {
  ASSIGN_OR_RETURN(const Value remainder, ApplyMath(runtime, MathOperator::kModulo, value, divisor));
  ASSIGN_OR_RETURN(const bool is_wanted, Equal(runtime, remainder, Value::Integer(wanted)));
  return Value::Bool(is_wanted);
}

template <int kWanted>
absl::StatusOr<Value> HasParity(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("test", {{"value"}}, arguments));
  return HasRemainder(runtime, *bound[0], Value::Integer(2), kWanted);
}

absl::StatusOr<Value> IsDivisibleBy(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("divisibleby", {{"value"}, {"num"}}, arguments));
  return HasRemainder(runtime, *bound[0], *bound[1], 0);
}

template <CompareOperator kOperator>
absl::StatusOr<Value> Compares(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("test", {{""}, {""}}, arguments));
  ASSIGN_OR_RETURN(const bool holds, ApplyComparison(runtime, kOperator, *bound[0], *bound[1]));
  return Value::Bool(holds);
}

absl::StatusOr<Value> IsIn(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("in", {{"value"}, {"seq"}}, arguments));
  ASSIGN_OR_RETURN(const bool is_inside, Contains(runtime, *bound[1], *bound[0]));
  return Value::Bool(is_inside);
}

absl::StatusOr<Value> IsSameAs(Runtime&, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("sameas", {{"value"}, {"other"}}, arguments));
  return Value::Bool(bound[0]->IsSameAs(*bound[1]));
}

absl::StatusOr<Value> IsSequence(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("sequence", {{"value"}}, arguments));
  ASSIGN_OR_RETURN(const std::optional<int64_t> length, Length(runtime, *bound[0]));
  return Value::Bool(length.has_value() && HasSubscript(*bound[0]));
}

template <bool kUpper>
absl::StatusOr<Value> IsOfCase(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("test", {{"value"}}, arguments));
  ASSIGN_OR_RETURN(std::string text, Str(runtime, *bound[0]));
  ASSIGN_OR_RETURN(const Value string, runtime.NewString(std::move(text)));
  ASSIGN_OR_RETURN(const Value method, GetAttribute(runtime, string, kUpper ? "isupper" : "islower"));
  return CallValue(runtime, method, {});
}

template <Builtin (*kFind)(std::string_view)>
absl::StatusOr<Value> Exists(Runtime&, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("test", {{"value"}}, arguments));
  RETURN_IF_ERROR(Hash(*bound[0]).status());
  return Value::Bool(bound[0]->is_string() && kFind(bound[0]->text()) != nullptr);
}

struct NamedTest {
  std::string_view name;
  Builtin test;
};

// Sorted by name.
constexpr NamedTest kTests[] = {
    {"!=", Compares<CompareOperator::kNotEqual>},
    {"<", Compares<CompareOperator::kLess>},
    {"<=", Compares<CompareOperator::kLessOrEqual>},
    {"==", Compares<CompareOperator::kEqual>},
    {">", Compares<CompareOperator::kGreater>},
    {">=", Compares<CompareOperator::kGreaterOrEqual>},
    {"boolean", OfValue<IsBoolean>},
    {"callable", OfValue<IsCallable>},
    {"defined", OfValue<IsDefined>},
    {"divisibleby", IsDivisibleBy},
    {"eq", Compares<CompareOperator::kEqual>},
    {"equalto", Compares<CompareOperator::kEqual>},
    {"escaped", OfValue<IsEscaped>},
    {"even", HasParity<0>},
    {"false", OfValue<IsFalse>},
    {"filter", Exists<FindFilter>},
    {"float", OfValue<IsFloat>},
    {"ge", Compares<CompareOperator::kGreaterOrEqual>},
    {"greaterthan", Compares<CompareOperator::kGreater>},
    {"gt", Compares<CompareOperator::kGreater>},
    {"in", IsIn},
    {"integer", OfValue<IsInteger>},
    {"iterable", OfValue<IsIterable>},
    {"le", Compares<CompareOperator::kLessOrEqual>},
    {"lessthan", Compares<CompareOperator::kLess>},
    {"lower", IsOfCase<false>},
    {"lt", Compares<CompareOperator::kLess>},
    {"mapping", OfValue<IsMapping>},
    {"ne", Compares<CompareOperator::kNotEqual>},
    {"none", OfValue<IsNone>},
    {"number", OfValue<IsNumber>},
    {"odd", HasParity<1>},
    {"sameas", IsSameAs},
    {"sequence", IsSequence},
    {"string", OfValue<IsString>},
    {"test", Exists<FindTest>},
    {"true", OfValue<IsTrue>},
    {"undefined", OfValue<IsUndefined>},
    {"upper", IsOfCase<true>},
};

}  // namespace

Builtin FindTest(std::string_view name) {
  const auto test = std::lower_bound(std::begin(kTests), std::end(kTests), name,
                                     [](const NamedTest& entry, std::string_view key) { return entry.name < key; });
  return test != std::end(kTests) && test->name == name ? test->test : nullptr;
}

}  // namespace expertd::jinja
