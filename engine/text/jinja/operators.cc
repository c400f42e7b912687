// Operators and subscripts of template expressions, with Python's semantics.
#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/unicode.h"

namespace expertd::jinja {
namespace {

std::string_view SymbolOf(MathOperator op) {
  switch (op) {
    case MathOperator::kAdd: return "+";
    case MathOperator::kSubtract: return "-";
    case MathOperator::kMultiply: return "*";
    case MathOperator::kDivide: return "/";
    case MathOperator::kFloorDivide: return "//";
    case MathOperator::kModulo: return "%";
    case MathOperator::kPower: return "**";
  }
  return "?";
}

absl::Status IntegerOverflow() { return absl::InvalidArgumentError("an integer does not fit into 128 bits"); }
absl::Status DivisionByZero() { return absl::InvalidArgumentError("division by zero"); }

// ---- integers

absl::StatusOr<Value> PowerOfInts(Int base, Int exponent) {
  if (exponent < 0) {
    if (base == 0) return absl::InvalidArgumentError("0.0 cannot be raised to a negative power");
    return Value::Float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  Int result = 1;
  while (true) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) return IntegerOverflow();
    exponent >>= 1;
    if (exponent == 0) return Value::Integer(result);
    if (__builtin_mul_overflow(base, base, &base)) return IntegerOverflow();
  }
}

absl::StatusOr<Value> DivideInts(MathOperator op, Int left, Int right) {
  if (right == 0) return DivisionByZero();
  if (op == MathOperator::kDivide) return Value::Float(static_cast<double>(left) / static_cast<double>(right));
  if (right == -1) {  // the one quotient that can overflow
    if (op == MathOperator::kModulo) return Value::Integer(0);
    Int negated = 0;
    if (__builtin_sub_overflow(Int{0}, left, &negated)) return IntegerOverflow();
    return Value::Integer(negated);
  }
  // Python rounds the quotient down, and the remainder has the divisor's sign.
  const Int remainder = left % right;
  const bool adjusts = remainder != 0 && (remainder < 0) != (right < 0);
  if (op == MathOperator::kModulo) return Value::Integer(adjusts ? remainder + right : remainder);
  return Value::Integer(adjusts ? left / right - 1 : left / right);
}

absl::StatusOr<Value> MathOfInts(MathOperator op, Int left, Int right) {
  Int result = 0;
  bool overflows = false;
  switch (op) {
    case MathOperator::kAdd: overflows = __builtin_add_overflow(left, right, &result); break;
    case MathOperator::kSubtract: overflows = __builtin_sub_overflow(left, right, &result); break;
    case MathOperator::kMultiply: overflows = __builtin_mul_overflow(left, right, &result); break;
    case MathOperator::kPower: return PowerOfInts(left, right);
    default: return DivideInts(op, left, right);
  }
  if (overflows) return IntegerOverflow();
  return Value::Integer(result);
}

// ---- floats

struct DivMod {
  double quotient;
  double remainder;
};

// Floor division and modulo of floats as CPython computes them.
DivMod DivideFloats(double left, double right) {
  double remainder = std::fmod(left, right);
  double quotient = (left - remainder) / right;
  if (remainder != 0) {
    if ((right < 0) != (remainder < 0)) {
      remainder += right;
      quotient -= 1.0;
    }
  } else {
    remainder = std::copysign(0.0, right);
  }
  if (quotient == 0) return {std::copysign(0.0, left / right), remainder};
  double floor = std::floor(quotient);
  if (quotient - floor > 0.5) floor += 1.0;
  return {floor, remainder};
}

absl::StatusOr<Value> PowerOfFloats(double base, double exponent) {
  if (base == 0 && exponent < 0) return absl::InvalidArgumentError("0.0 cannot be raised to a negative power");
  if (base < 0 && std::isfinite(exponent) && exponent != std::floor(exponent)) {
    return absl::InvalidArgumentError("complex numbers are not supported");
  }
  const double result = std::pow(base, exponent);
  if (std::isinf(result) && std::isfinite(base) && std::isfinite(exponent)) {
    return absl::InvalidArgumentError("float result too large");
  }
  return Value::Float(result);
}

absl::StatusOr<Value> MathOfFloats(MathOperator op, double left, double right) {
  switch (op) {
    case MathOperator::kAdd: return Value::Float(left + right);
    case MathOperator::kSubtract: return Value::Float(left - right);
    case MathOperator::kMultiply: return Value::Float(left * right);
    case MathOperator::kPower: return PowerOfFloats(left, right);
    default: break;
  }
  if (right == 0) return DivisionByZero();
  if (op == MathOperator::kDivide) return Value::Float(left / right);
  const DivMod result = DivideFloats(left, right);
  return Value::Float(op == MathOperator::kModulo ? result.remainder : result.quotient);
}

// ---- strings and lists

absl::StatusOr<Value> AddStrings(Runtime& runtime, const StringObject& left, const StringObject& right) {
  RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(left.text.size() + right.text.size())));
  if (left.is_markup != right.is_markup) {
    RETURN_IF_ERROR(runtime.CanAllocate(5 * static_cast<int64_t>(left.text.size() + right.text.size())));
  }
  if (left.is_markup == right.is_markup) return runtime.NewString(StrCat(left.text, right.text), left.is_markup);
  return runtime.NewString(
      StrCat(left.is_markup ? left.text : EscapeHtml(left.text), right.is_markup ? right.text : EscapeHtml(right.text)),
      /*is_markup=*/true);
}

