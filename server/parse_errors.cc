#include "server/parse_errors.h"

#include <algorithm>
#include <numeric>
#include <string_view>
#include <utility>

#include "engine/base/strings.h"

namespace expertd {
namespace {

std::string CommandList(const CLI::App& app) {
  std::string list;
  for (const CLI::App* command : app.get_subcommands(/*filter=*/{})) {
    StrAppend(&list, list.empty() ? "" : ", ", command->get_name());
  }
  return list;
}

// Insertions, deletions and substitutions that turn one word into the other (Levenshtein).
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, substituted}));
    }
  }
  return row.back();
}

// The flag of `command` that is spelled most like `name`, if any is near.
std::string NearestFlag(const CLI::App& command, std::string_view name) {
  std::string nearest;
  size_t least = 1 + name.size() / 5;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& known : option->get_lnames()) {
      const size_t distance = EditDistance("--" + known, name);
      if (distance > least) continue;
      least = distance;
      nearest = "--" + known;
    }
  }
  return nearest;
}

std::string ExplainExtras(const CLI::App& command) {
  const std::vector<std::string> extras = command.remaining();
  const auto flag = std::find_if(extras.begin(), extras.end(), [](const auto& word) { return word.starts_with('-'); });
  if (flag == extras.end()) {
    return extras.empty() ? "too many arguments" : StrCat("the argument '", extras.front(), "' is one too many");
  }
  const std::string name = flag->substr(0, flag->find('='));
  const std::string nearest = NearestFlag(command, name);
  return StrCat("there is no flag ", name, nearest.empty() ? "" : StrCat("; did you mean ", nearest, "?"));
}

std::string WantedValue(const CLI::App& command, const std::string& flag) {
  const CLI::Option* option = command.get_option_no_throw(flag);
  const std::string type = option == nullptr ? "" : option->get_type_name();
  if (type == "INT" || type == "UINT") return "a whole number";
  return type == "FLOAT" ? "a number" : "a value";
}

}  // namespace

std::string ExplainParseError(const CLI::ParseError& error, const CLI::App& app,
                              const std::vector<std::string>& arguments) {
  const std::string text = error.what();
  if (app.get_subcommands().empty()) {
    const auto given =
        std::find_if(arguments.begin(), arguments.end(), [](const auto& word) { return !word.starts_with('-'); });
    return StrCat(given == arguments.end() ? "no command is given" : StrCat("there is no command '", *given, "'"),
                  "; the commands are ", CommandList(app));
  }
  const CLI::App& command = *app.get_subcommands().front();
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) return ExplainExtras(command);

  constexpr std::string_view kUnread = "Could not convert: ";  // NAME = VALUE
  if (const size_t equals = text.find(" = "); text.starts_with(kUnread) && equals != std::string::npos) {
    const std::string flag = text.substr(kUnread.size(), equals - kUnread.size());
    return StrCat(flag, " does not take the value '", text.substr(equals + 3), "'; must be ",
                  WantedValue(command, flag));
  }
  const size_t colon = text.find(": ");  // NAME: 1 required TYPE missing
  if (text.ends_with(" missing") && colon != std::string::npos) {
    const std::string flag = text.substr(0, colon);
    return StrCat(flag, " has no value; must be ", WantedValue(command, flag));
  }
  return text;
}

}  // namespace expertd
