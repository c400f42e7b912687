#include "engine/structured/json_text.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "engine/base/json.h"
#include "engine/base/strings.h"
#include "engine/base/utf8.h"
#include "engine/structured/pattern_reader.h"
#include "engine/structured/regex.h"

namespace expertd {
namespace {

using Expression = Grammar::Expression;

// What a JSON string has as it is.
const std::vector<CodePointRange> kNeedsEscape = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};

int64_t PowerOfTen(int exponent) {
  int64_t power = 1;
  for (int i = 0; i < exponent; ++i) power *= 10;
  return power;
}

int NumDigits(int64_t value) {
  int count = 1;
  for (; value >= 10; value /= 10) ++count;
  return count;
}

// The one escape of a character that needs one.
std::string EscapeOf(uint32_t character) {
  Json text = std::string(1, static_cast<char>(character));
  const std::string quoted = DumpJson(text);
  return quoted.substr(1, quoted.size() - 2);
}

// Characters as a JSON string writes them, each in one way.
Expression AddJsonCharacters(const std::vector<CodePointRange>& ranges, Grammar& grammar) {
  std::vector<Expression> choices;
  std::vector<CodePointRange> plain;
  for (CodePointRange range : ranges) {
    for (const CodePointRange& special : kNeedsEscape) {
      for (uint32_t c = std::max(range.first, special.first); c <= std::min(range.last, special.last); ++c) {
        choices.push_back(grammar.Bytes(EscapeOf(c)));
      }
      if (special.first > range.last || special.last < range.first) continue;
      if (range.first < special.first) plain.push_back({range.first, special.first - 1});
      range.first = special.last + 1;
    }
    if (range.first <= range.last) plain.push_back(range);
  }
  choices.push_back(grammar.Characters(std::move(plain)));
  return grammar.Choice(std::move(choices));
}

// A bound in units of 10^-scale, rounded into the range.
int64_t ScaledUp(const Decimal& bound, int scale, bool is_excluded) {  // of a minimum >= 0
  if (scale >= bound.scale) return bound.digits * PowerOfTen(scale - bound.scale) + (is_excluded ? 1 : 0);
  const int64_t unit = PowerOfTen(bound.scale - scale);
  const bool is_exact = bound.digits % unit == 0;
  return bound.digits / unit + (is_exact && !is_excluded ? 0 : 1);
}
int64_t ScaledDown(const Decimal& bound, int scale, bool is_excluded) {  // of a maximum >= 0
  if (scale >= bound.scale) return bound.digits * PowerOfTen(scale - bound.scale) - (is_excluded ? 1 : 0);
  const int64_t unit = PowerOfTen(bound.scale - scale);
  const bool is_exact = bound.digits % unit == 0;
  return bound.digits / unit - (is_exact && is_excluded ? 1 : 0);
}

std::string NameOf(const NumberBounds& bounds) {
  const auto name_of = [](const std::optional<Decimal>& bound, bool is_excluded) {
    return bound.has_value() ? StrCat(bound->digits, "e-", bound->scale, is_excluded ? "!" : "") : std::string("any");
  };
  return StrCat("of ", name_of(bounds.minimum, bounds.excludes_minimum), " to ",
                name_of(bounds.maximum, bounds.excludes_maximum));
}

}  // namespace

std::optional<Decimal> Decimal::Parse(std::string_view text) {
  const size_t e = text.find_first_of("eE");
  int exponent = 0;
  if (e != std::string_view::npos) {
    std::string_view digits = text.substr(e + 1);
    if (digits.starts_with('+')) digits.remove_prefix(1);
    if (!absl::SimpleAtoi(ToAbslView(digits), &exponent)) return std::nullopt;
    text = text.substr(0, e);
  }
  std::string digits(text);
  if (const size_t point = digits.find('.'); point != std::string::npos) {
    exponent -= static_cast<int>(digits.size() - point - 1);
    digits.erase(point, 1);
  }
  Decimal result;
  if (!absl::SimpleAtoi(digits, &result.digits)) return std::nullopt;
  for (; exponent < 0 && result.digits % 10 == 0 && result.digits != 0; ++exponent) result.digits /= 10;
  if (result.digits == 0) return Decimal();
  for (; exponent > 0; --exponent) {
    if (result.digits > kMaxDigits / 10 || result.digits < -kMaxDigits / 10) return std::nullopt;
    result.digits *= 10;
  }
  result.scale = -exponent;
  if (result.scale > kMaxScale || result.digits >= kMaxDigits || result.digits <= -kMaxDigits) return std::nullopt;
  return result;
}