absl::StatusOr<Value> AddLists(Runtime& runtime, const Value& left, const Value& right) {
  const size_t num_items = left.items().size() + right.items().size();
  RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(num_items * sizeof(Value))));
  std::vector<Value> items;
  items.reserve(num_items);
  items.insert(items.end(), left.items().begin(), left.items().end());
  items.insert(items.end(), right.items().begin(), right.items().end());
  return left.is_list() ? runtime.NewList(std::move(items)) : runtime.NewTuple(std::move(items));
}

// The total size of `count` pieces, if it can be allocated.
absl::Status CheckRepeated(Runtime& runtime, size_t size_bytes, Int count) {
  if (size_bytes == 0) return absl::OkStatus();
  const Int limit = std::numeric_limits<int64_t>::max() / static_cast<int64_t>(size_bytes);
  if (count > limit) return runtime.CanAllocate(std::numeric_limits<int64_t>::max());
  return runtime.CanAllocate(static_cast<int64_t>(size_bytes) * static_cast<int64_t>(count));
}

absl::StatusOr<Value> Repeat(Runtime& runtime, const Value& sequence, Int count) {
  count = std::max<Int>(count, 0);
  if (sequence.is_string()) {
    const std::string& piece = sequence.text();
    RETURN_IF_ERROR(CheckRepeated(runtime, piece.size(), count));
    std::string text;
    if (!piece.empty()) {
      text.reserve(piece.size() * static_cast<size_t>(count));
      for (Int i = 0; i < count; ++i) text += piece;
    }
    return runtime.NewString(std::move(text), sequence.string().is_markup);
  }
  const std::vector<Value>& piece = sequence.items();
  RETURN_IF_ERROR(CheckRepeated(runtime, piece.size() * sizeof(Value), count));
  std::vector<Value> items;
  if (!piece.empty()) {
    items.reserve(piece.size() * static_cast<size_t>(count));
    for (Int i = 0; i < count; ++i) items.insert(items.end(), piece.begin(), piece.end());
  }
  return sequence.is_list() ? runtime.NewList(std::move(items)) : runtime.NewTuple(std::move(items));
}

absl::Status UnsupportedOperands(MathOperator op, const Value& left, const Value& right) {
  if (op == MathOperator::kAdd && (left.is_string() || left.is_sequence())) {
    const std::string type = TypeName(left);
    return TypeError(StrCat("can only concatenate ", type, " (not \"", TypeName(right), "\") to ", type));
  }
  if (op == MathOperator::kMultiply && (left.is_string() || left.is_sequence())) {
    return TypeError(StrCat("can't multiply sequence by non-int of type '", TypeName(right), "'"));
  }
  return TypeError(
      StrCat("unsupported operand type(s) for ", SymbolOf(op), ": '", TypeName(left), "' and '", TypeName(right), "'"));
}

