#include "engine/structured/tool_call_form.h"

#include <utility>

#include "engine/base/json.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/structured/json_schema.h"

namespace expertd {
namespace {

Grammar::Expression AddPieces(const ToolCallForm::Pieces& pieces, Grammar& grammar) {
  std::vector<Grammar::Expression> sequence;
  for (const ToolCallForm::Piece& piece : pieces) {
    sequence.push_back(piece.token >= 0 ? grammar.Token(piece.token) : grammar.Bytes(piece.text));
  }
  return grammar.Sequence(std::move(sequence));
}

absl::StatusOr<Grammar::Expression> AddArguments(const ToolCallForm::Tool& tool, Grammar& grammar) {
  if (tool.schema.empty()) return AddJsonObject(grammar);
  const auto error = [&](std::string_view message) {
    return absl::InvalidArgumentError(StrCat("the schema of tool ", tool.name, ": ", message));
  };
  absl::StatusOr<Json> schema = ParseJson(tool.schema, kMaxSchemaDepth);
  if (!schema.ok()) return error(ToStdView(schema.status().message()));
  if (!schema->is_object()) return error("is not an object");
  if (schema->emplace("type", "object").first.value() != "object") return error("its type is not object");
  const absl::StatusOr<Grammar::Expression> arguments = AddJsonSchema(*schema, grammar);
  if (!arguments.ok()) return error(ToStdView(arguments.status().message()));
  return arguments;
}

void AppendKey(const ToolCallForm::Pieces& pieces, std::string& key) {
  for (const ToolCallForm::Piece& piece : pieces) StrAppend(&key, piece.token, ":", piece.text.size(), ":", piece.text);
  key += ';';
}

}  // namespace

absl::StatusOr<Grammar::Expression> AddToolCalls(const ToolCallForm& form, Grammar& grammar) {
  std::vector<Grammar::Expression> calls;
  for (const ToolCallForm::Tool& tool : form.tools) {
    ASSIGN_OR_RETURN(const Grammar::Expression arguments, AddArguments(tool, grammar));
    calls.push_back(
        grammar.Sequence({grammar.Bytes(tool.name), AddPieces(form.after_name, grammar), arguments}));
  }
  const Grammar::Expression call =
      grammar.Sequence({AddPieces(form.before_name, grammar), grammar.Choice(std::move(calls)),
                        AddPieces(form.after_arguments, grammar)});
  std::vector<Grammar::Expression> whole = {AddPieces(form.open, grammar), call};
  if (!form.is_single) {
    const Grammar::Expression further = grammar.Sequence({AddPieces(form.between, grammar), call});
    whole.push_back(grammar.Repeat(further, 0, Grammar::kUnbounded));
  }
  whole.push_back(AddPieces(form.close, grammar));
  return grammar.Sequence(std::move(whole));
}

std::string KeyOf(const ToolCallForm& form) {
  std::string key = form.is_single ? "one;" : "many;";
  for (const ToolCallForm::Pieces* pieces :
       {&form.open, &form.before_name, &form.after_name, &form.after_arguments, &form.between, &form.close}) {
    AppendKey(*pieces, key);
  }
  for (const ToolCallForm::Tool& tool : form.tools) {
    StrAppend(&key, tool.name.size(), ":", tool.name, tool.schema.size(), ":", tool.schema);
  }
  return key;
}

}  // namespace expertd
