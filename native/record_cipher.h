// The class `RecordCipher`: seals and opens records of TLS 1.3 (RFC 8446, 5.2) with the OpenSSL of this process.
#pragma once

#include <napi.h>

#include <cstdint>

namespace handover {

class RecordCipher : public Napi::ObjectWrap<RecordCipher> {
 public:
  // Whether this process has the functions of OpenSSL 3.
  static bool IsAvailable();
  static Napi::Function Define(Napi::Env env);

  explicit RecordCipher(const Napi::CallbackInfo& info);
  ~RecordCipher() override;

 private:
  static constexpr size_t kNonce = 12;

  Napi::Value Seal(const Napi::CallbackInfo& info);
  Napi::Value Open(const Napi::CallbackInfo& info);
  void ForgetKey(const Napi::CallbackInfo& info);

  void Erase();
  // Starts a record with its number and its header.
  bool Begin(uint64_t sequence, const uint8_t* header);
  bool SealOne(uint64_t sequence, uint8_t type, const uint8_t* plain, size_t length, uint8_t* record);
  bool OpenOne(uint64_t sequence, uint8_t* record, size_t body);

  // Null after forget().
  void* context_ = nullptr;
  uint8_t iv_[kNonce];
};

}  // namespace handover
