#include "clients/rest_shim/generate_routes.h"

#include <optional>
#include <utility>
#include <vector>

#include "clients/rest_shim/chat_json.h"
#include "clients/rest_shim/chunks.h"
#include "clients/rest_shim/completions_json.h"
#include "clients/rest_shim/errors.h"
#include "clients/rest_shim/generations.h"
#include "clients/rest_shim/request_body.h"
#include "engine/base/status_macros.h"

namespace expertd::rest {
namespace {

absl::Status AnswerChat(Upstream& upstream, const RestCall& call, const Json& body) {
  ASSIGN_OR_RETURN(v1::GenerateRequest request, ReadChatRequest(body));
  ASSIGN_OR_RETURN(const StreamChoice choice, ReadStreamChoice(JsonFields(body)));
  if (choice.is_stream) {
    std::vector<StreamedGeneration> generations;
    generations.push_back({std::move(request), MakeChatChunks(choice)});
    GenerateStream(upstream, call, choice, std::move(generations));
    return absl::OkStatus();
  }
  GenerateWhole(upstream, call, {std::move(request)},
                [](const RestCall& call, const std::vector<v1::GenerateResponse>& responses) {
                  call.SendJson(ChatCompletionJson(responses.front()));
                });
  return absl::OkStatus();
}

absl::Status AnswerCompletion(Upstream& upstream, const RestCall& call, const Json& body) {
  ASSIGN_OR_RETURN(std::vector<v1::GenerateRequest> requests, ReadCompletionRequests(body));
  ASSIGN_OR_RETURN(const StreamChoice choice, ReadStreamChoice(JsonFields(body)));
  if (choice.is_stream) {
    std::vector<StreamedGeneration> generations;
    uint32_t first_index = 0;
    for (v1::GenerateRequest& request : requests) {
      const uint32_t n = request.sampling().has_n() ? request.sampling().n() : 1;
      generations.push_back({std::move(request), MakeCompletionChunks(choice, call.request_id, first_index)});
      first_index += n;
    }
    GenerateStream(upstream, call, choice, std::move(generations));
    return absl::OkStatus();
  }
  GenerateWhole(upstream, call, std::move(requests),
                [](const RestCall& call, const std::vector<v1::GenerateResponse>& responses) {
                  call.SendJson(CompletionJson(call.request_id, responses));
                });
  return absl::OkStatus();
}

using Answer = absl::Status (*)(Upstream&, const RestCall&, const Json&);

void Post(Upstream& upstream, const RestCall& call, Answer answer) {
  const std::optional<Json> body = TakeJson(call);
  if (!body.has_value()) return;
  if (const absl::Status status = answer(upstream, call, *body); !status.ok()) call.SendError(RestErrorOf(status));
}

}  // namespace

void PostChatCompletion(Upstream& upstream, const RestCall& call) { Post(upstream, call, AnswerChat); }

void PostCompletion(Upstream& upstream, const RestCall& call) { Post(upstream, call, AnswerCompletion); }

}  // namespace expertd::rest
