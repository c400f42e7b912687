// What OpenAI's JSON calls the fields of the contract.
#pragma once

#include <string>
#include <string_view>

namespace expertd::rest {

// "sampling.top_p": "top_p"; "chat.messages[0].parts[1].text": "messages[0].content[1].text". A field that JSON has no
// name of its own for keeps its name. Where two members are read into one field, the usual one is named: a schema is
// `response_format`, a regular expression `structured_outputs.regex`.
std::string RestNameOf(std::string_view field);

}  // namespace expertd::rest
