// The filters of single values: defaults, attributes and numbers, with the semantics of jinja2's own (filters.py
// describes them).
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/filters.h"

namespace expertd::jinja {
namespace {

absl::StatusOr<Value> Default(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("default", {{"value"}, {"default_value", true}, {"boolean", true}}, arguments));
  ASSIGN_OR_RETURN(const bool by_truth, TruthOr(runtime, bound[2], false));
  bool keeps = !bound[0]->is_undefined();
  if (keeps && by_truth) {
    ASSIGN_OR_RETURN(keeps, Truth(runtime, *bound[0]));
  }
  if (keeps) return *bound[0];
  if (bound[1].has_value()) return *bound[1];
  return runtime.NewString("");
}

absl::StatusOr<Value> Attr(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("attr", {{"obj"}, {"name"}}, arguments));
  ASSIGN_OR_RETURN(const std::string_view name, ToText(*bound[1], "attribute name"));
  if (bound[0]->is_undefined()) return absl::InvalidArgumentError(bound[0]->undefined().message);
  // Unlike object.name, this does not look among the keys of a dict.
  const bool is_key_only = bound[0]->is_dict() && DictFind(bound[0]->dict(), name) != nullptr;
  if (is_key_only) {
    ASSIGN_OR_RETURN(std::optional<Value> method, BuiltinAttribute(runtime, *bound[0], name));
    if (!method.has_value()) {
      return runtime.NewUndefined(
          StrCat("'", TypeNameInMessages(*bound[0]), "' has no attribute ", ReprOfString(name)));
    }
  }
  return GetAttribute(runtime, *bound[0], name);
}

absl::StatusOr<Value> Abs(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("abs", {{""}}, arguments));
  const Value& value = *bound[0];
  if (value.is_float()) return Value::Float(std::abs(value.number()));
  if (!value.is_integral()) return TypeError(StrCat("bad operand type for abs(): '", TypeName(value), "'"));
  if (value.integer() >= 0) return Value::Integer(value.integer());
  return ApplyUnary(runtime, UnaryOperator::kNegative, value);
}

// int(number), where it has one.
absl::StatusOr<std::optional<Int>> Truncated(double number) {
  if (std::isnan(number)) return std::nullopt;
  if (std::isinf(number)) return absl::InvalidArgumentError("cannot convert float infinity to integer");
  if (!(std::abs(number) < 1.7e38)) return absl::InvalidArgumentError("an integer does not fit into 128 bits");
  return static_cast<Int>(number);
}

absl::StatusOr<Value> IntFilter(Runtime&, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("int", {{"value"}, {"default", true}, {"base", true}}, arguments));
  const Value& value = *bound[0];
  const Value fallback = bound[1].value_or(Value::Integer(0));
  if (value.is_undefined()) return absl::InvalidArgumentError(value.undefined().message);
  if (value.is_integral()) return Value::Integer(value.integer());
  if (value.is_float()) {
    ASSIGN_OR_RETURN(const std::optional<Int> whole, Truncated(value.number()));
    return whole.has_value() ? Value::Integer(*whole) : fallback;
  }
  if (!value.is_string()) return fallback;
  ASSIGN_OR_RETURN(const int64_t base, IntOr(bound[2], 10, "base must be an integer"));
  if (base == 0 || (base >= 2 && base <= 36)) {
    if (const std::optional<Int> whole = ParseInt(value.text(), static_cast<int>(base))) return Value::Integer(*whole);
  }
  const std::optional<double> number = ParseFloat(value.text());
  if (!number.has_value() || std::isinf(*number)) return fallback;
  ASSIGN_OR_RETURN(const std::optional<Int> whole, Truncated(*number));
  return whole.has_value() ? Value::Integer(*whole) : fallback;
}

absl::StatusOr<Value> FloatFilter(Runtime&, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("float", {{"value"}, {"default", true}}, arguments));
  const Value& value = *bound[0];
  if (value.is_undefined()) return absl::InvalidArgumentError(value.undefined().message);
  if (value.is_number()) return Value::Float(value.number());
  if (value.is_string()) {
    if (const std::optional<double> number = ParseFloat(value.text())) return Value::Float(*number);
  }
  return bound[1].value_or(Value::Float(0.0));
}

