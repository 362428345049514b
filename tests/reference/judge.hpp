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

// Computes R and N once, then judges as many outputs as there are.
class Judge {
public:
    explicit Judge(const Problem& problem) : p_(problem) {
        for (int64_t b = 0; b < p_.B; ++b)
            for (int64_t h = 0; h < p_.Hq; ++h) {
                heads_.push_back(exact(p_, b, h));
                const Head N = naive(p_, b, h);
                double error = 0;
                for (size_t at = 0; at < N.O.size(); ++at) error = std::max(error, std::fabs(N.O[at] - heads_.back().O[at]));
                tolerance_.push_back(2 * error + 1e-5 * std::max(1.0, N.V));
            }
    }
    Verdict operator()(const Output& out) const {
        Verdict verdict;
        for (int64_t b = 0; b < p_.B; ++b)
            for (int64_t h = 0; h < p_.Hq; ++h)
                for (int64_t i = 0; i < p_.Sq; ++i) row(out, b, h, i, verdict);
        return verdict;
    }

private:
    void row(const Output& out, int64_t b, int64_t h, int64_t i, Verdict& verdict) const {
        const size_t at = size_t(b * p_.Hq + h);
        const Head& R = heads_[at];
        const auto wrong = [&](const std::string& what, double met, double right, double allowed) {
            if (!verdict.wrong.empty()) return;
            std::ostringstream text;
            text.precision(9);
            text << what << " of batch " << b << ", head " << h << ", row " << i << " is " << met << "; the reference says " << right << " +- " << allowed;
            verdict.wrong = text.str();
        };
        const bool nothing = R.LSE[size_t(i)] == -kInfinity;
        for (int64_t d = 0; d < p_.Dv; ++d) {
            const double right = R.O[size_t(i * p_.Dv + d)], met = out.O(b, h, i, d), err = std::fabs(met - right), allowed = nothing ? 0 : tolerance_[at];
            if (!(err <= allowed)) wrong("O[" + std::to_string(d) + "]", met, right, allowed);
            if (!nothing) verdict.share = std::max(verdict.share, err / allowed);
        }
        if (!out.lse) return;
        const double met = out.lse(b, h, i), right = R.LSE[size_t(i)], A = std::max(1.0, R.largest[size_t(i)]);
        const double allowed = A * (p_.type == Type::f16 || p_.type == Type::bf16 ? 2e-4 : 1e-5);
        if (nothing ? met != right : !(std::fabs(met - right) <= allowed)) wrong("LSE", met, right, nothing ? 0 : allowed);
    }

    const Problem& p_;
    std::vector<Head> heads_; // R
    std::vector<double> tolerance_;
};

} // namespace reference
