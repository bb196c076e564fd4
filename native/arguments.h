// Checks the arguments of one call: a wrong one throws a TypeError or a RangeError that names it.
#pragma once

#include <napi.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace handover {

class Arguments {
 public:
  Arguments(const Napi::CallbackInfo& info, const char* function) : info_(info), function_(function) {}

  int Integer(size_t index, const char* name, int min, int max) const;
  // A whole number from 0 on that may be greater than an int.
  double Whole(size_t index, const char* name, double max) const;
  int Fd(size_t index) const;
  std::vector<int> Fds(size_t index, const char* name, size_t most) const;
  // From 1 to `most` integers.
  std::vector<int> Integers(size_t index, const char* name, size_t most, int min, int max) const;
  // Returns the number that belongs to the string.
  int Choice(size_t index, const char* name, std::initializer_list<std::pair<const char*, int>> choices) const;
  bool Boolean(size_t index, const char* name) const;
  // False if the argument is missing.
  bool OptionalBoolean(size_t index, const char* name) const;
  std::string String(size_t index, const char* name) const;
  // Without NUL, which would hide the rest of the text from the kernel.
  std::string CString(size_t index, const char* name) const;
  std::vector<std::string> CStrings(size_t index, const char* name) const;
  Napi::Uint8Array Bytes(size_t index, const char* name) const;
  // Room for `count` numbers that are written.
  double* Doubles(size_t index, const char* name, size_t count) const;
  Napi::Function Function(size_t index, const char* name) const;

 private:
  Napi::Array ArrayAt(size_t index, const char* name) const;
  std::vector<int> IntegersOf(Napi::Array array, const char* name, int min, int max) const;
  // False for a value that is not such an integer. Almost every call has integers: no text is made before one is wrong.
  static bool IsInteger(Napi::Value value, int min, int max, int* integer);
  [[noreturn]] void WrongInteger(const std::string& name, int min, int max, Napi::Value value) const;
  std::string CStringOf(Napi::Value value, const std::string& name) const;
  [[noreturn]] void WrongType(const std::string& name, const char* expected, Napi::Value value) const;

  const Napi::CallbackInfo& info_;
  const char* function_;
};

}  // namespace handover
