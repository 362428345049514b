// check_sass — reads the machine code of each flash row's steady state: how many instructions a warp issues for a tile, by class, with and without a mask;
// in what order its phases come; and the time that issue slots and units allow, which predicts what a mask costs. Compared with the committed table. Of the
// rows for Hopper, the whole kernel obeys the rules of hazards.hpp.
//   check_sass CUBINS_FOLDER NVDISASM TABLE [--update]      the folder is what check_cubins --cubins left
//   check_sass CUBINS_FOLDER NVDISASM --plant               plants hazards into the rows for Hopper: each must be found
// Exit 0; 1 something is wrong or differs; 2 bad usage.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "../../native/kernels/rows.hpp"
#include "planted.hpp"

namespace sass {
namespace {

using Counts = std::array<int, kClasses>;

bool hides(const Instruction& i) { return i.kind == select && i.text.find("-INF") != std::string::npos; }

// A way through a loop: the instructions met.
struct Way {
    std::vector<int> at;
    int worked = 0; // products and copies among them
};
// Which instructions between `head` and `end` are of loops that ask the documents of keys: they read global memory and neither multiply nor copy. Stored bits
// are read without a loop.
std::vector<bool> asking(const std::vector<Instruction>& code, int head, int end) {
    std::vector<bool> asks(size_t(end - head + 1));
    for (int last = head; last < end; ++last) {
        const int first = code[size_t(last)].target;
        if (first <= head || first > last) continue;
        const auto has = [&](auto... kinds) {
            return std::any_of(code.begin() + first, code.begin() + last, [&](const Instruction& i) { return ((i.kind == kinds) || ...); });
        };
        if (has(global) && !has(tensor, copy)) std::fill(asks.begin() + (first - head), asks.begin() + (last - head) + 1, true);
    }
    return asks;
}
// From `head` to the branch back at `end`, forward only: with all products and copies that any way has, and otherwise the shortest. With `bits_until` a partial
// tile's whose mask is stored or computed: with as many hidden scores as any way has, and up to that instruction the longest, since there the mask's bits are
// found. Terms come later: neither tile's way has any.
std::optional<Way> through(const std::vector<Instruction>& code, int head, int end, int bits_until = -1) {
    struct Best {
        bool reached = false;
        int worked = 0, hidden = 0, length = 0, from = -1; // length: that of what should be longest less that of the rest
    };
    std::vector<Best> best(size_t(end - head + 1));
    best[0].reached = true;
    const std::vector<bool> asks = asking(code, head, end);
    for (int i = head; i <= end; ++i) {
        const Best& b = best[size_t(i - head)];
        if (!b.reached || i == end || (bits_until >= 0 && asks[size_t(i - head)])) continue;
        const Instruction& c = code[size_t(i)];
        const int worked = b.worked + (c.kind == tensor || c.kind == copy), hidden = b.hidden + (bits_until >= 0 && hides(c));
        const int length = b.length + (i < bits_until ? 1 : -1);
        const auto go = [&](int to) {
            if (to <= i || to > end) return;
            Best& n = best[size_t(to - head)];
            if (!n.reached || std::tie(worked, hidden, length) > std::tie(n.worked, n.hidden, n.length)) n = {true, worked, hidden, length, i};
        };
        const bool leaves = c.name == "EXIT" || c.name.rfind("RET", 0) == 0;
        if (c.target >= 0) go(c.target);
        if (c.predicated || (c.target < 0 && !leaves)) go(i + 1);
    }
    if (!best.back().reached) return {};
    Way way;
    way.worked = best.back().worked + (code[size_t(end)].kind == tensor);
    for (int i = end; i >= 0; i = i == head ? -1 : best[size_t(i - head)].from) way.at.push_back(i);
    std::reverse(way.at.begin(), way.at.end());
    return way;
}
// The loops around products that hold no other such loop.
std::vector<std::pair<int, int>> main_loops(const std::vector<Instruction>& code) {
    std::vector<std::pair<int, int>> loops;
    for (int i = 0; i < int(code.size()); ++i) {
        const int head = code[size_t(i)].target;
        if (head < 0 || head > i) continue;
        const auto way = through(code, head, i);
        if (way && std::any_of(way->at.begin(), way->at.end(), [&](int at) { return code[size_t(at)].kind == tensor; })) loops.emplace_back(head, i);
    }
    const auto inner = [&](const std::pair<int, int>& a) {
        return std::none_of(loops.begin(), loops.end(), [&](const auto& b) { return b != a && a.first <= b.first && b.second <= a.second; });
    };
    std::vector<std::pair<int, int>> out;
    std::copy_if(loops.begin(), loops.end(), std::back_inserter(out), inner);
    return out;
}

// The products of Q K^T come first: the last one's place.
int last_of_scores(const std::vector<Instruction>& code, const std::pair<int, int>& loop, const kernels::Row& row) {
    int left = row.block_m / (row.threads / 32) / 16 * (row.D / 16 * (row.block_n / 8));
    for (int i = loop.first; i < loop.second; ++i)
        if (code[size_t(i)].kind == tensor && !--left) return i;
    return loop.second;
}

// What a way costs: cycles of a quarter of a multiprocessor for one warp's instructions (or, for what the quarters share, four warps').
struct Cost {
    Counts counts{};
    int issue = 0, hidden = 0; // scores
    double units[6] = {};      // tensor, mufu, fma, integer and select, convert, shared memory
    std::string phases;
    double bound() const { return std::max(double(issue), *std::max_element(units, units + 6)); }                        // everything overlaps
    double exposed() const { return units[0] + std::max(double(issue - counts[tensor]), std::max(units[1], units[3])); } // products overlap with nothing
    const char* bound_by() const {
        static const char* const names[] = {"tensor", "mufu", "fma", "integer", "convert", "shared"};
        const size_t most = size_t(std::max_element(units, units + 6) - units);
        return issue >= units[most] ? "issue" : names[most];
    }
};
// Throughputs of the CUDA C++ programming guide's table, per multiprocessor and clock; products of an A100 and an H100: 1024 and 2048 multiply-adds.
Cost cost_of(const std::vector<Instruction>& code, const Way& way, const kernels::Row& row) {
    const bool hopper = row.oldest == 90;
    // A copy that is a loop of its own goes round until its tile is there.
    std::vector<int> times(code.size(), 1);
    const int rows_a_step = row.threads / (row.D / 8), copies = (row.block_n + rows_a_step - 1) / rows_a_step;
    for (size_t i = 1; i < way.at.size(); ++i) {
        const int at = way.at[i], head = code[size_t(at)].target;
        if (hopper || head < 0 || head > at || head <= way.at.front()) continue;
        const auto inside = [&](int x) { return head <= x && x <= at; };
        const int made = int(std::count_if(way.at.begin(), way.at.end(), [&](int x) { return inside(x) && code[size_t(x)].kind == copy; }));
        for (int x : way.at)
            if (made && inside(x)) times[size_t(x)] = std::max(1, copies / made);
    }
    Cost cost;
    std::map<std::string, int> phase;
    std::vector<std::string> order;
    const auto close = [&](const std::string& with) {
        for (const std::string& what : order) cost.phases += " " + what + " " + std::to_string(phase[what]);
        phase.clear(), order.clear();
        if (!with.empty()) cost.phases += " [" + with + "]";
    };
    const auto happens = [&](const char* what, int n) {
        if (!phase[what]) order.push_back(what);
        phase[what] += n;
    };
    for (int at : way.at) {
        const Instruction& i = code[size_t(at)];
        const int n = times[size_t(at)];
        cost.counts[i.kind] += n, cost.issue += n;
        switch (i.kind) {
            case tensor: {
                const int N = hopper ? std::atoi(i.name.c_str() + i.name.find('x') + 1) : 8;
                cost.units[0] += hopper ? N / 2.0 : 8;
                if (hopper) cost.units[5] += N / 4.0 + (i.text.find("gdesc") < i.text.find(", R") ? 16 : 0); // B, and A unless it is in registers
                happens("products", 1);
                break;
            }
            case mufu: cost.units[1] += 8 * n, happens("exp", n); break;
            case fma: cost.units[2] += (hopper ? 1 : 2) * n; break;
            case select:
            case compare:
            case logic: cost.units[3] += 2 * n; break;
            case convert: cost.units[4] += 2 * n; break;
            case shared: cost.units[5] += (i.name.find("M88.4") != std::string::npos || i.name.find("128") != std::string::npos ? 16 : 4) * n; break;
            case copy: cost.units[5] += 16 * n, happens("copies", n); break;
            case shuffle: cost.units[5] += 4 * n; break;
            case barrier:
                if (i.name == "WARPGROUP.DEPBAR.LE") close("products but " + i.text.substr(i.text.find("0x") + 2) + " done");
                else if (i.name == "WARPGROUP.ARRIVE") close("fence");
                else if (i.name == "DEPBAR.LE") close("copies done");
                else if (i.name.rfind("BAR", 0) == 0) close("barrier");
                else if (i.name.find("TRYWAIT") != std::string::npos) close("tile here");
                break;
            default: break;
        }
        if (hides(i)) cost.hidden += n, happens("hide", n);
    }
    close("");
    return cost;
}

// The share of a causal problem's tiles that are partial: 4096 queries and keys.
double partial_of_causal(int M, int N) {
    double partial = 0, all = 0;
    for (int q = 0; q < 4096; q += M) {
        const int end = (q + M + N - 1) / N;
        all += end, partial += end - (q + 1) / N;
    }
    return partial / all;
}

std::string line_of(const char* what, const Cost& c) {
    std::ostringstream out;
    out << "  " << what << ": issue " << c.issue;
    for (size_t k = 0; k < kClasses; ++k)
        if (c.counts[k]) out << ", " << kNames[k] << " " << c.counts[k];
    out << "\n    cycles: tensor " << c.units[0] << ", mufu " << c.units[1] << ", fma " << c.units[2] << ", integer " << c.units[3] << ", convert "
        << c.units[4] << ", shared " << c.units[5] << "; at best " << c.bound() << " (" << c.bound_by() << "), products exposed " << c.exposed()
        << "\n    order:" << c.phases << "\n";
    return out.str();
}

} // namespace
} // namespace sass

