// Server reflection, v1 and v1alpha: the contract for tools such as grpcurl. Written here, since gRPC's own plugin
// knows v1alpha only, and lets everybody in.
#pragma once

#include <string>
#include <vector>

#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "server/call_gate.h"

namespace expertd {

// Thread-safe. The gate outlives it. `services` are the full names that list_services answers.
class ReflectionService final
    : public grpc::reflection::v1::ServerReflection::WithRawCallbackMethod_ServerReflectionInfo<
          grpc::reflection::v1::ServerReflection::Service> {
 public:
  ReflectionService(CallGate& gate, CallGate::Access access, std::vector<std::string> services)
      : gate_(gate), access_(access), services_(std::move(services)) {}

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* ServerReflectionInfo(
      grpc::CallbackServerContext* context) override;

 private:
  CallGate& gate_;
  const CallGate::Access access_;
  const std::vector<std::string> services_;
};

class ReflectionAlphaService final
    : public grpc::reflection::v1alpha::ServerReflection::WithRawCallbackMethod_ServerReflectionInfo<
          grpc::reflection::v1alpha::ServerReflection::Service> {
 public:
  ReflectionAlphaService(CallGate& gate, CallGate::Access access, std::vector<std::string> services)
      : gate_(gate), access_(access), services_(std::move(services)) {}

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* ServerReflectionInfo(
      grpc::CallbackServerContext* context) override;

 private:
  CallGate& gate_;
  const CallGate::Access access_;
  const std::vector<std::string> services_;
};

}  // namespace expertd
