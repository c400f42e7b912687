// Equality, order and hash of values, as Python's ==, < and hash().
#include <algorithm>
#include <cmath>

#include "absl/hash/hash.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/runtime.h"
#include "engine/text/jinja/value.h"

namespace expertd::jinja {
namespace {

constexpr int64_t kMaxKeyWeight = 4096;

// The order of a number against another, exact for integers that a double cannot hold.
Ordering CompareIntWithFloat(Int left, double right) {
  if (std::isnan(right)) return Ordering::kUnordered;
  constexpr double kBound = 1.5e38;  // inside 128 bits
  if (right > kBound) return Ordering::kLess;
  if (right < -kBound) return Ordering::kGreater;
  const double floor = std::floor(right);
  const Int whole = static_cast<Int>(floor);
  if (left != whole) return left < whole ? Ordering::kLess : Ordering::kGreater;
  return floor < right ? Ordering::kLess : Ordering::kEqual;
}

template <typename T>
Ordering CompareScalars(T left, T right) {
  if (left < right) return Ordering::kLess;
  if (right < left) return Ordering::kGreater;
  return left == right ? Ordering::kEqual : Ordering::kUnordered;
}

Ordering Reversed(Ordering ordering) {
  if (ordering == Ordering::kLess) return Ordering::kGreater;
  if (ordering == Ordering::kGreater) return Ordering::kLess;
  return ordering;
}

Ordering CompareNumbers(const Value& left, const Value& right) {
  if (left.is_float() && right.is_float()) return CompareScalars(left.number(), right.number());
  if (left.is_float()) return Reversed(CompareIntWithFloat(right.integer(), left.number()));
  if (right.is_float()) return CompareIntWithFloat(left.integer(), right.number());
  return CompareScalars(left.integer(), right.integer());
}

absl::StatusOr<bool> EqualDicts(Runtime& runtime, const DictObject& left, const DictObject& right) {
  if (left.entries.size() != right.entries.size()) return false;
  for (const auto& [key, value] : left.entries) {
    RETURN_IF_ERROR(runtime.Spend(2));
    ASSIGN_OR_RETURN(const Value* other, DictFind(runtime, right, key));
    if (other == nullptr) return false;
    ASSIGN_OR_RETURN(const bool is_equal, Equal(runtime, value, *other));
    if (!is_equal) return false;
  }
  return true;
}

absl::StatusOr<bool> EqualSequences(Runtime& runtime, const std::vector<Value>& left, const std::vector<Value>& right) {
  if (left.size() != right.size()) return false;
  for (size_t i = 0; i < left.size(); ++i) {
    ASSIGN_OR_RETURN(const bool is_equal, Equal(runtime, left[i], right[i]));
    if (!is_equal) return false;
  }
  return true;
}

absl::StatusOr<Ordering> CompareSequences(Runtime& runtime, const std::vector<Value>& left,
                                          const std::vector<Value>& right, std::string_view operation) {
  const size_t num_common = std::min(left.size(), right.size());
  for (size_t i = 0; i < num_common; ++i) {
    ASSIGN_OR_RETURN(const bool is_equal, Equal(runtime, left[i], right[i]));
    if (!is_equal) return Compare(runtime, left[i], right[i], operation);
  }
  return CompareScalars(left.size(), right.size());
}

}  // namespace

absl::StatusOr<bool> Equal(Runtime& runtime, const Value& left, const Value& right) {
  RETURN_IF_ERROR(runtime.Spend(1));
  if (left.is_number() && right.is_number()) return CompareNumbers(left, right) == Ordering::kEqual;
  if (left.type() != right.type()) return false;
  if (left.shared() != nullptr && left.shared() == right.shared()) return true;
  Level level(runtime);
  RETURN_IF_ERROR(level.status());
  switch (left.type()) {
    case Value::Type::kString:
      if (left.text().size() != right.text().size()) return false;
      RETURN_IF_ERROR(runtime.SpendBytes(static_cast<int64_t>(left.text().size())));
      return left.text() == right.text();
    case Value::Type::kList:
    case Value::Type::kTuple: return EqualSequences(runtime, left.items(), right.items());
    case Value::Type::kDict: return EqualDicts(runtime, left.dict(), right.dict());
    case Value::Type::kObject: return left.object().EqualTo(runtime, right.object());
    default: return true;  // none, undefined
  }
}

absl::StatusOr<Ordering> Compare(Runtime& runtime, const Value& left, const Value& right, std::string_view operation) {
  RETURN_IF_ERROR(runtime.Spend(1));
  if (left.is_undefined()) return absl::InvalidArgumentError(left.undefined().message);
  if (right.is_undefined()) return absl::InvalidArgumentError(right.undefined().message);
  if (left.is_number() && right.is_number()) return CompareNumbers(left, right);
  if (left.is_string() && right.is_string()) {
    // The order of UTF-8 bytes is the order of code points.
    RETURN_IF_ERROR(runtime.SpendBytes(static_cast<int64_t>(std::min(left.text().size(), right.text().size()))));
    return CompareScalars<std::string_view>(left.text(), right.text());
  }
  if (left.is_sequence() && left.type() == right.type()) {
    Level level(runtime);
    RETURN_IF_ERROR(level.status());
    return CompareSequences(runtime, left.items(), right.items(), operation);
  }
  return TypeError(StrCat("'", operation, "' not supported between instances of '", TypeName(left), "' and '",
                          TypeName(right), "'"));
}

bool KeysEqual(const Value& left, const Value& right) {
  if (left.shared() != nullptr && left.shared() == right.shared()) return true;
  if (left.is_string() && right.is_string()) return left.text() == right.text();
  if (left.is_number() && right.is_number()) return CompareNumbers(left, right) == Ordering::kEqual;
  if (left.is_tuple() && right.is_tuple()) {
    return std::equal(left.items().begin(), left.items().end(), right.items().begin(), right.items().end(), KeysEqual);
  }
  if (left.is_undefined() && right.is_undefined()) return true;
  return left.IsSameAs(right);
}

absl::StatusOr<size_t> Hash(const Value& value) {
  switch (value.type()) {
    case Value::Type::kBool:
    case Value::Type::kInt: return absl::HashOf(static_cast<int64_t>(value.integer()));
    case Value::Type::kFloat: {
      const double number = value.number();
      const bool is_whole = std::abs(number) < 9e18 && number == std::floor(number);
      return is_whole ? absl::HashOf(static_cast<int64_t>(number)) : absl::HashOf(number);
    }
    case Value::Type::kString: return value.string().hash;
    case Value::Type::kTuple: {
      if (value.weight() > kMaxKeyWeight) return absl::ResourceExhaustedError("a tuple is too large to be a key");
      size_t hash = value.items().size();
      for (const Value& item : value.items()) {
        ASSIGN_OR_RETURN(const size_t item_hash, Hash(item));
        hash = absl::HashOf(hash, item_hash);
      }
      return hash;
    }
    case Value::Type::kList:
    case Value::Type::kDict: return TypeError(StrCat("unhashable type: '", TypeName(value), "'"));
    case Value::Type::kObject: return absl::HashOf(static_cast<const void*>(value.shared().get()));
    default: return absl::HashOf(static_cast<int>(value.type()));
  }
}

}  // namespace expertd::jinja
