// Creates, describes and closes sockets.
#pragma once

#include <string>

namespace handover {

struct Description {
  const char* family = "other";
  const char* type = "other";
  bool listening = false;
  std::string address;
  int port = 0;
  bool ipv6_only = false;
};

// `type` is SOCK_STREAM or SOCK_DGRAM; `address` is numeric, with %scope if it needs one.
int BindInet(int type, const std::string& address, int port, bool ipv6_only);
// A path that starts with NUL is abstract. With a negative `mode` the umask applies.
int BindUnix(const std::string& path, int mode);
// A datagram socket that sends to `path` only; abstract paths as above.
int ConnectUnix(const std::string& path);
int Listen(int fd, int backlog);
int Duplicate(int fd);
// The end of the connection for every holder of either end.
int Shutdown(int fd);
int Close(int fd);
int Describe(int fd, Description* description);

}  // namespace handover
