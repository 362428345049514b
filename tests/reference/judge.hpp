// judge.hpp — the error rule, per batch and head: max|out - R| <= 2 max|N - R| + 1e-5 max(1, max|V|), and LSE within A * 1e-5 (A * 2e-4 for 16-bit inputs) with
// A = max(1, largest visible |S|). A row that sees nothing is exactly 0 and -inf. NaN never passes.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <sstream>
#include <string>

#include "attention.hpp"

namespace reference {

// What was computed: O and LSE at [b, h, i, d] and [b, h, i]; `lse` may be absent.
struct Output {
    std::function<double(int64_t b, int64_t h, int64_t i, int64_t d)> O;
    std::function<double(int64_t b, int64_t h, int64_t i)> lse;
};

// The largest error as a share of what is allowed (1 passes), and the first element that is wrong.
struct Verdict {
    double share = 0;
    std::string wrong; // empty: all is well
    explicit operator bool() const { return wrong.empty(); }
};

inline void judge_head(const Problem& p, const Output& out, int64_t b, int64_t h, Verdict& verdict) {
    const Head R = exact(p, b, h), N = naive(p, b, h);
    double naive_error = 0;
    for (size_t at = 0; at < R.O.size(); ++at) naive_error = std::max(naive_error, std::fabs(N.O[at] - R.O[at]));
    const double tolerance = 2 * naive_error + 1e-5 * std::max(1.0, R.V);
    const auto wrong = [&](int64_t i, const std::string& what, double met, double right, double allowed) {
        if (!verdict.wrong.empty()) return;
        std::ostringstream text;
        text.precision(9);
        text << what << " of batch " << b << ", head " << h << ", row " << i << " is " << met << "; the reference says " << right << " +- " << allowed;
        verdict.wrong = text.str();
    };
    for (int64_t i = 0; i < p.Sq; ++i) {
        const bool nothing = R.LSE[size_t(i)] == -kInfinity;
        for (int64_t d = 0; d < p.Dv; ++d) {
            const double right = R.O[size_t(i * p.Dv + d)], met = out.O(b, h, i, d), err = std::fabs(met - right), allowed = nothing ? 0 : tolerance;
            if (!(err <= allowed)) wrong(i, "O[" + std::to_string(d) + "]", met, right, allowed);
            if (!nothing) verdict.share = std::max(verdict.share, err / tolerance);
        }
        if (!out.lse) continue;
        const double met = out.lse(b, h, i), right = R.LSE[size_t(i)];
        const double A = std::max(1.0, R.largest[size_t(i)]), allowed = A * (p.type == Type::f16 || p.type == Type::bf16 ? 2e-4 : 1e-5);
        if (nothing ? met != right : !(std::fabs(met - right) <= allowed)) wrong(i, "LSE", met, right, nothing ? 0 : allowed);
    }
}

inline Verdict judge(const Problem& p, const Output& out) {
    Verdict verdict;
    for (int64_t b = 0; b < p.B; ++b)
        for (int64_t h = 0; h < p.Hq; ++h) judge_head(p, out, b, h, verdict);
    return verdict;
}

} // namespace reference
