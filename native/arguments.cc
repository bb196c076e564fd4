#include "arguments.h"

#include <climits>
#include <cmath>

namespace handover {

namespace {

std::string KindOf(Napi::Value value) {
  if (value.IsNull()) return "null";
  if (value.IsArray()) return "an array";
  switch (value.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_boolean:
      return "a boolean";
    case napi_number:
      return "a number";
    case napi_string:
      return "a string";
    case napi_symbol:
      return "a symbol";
    case napi_function:
      return "a function";
    case napi_bigint:
      return "a bigint";
    default:
      return "an object";
  }
}

// Formats a number as JavaScript does: `1.5`, `NaN`, `-1`.
std::string Written(Napi::Value number) { return number.ToString().Utf8Value(); }

}  // namespace

int Arguments::Integer(size_t index, const char* name, int min, int max) const {
  int integer;
  if (!IsInteger(info_[index], min, max, &integer)) WrongInteger(name, min, max, info_[index]);
  return integer;
}

double Arguments::Whole(size_t index, const char* name, double max) const {
  Napi::Value value = info_[index];
  if (!value.IsNumber()) WrongType(name, "a whole number", value);
  double number = value.As<Napi::Number>();
  if (number >= 0 && number <= max && number == std::trunc(number)) return number;
  throw Napi::RangeError::New(info_.Env(), std::string(function_) + ": `" + name +
                                               "` must be a whole number within its limits, got " +
                                               Written(value));
}

int Arguments::Fd(size_t index) const { return Integer(index, "fd", 0, INT_MAX); }

std::vector<int> Arguments::Fds(size_t index, const char* name, size_t most) const {
  Napi::Array array = ArrayAt(index, name);
  uint32_t count = array.Length();
  if (count > most) {
    throw Napi::RangeError::New(info_.Env(), std::string(function_) + ": `" + name + "` must have at most " +
                                                 std::to_string(most) + " descriptors, got " +
                                                 std::to_string(count));
  }
  return IntegersOf(array, name, 0, INT_MAX);
}

std::vector<int> Arguments::Integers(size_t index, const char* name, size_t most, int min, int max) const {
  Napi::Array array = ArrayAt(index, name);
  uint32_t count = array.Length();
  if (count < 1 || count > most) {
    throw Napi::RangeError::New(info_.Env(), std::string(function_) + ": `" + name + "` must have from 1 to " +
                                                 std::to_string(most) + " numbers, got " +
                                                 std::to_string(count));
  }
  return IntegersOf(array, name, min, max);
}

int Arguments::Choice(size_t index, const char* name,
                      std::initializer_list<std::pair<const char*, int>> choices) const {
  std::string expected;
  for (const auto& [text, number] : choices) {
    if (info_[index].IsString() && String(index, name) == text) return number;
    expected += (expected.empty() ? "`" : " or `") + std::string(text) + "`";
  }
  WrongType(name, expected.c_str(), info_[index]);
}

bool Arguments::Boolean(size_t index, const char* name) const {
  Napi::Value value = info_[index];
  if (!value.IsBoolean()) WrongType(name, "a boolean", value);
  return value.As<Napi::Boolean>();
}

bool Arguments::OptionalBoolean(size_t index, const char* name) const {
  return !info_[index].IsUndefined() && Boolean(index, name);
}

std::string Arguments::String(size_t index, const char* name) const {
  Napi::Value value = info_[index];
  if (!value.IsString()) WrongType(name, "a string", value);
  return value.As<Napi::String>();
}

std::string Arguments::CString(size_t index, const char* name) const { return CStringOf(info_[index], name); }

std::vector<std::string> Arguments::CStrings(size_t index, const char* name) const {
  Napi::Array array = ArrayAt(index, name);
  std::vector<std::string> strings;
  for (uint32_t i = 0; i < array.Length(); i++) {
    Napi::HandleScope scope(info_.Env());
    strings.push_back(CStringOf(array.Get(i), std::string(name) + "[" + std::to_string(i) + "]"));
  }
  return strings;
}

Napi::Uint8Array Arguments::Bytes(size_t index, const char* name) const {
  Napi::Value value = info_[index];
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    WrongType(name, "a Uint8Array", value);
  }
  return value.As<Napi::Uint8Array>();
}

double* Arguments::Doubles(size_t index, const char* name, size_t count) const {
  Napi::Value value = info_[index];
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_float64_array) {
    auto array = value.As<Napi::Float64Array>();
    if (array.ElementLength() == count) return array.Data();
  }
  WrongType(name, ("a Float64Array of " + std::to_string(count)).c_str(), value);
}

Napi::Function Arguments::Function(size_t index, const char* name) const {
  Napi::Value value = info_[index];
  if (!value.IsFunction()) WrongType(name, "a function", value);
  return value.As<Napi::Function>();
}

Napi::Array Arguments::ArrayAt(size_t index, const char* name) const {
  Napi::Value value = info_[index];
  if (!value.IsArray()) WrongType(name, "an array", value);
  return value.As<Napi::Array>();
}

std::vector<int> Arguments::IntegersOf(Napi::Array array, const char* name, int min, int max) const {
  std::vector<int> integers(array.Length());
  for (uint32_t i = 0; i < integers.size(); i++) {
    Napi::HandleScope scope(info_.Env());
    Napi::Value value = array.Get(i);
    if (IsInteger(value, min, max, &integers[i])) continue;
    WrongInteger(std::string(name) + "[" + std::to_string(i) + "]", min, max, value);
  }
  return integers;
}

bool Arguments::IsInteger(Napi::Value value, int min, int max, int* integer) {
  if (!value.IsNumber()) return false;
  double number = value.As<Napi::Number>();
  // This refuses NaN as well, for which every comparison is false.
  if (!(number >= min && number <= max) || number != std::trunc(number)) return false;
  *integer = static_cast<int>(number);
  return true;
}

void Arguments::WrongInteger(const std::string& name, int min, int max, Napi::Value value) const {
  std::string expected = "an integer from " + std::to_string(min) + " to " + std::to_string(max);
  if (!value.IsNumber()) WrongType(name, expected.c_str(), value);
  throw Napi::RangeError::New(info_.Env(), std::string(function_) + ": `" + name + "` must be " + expected +
                                               ", got " + Written(value));
}

std::string Arguments::CStringOf(Napi::Value value, const std::string& name) const {
  if (!value.IsString()) WrongType(name, "a string", value);
  std::string text = value.As<Napi::String>();
  if (text.find('\0') == std::string::npos) return text;
  throw Napi::RangeError::New(info_.Env(), std::string(function_) + ": `" + name + "` must not contain NUL");
}

void Arguments::WrongType(const std::string& name, const char* expected, Napi::Value value) const {
  throw Napi::TypeError::New(info_.Env(), std::string(function_) + ": `" + name + "` must be " + expected +
                                              ", got " + KindOf(value));
}

}  // namespace handover
