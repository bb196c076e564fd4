#include "record_cipher.h"

#include <uv.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "arguments.h"

namespace handover {

namespace {

// What is used of OpenSSL's libcrypto, which Node exports, or is linked with. The addon is linked with none: it would then not load
// in a Node with another one.
struct Crypto {
  unsigned long (*version)();
  void* (*create)();
  void (*free)(void* context);
  int (*init)(void* context, const void* cipher, void* engine, const uint8_t* key, const uint8_t* iv, int seals);
  int (*update)(void* context, uint8_t* out, int* written, const uint8_t* in, int length);
  int (*finish)(void* context, uint8_t* out, int* written);
  int (*control)(void* context, int type, int number, void* pointer);
  void (*cleanse)(void* memory, size_t length);
  void (*clear_errors)();
  const void* (*ciphers[3])();

  bool is_complete = true;

  Crypto() {
    // Not dlsym(3), which would need the glibc of the machine that built the addon.
    if (uv_dlopen(nullptr, &process_) < 0) is_complete = false;
    Find("OpenSSL_version_num", &version);
    Find("EVP_CIPHER_CTX_new", &create);
    Find("EVP_CIPHER_CTX_free", &free);
    Find("EVP_CipherInit_ex", &init);
    Find("EVP_CipherUpdate", &update);
    Find("EVP_CipherFinal_ex", &finish);
    Find("EVP_CIPHER_CTX_ctrl", &control);
    Find("OPENSSL_cleanse", &cleanse);
    Find("ERR_clear_error", &clear_errors);
    Find("EVP_aes_128_gcm", &ciphers[0]);
    Find("EVP_aes_256_gcm", &ciphers[1]);
    Find("EVP_chacha20_poly1305", &ciphers[2]);
    // BoringSSL has functions of these names, too.
    is_complete = is_complete && version() >> 28 == 3;
    uv_dlclose(&process_);
  }

 private:
  uv_lib_t process_;

  template <typename Function>
  void Find(const char* name, Function* function) {
    void* found = nullptr;
    if (!is_complete || uv_dlsym(&process_, name, &found) < 0) is_complete = false;
    *function = reinterpret_cast<Function>(found);
  }
};

const Crypto& crypto() {
  static const Crypto found;
  return found;
}

constexpr size_t kKeyLengths[] = {16, 32, 32};
constexpr size_t kHeader = 5, kTag = 16, kLargest = 16384, kOverhead = kHeader + 1 + kTag;
// Of a record, by RFC 8446, 5.2.
constexpr size_t kLongest = kHeader + kLargest + 256;
constexpr int kGetTag = 0x10, kSetTag = 0x11;
constexpr uint8_t kData = 23;
constexpr double kMaxSafe = 9007199254740991;

uint64_t SequenceAt(const Arguments& arguments, size_t index) {
  return static_cast<uint64_t>(arguments.Whole(index, "sequence", kMaxSafe));
}

}  // namespace

bool RecordCipher::IsAvailable() { return crypto().is_complete; }

Napi::Function RecordCipher::Define(Napi::Env env) {
  return DefineClass(env, "RecordCipher",
                     {
                         InstanceMethod<&RecordCipher::Seal>("seal"),
                         InstanceMethod<&RecordCipher::Open>("open"),
                         InstanceMethod<&RecordCipher::ForgetKey>("forget"),
                     });
}

RecordCipher::RecordCipher(const Napi::CallbackInfo& info) : Napi::ObjectWrap<RecordCipher>(info) {
  Arguments arguments(info, "RecordCipher");
  int which =
      arguments.Choice(0, "cipher", {{"aes-128-gcm", 0}, {"aes-256-gcm", 1}, {"chacha20-poly1305", 2}});
  Napi::Uint8Array key = arguments.Bytes(1, "key");
  Napi::Uint8Array iv = arguments.Bytes(2, "iv");
  bool seals = arguments.Boolean(3, "seals");
  if (key.ByteLength() != kKeyLengths[which] || iv.ByteLength() != kNonce) {
    throw Napi::RangeError::New(info.Env(), "RecordCipher: `key` or `iv` has another length");
  }
  memcpy(iv_, iv.Data(), kNonce);
  context_ = crypto().create();
  if (context_ != nullptr &&
      crypto().init(context_, crypto().ciphers[which](), nullptr, key.Data(), iv_, seals ? 1 : 0) == 1) {
    return;
  }
  Erase();
  crypto().clear_errors();
  throw Napi::Error::New(info.Env(), "RecordCipher: OpenSSL does not have this cipher");
}

RecordCipher::~RecordCipher() { Erase(); }

void RecordCipher::Erase() {
  // It erases the key.
  if (context_ != nullptr) crypto().free(context_);
  context_ = nullptr;
  crypto().cleanse(iv_, kNonce);
}

void RecordCipher::ForgetKey(const Napi::CallbackInfo&) { Erase(); }

Napi::Value RecordCipher::Seal(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "seal");
  auto type = static_cast<uint8_t>(arguments.Integer(0, "type", 0, 255));
  Napi::Uint8Array plain = arguments.Bytes(1, "plain");
  size_t largest = static_cast<size_t>(arguments.Integer(2, "largest", 1, kLargest));
  uint64_t sequence = SequenceAt(arguments, 3);
  Napi::Uint8Array sealed = arguments.Bytes(4, "sealed");
  size_t length = plain.ByteLength();
  size_t records = std::max<size_t>(1, (length + largest - 1) / largest);
  size_t size = length + records * kOverhead;
  if (context_ == nullptr || sealed.ByteLength() < size) return Napi::Number::New(info.Env(), -EINVAL);
  const uint8_t* from = plain.Data();
  uint8_t* to = sealed.Data();
  for (size_t n = 0; n < records; n++) {
    size_t part = std::min(largest, length);
    if (!SealOne(sequence + n, type, from, part, to)) {
      crypto().clear_errors();
      return Napi::Number::New(info.Env(), -EIO);
    }
    from += part;
    length -= part;
    to += part + kOverhead;
  }
  return Napi::Number::New(info.Env(), static_cast<double>(size));
}