JsonText::JsonText(Grammar& grammar)
    : grammar_(grammar), blanks_(grammar.AddRule("blanks")), comma_(grammar.AddRule("comma")),
      character_(grammar.AddRule("character")), any_value_(grammar.AddRule("value")),
      digit_(grammar.Characters({{'0', '9'}})) {
  const Expression blank = grammar_.Characters({{' ', ' '}, {'\t', '\t'}});
  grammar_.DefineRule(blanks_, grammar_.Choice({grammar_.Empty(), grammar_.Bytes(" "),
                                                grammar_.Sequence({grammar_.Bytes("\n"),
                                                                   grammar_.Repeat(blank, 0, kMaxIndentation)})}));
  grammar_.DefineRule(comma_, grammar_.Sequence({grammar_.Bytes(","), Blanks()}));

  // Surrogates come in pairs.
  const Expression hex = grammar_.Characters({{'0', '9'}, {'A', 'F'}, {'a', 'f'}});
  const Expression d = grammar_.Characters({{'D', 'D'}, {'d', 'd'}});
  const Expression not_d = grammar_.Characters({{'0', '9'}, {'A', 'C'}, {'a', 'c'}, {'E', 'F'}, {'e', 'f'}});
  const Expression high = grammar_.Characters({{'8', '9'}, {'A', 'B'}, {'a', 'b'}});
  const Expression low = grammar_.Characters({{'C', 'F'}, {'c', 'f'}});
  const Expression single = grammar_.Choice(
      {grammar_.Sequence({not_d, hex, hex, hex}), grammar_.Sequence({d, grammar_.Characters({{'0', '7'}}), hex, hex})});
  const Expression pair = grammar_.Sequence({d, high, hex, hex, grammar_.Bytes("\\u"), d, low, hex, hex});
  const Expression escape = grammar_.Choice(
      {grammar_.Characters({{'"', '"'}, {'\\', '\\'}, {'/', '/'}, {'b', 'b'}, {'f', 'f'}, {'n', 'n'}, {'r', 'r'},
                            {'t', 't'}}),
       grammar_.Sequence({grammar_.Bytes("u"), grammar_.Choice({single, pair})})});
  grammar_.DefineRule(character_, grammar_.Choice({grammar_.OtherCharacters(kNeedsEscape),
                                                   grammar_.Sequence({grammar_.Bytes("\\"), escape})}));
}

template <typename Make>
Expression JsonText::Once(std::string name, Make make) {
  if (const auto found = once_.find(name); found != once_.end()) return found->second;
  Expression made = make();
  if (made != grammar_.Nothing()) {
    const Grammar::Rule rule = grammar_.AddRule(name);
    grammar_.DefineRule(rule, made);
    made = grammar_.Call(rule);
  }
  once_.emplace(std::move(name), made);
  return made;
}

Expression JsonText::String(int minimum, int maximum) {
  return Once(StrCat("string of ", minimum, " to ", maximum), [&] {
    const Expression quote = grammar_.Bytes("\"");
    return grammar_.Sequence({quote, grammar_.Repeat(grammar_.Call(character_), minimum, maximum), quote});
  });
}

absl::StatusOr<Expression> JsonText::StringOfPattern(std::string_view pattern, bool is_search) {
  absl::Status status;
  const Expression text = Once(StrCat(is_search ? "search of " : "match of ", pattern), [&] {
    const absl::StatusOr<Expression> value =
        AddRegex(pattern, grammar_, {.is_search = is_search, .add_characters = &AddJsonCharacters});
    status = value.status();
    const Expression quote = grammar_.Bytes("\"");
    return value.ok() ? grammar_.Sequence({quote, *value, quote}) : grammar_.Nothing();
  });
  if (!status.ok()) return status;
  return text;
}