// round(number, precision): to the nearest decimal, ties to even on the exact value.
double RoundTo(double number, int64_t precision) {
  if (!std::isfinite(number) || precision > 323) return number;
  if (precision < -308) return std::copysign(0.0, number);
  if (precision >= 0) {
    std::string text(512 + static_cast<size_t>(precision), '\0');
    std::snprintf(text.data(), text.size(), "%.*f", static_cast<int>(precision), number);
    return std::strtod(text.c_str(), nullptr);
  }
  const double unit = std::pow(10.0, static_cast<double>(-precision));
  return std::nearbyint(number / unit) * unit;
}

absl::StatusOr<Value> RoundInt(Int number, int64_t precision) {
  if (precision >= 0) return Value::Integer(number);
  if (precision < -38) return Value::Integer(0);
  Int unit = 1;
  for (int64_t i = 0; i < -precision; ++i) unit *= 10;
  Int quotient = number / unit;
  const Int remainder = number % unit < 0 ? -(number % unit) : number % unit;
  const Int twice = remainder - (unit - remainder);
  if (twice > 0 || (twice == 0 && quotient % 2 != 0)) quotient += number < 0 ? -1 : 1;
  Int result = 0;
  if (__builtin_mul_overflow(quotient, unit, &result)) return ValueError("an integer does not fit into 128 bits");
  return Value::Integer(result);
}

absl::StatusOr<Value> Round(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("round", {{"value"}, {"precision", true}, {"method", true}}, arguments));
  std::string method = "common";
  if (bound[2].has_value()) {
    ASSIGN_OR_RETURN(method, Str(runtime, *bound[2]));
  }
  if (method != "common" && method != "ceil" && method != "floor") {
    return TypeError("method must be common, ceil or floor");
  }
  const Value& value = *bound[0];
  ASSIGN_OR_RETURN(const int64_t precision, IntOr(bound[1], 0, "precision must be an integer"));
  if (!value.is_number()) return TypeError(StrCat("type ", TypeName(value), " doesn't define __round__ method"));
  if (method == "common") {
    return value.is_float() ? Value::Float(RoundTo(value.number(), precision)) : RoundInt(value.integer(), precision);
  }
  // func(value * 10**precision) / 10**precision
  ASSIGN_OR_RETURN(const Value unit,
                   ApplyMath(runtime, MathOperator::kPower, Value::Integer(10), Value::Integer(precision)));
  ASSIGN_OR_RETURN(const Value scaled, ApplyMath(runtime, MathOperator::kMultiply, value, unit));
  Value whole = scaled;
  if (scaled.is_float()) {
    const double rounded = method == "ceil" ? std::ceil(scaled.number()) : std::floor(scaled.number());
    ASSIGN_OR_RETURN(const std::optional<Int> integer, Truncated(rounded));
    if (!integer.has_value()) return ValueError("cannot convert float NaN to integer");
    whole = Value::Integer(*integer);
  }
  return ApplyMath(runtime, MathOperator::kDivide, whole, unit);
}

absl::StatusOr<Value> FileSizeFormat(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("filesizeformat", {{"value"}, {"binary", true}}, arguments));
  ASSIGN_OR_RETURN(const bool is_binary, TruthOr(runtime, bound[1], false));
  if (bound[0]->is_undefined()) return absl::InvalidArgumentError(bound[0]->undefined().message);
  std::optional<double> number;
  if (bound[0]->is_number()) number = bound[0]->number();
  if (bound[0]->is_string()) number = ParseFloat(bound[0]->text());
  if (!number.has_value()) return ValueError("could not convert the value to float");
  const double base = is_binary ? 1024 : 1000;
  if (*number == 1) return runtime.NewString("1 Byte");
  if (*number < base) {
    ASSIGN_OR_RETURN(const std::optional<Int> whole, Truncated(*number));
    return runtime.NewString(StrCat(ReprOfInt(whole.value_or(0)), " Bytes"));
  }
  constexpr std::string_view kPrefixes = "kMGTPEZY";
  double unit = base;
  size_t i = 0;
  do {
    unit *= base;
    ++i;
  } while (*number >= unit && i < kPrefixes.size());
  const char prefix = is_binary && i == 1 ? 'K' : kPrefixes[i - 1];
  return runtime.NewString(absl::StrFormat("%.1f %c%s", base * *number / unit, prefix, is_binary ? "iB" : "B"));
}

// Sorted by name.
constexpr NamedFilter kFilters[] = {
    {"abs", Abs},
    {"attr", Attr},
    {"d", Default},
    {"default", Default},
    {"filesizeformat", FileSizeFormat},
    {"float", FloatFilter},
    {"int", IntFilter},
    {"round", Round},
};

}  // namespace

std::span<const NamedFilter> ValueFilters() { return kFilters; }

}  // namespace expertd::jinja
