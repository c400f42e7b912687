// Runs the generations that answer one HTTP request, one for each prompt: to a whole answer, or as a stream of events.
// The first that fails ends the others and becomes the answer; a client that goes ends all.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "clients/rest_shim/chunks.h"
#include "clients/rest_shim/upstream.h"
#include "expertd/v1/inference.pb.h"

namespace expertd::rest {

// `on_answers` gets one response per request, in their order.
void GenerateWhole(Upstream& upstream, const RestCall& call, std::vector<v1::GenerateRequest> requests,
                   std::function<void(const RestCall&, const std::vector<v1::GenerateResponse>&)> on_answers);

// A request and what turns its events into chunks.
struct StreamedGeneration {
  v1::GenerateRequest request;
  std::unique_ptr<ChunkMaker> chunks;
};

void GenerateStream(Upstream& upstream, const RestCall& call, const StreamChoice& choice,
                    std::vector<StreamedGeneration> generations);

}  // namespace expertd::rest