Expression JsonText::StringValue(std::string_view value) { return grammar_.Bytes(DumpJson(Json(std::string(value)))); }

// By a trie of the names: from each of its places, what leaves the trie, and what ends where no name does.
Expression JsonText::OtherString(const std::vector<std::string>& names) {
  struct Place {
    std::map<uint32_t, size_t> next;
    bool is_name = false;
  };
  std::vector<Place> places(1);
  for (const std::string& name : names) {
    size_t at = 0;
    for (PatternReader reader(name); !reader.at_end();) {
      const auto [found, is_new] = places[at].next.try_emplace(reader.TakeCharacter(), places.size());
      at = found->second;
      if (is_new) places.emplace_back();
    }
    places[at].is_name = true;
  }
  const Expression rest = grammar_.Repeat(grammar_.OtherCharacters(kNeedsEscape), 0, Grammar::kUnbounded);
  std::vector<Expression> from(places.size());
  for (size_t i = places.size(); i-- > 0;) {  // places come behind those that lead to them
    std::vector<Expression> choices;
    std::vector<CodePointRange> taken = kNeedsEscape;
    for (const auto& [character, next] : places[i].next) {
      taken.push_back({character, character});
      const bool is_plain = character > 0x1F && character != '"' && character != '\\';
      if (is_plain) choices.push_back(grammar_.Sequence({grammar_.Characters({{character, character}}), from[next]}));
    }
    choices.push_back(grammar_.Sequence({grammar_.OtherCharacters(std::move(taken)), rest}));
    if (!places[i].is_name) choices.push_back(grammar_.Empty());
    from[i] = grammar_.Choice(std::move(choices));
  }
  const Expression quote = grammar_.Bytes("\"");
  return grammar_.Sequence({quote, from[0], quote});
}

Expression JsonText::FixedWidth(int64_t first, int64_t last, int width) {
  if (first > last) return grammar_.Nothing();
  if (width == 0) return grammar_.Empty();
  const int64_t unit = PowerOfTen(width - 1);
  if (first == 0 && last == unit * 10 - 1) return Digits(width, width);
  const auto lead = [&](int64_t a, int64_t b) {
    return grammar_.Characters({{static_cast<uint32_t>('0' + a), static_cast<uint32_t>('0' + b)}});
  };
  const int64_t a = first / unit, b = last / unit;
  if (a == b) return grammar_.Sequence({lead(a, a), FixedWidth(first % unit, last % unit, width - 1)});
  std::vector<Expression> choices = {
      grammar_.Sequence({lead(a, a), FixedWidth(first % unit, unit - 1, width - 1)}),
      grammar_.Sequence({lead(b, b), FixedWidth(0, last % unit, width - 1)})};
  if (a + 1 < b) choices.push_back(grammar_.Sequence({lead(a + 1, b - 1), Digits(width - 1, width - 1)}));
  return grammar_.Choice(std::move(choices));
}

Expression JsonText::Natural(int64_t first, int64_t last) {
  if (first > last) return grammar_.Nothing();
  std::vector<Expression> choices;
  if (first == 0) choices.push_back(grammar_.Bytes("0"));
  for (int width = NumDigits(std::max<int64_t>(first, 1)); width <= NumDigits(last); ++width) {
    const int64_t low = std::max({first, PowerOfTen(width - 1), int64_t{1}});
    choices.push_back(FixedWidth(low, std::min(last, PowerOfTen(width) - 1), width));
  }
  return grammar_.Choice(std::move(choices));
}

Expression JsonText::Integer(const NumberBounds& bounds) {
  return Once(StrCat("integer ", NameOf(bounds)), [&] { return IntegerWithin(bounds); });
}

