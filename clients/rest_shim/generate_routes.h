// /v1/chat/completions and /v1/completions, whole and streamed.
#pragma once

#include "clients/rest_shim/upstream.h"

namespace expertd::rest {

void PostChatCompletion(Upstream& upstream, const RestCall& call);
void PostCompletion(Upstream& upstream, const RestCall& call);

}  // namespace expertd::rest
