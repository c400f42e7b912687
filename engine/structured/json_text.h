// The pieces of JSON texts as grammars: blanks, strings, numbers, values of any kind. Everything has a bounded length
// where a model could otherwise go on for ever with what means nothing: blanks, digits.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/structured/grammar.h"

namespace expertd {

// A decimal number: value = digits * 10^-scale.
struct Decimal {
  int64_t digits = 0;
  int scale = 0;  // 0..kMaxScale

  static constexpr int kMaxScale = 6;
  static constexpr int64_t kMaxDigits = int64_t{1'000'000'000} * 1'000'000;

  // Of a JSON number. nullopt: too large, or of too many decimals.
  static std::optional<Decimal> Parse(std::string_view text);
};

struct NumberBounds {
  std::optional<Decimal> minimum, maximum;
  bool excludes_minimum = false, excludes_maximum = false;
};

// Adds to one grammar; what is used often is a rule. Not thread-safe.
class JsonText {
 public:
  using Expression = Grammar::Expression;

  explicit JsonText(Grammar& grammar);

  Grammar& grammar() { return grammar_; }

  // Nothing, a space, or a line break and up to kMaxIndentation blanks.
  Expression Blanks() { return grammar_.Call(blanks_); }
  static constexpr int kMaxIndentation = 20;

  // A string of `minimum` to `maximum` (kUnbounded) code points, each as itself or by an escape.
  Expression String(int minimum = 0, int maximum = Grammar::kUnbounded);
  // A string whose value matches. Each character has one spelling only.
  absl::StatusOr<Expression> StringOfPattern(std::string_view pattern, bool is_search);
  // A string, written without escapes, that is none of `names`.
  Expression OtherString(const std::vector<std::string>& names);
  // The JSON of a string.
  Expression StringValue(std::string_view value);

  // An integer within bounds; of up to kMaxIntegerDigits where there are none. Nothing when there is none.
  Expression Integer(const NumberBounds& bounds);
  // An integer that `divisor` (2..kMaxDivisor) divides, of up to kMaxIntegerDigits.
  Expression Multiple(int divisor);
  // A number; within bounds, without an exponent and with up to Decimal::kMaxScale decimals.
  Expression Number(const NumberBounds& bounds);
  static constexpr int kMaxIntegerDigits = 15;
  static constexpr int kMaxDivisor = 100;

  Expression Boolean();
  Expression Null() { return grammar_.Bytes("null"); }
  // Any value, object or array, in any depth.
  Expression AnyValue();
  Expression AnyObject();
  Expression AnyArray();

  // `{` and `}` round members, `[` and `]` round elements; blanks where models put them.
  Expression Object(Expression members);
  Expression Array(Expression elements);
  Expression Comma() { return grammar_.Call(comma_); }
  // "key": value
  Expression Member(Expression key, Expression value);

 private:
  Expression IntegerWithin(const NumberBounds& bounds);
  Expression NumberWithin(const NumberBounds& bounds);
  Expression Digits(int minimum, int maximum) { return grammar_.Repeat(digit_, minimum, maximum); }
  // Numbers of `width` digits from `first` to `last`, with leading zeros.
  Expression FixedWidth(int64_t first, int64_t last, int width);
  // Without a sign and without leading zeros.
  Expression Natural(int64_t first, int64_t last);
  // [first, last] * 10^-scale, with exactly `scale` decimals.
  Expression Fraction(int64_t first, int64_t last, int scale);
  // Numbers of [first, last], both at least 0.
  Expression Positive(const NumberBounds& bounds);

  // What `make` gives, as a rule: laid out once, however often it is used.
  template <typename Make>
  Expression Once(std::string name, Make make);

  Grammar& grammar_;
  absl::flat_hash_map<std::string, Expression> once_;  // by name
  Grammar::Rule blanks_, comma_, character_, any_value_;
  bool has_any_value_ = false;
  Expression digit_;
};

}  // namespace expertd
