// arithmetic.hpp — what kernels are held against: products by loops.
#pragma once
#include <functional>

#include "../../tests/native/sample.hpp"
#include "gpu.hpp"
#include "problem.cuh" // element types; under g++ it brings the emulator, of which nothing runs here

using reference::Type;
template <class E>
constexpr bool is_half = std::is_same_v<E, fp16>;
template <class E>
const char* name_of = std::is_same_v<E, fp16>   ? "fp16"
                      : std::is_same_v<E, bf16> ? "bf16"
                                                : "float";

inline void expect(bool right, const std::string& what) {
    if (!right) throw std::runtime_error(what);
}
template <class E>
std::vector<E> random_elements(size_t n, uint64_t seed) {
    cases::Random r(seed);
    std::vector<E> all;
    for (size_t i = 0; i < n; ++i) all.push_back(ptx::from_float<E>(float(r.normal())));
    return all;
}
// c against A B^T and d against round(c) B, as loops say.
template <class E>
void expect_products(const std::vector<float>& c, const std::vector<float>& d, int rows, int width, const std::function<double(int, int)>& a,
                     const std::function<double(int, int)>& b) {
    for (int i = 0; i < rows; ++i) {
        for (int j = 0; j < 64; ++j) {
            double s = 0;
            for (int k = 0; k < width; ++k) s += a(i, k) * b(j, k);
            const double met = double(c[size_t(i * 64 + j)]);
            expect(std::fabs(met - s) <= 1e-3, // NaN is wrong
                   "A B^T[" + std::to_string(i) + "][" + std::to_string(j) + "] is " + std::to_string(met) + ", not " + std::to_string(s));
        }
        for (int j = 0; j < width && !d.empty(); ++j) {
            double s = 0;
            for (int k = 0; k < 64; ++k) s += double(ptx::to_float(ptx::from_float<E>(c[size_t(i * 64 + k)]))) * b(k, j);
            const double met = double(d[size_t(i * width + j)]);
            expect(std::fabs(met - s) <= 2e-2,
                   "A B[" + std::to_string(i) + "][" + std::to_string(j) + "] is " + std::to_string(met) + ", not " + std::to_string(s));
        }
    }
}
// What is wrong with c = A B; b by row and column of the product's inner dimension first.
inline std::string against(const std::vector<float>& c, int columns, int inner, const std::function<double(int, int)>& a,
                           const std::function<double(int, int)>& b) {
    for (int i = 0; i < 64; ++i)
        for (int j = 0; j < columns; ++j) {
            double s = 0;
            for (int k = 0; k < inner; ++k) s += a(i, k) * b(k, j);
            const double met = double(c[size_t(i * columns + j)]);
            if (!(std::fabs(met - s) <= 1e-3)) // NaN is wrong
                return "[" + std::to_string(i) + "][" + std::to_string(j) + "] is " + std::to_string(met) + ", not " + std::to_string(s);
        }
    return "";
}
template <class E>
std::function<double(int, int)> matrix(const std::vector<E>& m, int columns) {
    return [&m, columns](int i, int j) { return double(ptx::to_float(m[size_t(i * columns + j)])); };
}
