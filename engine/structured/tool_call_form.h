// Calls of tools as a grammar: which tools, and how a model writes a call.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/structured/grammar.h"

namespace expertd {

struct ToolCallForm {
  // A part of what stands round names and arguments: one token of the vocabulary, or bytes.
  struct Piece {
    int32_t token = -1;  // -1: `text`
    std::string text;
  };
  using Pieces = std::vector<Piece>;

  struct Tool {
    std::string name;    // written as it is: without quotes and backslashes
    std::string schema;  // of its arguments, as JSON; empty: any object
  };

  // open, the calls with `between` between them, close. A call: before_name, name, after_name, arguments,
  // after_arguments.
  Pieces open, before_name, after_name, after_arguments, between, close;
  std::vector<Tool> tools;
  bool is_single = false;  // one call, not one or more
};

// Errors: InvalidArgument that names the tool and what is wrong with its schema, as AddJsonSchema has it.
absl::StatusOr<Grammar::Expression> AddToolCalls(const ToolCallForm& form, Grammar& grammar);

// Tells forms apart.
std::string KeyOf(const ToolCallForm& form);

}  // namespace expertd