int main(int argc, char** argv) {
    using namespace sass;
    const bool update = argc == 5 && std::string(argv[4]) == "--update";
    if (argc < 4 || (argc > 4 && !update)) return std::fprintf(stderr, "check_sass CUBINS_FOLDER NVDISASM TABLE [--update] or --plant\n"), 2;
    const std::string folder = argv[1], nvdisasm = argv[2];
    const bool planting = std::string(argv[3]) == "--plant";
    int wrong = 0, met = 0;
    size_t in_flight = 0;
    std::ostringstream out;
    out << "# The steady state of every flash row in machine code: what one warp issues for one tile. flash_sm80 for sm_80, flash_sm90 for sm_90a. Written by "
           "check_sass --update.\n"
           "# Cycles are those of a quarter of a multiprocessor: of its issue slots, of its units, and of its share of shared memory. \"At best\" everything "
           "overlaps; \"products\n"
           "# exposed\": nothing overlaps with the tensor cores. The price of a mask is what a partial tile takes longer than a full one, by the one and by "
           "the other; a causal\n"
           "# problem of 4096 has few partial tiles, a dense mask that hides at random nothing else. Where a row has terms, a call that has none of them "
           "is\n# counted. Predicted, not measured.\n";
    std::vector<kernels::Row> rows = kernels::rows();
    const char* const wanted = planting ? "flash_sm90" : "flash";
    rows.erase(std::remove_if(rows.begin(), rows.end(), [&](const kernels::Row& row) { return row.file.rfind(wanted, 0) != 0; }), rows.end());
    std::vector<std::vector<Instruction>> codes(rows.size());
    std::vector<Planted> planted(rows.size());
    const auto arch_of = [](const kernels::Row& row) { return std::string(row.oldest == 90 ? "sm_90a" : "sm_80"); };
    std::atomic<size_t> next = 0;
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < std::max(1u, std::thread::hardware_concurrency()); ++t)
        threads.emplace_back([&] {
            for (size_t at; (at = next++) < rows.size();) {
                const char* const life_ranges = rows[at].oldest == 90 ? "-lrm narrow" : "";
                const Listing lines =
                    listing_of("'" + nvdisasm + "' -c " + life_ranges + " '" + folder + "/" + rows[at].name + "." + arch_of(rows[at]) + ".cubin'");
                codes[at] = parsed(lines);
                if (planting) planted[at] = plant(lines);
            }
        });
    for (std::thread& t : threads) t.join();

    if (planting) {
        int tried = 0, hazardous = 0;
        for (size_t at = 0; at < rows.size(); ++at) {
            for (const std::string& what : planted[at].wrong) std::fprintf(stderr, "%s: %s\n", rows[at].name.c_str(), what.c_str()), ++wrong;
            if (!planted[at].hazardous) std::fprintf(stderr, "%s: nothing to plant a hazard at\n", rows[at].name.c_str()), ++wrong;
            tried += planted[at].tried, hazardous += planted[at].hazardous;
        }
        std::printf("check_sass: %zu rows, %d hazards planted and %d changes that are none, %d wrong\n", rows.size(), hazardous, tried - hazardous, wrong);
        return wrong ? 1 : 0;
    }

    std::ostringstream prices;
    for (size_t at = 0; at < rows.size(); ++at) {
        const kernels::Row& row = rows[at];
        const std::vector<Instruction>& code = codes[at];
        const bool hopper = row.oldest == 90;
        const auto fault = [&](const std::string& what) { std::fprintf(stderr, "%s: %s\n", row.name.c_str(), what.c_str()), ++wrong; };
        if (code.empty()) {
            fault("no machine code");
            continue;
        }
        if (hopper) {
            const Hazards all = hazards(code);
            std::map<std::string, int> by_rule; // one mistake shows up in many places
            for (const std::string& what : all.found)
                if (++by_rule[what.substr(0, what.find(':'))] <= 5) fault(what);
            for (const auto& [rule, times] : by_rule)
                if (times > 5) fault(rule + ": and " + std::to_string(times - 5) + " more");
            if (!all.in_flight) fault("no product is ever in flight");
            in_flight += all.in_flight;
        }
        const auto loops = main_loops(code);
        if (loops.size() != (hopper ? 2u : 1u)) {
            fault(std::to_string(loops.size()) + " main loops");
            continue;
        }
        // Hopper has a loop for partial tiles and one for full ones; flash_sm80 one loop, with a way for each.
        std::vector<Cost> costs;
        for (const auto& [head, end] : loops) costs.push_back(cost_of(code, *through(code, head, end), row));
        if (!hopper) costs.push_back(cost_of(code, *through(code, loops[0].first, loops[0].second, last_of_scores(code, loops[0], row)), row));
        std::sort(costs.begin(), costs.end(), [](const Cost& a, const Cost& b) { return a.issue < b.issue; });
        const int M = row.block_m, N = row.block_n, warps = hopper ? M / 64 * 4 : row.threads / 32; // that multiply
        for (const Cost& c : costs)
            if (const int scores = &c == &costs[0] ? 0 : M * N / (warps * 32); c.hidden != scores)
                fault(std::to_string(c.hidden) + " scores hidden by a lane instead of " + std::to_string(scores));
        const int products = hopper ? row.D / 16 + N / 16 : M / warps / 16 * (row.D / 16 * (N / 8) + N / 16 * (row.D / 8));
        for (const Cost& c : costs) {
            if (c.counts[tensor] != products) fault(std::to_string(c.counts[tensor]) + " products a tile instead of " + std::to_string(products));
            if (hopper) { // the softmax lies between issuing and awaiting the products it hides under
                const size_t issued = c.phases.rfind("products " + std::to_string(N / 16)), over = c.phases.rfind("[products but 0 done]"),
                             exp = c.phases.find("exp"), last = c.phases.rfind("exp");
                if (issued == std::string::npos || over == std::string::npos || !(issued < exp && last < over))
                    fault("the softmax hides under nothing:" + c.phases);
            }
        }
        out << row.name << " " << arch_of(row) << ", tiles of " << M << " x " << N << ", " << warps << " warps\n" << line_of("full tile", costs[0]);
        ++met;
        out << line_of(row.packed ? "partial tile, packed bits" : "partial tile, causal", costs[1]);
        const double best = costs[1].bound() / costs[0].bound() - 1, exposed = costs[1].exposed() / costs[0].exposed() - 1;
        char text[200];
        std::snprintf(text, sizeof text, "# %-34s %5.1f %% .. %5.1f %% of a tile; causal 4096: %4.1f %% .. %4.1f %%\n", row.name.c_str(), best * 100,
                      exposed * 100, best * 100 * partial_of_causal(M, N), exposed * 100 * partial_of_causal(M, N));
        prices << text;
    }
    out << "# The price of a mask:\n" << prices.str();
    if (update) {
        std::ofstream(argv[3]) << out.str();
    } else {
        std::ifstream file(argv[3]);
        std::stringstream committed;
        committed << file.rdbuf();
        std::istringstream now(out.str());
        std::string a, b, row;
        for (bool more = true; more;) {
            const bool has_a = bool(std::getline(committed, a)), has_b = bool(std::getline(now, b));
            more = has_a && has_b;
            if (has_b && b.rfind("flash", 0) == 0) row = b;
            if (has_a != has_b || (more && a != b))
                std::fprintf(stderr, "%s\n  the table says %s\n  now it is      %s\n", row.c_str(), has_a ? a.c_str() : "nothing",
                             has_b ? b.c_str() : "nothing"),
                    ++wrong;
            if (wrong > 20) break;
        }
    }
    std::printf("check_sass: %d rows, %zu instructions looked at while a product is in flight, %d wrong\n", met, in_flight, wrong);
    return wrong ? 1 : 0;
}
