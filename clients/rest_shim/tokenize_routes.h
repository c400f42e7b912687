// /tokenize and /detokenize, as vLLM has them: a prompt or a conversation to token ids, and token ids to text.
#pragma once

#include "clients/rest_shim/upstream.h"

namespace expertd::rest {

void PostTokenize(Upstream& upstream, const RestCall& call);
void PostDetokenize(Upstream& upstream, const RestCall& call);

}  // namespace expertd::rest
