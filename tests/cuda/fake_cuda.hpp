// fake_cuda.hpp — what a test asks of the fake driver beside the driver's own calls. The functions are in the same library.
#pragma once
#include <cstdint>

extern "C" {
// The next call of `name` after `skip` more of them answers `status`; name "kernel": the next kernel to run fails so, after its launch was accepted.
void fake_cuda_fail(const char* name, int status, int skip);
// Violations so far: of the execution model by a kernel, of memory around and after allocations, of the driver's own rules. `first` receives the first one.
int64_t fake_cuda_faults(const char** first);
// Bytes allocated and not freed, on all devices; how often a call was made.
uint64_t fake_cuda_bytes();
int64_t fake_cuda_calls(const char* name);
// A stream under capture records what is put on it; replay puts it on the stream.
void fake_cuda_capture(void* stream, int on);
void fake_cuda_replay(void* stream);
// Streams run nothing while held: all of them, or one.
void fake_cuda_hold(int on);
void fake_cuda_hold_stream(void* stream, int on);
}
