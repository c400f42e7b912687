#include "server/tokenizer_service.h"

#include <string>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/request/errors.h"
#include "server/convert.h"
#include "server/status.h"

namespace expertd {
namespace {

constexpr int kMaxTexts = 1024;
constexpr int64_t kMaxIds = 4 << 20;
constexpr int64_t kMaxDetailedBytes = 1 << 20;

absl::Status NeedTokenizer(const Engine& engine) {
  if (engine.tokenizer() != nullptr) return absl::OkStatus();
  return MakeError(absl::StatusCode::kFailedPrecondition, "the model's folder has no tokenizer",
                   {.reason = std::string(error_reason::kUnsupportedFeature)});
}

absl::Status CheckCount(std::string_view field, int count) {
  if (count >= 1 && count <= kMaxTexts) return absl::OkStatus();
  return InvalidParameter(field, StrCat("has ", count, " entries; must have 1..", kMaxTexts));
}

absl::Status TokenizeText(const Tokenizer& tokenizer, const std::string& text, const v1::TokenizeRequest& request,
                          v1::Tokenization* result) {
  EncodeOptions options;
  if (request.has_add_special_tokens()) options.add_special_tokens = request.add_special_tokens();
  if (request.has_parse_special_tokens()) options.parse_special_tokens = request.parse_special_tokens();
  Encoding encoding;
  if (request.offsets()) {
    ASSIGN_OR_RETURN(encoding, tokenizer.EncodeWithOffsets(text, options));
  } else {
    ASSIGN_OR_RETURN(encoding.ids, tokenizer.Encode(text, options));
  }
  result->mutable_ids()->Add(encoding.ids.begin(), encoding.ids.end());
  for (const ByteRange& range : encoding.offsets) {
    v1::ByteRange* offset = result->add_offsets();
    offset->set_begin(static_cast<uint32_t>(range.begin));
    offset->set_end(static_cast<uint32_t>(range.end));
  }
  if (!request.pieces()) return absl::OkStatus();
  for (const TokenId id : encoding.ids) result->add_pieces(ToValidUtf8(tokenizer.TokenText(id)));
  return absl::OkStatus();
}

absl::Status Tokenize(const Engine& engine, const v1::TokenizeRequest& request, v1::TokenizeResponse* response) {
  RETURN_IF_ERROR(NeedTokenizer(engine));
  RETURN_IF_ERROR(CheckCount("texts", request.texts_size()));
  int64_t num_bytes = 0;
  for (const std::string& text : request.texts()) num_bytes += static_cast<int64_t>(text.size());
  // Offsets and pieces make an answer many times as large as the texts.
  const int64_t limit = request.offsets() || request.pieces() ? kMaxDetailedBytes
                                                              : engine.request_limits().max_prompt_bytes;
  if (num_bytes > limit) {
    return InvalidParameter("texts", StrCat("has ", num_bytes, " bytes; at most ", limit));
  }
  for (const std::string& text : request.texts()) {
    RETURN_IF_ERROR(TokenizeText(*engine.tokenizer(), text, request, response->add_results()));
  }
  response->set_max_model_len(static_cast<uint32_t>(engine.info().max_model_len));
  return absl::OkStatus();
}

absl::Status Detokenize(const Engine& engine, const v1::DetokenizeRequest& request,
                        v1::DetokenizeResponse* response) {
  RETURN_IF_ERROR(NeedTokenizer(engine));
  RETURN_IF_ERROR(CheckCount("sequences", request.sequences_size()));
  const uint32_t vocab_size = static_cast<uint32_t>(engine.info().vocab_size);
  int64_t num_ids = 0;
  for (const v1::TokenInput& sequence : request.sequences()) num_ids += sequence.ids_size();
  if (num_ids > kMaxIds) return InvalidParameter("sequences", StrCat("has ", num_ids, " ids; at most ", kMaxIds));
  for (int i = 0; i < request.sequences_size(); ++i) {
    const auto& ids = request.sequences(i).ids();
    for (int j = 0; j < ids.size(); ++j) {
      if (ids[j] >= vocab_size) {
        return InvalidParameter(StrCat("sequences[", i, "].ids[", j, "]"),
                                StrCat("is ", ids[j], "; must be below ", vocab_size));
      }
    }
    const std::vector<TokenId> tokens(ids.begin(), ids.end());
    response->add_texts(engine.tokenizer()->Decode(tokens, request.skip_special_tokens()));
  }
  return absl::OkStatus();
}

absl::Status RenderChat(const Engine& engine, const v1::RenderChatRequest& request, v1::RenderChatResponse* response) {
  RETURN_IF_ERROR(NeedTokenizer(engine));
  if (!engine.info().has_chat_template) {
    return MakeError(absl::StatusCode::kFailedPrecondition, "the model's folder has no chat template",
                     {.reason = std::string(error_reason::kUnsupportedFeature)});
  }
  if (const int64_t limit = engine.request_limits().max_prompt_bytes;
      static_cast<int64_t>(request.ByteSizeLong()) > limit) {
    return InvalidParameter("chat", StrCat("has ", request.ByteSizeLong(), " bytes; at most ", limit));
  }
  ASSIGN_OR_RETURN(const ChatInput chat, ToChatInput(request.chat()));
  ASSIGN_OR_RETURN(RenderedChat rendered, engine.RenderChat(chat));
  response->set_text(std::move(rendered.text));
  if (request.token_ids()) response->mutable_token_ids()->Add(rendered.tokens.begin(), rendered.tokens.end());
  return absl::OkStatus();
}

}  // namespace

template <typename Request, typename Response>
grpc::ServerUnaryReactor* TokenizerService::AnswerOnWorker(const UnaryCall& call, std::string_view method,
                                                           absl::Status (*handler)(const Engine&, const Request&,
                                                                                   Response*)) {
  CallGate::Ticket ticket = gate_.Admit(*call.context, method, CallGate::Access::kKey, call.request);
  grpc::ServerUnaryReactor* reactor = call.context->DefaultReactor();
  if (!ticket.status().ok()) {
    reactor->Finish(ToGrpcStatus(ticket.status()));
    return reactor;
  }
  HeldRequest held = ticket.TakeRequest();
  const auto size = held.may_be_large() ? WorkerPool::JobSize::kLarge : WorkerPool::JobSize::kSmall;
  workers_.Post(size, [this, call, reactor, handler, held = std::move(held), ticket = std::move(ticket)]() mutable {
    ticket.set_status(CatchAll([&]() -> absl::Status {
      if (call.context->IsCancelled()) return absl::CancelledError("the caller cancelled");
      Request request;
      Response response;
      RETURN_IF_ERROR(held.Read(&request));
      ASSIGN_OR_RETURN(const Engine* engine, state_.engine());
      RETURN_IF_ERROR(CheckModelName(request.model(), engine->info().model_name));
      RETURN_IF_ERROR(handler(*engine, request, &response));
      return WriteMessage(response, gate_.limits().max_answer_bytes, call.answer);
    }));
    reactor->Finish(ToGrpcStatus(ticket.status()));
  });
  return reactor;
}

grpc::ServerUnaryReactor* TokenizerService::Tokenize(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request, grpc::ByteBuffer* answer) {
  return AnswerOnWorker({context, request, answer}, "expertd.v1.TokenizerService/Tokenize", &expertd::Tokenize);
}

grpc::ServerUnaryReactor* TokenizerService::Detokenize(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request, grpc::ByteBuffer* answer) {
  return AnswerOnWorker({context, request, answer}, "expertd.v1.TokenizerService/Detokenize", &expertd::Detokenize);
}

grpc::ServerUnaryReactor* TokenizerService::RenderChat(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request, grpc::ByteBuffer* answer) {
  return AnswerOnWorker({context, request, answer}, "expertd.v1.TokenizerService/RenderChat", &expertd::RenderChat);
}

}  // namespace expertd
