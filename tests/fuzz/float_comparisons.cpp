// float_comparisons.cpp — GCC reports comparisons of floating-point numbers too; neither libFuzzer nor the sanitizers know what to do with them.
extern "C" __attribute__((no_sanitize("address", "undefined"))) void __sanitizer_cov_trace_cmpf(float, float) {}
extern "C" __attribute__((no_sanitize("address", "undefined"))) void __sanitizer_cov_trace_cmpd(double, double) {}
