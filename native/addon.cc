// The functions that src/platform/native.ts declares: they convert arguments and results, and decide nothing.
#include <napi.h>
#include <sys/socket.h>
#include <uv.h>

#include <climits>

#include "arguments.h"
#include "descriptor.h"
#include "connection.h"
#include "memory.h"
#include "message.h"
#include "process.h"
#include "readiness.h"
#include "record_cipher.h"
#include "socket.h"
#include "steering.h"
#include "vacate.h"
#include "watcher.h"

namespace handover {

namespace {

using Napi::CallbackInfo;

Napi::Value Number(const CallbackInfo& info, double number) { return Napi::Number::New(info.Env(), number); }

Napi::Array ArrayOf(Napi::Env env, const int* numbers, size_t count) {
  auto array = Napi::Array::New(env, count);
  for (size_t i = 0; i < count; i++) {
    array.Set(static_cast<uint32_t>(i), Napi::Number::New(env, numbers[i]));
  }
  return array;
}

// Makes a result that carries descriptors. If that throws, the descriptors would leak, so they are closed.
template <typename Make>
Napi::Value WithDescriptors(const int* fds, size_t count, Make make) {
  try {
    return make();
  } catch (...) {
    for (size_t i = 0; i < count; i++) Close(fds[i]);
    throw;
  }
}

template <int make(int*)>
Napi::Value PairJs(const CallbackInfo& info) {
  int fds[2];
  int result = make(fds);
  if (result < 0) return Number(info, result);
  return WithDescriptors(fds, 2, [&] { return ArrayOf(info.Env(), fds, 2); });
}

Napi::Value SendJs(const CallbackInfo& info) {
  Arguments arguments(info, "send");
  int fd = arguments.Fd(0);
  Napi::Uint8Array data = arguments.Bytes(1, "data");
  std::vector<int> fds = arguments.Fds(2, "fds", kMaxFds);
  return Number(info, Send(fd, data.Data(), data.ByteLength(), fds.data(), fds.size()));
}

Napi::Value ReceiveJs(const CallbackInfo& info) {
  Arguments arguments(info, "receive");
  int fd = arguments.Fd(0);
  Napi::Uint8Array buffer = arguments.Bytes(1, "buffer");
  Received received;
  int size = Receive(fd, buffer.Data(), buffer.ByteLength(), &received);
  if (size < 0) return Number(info, size);
  return WithDescriptors(received.fds, received.count, [&] {
    auto result = Napi::Object::New(info.Env());
    result.Set("size", size);
    result.Set("fds", ArrayOf(info.Env(), received.fds, received.count));
    result.Set("truncated", received.truncated);
    result.Set("fdsLost", received.fds_lost);
    result.Set("sender", received.sender);
    return result;
  });
}

Napi::Value PassCredentialsJs(const CallbackInfo& info) {
  return Number(info, PassCredentials(Arguments(info, "passCredentials").Fd(0)));
}

Napi::Value PollJs(const CallbackInfo& info) {
  Arguments arguments(info, "poll");
  int fd = arguments.Fd(0);
  int events = arguments.Integer(1, "events", 1, UV_READABLE | UV_WRITABLE | UV_DISCONNECT);
  int timeout = arguments.Integer(2, "timeout", 0, INT_MAX);
  return Number(info, Poll(fd, events, timeout));
}

Napi::Value BindInetJs(const CallbackInfo& info) {
  Arguments arguments(info, "bindInet");
  int type = arguments.Choice(0, "type", {{"stream", SOCK_STREAM}, {"dgram", SOCK_DGRAM}});
  std::string address = arguments.String(1, "address");
  int port = arguments.Integer(2, "port", 0, 65535);
  bool ipv6_only = arguments.Boolean(3, "ipv6Only");
  bool reuse_port = arguments.OptionalBoolean(4, "reusePort");
  return Number(info, BindInet(type, address, port, ipv6_only, reuse_port));
}

Napi::Value SteerJs(const CallbackInfo& info) {
  Arguments arguments(info, "steer");
  int fd = arguments.Fd(0);
  std::vector<int> indexes = arguments.Integers(1, "indexes", kMaxSteered, 0, kMaxIndex);
  int by_source = arguments.Choice(2, "by", {{"random", 0}, {"source", 1}});
  return Number(info, Steer(fd, indexes, by_source != 0));
}

Napi::Value UnsteerJs(const CallbackInfo& info) {
  return Number(info, Unsteer(Arguments(info, "unsteer").Fd(0)));
}

Napi::Value BindUnixJs(const CallbackInfo& info) {
  Arguments arguments(info, "bindUnix");
  std::string path = arguments.String(0, "path");
  int mode = arguments.Integer(1, "mode", -1, 0777);
  return Number(info, BindUnix(path, mode));
}

Napi::Value ConnectUnixJs(const CallbackInfo& info) {
  Arguments arguments(info, "connectUnix");
  int type = arguments.Choice(0, "type", {{"stream", SOCK_STREAM}, {"dgram", SOCK_DGRAM}});
  return Number(info, ConnectUnix(type, arguments.String(1, "path")));
}

Napi::Value ListenJs(const CallbackInfo& info) {
  Arguments arguments(info, "listen");
  int fd = arguments.Fd(0);
  return Number(info, Listen(fd, arguments.Integer(1, "backlog", 0, INT_MAX)));
}

Napi::Value DuplicateJs(const CallbackInfo& info) {
  return Number(info, Duplicate(Arguments(info, "duplicate").Fd(0)));
}

Napi::Value SetCloseOnExecJs(const CallbackInfo& info) {
  return Number(info, SetCloseOnExec(Arguments(info, "setCloseOnExec").Fd(0)));
}

Napi::Value SendBufferJs(const CallbackInfo& info) {
  return Number(info, SendBuffer(Arguments(info, "sendBuffer").Fd(0)));
}

Napi::Value SetSendBufferJs(const CallbackInfo& info) {
  Arguments arguments(info, "setSendBuffer");
  int fd = arguments.Fd(0);
  return Number(info, SetSendBuffer(fd, arguments.Integer(1, "bytes", 1, INT_MAX)));
}

Napi::Value IsTerminalJs(const CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), isatty(Arguments(info, "isTerminal").Fd(0)) == 1);
}

