#include "clients/rest_shim/request_body.h"

#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "clients/rest_shim/errors.h"
#include "clients/rest_shim/json_fields.h"
#include "engine/base/strings.h"

namespace expertd::rest {
namespace {

// A browser sends other types, and bodies without any, to a foreign server without asking it first; JSON it does not.
bool IsJson(std::string_view content_type) {
  const std::string type(content_type.substr(0, content_type.find(';')));
  return absl::AsciiStrToLower(absl::StripAsciiWhitespace(type)) == "application/json";
}

}  // namespace

std::optional<Json> TakeJson(const RestCall& call) {
  const std::string& type = call.exchange->request().content_type;
  if (!IsJson(type)) {
    call.SendError({.status = 415,
                    .message = StrCat("the content type is '", type, "'; must be application/json"),
                    .code = "unsupported_media_type"});
    return std::nullopt;
  }
  absl::StatusOr<Json> json = ParseBody(call.exchange->TakeBody());
  if (!json.ok()) {
    call.SendError(RestErrorOf(json.status()));
    return std::nullopt;
  }
  return *std::move(json);
}

}  // namespace expertd::rest
