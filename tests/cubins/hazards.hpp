// hazards.hpp — two rules of Hopper's machine code, on every way through a kernel. "products in flight": from an HGMMA until the wait that retires its group no
// instruction writes its A registers, nor reads or writes its accumulator; other products may add to the same accumulator. "setmaxnreg": no warp uses a
// register that it has given back, or was not given.
#pragma once
#include <cctype>
#include <set>

#include "machine_code.hpp"

namespace sass {

struct Hazards {
    std::vector<std::string> found;
    size_t in_flight = 0; // instructions that some way meets while a product is in flight
};

// The last hexadecimal number of an instruction.
inline int operand_of(const Instruction& i) {
    const size_t at = i.text.rfind("0x");
    return at == std::string::npos ? -1 : int(std::strtol(i.text.c_str() + at, nullptr, 16));
}
// Where a warp may be after an instruction.
inline std::vector<int> after(const std::vector<Instruction>& code, int at) {
    const Instruction& i = code[size_t(at)];
    std::vector<int> to;
    if (i.target >= 0) to.push_back(i.target);
    const bool conditional = i.predicated || (i.target >= 0 && i.text.find_first_not_of(' ') != i.text.find("`(")); // BRA.DIV UR4, `(.L_x_1)
    if (conditional || (i.target < 0 && i.name != "EXIT")) to.push_back(at + 1);
    if (!to.empty() && to.back() == int(code.size())) to.pop_back();
    return to;
}
inline Registers a_of(const Instruction& product) { return product.reads & ~product.writes; }
inline const Registers& accumulator_of(const Instruction& product) { return product.writes; }
inline int highest(const Registers& registers) {
    int r = int(registers.size()) - 1;
    while (r >= 0 && !registers[size_t(r)]) --r;
    return r;
}
inline std::string first_of(const Registers& registers) {
    size_t r = 0;
    while (r < registers.size() && !registers[r]) ++r;
    return "R" + std::to_string(r);
}

// What these rules would silently pass by, because they cannot read it.
inline void not_understood(const std::vector<Instruction>& code, Hazards& out) {
    for (const Instruction& i : code) {
        const auto says = [&](const std::string& what) { out.found.push_back("not understood: " + i.spelled() + ": " + what); };
        for (size_t at = 0; at + 1 < i.text.size(); ++at) // R12, but neither UR12 nor SR_TID
            if (i.text[at] == 'R' && std::isdigit(i.text[at + 1]) && !(at && std::isalnum(i.text[at - 1])))
                if (const size_t r = size_t(std::atoi(i.text.c_str() + at + 1)); r >= 256 || !(i.reads | i.writes)[r])
                    says("the life ranges do not have R" + std::to_string(r));
        if (i.is("BRA") && i.target < 0) says("goes nowhere");
        for (const char* name : {"BRX", "JMP", "JMX", "CALL", "RET", "BREAK"})
            if (i.is(name)) says("goes where cannot be followed");
        if (i.is("WARPGROUP.DEPBAR") && (i.name != "WARPGROUP.DEPBAR.LE" || i.text.find("gsb0, 0x") == std::string::npos)) says("an unknown wait");
        if (i.kind != tensor) continue;
        const size_t N = size_t(std::atoi(i.name.c_str() + i.name.find('x') + 1)), a = i.text.find("gdesc") < i.text.find(", R") ? 0 : 4;
        if (accumulator_of(i).count() != N / 2 || a_of(i).count() != a) says("its registers are not those of its shape");
        if (i.text.find("gsb") != i.text.find("gsb0")) says("an unknown group");
    }
}

inline void products_in_flight(const std::vector<Instruction>& code, Hazards& out) {
    using Groups = std::vector<std::vector<int>>; // products by group, oldest first; the last group is not committed yet
    constexpr size_t kDeepest = 4;                // committed groups; more than any kernel keeps in flight, so that a loop without a wait ends
    std::set<std::pair<int, Groups>> met;
    std::vector<std::pair<int, Groups>> ways{{0, {{}}}};
    std::set<int> looked_at;
    std::map<int, std::string> found; // one a place
    while (!ways.empty()) {
        auto [at, groups] = ways.back();
        ways.pop_back();
        if (!met.insert({at, groups}).second) continue;
        const Instruction& i = code[size_t(at)];
        const auto says = [&, at = at](const std::string& what) { found.emplace(at, "products in flight: " + i.spelled() + " " + what); };
        for (const auto& group : groups)
            for (int issued : group) {
                const Instruction& product = code[size_t(issued)];
                const bool adds = i.kind == tensor && accumulator_of(i) == accumulator_of(product);
                const Registers a = i.writes & a_of(product), read = (adds ? a_of(i) : i.reads) & accumulator_of(product),
                                written = adds ? Registers{} : i.writes & accumulator_of(product);
                looked_at.insert(at);
                if (a.any()) says("writes " + first_of(a) + ", an A register of " + product.spelled());
                if (read.any()) says("reads " + first_of(read) + " of the accumulator of " + product.spelled());
                if (written.any()) says("writes " + first_of(written) + " of the accumulator of " + product.spelled());
                if (i.name == "EXIT") says("ends before " + product.spelled());
            }
        if (i.kind == tensor) {
            if (std::find(groups.back().begin(), groups.back().end(), at) == groups.back().end()) groups.back().push_back(at);
            if (i.text.find("gsb0") != std::string::npos) groups.emplace_back();
        } else if (i.name == "WARPGROUP.DEPBAR.LE" && !i.predicated) {
            const size_t pending = size_t(operand_of(i)), committed = groups.size() - 1;
            if (pending < committed) groups.erase(groups.begin(), groups.end() - 1 - std::ptrdiff_t(pending));
        }
        if (groups.size() > kDeepest + 1) {
            says("is one group more than may be in flight");
            continue;
        }
        for (int to : after(code, at)) ways.emplace_back(to, groups);
    }
    for (const auto& [at, what] : found) out.found.push_back(what);
    out.in_flight = looked_at.size();
}

// The instructions that may follow `from`, itself among them.
inline std::set<int> reached(const std::vector<Instruction>& code, int from) {
    std::set<int> met;
    for (std::vector<int> ways{from}; !ways.empty();) {
        const int at = ways.back();
        ways.pop_back();
        if (!met.insert(at).second) continue;
        for (int to : after(code, at)) ways.push_back(to);
    }
    return met;
}
inline void registers_kept(const std::vector<Instruction>& code, Hazards& out) {
    int producers = 0, consumers = 0;
    for (int from = 0; from < int(code.size()); ++from) {
        const Instruction& sets = code[size_t(from)];
        if (!sets.is("USETMAXREG")) continue;
        const bool gives_back = sets.is("USETMAXREG.DEALLOC");
        ++(gives_back ? producers : consumers);
        const int kept = operand_of(sets);
        for (int at : reached(code, from)) {
            const Instruction& i = code[size_t(at)];
            if (const int most = highest(i.reads | i.writes); most >= kept)
                out.found.push_back("setmaxnreg: " + i.spelled() + " uses R" + std::to_string(most) + "; " + (gives_back ? "producers" : "consumers") +
                                    " have " + std::to_string(kept) + " registers from " + sets.spelled() + " on");
        }
    }
    if (producers != 1 || consumers != 1)
        out.found.push_back("setmaxnreg: producers give registers back in " + std::to_string(producers) + " places and consumers take them in " +
                            std::to_string(consumers) + ", not in one each");
}

inline Hazards hazards(const std::vector<Instruction>& code) {
    Hazards out;
    not_understood(code, out), products_in_flight(code, out), registers_kept(code, out);
    return out;
}

} // namespace sass
