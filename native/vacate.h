// Takes sockets from the event loop without the work that a close of their handles would be; -ENOSYS but on Linux.
#pragma once

#include <uv.h>

#include <vector>

namespace handover {

// Lets each descriptor refer to /dev/null. All or none, unless a descriptor is not open.
int Vacate(uv_loop_t* loop, const std::vector<int>& fds);

}  // namespace handover