Napi::Value ShutdownJs(const CallbackInfo& info) {
  return Number(info, Shutdown(Arguments(info, "shutdown").Fd(0)));
}

Napi::Value CloseJs(const CallbackInfo& info) { return Number(info, Close(Arguments(info, "close").Fd(0))); }

Napi::Value DescribeJs(const CallbackInfo& info) {
  Description description;
  int result = Describe(Arguments(info, "describe").Fd(0), &description);
  if (result < 0) return Number(info, result);
  auto object = Napi::Object::New(info.Env());
  object.Set("family", description.family);
  object.Set("type", description.type);
  object.Set("listening", description.listening);
  object.Set("address", description.address);
  object.Set("port", description.port);
  object.Set("ipv6Only", description.ipv6_only);
  object.Set("reusePort", description.reuse_port);
  return object;
}

Napi::Value FindListenersJs(const CallbackInfo& info) {
  uv_loop_t* loop;
  if (napi_get_uv_event_loop(info.Env(), &loop) != napi_ok) return Number(info, -ENOSYS);
  std::vector<int> found = FindListeners(loop);
  return ArrayOf(info.Env(), found.data(), found.size());
}

Napi::Value VacateJs(const CallbackInfo& info) {
  std::vector<int> fds = Arguments(info, "vacate").Fds(0, "fds", INT_MAX);
  uv_loop_t* loop;
  if (napi_get_uv_event_loop(info.Env(), &loop) != napi_ok) return Number(info, -ENOSYS);
  return Number(info, Vacate(loop, fds));
}

