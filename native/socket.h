// Creates, describes and closes sockets.
#pragma once

#include <uv.h>

#include <string>
#include <vector>

namespace handover {

struct Description {
  const char* family = "other";
  const char* type = "other";
  bool listening = false;
  std::string address;
  int port = 0;
  bool ipv6_only = false;
  bool reuse_port = false;
};

// `type` is SOCK_STREAM or SOCK_DGRAM; `address` is numeric, with %scope if it needs one. With `reuse_port` the socket
// shares its address with others of this user that have it too.
int BindInet(int type, const std::string& address, int port, bool ipv6_only, bool reuse_port);
// A path that starts with NUL is abstract. With a negative `mode` the umask applies.
int BindUnix(const std::string& path, int mode);
// A socket that is connected to `path`; abstract paths as above. -EAGAIN if the queue of a stream is full.
int ConnectUnix(int type, const std::string& path);
int Listen(int fd, int backlog);
int Duplicate(int fd);
// SO_SNDBUF: how many bytes a socket holds that were not received yet.
int SendBuffer(int fd);
// The kernel sets it to the double, and to no more than it allows.
int SetSendBuffer(int fd, int bytes);
// The end of the connection for every holder of either end.
int Shutdown(int fd);
int Close(int fd);
int Describe(int fd, Description* description);
// The descriptors of an event loop that listen. To ask the kernel of each of 10,000 connections takes 20 ms.
std::vector<int> FindListeners(uv_loop_t* loop);

}  // namespace handover
