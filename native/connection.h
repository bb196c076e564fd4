// The bytes read from and written to a connection, by all processes that hold it.
#pragma once

#include <cstdint>

namespace handover {

// In bytes of data.
struct ConnectionCounters {
  uint64_t acked = 0;
  uint64_t received = 0;
  int unsent = 0;
  int unread = 0;
};

int CountConnection(int fd, ConnectionCounters* counters);

}  // namespace handover
