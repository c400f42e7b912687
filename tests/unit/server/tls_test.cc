// TLS and mutual TLS, with a certificate made for the test.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>

#include "engine/base/strings.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "server/server.h"

namespace expertd {
namespace {

struct KeyPair {
  std::string key, certificate;  // PEM
};

std::string Contents(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(size));
}

// A certificate for the loopback address, signed by its own key, so that it is its own authority.
KeyPair MakeKeyPair() {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_RSA_gen(2048), &EVP_PKEY_free);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), &X509_free);
  X509_set_version(certificate.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -60);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_set_pubkey(certificate.get(), key.get());
  X509_NAME* name = X509_get_subject_name(certificate.get());
  const unsigned char common_name[] = "expertd test";
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, common_name, -1, -1, 0);
  X509_set_issuer_name(certificate.get(), name);
  for (const auto& [id, value] : {std::pair{NID_basic_constraints, "critical,CA:TRUE"},
                                  std::pair{NID_subject_alt_name, "IP:127.0.0.1"}}) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, id, value);
    X509_add_ext(certificate.get(), extension, -1);
    X509_EXTENSION_free(extension);
  }
  X509_sign(certificate.get(), key.get(), EVP_sha256());

  const std::unique_ptr<BIO, decltype(&BIO_free)> key_bio(BIO_new(BIO_s_mem()), &BIO_free);
  const std::unique_ptr<BIO, decltype(&BIO_free)> certificate_bio(BIO_new(BIO_s_mem()), &BIO_free);
  PEM_write_bio_PrivateKey(key_bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  PEM_write_bio_X509(certificate_bio.get(), certificate.get());
  return {Contents(key_bio.get()), Contents(certificate_bio.get())};
}

class TlsTest : public ::testing::Test {
 protected:
  void StartServer(bool wants_client_certificate) {
    const std::string prefix = StrCat(::testing::TempDir(), "/tls_", getpid());
    ServerConfig config;
    config.listen_addresses = {"127.0.0.1:0"};
    config.tls_key_file = prefix + ".key";
    config.tls_cert_file = prefix + ".crt";
    std::ofstream(config.tls_key_file) << server_pair_.key;
    std::ofstream(config.tls_cert_file) << server_pair_.certificate;
    if (wants_client_certificate) config.tls_client_ca_file = config.tls_cert_file;
    auto server = Server::Start(config, nullptr);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  // Whether a call gets through.
  bool Call(const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    const auto channel = grpc::CreateChannel(server_->addresses()[0], credentials);
    const auto stub = grpc::health::v1::Health::NewStub(channel);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    grpc::health::v1::HealthCheckResponse response;
    return stub->Check(&context, {}, &response).ok();
  }

  grpc::SslCredentialsOptions Trusting() const { return {.pem_root_certs = server_pair_.certificate}; }

  const KeyPair server_pair_ = MakeKeyPair();
  std::unique_ptr<Server> server_;
};

TEST_F(TlsTest, CallersThatTrustTheCertificateGetIn) {
  StartServer(/*wants_client_certificate=*/false);

  EXPECT_TRUE(Call(grpc::SslCredentials(Trusting())));
}

TEST_F(TlsTest, PlaintextAndStrangersStayOutside) {
  StartServer(/*wants_client_certificate=*/false);
  const KeyPair other = MakeKeyPair();

  EXPECT_FALSE(Call(grpc::InsecureChannelCredentials()));
  EXPECT_FALSE(Call(grpc::SslCredentials({.pem_root_certs = other.certificate})));
}

TEST_F(TlsTest, MutualTlsWantsACertificateOfTheAuthority) {
  StartServer(/*wants_client_certificate=*/true);
  const KeyPair other = MakeKeyPair();
  grpc::SslCredentialsOptions good = Trusting();
  good.pem_private_key = server_pair_.key;
  good.pem_cert_chain = server_pair_.certificate;
  grpc::SslCredentialsOptions strange = Trusting();
  strange.pem_private_key = other.key;
  strange.pem_cert_chain = other.certificate;

  EXPECT_TRUE(Call(grpc::SslCredentials(good)));
  EXPECT_FALSE(Call(grpc::SslCredentials(Trusting())));
  EXPECT_FALSE(Call(grpc::SslCredentials(strange)));
}

TEST(TlsFilesTest, MissingFilesAreNamed) {
  ServerConfig config;
  config.listen_addresses = {"127.0.0.1:0"};
  config.tls_key_file = "/nonexistent/key.pem";
  config.tls_cert_file = "/nonexistent/cert.pem";

  const auto server = Server::Start(config, nullptr);

  EXPECT_EQ(server.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(server.status().message(), "--ssl-certfile /nonexistent/cert.pem can't be read");
}

}  // namespace
}  // namespace expertd
