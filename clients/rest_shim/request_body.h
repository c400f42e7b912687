// The JSON body of a call.
#pragma once

#include <optional>

#include "clients/rest_shim/upstream.h"
#include "engine/base/json.h"

namespace expertd::rest {

// Takes the body out of the call's request. nullopt when it is no JSON object or says that it is something else: then
// the call has been answered with what is wrong.
std::optional<Json> TakeJson(const RestCall& call);

}  // namespace expertd::rest
