// machine_code.hpp — what nvdisasm writes, read: instructions with their classes, branches and, where the listing has life ranges, the registers that each one
// reads and writes.
#pragma once
#include <algorithm>
#include <bitset>
#include <cstdio>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace sass {

enum Class { tensor, fma, mufu, select, compare, logic, convert, shared, copy, shuffle, global, barrier, control, kClasses };
const char* const kNames[kClasses] = {"tensor", "fma",  "mufu",    "select", "compare", "logic",  "convert",
                                      "shared", "copy", "shuffle", "global", "barrier", "control"};
using Registers = std::bitset<256>;

struct Instruction {
    std::string offset, name, text; // 3b10, LDSM.16.M88.4, and what follows
    int target = -1;                // of a branch: the index it goes to
    bool predicated = false;
    Class kind = control;
    Registers reads, writes;
    int line = 0; // in the listing

    bool is(const char* prefix) const { return name.rfind(prefix, 0) == 0; }
    std::string spelled() const { return offset + " " + name + text; }
};

// Classes by what serves them. The uniform datapath (UIADD3, R2UR, …) counts as control: it takes issue slots and no unit that is counted here.
inline Class class_of(const std::string& name) {
    const auto is = [&](std::initializer_list<const char*> names) {
        return std::any_of(names.begin(), names.end(), [&](const char* n) { return name == n || name.rfind(std::string(n) + ".", 0) == 0; });
    };
    if (is({"HMMA", "HGMMA"})) return tensor;
    if (is({"FFMA", "FMUL", "FADD", "HFMA2", "IMAD"})) return fma;
    if (is({"MUFU"})) return mufu;
    if (is({"SEL", "FSEL", "FMNMX", "IMNMX", "VIMNMX", "VIADDMNMX"})) return select;
    if (is({"ISETP", "FSETP", "PLOP3", "R2P"})) return compare;
    if (is({"F2FP", "F2F", "F2I", "I2F"})) return convert;
    if (is({"LDSM", "LDS", "STS"})) return shared;
    if (is({"LDGSTS"})) return copy;
    if (is({"SHFL"})) return shuffle;
    if (is({"LDG", "STG", "LD", "ST", "RED", "REDG"})) return global;
    if (is({"BAR", "DEPBAR", "LDGDEPBAR", "SYNCS", "WARPGROUP", "WARPSYNC", "MEMBAR", "FENCE"})) return barrier;
    if (is({"IADD3", "VIADD", "LOP3", "SHF", "LEA", "BMSK", "PRMT", "MOV", "CS2R", "IABS", "SGXT", "POPC", "FLO", "BREV", "P2R"})) return logic;
    return control;
}

using Listing = std::vector<std::string>;

inline Listing listing_of(const std::string& command) {
    FILE* pipe = popen(command.c_str(), "r");
    if (!pipe) return {};
    Listing lines;
    char buffer[4096];
    while (std::fgets(buffer, sizeof buffer, pipe)) lines.emplace_back(buffer);
    return pclose(pipe) == 0 ? lines : Listing{};
}

// Where a listing with life ranges (-lrm narrow) has its columns, one for each register from R0 on: v reads, ^ writes, x does both.
struct Columns {
    size_t first = 0, count = 0;
};
inline Columns columns_of(const Listing& lines) {
    for (const std::string& line : lines)
        if (const size_t digits = line.find(" # 0123456789"), comment = line.find("// |"); comment < digits && digits != std::string::npos)
            return {digits + 3, line.find_first_not_of("0123456789", digits + 3) - digits - 3};
    return {};
}

inline std::vector<Instruction> parsed(const Listing& lines) {
    const Columns columns = columns_of(lines);
    std::vector<Instruction> all;
    std::map<std::string, int> labels;
    std::vector<std::pair<size_t, std::string>> branches;
    for (size_t at = 0; at < lines.size(); ++at) {
        const std::string& line = lines[at];
        if (line[0] == '.' && line.find(':') != std::string::npos) labels[line.substr(0, line.find(':'))] = int(all.size());
        const size_t open = line.find("/*"), close = line.find("*/"), end = line.find(" ;");
        if (line.find_first_not_of(" \t") != open || close == std::string::npos || end == std::string::npos) continue;
        std::istringstream fields(line.substr(close + 2, end - close - 2));
        Instruction i;
        i.offset = line.substr(open + 2, close - open - 2), i.line = int(at);
        fields >> i.name;
        if (i.name[0] == '@') i.predicated = true, fields >> i.name;
        std::getline(fields, i.text);
        i.kind = class_of(i.name);
        for (size_t r = 0; r < columns.count && columns.first + r < line.size(); ++r) {
            const char mark = line[columns.first + r];
            i.reads[r] = mark == 'v' || mark == 'x', i.writes[r] = mark == '^' || mark == 'x';
        }
        if (const size_t label = i.text.find("`("); i.name.rfind("BRA", 0) == 0 && label != std::string::npos)
            branches.emplace_back(all.size(), i.text.substr(label + 2, i.text.find(')') - label - 2));
        all.push_back(i);
    }
    for (const auto& [at, label] : branches) all[at].target = labels.count(label) ? labels[label] : -1;
    return all;
}

} // namespace sass
