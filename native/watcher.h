// The class `Watcher`: uv_poll for JavaScript.
#pragma once

#include <napi.h>
#include <uv.h>

#include <memory>

namespace handover {

class Watcher : public Napi::ObjectWrap<Watcher> {
 public:
  static Napi::Function Define(Napi::Env env);

  explicit Watcher(const Napi::CallbackInfo& info);
  ~Watcher() override;

 private:
  struct Handle;

  Napi::Value Watch(const Napi::CallbackInfo& info);
  void RefLoop(const Napi::CallbackInfo& info);
  void UnrefLoop(const Napi::CallbackInfo& info);
  void CloseHandle(const Napi::CallbackInfo& info);

  static void OnEvents(uv_poll_t* poll, int status, int events);
  static void OnTeardown(napi_async_cleanup_hook_handle hook, void* data);
  int Start(int events);
  void Detach();
  void KeepAlive(bool keep);
  void Call(int events);

  // Null after close.
  Handle* handle_ = nullptr;
  std::unique_ptr<Napi::AsyncContext> context_;
  int events_ = 0;
  bool kept_alive_ = false;
};

}  // namespace handover