Napi::Value ConnectionCountersJs(const CallbackInfo& info) {
  Arguments arguments(info, "connectionCounters");
  int fd = arguments.Fd(0);
  double* counted = arguments.Doubles(1, "counted", 4);
  ConnectionCounters counters;
  int result = CountConnection(fd, &counters);
  if (result < 0) return Number(info, result);
  // A double counts exactly up to 8 PiB.
  counted[0] = static_cast<double>(counters.acked);
  counted[1] = static_cast<double>(counters.received);
  counted[2] = counters.unsent;
  counted[3] = counters.unread;
  return Number(info, 0);
}

Napi::Value PeerCredentialsJs(const CallbackInfo& info) {
  Credentials credentials;
  int result = PeerCredentials(Arguments(info, "peerCredentials").Fd(0), &credentials);
  if (result < 0) return Number(info, result);
  auto object = Napi::Object::New(info.Env());
  object.Set("pid", credentials.pid);
  object.Set("uid", credentials.uid);
  object.Set("gid", credentials.gid);
  return object;
}

Napi::Value MemfdCreateJs(const CallbackInfo& info) {
  return Number(info, MemfdCreate(Arguments(info, "memfdCreate").String(0, "name").c_str()));
}

Napi::Value MemfdSealJs(const CallbackInfo& info) {
  return Number(info, MemfdSeal(Arguments(info, "memfdSeal").Fd(0)));
}

Napi::Value MemfdSealedJs(const CallbackInfo& info) {
  return Number(info, MemfdSealed(Arguments(info, "memfdSealed").Fd(0)));
}

Napi::Value SpawnJs(const CallbackInfo& info) {
  Arguments arguments(info, "spawn");
  Program program;
  program.path = arguments.CString(0, "path");
  program.arguments = arguments.CStrings(1, "words");
  program.environment = arguments.CStrings(2, "environment");
  program.directory = arguments.CString(3, "directory");
  program.leads_group = arguments.OptionalBoolean(5, "leadsGroup");
  return Number(info, Spawn(program, arguments.Fds(4, "fds", kMaxFds)));
}

Napi::Value ReapJs(const CallbackInfo& info) {
  Ended ended;
  int result = Reap(Arguments(info, "reap").Integer(0, "pid", 1, INT_MAX), &ended);
  if (result < 0) return Number(info, result);
  auto object = Napi::Object::New(info.Env());
  object.Set("bySignal", ended.by_signal);
  object.Set("status", ended.status);
  return object;
}

Napi::Value PeekExitedJs(const CallbackInfo& info) { return Number(info, PeekExited()); }

Napi::Value BecomeSubreaperJs(const CallbackInfo& info) { return Number(info, BecomeSubreaper()); }

Napi::Value ExecveJs(const CallbackInfo& info) {
  Arguments arguments(info, "execve");
  Program program;
  program.path = arguments.CString(0, "path");
  program.arguments = arguments.CStrings(1, "words");
  program.environment = arguments.CStrings(2, "environment");
  return Number(info, Execve(program, arguments.Fds(3, "fds", INT_MAX)));
}

Napi::Value ExitAtOnceJs(const CallbackInfo& info) { _exit(Arguments(info, "exitAtOnce").Integer(0, "code", 0, 255)); }

Napi::Value PidfdOpenJs(const CallbackInfo& info) {
  return Number(info, PidfdOpen(Arguments(info, "pidfdOpen").Integer(0, "pid", 1, INT_MAX)));
}

Napi::Value PidfdKillJs(const CallbackInfo& info) {
  Arguments arguments(info, "pidfdKill");
  int pidfd = arguments.Fd(0);
  return Number(info, PidfdKill(pidfd, arguments.Integer(1, "signal", 0, kMaxSignal)));
}

Napi::Value ReadinessCreateJs(const CallbackInfo& info) { return Number(info, ReadinessCreate()); }