Napi::Value RecordCipher::Open(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "open");
  Napi::Uint8Array bytes = arguments.Bytes(0, "bytes");
  double end = static_cast<double>(bytes.ByteLength());
  auto from = static_cast<size_t>(arguments.Whole(1, "from", end));
  auto to = static_cast<size_t>(arguments.Whole(2, "to", end));
  uint64_t sequence = SequenceAt(arguments, 3);
  // OpenSSL takes lengths as int: it would read a negative one as a size.
  bool fits = to >= from + kHeader + kTag && to - from <= kLongest;
  if (context_ == nullptr || !fits) return Napi::Number::New(info.Env(), -EINVAL);
  size_t body = to - from - kHeader - kTag;
  if (OpenOne(sequence, bytes.Data() + from, body)) {
    return Napi::Number::New(info.Env(), static_cast<double>(body));
  }
  // Node would take an error that is left behind for one of another connection.
  crypto().clear_errors();
  return Napi::Number::New(info.Env(), -EBADMSG);
}

bool RecordCipher::Begin(uint64_t sequence, const uint8_t* header) {
  uint8_t nonce[kNonce];
  memcpy(nonce, iv_, kNonce);
  for (size_t n = 0; n < sizeof(sequence); n++) nonce[kNonce - 1 - n] ^= static_cast<uint8_t>(sequence >> (8 * n));
  int written;
  return crypto().init(context_, nullptr, nullptr, nullptr, nonce, -1) == 1 &&
         crypto().update(context_, nullptr, &written, header, kHeader) == 1;
}

bool RecordCipher::SealOne(uint64_t sequence, uint8_t type, const uint8_t* plain, size_t length,
                           uint8_t* record) {
  size_t body = length + 1 + kTag;
  const uint8_t header[kHeader] = {kData, 3, 3, static_cast<uint8_t>(body >> 8), static_cast<uint8_t>(body)};
  memcpy(record, header, kHeader);
  uint8_t* to = record + kHeader;
  int written;
  return Begin(sequence, header) &&
         (length == 0 || crypto().update(context_, to, &written, plain, static_cast<int>(length)) == 1) &&
         crypto().update(context_, to + length, &written, &type, 1) == 1 &&
         crypto().finish(context_, to + length + 1, &written) == 1 &&
         crypto().control(context_, kGetTag, kTag, to + length + 1) == 1;
}

// Decrypts in place.
bool RecordCipher::OpenOne(uint64_t sequence, uint8_t* record, size_t body) {
  uint8_t* text = record + kHeader;
  int written;
  return Begin(sequence, record) &&
         (body == 0 || crypto().update(context_, text, &written, text, static_cast<int>(body)) == 1) &&
         crypto().control(context_, kSetTag, kTag, text + body) == 1 &&
         crypto().finish(context_, text + body, &written) == 1;
}

}  // namespace handover