// ---- subscripts

// The attributes that would change their object.
bool IsMutating(const Value& object, std::string_view name) {
  constexpr std::string_view kOfLists[] = {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};
  constexpr std::string_view kOfDicts[] = {"clear", "pop", "popitem", "setdefault", "update"};
  if (object.is_list()) return std::find(std::begin(kOfLists), std::end(kOfLists), name) != std::end(kOfLists);
  if (object.is_dict()) return std::find(std::begin(kOfDicts), std::end(kOfDicts), name) != std::end(kOfDicts);
  return false;
}

// Python's own attributes, which every object has.
bool IsInternal(std::string_view name) {
  constexpr std::string_view kNames[] = {
      "class",     "delattr", "dir",     "doc",           "eq",  "format",      "ge", "getattribute", "getstate",
      "gt",        "hash",    "init",    "init_subclass", "le",  "lt",          "ne", "new",          "reduce",
      "reduce_ex", "repr",    "setattr", "sizeof",        "str", "subclasshook"};
  if (name.size() < 5 || name.substr(0, 2) != "__" || name.substr(name.size() - 2) != "__") return false;
  name = name.substr(2, name.size() - 4);
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

// getattr(object, name); nothing when there is none.
absl::StatusOr<std::optional<Value>> FindAttribute(Runtime& runtime, const Value& object, std::string_view name) {
  if (IsMutating(object, name) || IsInternal(name)) {
    return runtime.NewUndefined(
        StrCat("access to attribute ", ReprOfString(name), " of '", TypeName(object), "' object is unsafe."));
  }
  if (object.is_object()) return object.object().Attribute(runtime, name);
  return BuiltinAttribute(runtime, object, name);
}

Value NoSuchAttribute(Runtime& runtime, const Value& object, std::string_view name) {
  return runtime.NewUndefined(StrCat("'", TypeNameInMessages(object), "' has no attribute ", ReprOfString(name)));
}

absl::StatusOr<std::optional<Value>> CharacterAt(Runtime& runtime, const StringObject& string, Int index) {
  if (index < 0) index += string.num_code_points;
  if (index < 0 || index >= string.num_code_points) return std::nullopt;
  size_t start = static_cast<size_t>(index);
  if (!string.is_ascii()) {
    RETURN_IF_ERROR(runtime.SpendBytes(static_cast<int64_t>(string.text.size())));
    start = OffsetOfCodePoint(string.text, static_cast<int64_t>(index));
  }
  size_t end = start;
  NextCodePoint(string.text, &end);
  ASSIGN_OR_RETURN(Value character, runtime.NewString(string.text.substr(start, end - start), string.is_markup));
  return character;
}

// object[index]; nothing where Python raises LookupError or TypeError.
absl::StatusOr<std::optional<Value>> FindItem(Runtime& runtime, const Value& object, const Value& index) {
  if (object.is_dict()) {
    absl::StatusOr<const Value*> found = DictFind(runtime, object.dict(), index);
    if (absl::IsResourceExhausted(found.status())) return found.status();
    if (!found.ok() || *found == nullptr) return std::nullopt;
    return **found;
  }
  if (object.is_object()) return object.object().Item(runtime, index);
  if (!index.is_integral()) return std::nullopt;
  if (object.is_string()) return CharacterAt(runtime, object.string(), index.integer());
  if (!object.is_sequence()) return std::nullopt;
  const auto num_items = static_cast<Int>(object.items().size());
  const Int position = index.integer() < 0 ? index.integer() + num_items : index.integer();
  if (position < 0 || position >= num_items) return std::nullopt;
  return object.items()[static_cast<size_t>(position)];
}

struct SliceBounds {
  Int start, stop, step;
  int64_t length;
};

// A slice of a sequence of `length` items, as CPython adjusts it.
absl::StatusOr<SliceBounds> AdjustSlice(const Value& start, const Value& stop, const Value& step, int64_t length) {
  const auto bound = [](const Value& value, Int fallback) -> absl::StatusOr<Int> {
    if (value.is_none()) return fallback;
    if (value.is_undefined()) return absl::InvalidArgumentError(value.undefined().message);
    return ToIndex(value, "slice indices must be integers or None or have an __index__ method");
  };
  SliceBounds bounds{};
  ASSIGN_OR_RETURN(bounds.step, bound(step, 1));
  if (bounds.step == 0) return ValueError("slice step cannot be zero");
  // Far steps and bounds select the same items as near ones.
  bounds.step = std::clamp<Int>(bounds.step, -length - 1, length + 1);
  const bool is_backward = bounds.step < 0;
  const Int lowest = is_backward ? -1 : 0;
  const Int highest = is_backward ? length - 1 : length;
  ASSIGN_OR_RETURN(bounds.start, bound(start, is_backward ? highest : lowest));
  ASSIGN_OR_RETURN(bounds.stop, bound(stop, is_backward ? lowest : highest));
  if (!start.is_none() && bounds.start < 0) bounds.start += length;
  if (!stop.is_none() && bounds.stop < 0) bounds.stop += length;
  bounds.start = std::clamp(bounds.start, lowest, highest);
  bounds.stop = std::clamp(bounds.stop, lowest, highest);
  const Int distance = is_backward ? bounds.start - bounds.stop : bounds.stop - bounds.start;
  const Int stride = is_backward ? -bounds.step : bounds.step;
  bounds.length = distance <= 0 ? 0 : static_cast<int64_t>((distance - 1) / stride + 1);
  return bounds;
}

absl::StatusOr<Value> SliceString(Runtime& runtime, const StringObject& string, const SliceBounds& bounds) {
  RETURN_IF_ERROR(runtime.SpendBytes(static_cast<int64_t>(string.text.size())));
  std::string text;
  if (bounds.length > 0 && bounds.step == 1) {
    const size_t start = string.is_ascii() ? static_cast<size_t>(bounds.start)
                                           : OffsetOfCodePoint(string.text, static_cast<int64_t>(bounds.start));
    const std::string_view rest = std::string_view(string.text).substr(start);
    text =
        rest.substr(0, string.is_ascii() ? static_cast<size_t>(bounds.length) : OffsetOfCodePoint(rest, bounds.length));
  } else if (bounds.length > 0) {
    RETURN_IF_ERROR(runtime.CanAllocate(string.num_code_points * static_cast<int64_t>(sizeof(size_t))));
    RETURN_IF_ERROR(runtime.Spend(string.num_code_points / 4));
    std::vector<size_t> offsets;
    for (size_t offset = 0; offset < string.text.size(); NextCodePoint(string.text, &offset)) offsets.push_back(offset);
    offsets.push_back(string.text.size());
    for (int64_t i = 0; i < bounds.length; ++i) {
      const auto position = static_cast<size_t>(bounds.start + i * bounds.step);
      text.append(string.text, offsets[position], offsets[position + 1] - offsets[position]);
    }
  }
  return runtime.NewString(std::move(text), string.is_markup);
}

}  // namespace