Napi::Value ReadinessAddJs(const CallbackInfo& info) {
  Arguments arguments(info, "readinessAdd");
  return Number(info, ReadinessAdd(arguments.Fd(0), arguments.Fd(1)));
}

Napi::Value ReadinessRemoveJs(const CallbackInfo& info) {
  Arguments arguments(info, "readinessRemove");
  return Number(info, ReadinessRemove(arguments.Fd(0), arguments.Fd(1)));
}

Napi::Value ReadinessTakeJs(const CallbackInfo& info) {
  int fds[kMaxReady];
  int count = ReadinessTake(Arguments(info, "readinessTake").Fd(0), fds);
  if (count < 0) return Number(info, count);
  return ArrayOf(info.Env(), fds, count);
}

template <typename Function>
void Add(Napi::Object object, const char* name, Function function) {
  object.Set(name, Napi::Function::New(object.Env(), function, name));
}

void AddRest(Napi::Object object) {
  Add(object, "socketpair", PairJs<Socketpair>);
  Add(object, "streamPair", PairJs<StreamPair>);
  Add(object, "passCredentials", PassCredentialsJs);
  Add(object, "steer", SteerJs);
  Add(object, "unsteer", UnsteerJs);
  Add(object, "setCloseOnExec", SetCloseOnExecJs);
  Add(object, "sendBuffer", SendBufferJs);
  Add(object, "setSendBuffer", SetSendBufferJs);
  Add(object, "shutdown", ShutdownJs);
  Add(object, "findListeners", FindListenersJs);
  Add(object, "vacate", VacateJs);
  Add(object, "connectionCounters", ConnectionCountersJs);
  Add(object, "peerCredentials", PeerCredentialsJs);
  Add(object, "memfdCreate", MemfdCreateJs);
  Add(object, "memfdSeal", MemfdSealJs);
  Add(object, "memfdSealed", MemfdSealedJs);
  Add(object, "spawn", SpawnJs);
  Add(object, "reap", ReapJs);
  Add(object, "peekExited", PeekExitedJs);
  Add(object, "becomeSubreaper", BecomeSubreaperJs);
  Add(object, "execve", ExecveJs);
  Add(object, "pidfdOpen", PidfdOpenJs);
  Add(object, "pidfdKill", PidfdKillJs);
  Add(object, "readinessCreate", ReadinessCreateJs);
  Add(object, "readinessAdd", ReadinessAddJs);
  Add(object, "readinessRemove", ReadinessRemoveJs);
  Add(object, "readinessTake", ReadinessTakeJs);
  object.Set("Watcher", Watcher::Define(object.Env()));
  if (RecordCipher::IsAvailable()) object.Set("RecordCipher", RecordCipher::Define(object.Env()));
}

// What a start and `handover status` need. To make all functions would take longer than to load the file.
Napi::Object Initialize(Napi::Env env, Napi::Object exports) {
  Add(exports, "bindInet", BindInetJs);
  Add(exports, "bindUnix", BindUnixJs);
  Add(exports, "listen", ListenJs);
  Add(exports, "duplicate", DuplicateJs);
  Add(exports, "close", CloseJs);
  Add(exports, "describe", DescribeJs);
  Add(exports, "send", SendJs);
  Add(exports, "receive", ReceiveJs);
  Add(exports, "poll", PollJs);
  Add(exports, "connectUnix", ConnectUnixJs);
  Add(exports, "isTerminal", IsTerminalJs);
  Add(exports, "exitAtOnce", ExitAtOnceJs);
  exports.Set("addRest", Napi::Function::New(
                             env, [](const CallbackInfo& info) { AddRest(info.This().As<Napi::Object>()); },
                             "addRest"));
  return exports;
}

}  // namespace

}  // namespace handover

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return handover::Initialize(env, exports); }

NODE_API_MODULE(handover, Init)
