#include "engine/structured/grammar.h"

#include <algorithm>

namespace expertd {
namespace {

constexpr CodePointRange kSurrogates = {0xD800, 0xDFFF};

// Sorted, merged, within Unicode, without surrogates.
std::vector<CodePointRange> Normalize(std::vector<CodePointRange> ranges) {
  std::vector<CodePointRange> parts;
  for (CodePointRange range : ranges) {
    range.last = std::min(range.last, Grammar::kMaxCodePoint);
    if (range.first < kSurrogates.first && range.last >= kSurrogates.first) {
      parts.push_back({range.first, kSurrogates.first - 1});
    }
    if (range.last > kSurrogates.last && range.first <= kSurrogates.last) range.first = kSurrogates.last + 1;
    const bool is_left = range.last < kSurrogates.first || range.first > kSurrogates.last;
    if (is_left && range.first <= range.last) parts.push_back(range);
  }
  std::sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<CodePointRange> merged;
  for (const CodePointRange& part : parts) {
    if (!merged.empty() && part.first <= merged.back().last + 1) {
      merged.back().last = std::max(merged.back().last, part.last);
    } else {
      merged.push_back(part);
    }
  }
  return merged;
}

}  // namespace

Grammar::Grammar() {
  nodes_.push_back({.kind = Kind::kNothing});
  nodes_.push_back({.kind = Kind::kBytes});
}

Grammar::Expression Grammar::Add(Node node) {
  if (nodes_.size() >= kMaxExpressions) {
    is_too_large_ = true;
    return Nothing();
  }
  nodes_.push_back(std::move(node));
  return static_cast<Expression>(nodes_.size() - 1);
}

Grammar::Expression Grammar::Bytes(std::string_view bytes) {
  if (bytes.empty()) return Empty();
  return Add({.kind = Kind::kBytes, .bytes = std::string(bytes)});
}

Grammar::Expression Grammar::Characters(std::vector<CodePointRange> ranges) {
  ranges = Normalize(std::move(ranges));
  if (ranges.empty()) return Nothing();
  return Add({.kind = Kind::kCharacters, .ranges = std::move(ranges)});
}

Grammar::Expression Grammar::OtherCharacters(std::vector<CodePointRange> ranges) {
  std::vector<CodePointRange> others;
  uint32_t next = 0;
  for (const CodePointRange& range : Normalize(std::move(ranges))) {
    if (range.first > next) others.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kMaxCodePoint) others.push_back({next, kMaxCodePoint});
  return Characters(std::move(others));
}

Grammar::Expression Grammar::Sequence(std::vector<Expression> operands) {
  std::erase(operands, Empty());
  if (operands.empty()) return Empty();
  if (operands.size() == 1) return operands.front();
  if (std::find(operands.begin(), operands.end(), Nothing()) != operands.end()) return Nothing();
  return Add({.kind = Kind::kSequence, .operands = std::move(operands)});
}

Grammar::Expression Grammar::Choice(std::vector<Expression> operands) {
  std::erase(operands, Nothing());
  if (operands.empty()) return Nothing();
  if (operands.size() == 1) return operands.front();
  return Add({.kind = Kind::kChoice, .operands = std::move(operands)});
}

Grammar::Expression Grammar::Repeat(Expression operand, int minimum, int maximum) {
  if (maximum == 0 || operand == Empty()) return Empty();
  if (operand == Nothing()) return minimum == 0 ? Empty() : Nothing();
  if (minimum == 1 && maximum == 1) return operand;
  return Add({.kind = Kind::kRepeat, .operands = {operand}, .minimum = minimum, .maximum = maximum});
}

Grammar::Expression Grammar::Token(int32_t token) { return Add({.kind = Kind::kToken, .index = token}); }

Grammar::Rule Grammar::AddRule(std::string name) {
  rules_.push_back({.name = std::move(name)});
  return static_cast<Rule>(rules_.size() - 1);
}

Grammar::Expression Grammar::Call(Rule rule) { return Add({.kind = Kind::kRule, .index = rule}); }

}  // namespace expertd