absl::StatusOr<Value> ApplyMath(Runtime& runtime, MathOperator op, const Value& left, const Value& right) {
  RETURN_IF_ERROR(runtime.Spend(1));
  if (op == MathOperator::kModulo && left.is_string()) {
    ASSIGN_OR_RETURN(std::string text, PercentFormat(runtime, left.text(), right));
    return runtime.NewString(std::move(text), left.string().is_markup);
  }
  if (left.is_undefined()) return absl::InvalidArgumentError(left.undefined().message);
  if (right.is_undefined()) return absl::InvalidArgumentError(right.undefined().message);
  if (left.is_integral() && right.is_integral()) return MathOfInts(op, left.integer(), right.integer());
  if (left.is_number() && right.is_number()) return MathOfFloats(op, left.number(), right.number());
  if (op == MathOperator::kAdd) {
    if (left.is_string() && right.is_string()) return AddStrings(runtime, left.string(), right.string());
    if (left.is_sequence() && left.type() == right.type()) return AddLists(runtime, left, right);
  }
  if (op == MathOperator::kMultiply) {
    if ((left.is_string() || left.is_sequence()) && right.is_integral()) return Repeat(runtime, left, right.integer());
    if ((right.is_string() || right.is_sequence()) && left.is_integral()) return Repeat(runtime, right, left.integer());
  }
  return UnsupportedOperands(op, left, right);
}

