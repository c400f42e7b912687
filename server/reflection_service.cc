#include "server/reflection_service.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "server/message.h"

namespace expertd {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FileDescriptor;
using RawBidiReactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;

// Adds `file` and what it imports, each once. The depth is that of the imports compiled into this program.
template <typename FileResponse>
void AddFile(const FileDescriptor& file, std::set<const FileDescriptor*>& seen, FileResponse* response) {
  if (!seen.insert(&file).second) return;
  google::protobuf::FileDescriptorProto proto;
  file.CopyTo(&proto);
  proto.SerializeToString(response->add_file_descriptor_proto());
  for (int i = 0; i < file.dependency_count(); ++i) AddFile(*file.dependency(i), seen, response);
}

// v1 and v1alpha differ in the names of their messages only.
template <typename Request, typename Response>
void Answer(const Request& request, const std::vector<std::string>& services, Response* response) {
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  response->set_valid_host(request.host());
  *response->mutable_original_request() = request;
  const auto answer_file = [&](const FileDescriptor* file, const std::string& wanted) {
    if (file == nullptr) {
      response->mutable_error_response()->set_error_code(static_cast<int>(grpc::StatusCode::NOT_FOUND));
      response->mutable_error_response()->set_error_message(StrCat("'", wanted, "' is not known"));
      return;
    }
    std::set<const FileDescriptor*> seen;
    AddFile(*file, seen, response->mutable_file_descriptor_response());
  };
  switch (request.message_request_case()) {
    case Request::kFileByFilename:
      return answer_file(pool.FindFileByName(request.file_by_filename()), request.file_by_filename());
    case Request::kFileContainingSymbol:
      return answer_file(pool.FindFileContainingSymbol(request.file_containing_symbol()),
                         request.file_containing_symbol());
    case Request::kListServices:
      for (const std::string& name : services) {
        response->mutable_list_services_response()->add_service()->set_name(name);
      }
      return;
    case Request::kFileContainingExtension:  // the contract extends nothing
      return answer_file(nullptr, request.file_containing_extension().containing_type());
    case Request::kAllExtensionNumbersOfType:
      if (pool.FindMessageTypeByName(request.all_extension_numbers_of_type()) == nullptr) {
        return answer_file(nullptr, request.all_extension_numbers_of_type());
      }
      response->mutable_all_extension_numbers_response()->set_base_type_name(request.all_extension_numbers_of_type());
      return;
    default:
      response->mutable_error_response()->set_error_code(static_cast<int>(grpc::StatusCode::INVALID_ARGUMENT));
      response->mutable_error_response()->set_error_message("the question is empty");
  }
}

// Read, answer, write, and so on: one operation at a time, until the caller has no more questions.
template <typename Request, typename Response>
class ReflectionReactor final : public RawBidiReactor {
 public:
  ReflectionReactor(const std::vector<std::string>& services, CallGate::Ticket ticket)
      : services_(services), ticket_(std::move(ticket)) {
    StartRead(&question_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    const absl::Status status = CatchAll([this]() -> absl::Status {
      Request request;
      Response response;
      RETURN_IF_ERROR(ReadMessage(std::exchange(question_, grpc::ByteBuffer()), kMaxShortRequestBytes, &request));
      Answer(request, services_, &response);
      answer_ = WriteMessage(response);
      return absl::OkStatus();
    });
    if (!status.ok()) {
      ticket_.set_status(status);
      return Finish(ToGrpcStatus(status));
    }
    StartWrite(&answer_);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::CANCELLED);
    StartRead(&question_);
  }

  void OnDone() override { delete this; }

 private:
  const std::vector<std::string>& services_;
  CallGate::Ticket ticket_;
  grpc::ByteBuffer question_, answer_;
};

template <typename Request, typename Response>
RawBidiReactor* StartReflection(CallGate::Ticket ticket, const std::vector<std::string>& services) {
  if (!ticket.status().ok()) return new RefusingReactor<RawBidiReactor>(ticket.status());
  return new ReflectionReactor<Request, Response>(services, std::move(ticket));
}

}  // namespace

RawBidiReactor* ReflectionService::ServerReflectionInfo(grpc::CallbackServerContext* context) {
  return StartReflection<grpc::reflection::v1::ServerReflectionRequest, grpc::reflection::v1::ServerReflectionResponse>(
      gate_.Admit(*context, "grpc.reflection.v1.ServerReflection/ServerReflectionInfo", access_, /*request=*/nullptr),
      services_);
}

RawBidiReactor* ReflectionAlphaService::ServerReflectionInfo(grpc::CallbackServerContext* context) {
  return StartReflection<grpc::reflection::v1alpha::ServerReflectionRequest,
                         grpc::reflection::v1alpha::ServerReflectionResponse>(
      gate_.Admit(*context, "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", access_,
                  /*request=*/nullptr),
      services_);
}

}  // namespace expertd
