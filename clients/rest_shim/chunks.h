// Turns the events of one generation into the chunks of a stream. Each form of answer has its own.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "clients/rest_shim/sampling_json.h"
#include "engine/base/json.h"
#include "expertd/v1/inference.pb.h"

namespace expertd::rest {

// Used by one thread at a time.
class ChunkMaker {
 public:
  virtual ~ChunkMaker() = default;

  // The chunk for an event; nullopt for one that readers of OpenAI's streams know nothing of, and for output that has
  // no text as yet.
  virtual std::optional<Json> ChunkOf(const v1::StreamGenerateResponse& event) = 0;

  // The chunk without choices that tells the usage in the end.
  virtual Json UsageChunk(const v1::Usage& usage) = 0;
};

std::unique_ptr<ChunkMaker> MakeChatChunks(const StreamChoice& choice);

// Of one prompt's candidates, which are numbered from `first_index` on. `request_id` is that of all prompts together.
std::unique_ptr<ChunkMaker> MakeCompletionChunks(const StreamChoice& choice, std::string request_id,
                                                 uint32_t first_index);

}  // namespace expertd::rest
