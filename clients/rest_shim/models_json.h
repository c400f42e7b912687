// The models of a server, as OpenAI's clients read them.
#pragma once

#include "engine/base/json.h"
#include "expertd/v1/model.pb.h"

namespace expertd::rest {

// {"id", "object": "model", "created", "owned_by", "max_model_len"}; the last as vLLM has it.
Json ModelJson(const v1::Model& model);

// {"object": "list", "data": [...]}.
Json ModelListJson(const v1::ListModelsResponse& models);

}  // namespace expertd::rest
