// planted.hpp — whether the rules of hazards.hpp can fail: each hazard is planted into a kernel's listing, one at a time, and must be found; each neighbour of
// a hazard that is none must pass.
#pragma once
#include "hazards.hpp"

namespace sass {

struct Planted {
    int tried = 0, hazardous = 0;
    std::vector<std::string> wrong; // missed, or found where nothing is
};

inline Planted plant(const Listing& lines) {
    const std::vector<Instruction> code = parsed(lines);
    const Columns columns = columns_of(lines);
    Planted out;
    if (code.empty()) return out;

    // `said` is what some finding must hold; null: nothing may be found.
    const auto expect = [&](const std::string& what, const Listing& changed, const char* said) {
        const Hazards now = hazards(parsed(changed));
        ++out.tried, out.hazardous += said != nullptr;
        if (!said && !now.found.empty()) out.wrong.push_back(what + ": is no hazard, yet found as " + now.found[0]);
        if (said && std::none_of(now.found.begin(), now.found.end(), [&](const std::string& f) { return f.find(said) != std::string::npos; }))
            out.wrong.push_back(what + ": missed");
    };
    const auto without = [&](const Instruction& i) {
        Listing changed = lines;
        changed.erase(changed.begin() + i.line);
        return changed;
    };
    const auto with_operand = [&](const Instruction& i, int operand) {
        Listing changed = lines;
        std::string& line = changed[size_t(i.line)];
        const size_t end = line.find(" ;"), at = line.rfind("0x", end);
        char text[16];
        std::snprintf(text, sizeof text, "0x%x", unsigned(operand));
        const size_t comment = line.find("// |");
        line.replace(at, end - at, text);
        const size_t moved = line.find("// |"); // the columns stay where they are
        if (moved < comment) line.insert(moved, comment - moved, ' ');
        if (moved > comment) line.erase(comment, moved - comment);
        return changed;
    };
    // A line at `line` that reads and writes these registers.
    const auto with = [&](int line, const std::string& text, const Registers& reads, const Registers& writes) {
        std::string added = "        /*planted*/ " + text + " ;";
        added.resize(columns.first + columns.count, ' ');
        for (size_t r = 0; r < columns.count; ++r)
            if (reads[r] || writes[r]) added[columns.first + r] = !writes[r] ? 'v' : reads[r] ? 'x' : '^';
        Listing changed = lines;
        changed.insert(changed.begin() + line, added);
        return changed;
    };
    const auto only = [](int r) { return Registers{}.set(size_t(r)); };
    const auto writing = [&](int line, int r) { return with(line, "MOV R" + std::to_string(r) + ", RZ", {}, only(r)); };
    const auto reading = [&](int line, int r) { return with(line, "ISETP.NE.AND P0, PT, R" + std::to_string(r) + ", RZ, PT", only(r), {}); };
    const char* const flight = "products in flight: planted";

    for (const char* text : {"MOV R5, RZ", "BRA `(.nowhere)", "CALL.REL.NOINC `(.L_x_0)", "WARPGROUP.DEPBAR.LE gsb1, 0x0",
                             "HGMMA.64x64x16.F32 RZ, gdesc[UR8], RZ, gsb0", "HGMMA.64x0x16.F32 RZ, gdesc[UR8], RZ, gsb1"})
        expect(text, with(code[0].line, text, {}, {}), "not understood: planted");

    const Instruction *newest = nullptr, *other = nullptr; // the last group's last product, and the last one before it with another accumulator
    bool flies = false;                                    // the newest
    const auto from_registers = std::find_if(code.begin(), code.end(), [](const Instruction& i) { return i.kind == tensor && a_of(i).any(); });
    for (const Instruction& i : code) {
        const std::string here = i.spelled();
        if (i.kind == tensor) {
            const int next = i.line + 1, a = highest(a_of(i)), sum = highest(accumulator_of(i));
            if (a >= 0) {
                expect("an A register written after " + here, writing(next, a), flight);
                expect("an A register read after " + here, reading(next, a), nullptr);
            }
            if (i.text.find("gsb0") == std::string::npos) { // once more, into the same accumulator
                Listing twice = lines;
                twice.insert(twice.begin() + next, lines[size_t(i.line)]);
                expect("twice " + here, twice, nullptr);
                continue;
            }
            expect("the accumulator read after " + here, reading(next, sum), flight);
            expect("the accumulator written after " + here, writing(next, sum), flight);
            if (a < 0 && from_registers != code.end()) { // its accumulator is the A of a product that has an accumulator of its own
                Registers taken = accumulator_of(*from_registers);
                for (int r = sum - 3; r <= sum; ++r) taken.set(size_t(r));
                const std::string own = first_of(accumulator_of(*from_registers));
                expect("its accumulator is A of a product after " + here,
                       with(next, from_registers->name + " " + own + ", R" + std::to_string(sum - 3) + ", gdesc[UR8].tnspB, " + own, taken,
                            accumulator_of(*from_registers)),
                       flight);
            }
            const Registers shifted = accumulator_of(i) >> 8;
            expect("an accumulator overlapping that of " + here,
                   with(next, i.name + " " + first_of(shifted) + ", gdesc[UR8], " + first_of(shifted), shifted, shifted), flight);
            expect("the end after " + here, with(next, "EXIT", {}, {}), flight);
            if (newest && accumulator_of(*newest) != accumulator_of(i)) other = newest;
            newest = &i, flies = true;
        } else if (i.is("WARPGROUP.DEPBAR") && newest) {
            flies = operand_of(i) != 0;
            const int pending = operand_of(i), sum = highest(accumulator_of(*newest)), a = highest(a_of(*newest));
            expect("without " + here, without(i), "products in flight: ");
            expect("one group more left by " + here, with_operand(i, pending + 1), "products in flight: ");
            if (pending) expect("none left by " + here, with_operand(i, 0), nullptr);
            expect("the newest accumulator read before " + here, reading(i.line, sum), flight);
            expect("the newest accumulator read after " + here, reading(i.line + 1, sum), pending ? flight : nullptr);
            if (a >= 0) expect("an A register of the newest written after " + here, writing(i.line + 1, a), pending ? flight : nullptr);
            if (pending && other) {
                expect("the older accumulator read before " + here, reading(i.line, highest(accumulator_of(*other))), flight);
                expect("the older accumulator read after " + here, reading(i.line + 1, highest(accumulator_of(*other))), nullptr);
            }
        } else if (i.target >= 0 && flies) {
            const Instruction& there = code[size_t(i.target)];
            expect("the newest accumulator read where leads " + here, reading(there.line, highest(accumulator_of(*newest))), flight);
        } else if (i.is("USETMAXREG")) {
            const int kept = operand_of(i);
            int most = 0;
            const std::set<int> role = reached(code, int(&i - code.data()));
            for (int at : role) most = std::max(most, highest(code[size_t(at)].reads | code[size_t(at)].writes));
            expect("without " + here, without(i), "setmaxnreg: ");
            expect("as many as it uses for " + here, with_operand(i, most + 1), nullptr);
            expect("one fewer than it uses for " + here, with_operand(i, most), "setmaxnreg: ");
            if (kept >= int(columns.count)) continue;
            for (int line : {i.line + 1, code[size_t(*role.rbegin())].line}) { // at once, and at the end
                expect("a register too high after " + here, writing(line, kept), "setmaxnreg: planted");
                expect("the highest register after " + here, writing(line, kept - 1), nullptr);
            }
        }
    }
    return out;
}

} // namespace sass
