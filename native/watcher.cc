#include "watcher.h"

#include <cerrno>
#include <string>

#include "arguments.h"

namespace handover {

namespace {

// A constructor cannot return -errno, so it throws the error that systemError() of src/platform/native.ts makes.
Napi::Error CannotWatch(Napi::Env env, int fd, int result) {
  const char* code = uv_err_name(result);
  auto error = Napi::Error::New(env, "cannot watch fd " + std::to_string(fd) + ": " + code);
  error.Set("code", Napi::String::New(env, code));
  error.Set("errno", Napi::Number::New(env, result));
  return error;
}

}  // namespace

// The data that libuv keeps until its close callback; it may outlive the object.
struct Watcher::Handle {
  uv_poll_t poll;
  Watcher* owner;
  // The loop of a worker must be empty when the worker ends: the hook makes Node wait for the close callback.
  napi_async_cleanup_hook_handle hook;

  static void Close(Handle* handle) {
    handle->owner = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&handle->poll), [](uv_handle_t* closed) {
      auto* handle = static_cast<Handle*>(closed->data);
      napi_remove_async_cleanup_hook(handle->hook);
      delete handle;
    });
  }
};

Napi::Function Watcher::Define(Napi::Env env) {
  return DefineClass(env, "Watcher",
                     {
                         InstanceMethod<&Watcher::Watch>("watch"),
                         InstanceMethod<&Watcher::RefLoop>("ref"),
                         InstanceMethod<&Watcher::UnrefLoop>("unref"),
                         InstanceMethod<&Watcher::CloseHandle>("close"),
                     });
}

Watcher::Watcher(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Watcher>(info) {
  Arguments arguments(info, "Watcher");
  int fd = arguments.Fd(0);
  Napi::Function callback = arguments.Function(1, "callback");

  // A property, because a reference from here would hide from the collector that the callback and the watcher refer to
  // each other.
  Value().DefineProperty(Napi::PropertyDescriptor::Value("callback", callback));
  context_ = std::make_unique<Napi::AsyncContext>(Env(), "handover.Watcher", Value());

  // The handle comes last: an exception after its creation would leave it without an owner.
  uv_loop_t* loop = nullptr;
  napi_status status = napi_get_uv_event_loop(Env(), &loop);
  NAPI_THROW_IF_FAILED_VOID(Env(), status);
  auto handle = std::make_unique<Handle>();
  int result = uv_poll_init(loop, &handle->poll, fd);
  if (result < 0) throw CannotWatch(Env(), fd, result);
  handle_ = handle.release();
  handle_->poll.data = handle_;
  handle_->owner = this;
  napi_add_async_cleanup_hook(Env(), OnTeardown, handle_, &handle_->hook);
}

Watcher::~Watcher() { Detach(); }

Napi::Value Watcher::Watch(const Napi::CallbackInfo& info) {
  int events = Arguments(info, "watch").Integer(0, "events", 0, UV_READABLE | UV_WRITABLE | UV_DISCONNECT);
  int result = handle_ == nullptr ? -EBADF : Start(events);
  return Napi::Number::New(info.Env(), result);
}

int Watcher::Start(int events) {
  int result = events == 0 ? uv_poll_stop(&handle_->poll) : uv_poll_start(&handle_->poll, events, OnEvents);
  if (result < 0) return result;
  events_ = events;
  KeepAlive(events != 0);
  return 0;
}

void Watcher::RefLoop(const Napi::CallbackInfo&) {
  if (handle_ != nullptr) uv_ref(reinterpret_cast<uv_handle_t*>(&handle_->poll));
}

void Watcher::UnrefLoop(const Napi::CallbackInfo&) {
  if (handle_ != nullptr) uv_unref(reinterpret_cast<uv_handle_t*>(&handle_->poll));
}

void Watcher::CloseHandle(const Napi::CallbackInfo&) {
  Detach();
  KeepAlive(false);
}

// From here on only the loop owns the handle.
void Watcher::Detach() {
  if (handle_ != nullptr) Handle::Close(handle_);
  handle_ = nullptr;
}

// A watcher that waits must not be collected, even if only the loop refers to it.
void Watcher::KeepAlive(bool keep) {
  if (keep == kept_alive_) return;
  kept_alive_ = keep;
  keep ? Ref() : Unref();
}

void Watcher::OnTeardown(napi_async_cleanup_hook_handle, void* data) {
  auto* handle = static_cast<Handle*>(data);
  // Without an owner it is already closing.
  if (handle->owner != nullptr) handle->owner->Detach();
}

void Watcher::OnEvents(uv_poll_t* poll, int status, int events) {
  Watcher* watcher = static_cast<Handle*>(poll->data)->owner;
  if (status < 0) {
    // libuv stops polling at an error. Continue as poll(2) does: the reader gets the errno, and reading may clear it.
    uv_poll_start(poll, watcher->events_, OnEvents);
    events = watcher->events_;
  }
  watcher->Call(events);
}

// Plain Node-API: an environment that is being torn down refuses calls, which must not become a C++ exception in a
// callback of the loop.
void Watcher::Call(int events) {
  napi_env env = Env();
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value self = Value(), callback, argument, returned;
  if (napi_get_named_property(env, self, "callback", &callback) == napi_ok &&
      napi_create_int32(env, events, &argument) == napi_ok) {
    napi_make_callback(env, *context_, self, callback, 1, &argument, &returned);
  }
  // Nothing can catch an exception of the callback: it becomes an uncaughtException.
  bool thrown = false;
  napi_value error;
  if (napi_is_exception_pending(env, &thrown) == napi_ok && thrown &&
      napi_get_and_clear_last_exception(env, &error) == napi_ok) {
    napi_fatal_exception(env, error);
  }
  napi_close_handle_scope(env, scope);
}

}  // namespace handover
