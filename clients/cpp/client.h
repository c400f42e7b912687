// What the C++ clients share: a channel to a server, its credentials, and plain words for its errors.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "expertd/v1/model.pb.h"

namespace expertd {

struct ClientOptions {
  std::string target = "127.0.0.1:50051";   // host:port, unix:path, or any gRPC target
  std::string api_key_file;                 // first line, less its # comment; empty: EXPERTD_API_KEY, or no key
  bool use_tls = false;                     // TLS with the system's roots, or:
  std::string tls_ca_file;                  // TLS with these roots
  double wait_ready_seconds = 10;           // how long to wait for the server to answer

  bool uses_tls() const { return use_tls || !tls_ca_file.empty(); }

  // InvalidArgument naming the flag, the value and what is allowed.
  absl::Status Validate() const;
};

// Adds --target, --tls and --tls-ca-certs: where the server is. `options` must outlive parsing.
void AddTargetFlags(CLI::App& command, ClientOptions& options);

// Adds those, --api-key-file and --wait-ready. `options` must outlive parsing.
void AddClientFlags(CLI::App& command, ClientOptions& options);

// The API key: of the file, or of EXPERTD_API_KEY; empty when neither is given. Errors: NotFound, or InvalidArgument
// for a file without a key and for a key that cannot be sent, which is not shown.
absl::StatusOr<std::string> FindApiKey(const ClientOptions& options);

// A connection to the server, made when it is needed; those of unlike `index` are not shared. Errors: NotFound or
// InvalidArgument for the files.
absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const ClientOptions& options, int index = 0);

// A channel with what its calls need. Thread-safe.
class Client {
 public:
  // Connects `num_channels` >= 1 connections and waits until the server answers. Errors: NotFound or InvalidArgument
  // for the files and the key, before anything is sent; Unavailable naming the target and what to check; whatever the
  // server answers; Cancelled soon after `is_interrupted`, where it is given, says so.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const ClientOptions& options, int num_channels = 1,
                                                         const std::function<bool()>& is_interrupted = nullptr);

  const std::shared_ptr<grpc::Channel>& channel(size_t index = 0) const { return channels_[index % channels_.size()]; }

  // Adds the key to a call.
  void Prepare(grpc::ClientContext& context) const;

  // The model that the server serves.
  const v1::Model& model() const { return model_; }

 private:
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
  std::string api_key_;
  v1::Model model_;
};

// The reason of a status, as errors.proto lists them: "QUEUE_FULL". Empty when the status has none.
std::string ErrorReason(const grpc::Status& status);

// A gRPC status as an absl::Status for a reader: its message begins with the reason ("QUEUE_FULL: 2048 requests wait"),
// has the code's name where the server says nothing, and holds no control characters.
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace expertd