Expression JsonText::IntegerWithin(const NumberBounds& bounds) {
  const int64_t limit = PowerOfTen(kMaxIntegerDigits) - 1;
  // The bounds of the numbers without and with a sign; a minimum below 0 is the maximum of those with one.
  const auto largest = [&](const std::optional<Decimal>& bound, int sign, bool is_excluded) {
    if (!bound.has_value()) return limit;
    if (sign * bound->digits < 0) return int64_t{-1};
    return ScaledDown({sign * bound->digits, bound->scale}, 0, is_excluded);
  };
  const auto smallest = [&](const std::optional<Decimal>& bound, int sign, bool is_excluded) {
    if (!bound.has_value() || sign * bound->digits < 0) return int64_t{0};
    return ScaledUp({sign * bound->digits, bound->scale}, 0, is_excluded);
  };
  const Expression positive = Natural(smallest(bounds.minimum, 1, bounds.excludes_minimum),
                                      largest(bounds.maximum, 1, bounds.excludes_maximum));
  const Expression negative =
      Natural(std::max<int64_t>(smallest(bounds.maximum, -1, bounds.excludes_maximum), 1),
              largest(bounds.minimum, -1, bounds.excludes_minimum));
  return grammar_.Choice({positive, grammar_.Sequence({grammar_.Bytes("-"), negative})});
}

Expression JsonText::Multiple(int divisor) {
  return Once(StrCat("multiple of ", divisor), [&] {
    // Further digits, of which so many may come, behind digits of each remainder.
    std::vector<Expression> behind(static_cast<size_t>(divisor), grammar_.Nothing());
    behind[0] = grammar_.Empty();
    const auto digits = [&](int remainder, int first_digit) {
      std::vector<Expression> choices;
      for (int digit = first_digit; digit < 10; ++digit) {
        const size_t next = static_cast<size_t>((remainder * 10 + digit) % divisor);
        choices.push_back(grammar_.Sequence({grammar_.Bytes(StrCat(digit)), behind[next]}));
      }
      return choices;
    };
    for (int num_digits = 1; num_digits < kMaxIntegerDigits; ++num_digits) {
      std::vector<Expression> longer;
      for (int remainder = 0; remainder < divisor; ++remainder) {
        std::vector<Expression> choices = digits(remainder, 0);
        if (remainder == 0) choices.push_back(grammar_.Empty());
        const Grammar::Rule rule = grammar_.AddRule(StrCat("remainder ", remainder));
        grammar_.DefineRule(rule, grammar_.Choice(std::move(choices)));
        longer.push_back(grammar_.Call(rule));
      }
      behind = std::move(longer);
    }
    const Expression natural = grammar_.Choice(digits(0, 1));
    return grammar_.Choice({grammar_.Bytes("0"), grammar_.Sequence({grammar_.Optional(grammar_.Bytes("-")), natural})});
  });
}

Expression JsonText::Fraction(int64_t first, int64_t last, int scale) {
  if (first > last) return grammar_.Nothing();
  const int64_t unit = PowerOfTen(scale);
  const int64_t a = first / unit, b = last / unit;
  const Expression point = grammar_.Bytes(".");
  const auto with = [&](int64_t whole, int64_t low, int64_t high) {
    return grammar_.Sequence({grammar_.Bytes(StrCat(whole)), point, FixedWidth(low, high, scale)});
  };
  if (a == b) return with(a, first % unit, last % unit);
  std::vector<Expression> choices = {with(a, first % unit, unit - 1), with(b, 0, last % unit)};
  if (a + 1 < b) choices.push_back(grammar_.Sequence({Natural(a + 1, b - 1), point, Digits(scale, scale)}));
  return grammar_.Choice(std::move(choices));
}

// With no decimals, one, and so on; with decimals below 10^9, so that all digits count in double precision.
Expression JsonText::Positive(const NumberBounds& bounds) {
  const auto smallest = [&](int scale) {
    return bounds.minimum.has_value() ? ScaledUp(*bounds.minimum, scale, bounds.excludes_minimum) : 0;
  };
  const auto largest = [&](int scale) {
    return bounds.maximum.has_value() ? ScaledDown(*bounds.maximum, scale, bounds.excludes_maximum)
                                      : PowerOfTen(kMaxIntegerDigits) - 1;
  };
  const int64_t limit = PowerOfTen(9) - 1;
  std::vector<Expression> choices = {Natural(smallest(0), largest(0))};
  if (smallest(0) > limit) return choices.front();
  for (int scale = 1; scale <= Decimal::kMaxScale; ++scale) {
    const int64_t last = largest(0) >= limit ? limit * PowerOfTen(scale) : largest(scale);
    choices.push_back(Fraction(smallest(scale), last, scale));
  }
  return grammar_.Choice(std::move(choices));
}

