// Cuts a template into tokens with the rules of jinja2's lexer under trim_blocks and lstrip_blocks: which white space
// round a tag belongs to the text is decided here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/jinja/value.h"

namespace expertd::jinja {

enum class TokenType {
  kData,  // text: template text
  kBlockBegin,
  kBlockEnd,
  kVariableBegin,
  kVariableEnd,
  kName,      // text: the name
  kString,    // text: the unescaped value
  kInteger,   // integer
  kFloat,     // number
  kOperator,  // text: the operator
  kEnd,
};

struct Token {
  TokenType type = TokenType::kEnd;
  int line = 1;
  std::string text;
  Int integer = 0;
  double number = 0;

  bool IsName(std::string_view name) const { return type == TokenType::kName && text == name; }
  bool IsOperator(std::string_view symbol) const { return type == TokenType::kOperator && text == symbol; }
};

// A syntax error at a line: InvalidArgument "line N: what".
absl::Status SyntaxError(int line, std::string_view what);

// The tokens of `source`, the last of which is kEnd. `source` is valid UTF-8. Errors: InvalidArgument "line N: what".
absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source);

}  // namespace expertd::jinja
