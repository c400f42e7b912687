#include "clients/rest_shim/tokenize_routes.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "clients/rest_shim/chat_json.h"
#include "clients/rest_shim/errors.h"
#include "clients/rest_shim/json_fields.h"
#include "clients/rest_shim/request_body.h"
#include "engine/base/status_macros.h"

namespace expertd::rest {
namespace {

using TokenizerCalls = v1::TokenizerService::StubInterface::async_interface;
using ModelCalls = v1::ModelService::StubInterface::async_interface;

template <typename Ids>
Json TokensJson(const Ids& ids, uint32_t max_model_len) {
  Json tokens = Json::array();
  for (const uint32_t id : ids) tokens.push_back(id);
  Json json;
  json["count"] = tokens.size();
  json["max_model_len"] = max_model_len;
  json["tokens"] = std::move(tokens);
  json["token_strs"] = Json();
  return json;
}

absl::Status TokenizeText(Upstream& upstream, const RestCall& call, const JsonFields& fields) {
  v1::TokenizeRequest request;
  ASSIGN_OR_RETURN(const std::optional<std::string> model, fields.String("model"));
  ASSIGN_OR_RETURN(const std::optional<std::string> prompt, fields.String("prompt"));
  ASSIGN_OR_RETURN(const std::optional<bool> add_special, fields.Bool("add_special_tokens"));
  ASSIGN_OR_RETURN(const std::optional<bool> pieces, fields.Bool("return_token_strs"));
  if (!prompt.has_value()) return fields.Invalid("prompt", "is missing, and so is messages");
  request.set_model(model.value_or(""));
  request.add_texts(*prompt);
  if (add_special.has_value()) request.set_add_special_tokens(*add_special);
  request.set_pieces(pieces.value_or(false));
  CallUpstream<TokenizerCalls, v1::TokenizeRequest, v1::TokenizeResponse>(
      call, upstream.tokenizer.async(), &TokenizerCalls::Tokenize, std::move(request),
      [has_pieces = pieces.value_or(false)](const RestCall& call, const v1::TokenizeResponse& response) {
        const v1::Tokenization& result = response.results(0);
        Json json = TokensJson(result.ids(), response.max_model_len());
        if (has_pieces) {
          json["token_strs"] = Json::array();
          for (const std::string& piece : result.pieces()) json["token_strs"].push_back(piece);
        }
        call.SendJson(json);
      });
  return absl::OkStatus();
}

absl::Status TokenizeChat(Upstream& upstream, const RestCall& call, const JsonFields& fields) {
  v1::RenderChatRequest request;
  ASSIGN_OR_RETURN(const std::optional<std::string> model, fields.String("model"));
  if (fields.Has("prompt")) return fields.Invalid("prompt", "is given beside messages; must be one of both");
  ASSIGN_OR_RETURN(const std::optional<bool> pieces, fields.Bool("return_token_strs"));
  if (pieces.value_or(false)) return fields.Invalid("return_token_strs", "is not supported with messages");
  ASSIGN_OR_RETURN(*request.mutable_chat(), ReadChat(fields));
  request.set_model(model.value_or(""));
  request.set_token_ids(true);
  CallUpstream<TokenizerCalls, v1::RenderChatRequest, v1::RenderChatResponse>(
      call, upstream.tokenizer.async(), &TokenizerCalls::RenderChat, std::move(request),
      [&upstream](const RestCall& call, const v1::RenderChatResponse& rendered) {
        // The model's length is another service's to tell.
        CallUpstream<ModelCalls, v1::GetModelRequest, v1::GetModelResponse>(
            call, upstream.model.async(), &ModelCalls::GetModel, {},
            [ids = rendered.token_ids()](const RestCall& call, const v1::GetModelResponse& response) {
              call.SendJson(TokensJson(ids, response.model().max_model_len()));
            });
      });
  return absl::OkStatus();
}

absl::Status Detokenize(Upstream& upstream, const RestCall& call, const JsonFields& fields) {
  v1::DetokenizeRequest request;
  ASSIGN_OR_RETURN(const std::optional<std::string> model, fields.String("model"));
  ASSIGN_OR_RETURN(const std::vector<uint32_t> tokens, fields.TokenIds("tokens"));
  if (!fields.Has("tokens")) return fields.Invalid("tokens", "is missing");
  request.set_model(model.value_or(""));
  request.add_sequences()->mutable_ids()->Add(tokens.begin(), tokens.end());
  CallUpstream<TokenizerCalls, v1::DetokenizeRequest, v1::DetokenizeResponse>(
      call, upstream.tokenizer.async(), &TokenizerCalls::Detokenize, std::move(request),
      [](const RestCall& call, const v1::DetokenizeResponse& response) {
        Json json;
        json["prompt"] = response.texts(0);
        call.SendJson(json);
      });
  return absl::OkStatus();
}

}  // namespace

void PostTokenize(Upstream& upstream, const RestCall& call) {
  const std::optional<Json> body = TakeJson(call);
  if (!body.has_value()) return;
  const JsonFields fields(*body);
  const absl::Status status = fields.Has("messages") ? TokenizeChat(upstream, call, fields)
                                                     : TokenizeText(upstream, call, fields);
  if (!status.ok()) call.SendError(RestErrorOf(status));
}

void PostDetokenize(Upstream& upstream, const RestCall& call) {
  const std::optional<Json> body = TakeJson(call);
  if (!body.has_value()) return;
  if (const absl::Status status = Detokenize(upstream, call, JsonFields(*body)); !status.ok()) {
    call.SendError(RestErrorOf(status));
  }
}

}  // namespace expertd::rest
