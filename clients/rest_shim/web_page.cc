#include "clients/rest_shim/web_page.h"

namespace expertd::rest {

std::optional<HttpResponse> WebPageAnswer(std::string_view path) {
  for (const WebFile& file : WebFiles()) {
    if (path != file.path) continue;
    HttpResponse response{.content_type = std::string(file.content_type), .body = std::string(file.bytes)};
    response.headers = {
        // Nothing inline, nothing from elsewhere: text that a model writes can't become a program.
        {"content-security-policy",
         "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"},
        {"x-content-type-options", "nosniff"},
        {"referrer-policy", "no-referrer"},
        // The files change together with the binary.
        {"cache-control", "no-cache"}};
    return response;
  }
  return std::nullopt;
}

}  // namespace expertd::rest
