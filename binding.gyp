{
  "targets": [
    {
      "target_name": "handover",
      "sources": [
        "native/addon.cc",
        "native/arguments.cc",
        "native/connection.cc",
        "native/memory.cc",
        "native/message.cc",
        "native/process.cc",
        "native/readiness.cc",
        "native/record_cipher.cc",
        "native/socket.cc",
        "native/steering.cc",
        "native/vacate.cc",
        "native/watcher.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": [
        "NAPI_VERSION=8",
        "NAPI_CPP_EXCEPTIONS",
        "NODE_ADDON_API_DISABLE_DEPRECATED",
        # A worker that is terminated in the middle of a call would abort the process without it.
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"
      ],
      "cflags_cc!": ["-fno-exceptions"],
      "cflags_cc": [
        "-std=c++17",
        "-fexceptions",
        "-fvisibility=hidden",
        "-Wall",
        "-Wextra",
        "-Wpedantic"
      ],
      "xcode_settings": {
        "CLANG_CXX_LANGUAGE_STANDARD": "c++17",
        "GCC_ENABLE_CPP_EXCEPTIONS": "YES",
        "GCC_SYMBOLS_PRIVATE_EXTERN": "YES",
        "MACOSX_DEPLOYMENT_TARGET": "11.0",
      }
    }
  ]
}
