#include "engine/checkpoint/json_events.h"

namespace expertd {

absl::Status ReadJsonEvents(std::string_view text, JsonEvents& events) {
  try {
    if (nlohmann::json::sax_parse(text.begin(), text.end(), &events)) return absl::OkStatus();
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(StrCat("not readable: ", ShowName(error.what())));
  }
  return absl::InvalidArgumentError(events.error());
}

}  // namespace expertd