Expression JsonText::Number(const NumberBounds& bounds) {
  return Once(StrCat("number ", NameOf(bounds)), [&] { return NumberWithin(bounds); });
}

Expression JsonText::NumberWithin(const NumberBounds& bounds) {
  const Expression sign = grammar_.Bytes("-");
  if (!bounds.minimum.has_value() && !bounds.maximum.has_value()) {
    const Expression whole = Natural(0, PowerOfTen(kMaxIntegerDigits) - 1);
    const Expression fraction = grammar_.Sequence({grammar_.Bytes("."), Digits(1, kMaxIntegerDigits)});
    const Expression exponent = grammar_.Sequence({grammar_.Characters({{'E', 'E'}, {'e', 'e'}}),
                                                   grammar_.Optional(grammar_.Characters({{'+', '+'}, {'-', '-'}})),
                                                   Digits(1, 2)});
    return grammar_.Sequence({grammar_.Optional(sign), whole, grammar_.Optional(fraction),
                              grammar_.Optional(exponent)});
  }
  const auto is_negative = [](const std::optional<Decimal>& bound) { return bound.has_value() && bound->digits < 0; };
  const auto negated = [](const Decimal& bound) { return Decimal{-bound.digits, bound.scale}; };
  std::vector<Expression> choices;
  if (!is_negative(bounds.maximum)) {
    NumberBounds positive = bounds;
    if (is_negative(bounds.minimum)) {
      positive.minimum.reset();
      positive.excludes_minimum = false;
    }
    choices.push_back(Positive(positive));
  }
  if (!bounds.minimum.has_value() || is_negative(bounds.minimum)) {
    NumberBounds mirrored{.minimum = Decimal(), .excludes_minimum = true};
    if (bounds.minimum.has_value()) mirrored.maximum = negated(*bounds.minimum);
    mirrored.excludes_maximum = bounds.excludes_minimum;
    if (is_negative(bounds.maximum)) {
      mirrored.minimum = negated(*bounds.maximum);
      mirrored.excludes_minimum = bounds.excludes_maximum;
    }
    choices.push_back(grammar_.Sequence({sign, Positive(mirrored)}));
  }
  return grammar_.Choice(std::move(choices));
}

Expression JsonText::Boolean() { return grammar_.Choice({grammar_.Bytes("true"), grammar_.Bytes("false")}); }

Expression JsonText::Object(Expression members) {
  return grammar_.Sequence({grammar_.Bytes("{"), Blanks(), members, grammar_.Bytes("}")});
}

Expression JsonText::Array(Expression elements) {
  return grammar_.Sequence({grammar_.Bytes("["), Blanks(), elements, grammar_.Bytes("]")});
}

Expression JsonText::Member(Expression key, Expression value) {
  return grammar_.Sequence({key, grammar_.Bytes(":"), Blanks(), value});
}

Expression JsonText::AnyObject() {
  const Expression member = Member(String(), AnyValue());
  const Expression more = grammar_.Repeat(grammar_.Sequence({Comma(), member}), 0, Grammar::kUnbounded);
  return Object(grammar_.Optional(grammar_.Sequence({member, more, Blanks()})));
}

Expression JsonText::AnyArray() {
  const Expression value = AnyValue();
  const Expression more = grammar_.Repeat(grammar_.Sequence({Comma(), value}), 0, Grammar::kUnbounded);
  return Array(grammar_.Optional(grammar_.Sequence({value, more, Blanks()})));
}

Expression JsonText::AnyValue() {
  if (!std::exchange(has_any_value_, true)) {
    grammar_.DefineRule(any_value_, grammar_.Choice({String(), Number({}), Boolean(), Null(), AnyObject(),
                                                     AnyArray()}));
  }
  return grammar_.Call(any_value_);
}

}  // namespace expertd