absl::StatusOr<Value> ApplyUnary(Runtime& runtime, UnaryOperator op, const Value& operand) {
  if (op == UnaryOperator::kNot) {
    ASSIGN_OR_RETURN(const bool is_true, Truth(runtime, operand));
    return Value::Bool(!is_true);
  }
  if (operand.is_undefined()) return absl::InvalidArgumentError(operand.undefined().message);
  const bool is_negative = op == UnaryOperator::kNegative;
  if (operand.is_float()) return Value::Float(is_negative ? -operand.number() : operand.number());
  if (operand.is_integral())
    return MathOfInts(is_negative ? MathOperator::kSubtract : MathOperator::kAdd, 0, operand.integer());
  return TypeError(StrCat("bad operand type for unary ", is_negative ? "-" : "+", ": '", TypeName(operand), "'"));
}

absl::StatusOr<bool> ApplyComparison(Runtime& runtime, CompareOperator op, const Value& left, const Value& right) {
  const auto ordered = [&](std::string_view symbol) { return Compare(runtime, left, right, symbol); };
  switch (op) {
    case CompareOperator::kEqual: return Equal(runtime, left, right);
    case CompareOperator::kNotEqual: {
      ASSIGN_OR_RETURN(const bool is_equal, Equal(runtime, left, right));
      return !is_equal;
    }
    case CompareOperator::kLess: {
      ASSIGN_OR_RETURN(const Ordering ordering, ordered("<"));
      return ordering == Ordering::kLess;
    }
    case CompareOperator::kLessOrEqual: {
      ASSIGN_OR_RETURN(const Ordering ordering, ordered("<="));
      return ordering == Ordering::kLess || ordering == Ordering::kEqual;
    }
    case CompareOperator::kGreater: {
      ASSIGN_OR_RETURN(const Ordering ordering, ordered(">"));
      return ordering == Ordering::kGreater;
    }
    case CompareOperator::kGreaterOrEqual: {
      ASSIGN_OR_RETURN(const Ordering ordering, ordered(">="));
      return ordering == Ordering::kGreater || ordering == Ordering::kEqual;
    }
    case CompareOperator::kIn: return Contains(runtime, right, left);
    case CompareOperator::kNotIn: {
      ASSIGN_OR_RETURN(const bool is_inside, Contains(runtime, right, left));
      return !is_inside;
    }
  }
  return false;
}

absl::StatusOr<bool> Contains(Runtime& runtime, const Value& container, const Value& value) {
  RETURN_IF_ERROR(runtime.Spend(1));
  if (container.is_string()) {
    if (!value.is_string()) {
      return TypeError(StrCat("'in <string>' requires string as left operand, not ", TypeName(value)));
    }
    RETURN_IF_ERROR(runtime.Spend(static_cast<int64_t>(container.text().size()) / 16));
    return FindText(container.text(), value.text()) != std::string::npos;
  }
  if (container.is_dict()) {
    ASSIGN_OR_RETURN(const Value* found, DictFind(runtime, container.dict(), value));
    return found != nullptr;
  }
  if (container.is_object()) {
    ASSIGN_OR_RETURN(const std::optional<bool> answer, container.object().Contains(runtime, value));
    if (answer.has_value()) return *answer;
  }
  if (!IsIterable(container)) return TypeError(StrCat("argument of type '", TypeName(container), "' is not iterable"));
  ASSIGN_OR_RETURN(IteratorPtr items, Iterate(runtime, container));
  while (true) {
    ASSIGN_OR_RETURN(const std::optional<Value> item, items->Next(runtime));
    if (!item.has_value()) return false;
    ASSIGN_OR_RETURN(const bool is_equal, Equal(runtime, *item, value));
    if (is_equal) return true;
  }
}

