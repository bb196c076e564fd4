// Steers a group of sockets that share one address: a classic BPF program chooses which of them gets a connection or a
// datagram. -ENOSYS where there is no such call.
#pragma once

#include <cstddef>
#include <vector>

namespace handover {

// How many members can be chosen at once, so that the program stays far below the kernel's 4,096 instructions.
constexpr size_t kMaxSteered = 64;
constexpr int kMaxIndex = 255;

// `fd` is any member of the group. Chooses at random, or by the client's IP address.
int Steer(int fd, const std::vector<int>& indexes, bool by_source);
// The kernel's own hash chooses again; -ENOENT if the group was not steered.
int Unsteer(int fd);

}  // namespace handover
