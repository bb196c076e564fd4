#include "steering.h"

#ifdef __linux__
#include <linux/filter.h>
#include <sys/socket.h>

#include <cstdint>
#endif

#include "descriptor.h"

namespace handover {

#ifdef __linux__

// Older headers lack the numbers.
#ifndef SO_ATTACH_REUSEPORT_CBPF
#define SO_ATTACH_REUSEPORT_CBPF 51
#endif
#ifndef SO_DETACH_REUSEPORT_BPF
#define SO_DETACH_REUSEPORT_BPF 68
#endif

namespace {

constexpr uint32_t kRandom = static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM);
// Of the IP header, relative to which a program finds the address: its own data begin behind the header of TCP or UDP.
constexpr uint32_t kVersion = static_cast<uint32_t>(SKF_NET_OFF);
constexpr uint32_t kSource4 = static_cast<uint32_t>(SKF_NET_OFF + 12);
constexpr uint32_t kSource6 = static_cast<uint32_t>(SKF_NET_OFF + 8);

using Instructions = std::vector<sock_filter>;

void Add(Instructions* program, int code, uint32_t k) {
  program->push_back({static_cast<uint16_t>(code), 0, 0, k});
}

// A ^= the next word.
void MixIn(Instructions* program, uint32_t word) {
  Add(program, BPF_MISC | BPF_TAX, 0);
  Add(program, BPF_LD | BPF_W | BPF_ABS, word);
  Add(program, BPF_ALU | BPF_XOR | BPF_X, 0);
}

// A = a number that is the same for each packet of a client's address.
void HashSource(Instructions* program) {
  Instructions v6;
  Add(&v6, BPF_LD | BPF_W | BPF_ABS, kSource6);
  for (uint32_t word = 4; word < 16; word += 4) MixIn(&v6, kSource6 + word);
  Add(program, BPF_LD | BPF_B | BPF_ABS, kVersion);
  Add(program, BPF_ALU | BPF_RSH | BPF_K, 4);
  // The two instructions for IPv4 are jumped over. A jump counts from the next instruction.
  program->push_back({BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 6});
  Add(program, BPF_LD | BPF_W | BPF_ABS, kSource4);
  Add(program, BPF_JMP | BPF_JA, static_cast<uint32_t>(v6.size()));
  program->insert(program->end(), v6.begin(), v6.end());
  // Addresses that differ by a multiple of the number of members would meet at one of them. The multiplier is 2^32
  // divided by the golden ratio; each of the four bytes reaches the upper half of the product.
  Add(program, BPF_MISC | BPF_TAX, 0);
  Add(program, BPF_ALU | BPF_RSH | BPF_K, 16);
  Add(program, BPF_ALU | BPF_XOR | BPF_X, 0);
  Add(program, BPF_ALU | BPF_MUL | BPF_K, 0x9E3779B1);
  Add(program, BPF_ALU | BPF_RSH | BPF_K, 16);
}

Instructions Program(const std::vector<int>& indexes, bool by_source) {
  Instructions program;
  uint32_t count = static_cast<uint32_t>(indexes.size());
  if (count > 1) {
    if (by_source) {
      HashSource(&program);
    } else {
      Add(&program, BPF_LD | BPF_W | BPF_ABS, kRandom);
    }
    Add(&program, BPF_ALU | BPF_MOD | BPF_K, count);
  }
  for (uint32_t n = 0; n < count; n++) {
    // The last one needs no question.
    if (n + 1 < count) program.push_back({BPF_JMP | BPF_JEQ | BPF_K, 0, 1, n});
    Add(&program, BPF_RET | BPF_K, static_cast<uint32_t>(indexes[n]));
  }
  return program;
}

}  // namespace

int Steer(int fd, const std::vector<int>& indexes, bool by_source) {
  Instructions program = Program(indexes, by_source);
  sock_fprog attached{static_cast<unsigned short>(program.size()), program.data()};
  return Result(setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &attached, sizeof(attached)));
}

int Unsteer(int fd) {
  // The value is not read.
  int value = 0;
  return Result(setsockopt(fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &value, sizeof(value)));
}

#else

int Steer(int, const std::vector<int>&, bool) { return -ENOSYS; }
int Unsteer(int) { return -ENOSYS; }

#endif

}  // namespace handover