absl::StatusOr<Value> GetAttribute(Runtime& runtime, const Value& object, std::string_view name) {
  RETURN_IF_ERROR(runtime.Spend(1));
  if (object.is_undefined()) return absl::InvalidArgumentError(object.undefined().message);
  ASSIGN_OR_RETURN(std::optional<Value> attribute, FindAttribute(runtime, object, name));
  if (attribute.has_value()) return *std::move(attribute);
  if (object.is_dict()) {
    if (const Value* value = DictFind(object.dict(), name)) return *value;
  }
  return NoSuchAttribute(runtime, object, name);
}

absl::StatusOr<Value> GetItem(Runtime& runtime, const Value& object, const Value& index) {
  RETURN_IF_ERROR(runtime.Spend(1));
  if (object.is_undefined()) return absl::InvalidArgumentError(object.undefined().message);
  ASSIGN_OR_RETURN(std::optional<Value> item, FindItem(runtime, object, index));
  if (item.has_value()) return *std::move(item);
  if (index.is_string()) {
    ASSIGN_OR_RETURN(std::optional<Value> attribute, FindAttribute(runtime, object, index.text()));
    return attribute.has_value() ? *std::move(attribute) : NoSuchAttribute(runtime, object, index.text());
  }
  ASSIGN_OR_RETURN(const std::string repr, Repr(runtime, index));
  return runtime.NewUndefined(StrCat(TypeNameInMessages(object), " has no element ", repr));
}

absl::StatusOr<Value> GetSlice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
                               const Value& step) {
  if (object.is_undefined()) return absl::InvalidArgumentError(object.undefined().message);
  const std::optional<RangeBounds> range = AsRange(object);
  if (!object.is_string() && !object.is_sequence() && !range.has_value()) {
    if (object.is_dict()) return TypeError("unhashable type: 'slice'");
    return TypeError(StrCat("'", TypeName(object), "' object is not subscriptable"));
  }
  ASSIGN_OR_RETURN(const std::optional<int64_t> length, Length(runtime, object));
  ASSIGN_OR_RETURN(const SliceBounds bounds, AdjustSlice(start, stop, step, *length));
  if (object.is_string()) return SliceString(runtime, object.string(), bounds);
  if (range.has_value()) {
    return NewRange(runtime, range->start + bounds.start * range->step, range->start + bounds.stop * range->step,
                    range->step * bounds.step);
  }
  RETURN_IF_ERROR(runtime.CanAllocate(bounds.length * static_cast<int64_t>(sizeof(Value))));
  std::vector<Value> items;
  items.reserve(static_cast<size_t>(bounds.length));
  for (int64_t i = 0; i < bounds.length; ++i) {
    items.push_back(object.items()[static_cast<size_t>(bounds.start + i * bounds.step)]);
  }
  return object.is_list() ? runtime.NewList(std::move(items)) : runtime.NewTuple(std::move(items));
}

absl::StatusOr<Int> ToIndex(const Value& value, std::string_view what) {
  if (value.is_integral()) return value.integer();
  return TypeError(StrCat(what, " (got ", TypeName(value), ")"));
}

absl::StatusOr<int64_t> ToInt64(const Value& value, std::string_view what) {
  ASSIGN_OR_RETURN(const Int index, ToIndex(value, what));
  return static_cast<int64_t>(
      std::clamp<Int>(index, std::numeric_limits<int64_t>::min() / 4, std::numeric_limits<int64_t>::max() / 4));
}

absl::StatusOr<std::string_view> ToText(const Value& value, std::string_view what) {
  if (value.is_string()) return std::string_view(value.text());
  return TypeError(StrCat(what, " must be str, not ", TypeName(value)));
}

}  // namespace expertd::jinja
