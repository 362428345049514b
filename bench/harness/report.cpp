#include "report.hpp"

#include <cstdarg>
#include <cstdio>

namespace harness {
namespace {

[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...) {
    char text[512];
    va_list values;
    va_start(values, pattern);
    std::vsnprintf(text, sizeof text, pattern, values);
    va_end(values);
    return text;
}
std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += c < ' ' && c >= 0 ? std::string(" ") : std::string(1, c);
    }
    return out + '"';
}
std::string list(const std::vector<double>& values, double factor = 1) {
    std::string out = "[";
    for (const double x : values) out += (out.size() > 1 ? ", " : "") + format("%.6g", x * factor);
    return out + "]";
}
std::string wanted(const Line& line) {
    if (!line.limit && !line.aim) return "";
    const char* sign = line.better == Better::lower ? "<=" : ">=";
    return (line.limit ? format("%s %.3f", sign, line.limit) : std::string("-")) + (line.aim ? format(", aim %.3f", line.aim) : std::string());
}

} // namespace

int misses(Group& group) {
    int count = int(group.wrong.size());
    for (const Line& line : group.lines)
        if (const std::vector<double> all = ratios(group, line); !all.empty()) count += short_of(line, quartiles(all).median);
    for (const Fact& fact : group.facts) count += fact.limit && !(fact.value <= fact.limit);
    return count;
}

std::string table(Group& group) {
    std::string out = "\n## " + group.name + ": " + group.description + "\n\n";
    if (!group.lines.empty()) {
        out += "| row | median | quartiles | unit | wanted | |\n|---|---|---|---|---|---|\n";
        for (const Line& line : group.lines) {
            const std::vector<double> all = ratios(group, line);
            if (all.empty()) continue;
            const Quartiles q = quartiles(all);
            out += format("| %s | %.3f | %.3f-%.3f | %s | %s | %s |\n", line.row.c_str(), q.median, q.lower, q.upper, line.unit.c_str(), wanted(line).c_str(),
                          !line.limit                ? ""
                          : short_of(line, q.median) ? "SHORT"
                                                     : "ok");
        }
        out += '\n';
    }
    if (!group.subjects.empty()) out += "| whole call | median ms | kernel | rounds |\n|---|---|---|---|\n";
    for (const Subject& s : group.subjects)
        if (!s.rounds.empty()) out += format("| %s | %.4f | %s | %zu |\n", s.name.c_str(), quartiles(s.rounds).median * 1e3, s.kernel.c_str(), s.rounds.size());
    for (const Fact& fact : group.facts)
        if (fact.limit)
            out += format("- %s: %.0f %s, wanted <= %.0f: %s\n", fact.row.c_str(), fact.value, fact.unit.c_str(), fact.limit,
                          fact.value <= fact.limit ? "ok" : "SHORT");
        else if (!group.subjects.empty() && fact.unit == "flop a probe")
            out += format("- %s: %.1f GFLOP/s\n", fact.row.c_str(), fact.value / quartiles(group.subject(fact.row).rounds).median / 1e9);
        else if (fact.unit == "bytes a probe")
            out += format("- %s: %.1f GB/s\n", fact.row.c_str(), fact.value / quartiles(group.subject(fact.row).rounds).median / 1e9);
    for (const std::string& wrong : group.wrong) out += "- WRONG OUTPUT, " + wrong + "\n";
    return out;
}

std::string json(Group& group) {
    std::string out = "    {\n      \"name\": " + quoted(group.name) + ",\n      \"description\": " + quoted(group.description) + ",\n      \"rows\": [";
    const char* separator = "\n";
    for (const Line& line : group.lines) {
        const std::vector<double> all = ratios(group, line);
        if (all.empty()) continue;
        const Quartiles q = quartiles(all);
        out += separator + ("        {\"row\": " + quoted(line.row)) + ", \"unit\": " + quoted(line.unit) + ", \"of\": " + quoted(line.top) +
               ", \"over\": " + quoted(line.bottom) +
               format(", \"factor\": %.9g, \"median\": %.5f, \"quartiles\": [%.5f, %.5f]", line.factor, q.median, q.lower, q.upper) +
               (line.limit ? format(", \"limit\": %.5f", line.limit) : std::string()) + (line.aim ? format(", \"aim\": %.5f", line.aim) : std::string()) +
               ", \"met\": " + (short_of(line, q.median) ? "false" : "true") + ", \"rounds\": " + list(all) + "}";
        separator = ",\n";
    }
    out += "\n      ],\n      \"calls\": [";
    separator = "\n";
    for (const Subject& s : group.subjects) {
        out += separator + ("        {\"name\": " + quoted(s.name)) + ", \"kernel\": " + quoted(s.kernel) + ", \"milliseconds\": " + list(s.rounds, 1e3) + "}";
        separator = ",\n";
    }
    out += "\n      ],\n      \"facts\": [";
    separator = "\n";
    for (const Fact& fact : group.facts) {
        out += separator + ("        {\"name\": " + quoted(fact.row)) + ", \"unit\": " + quoted(fact.unit) + format(", \"value\": %.9g", fact.value) +
               (fact.limit ? format(", \"limit\": %.9g", fact.limit) : std::string()) + "}";
        separator = ",\n";
    }
    out += "\n      ],\n      \"wrong\": [";
    separator = "";
    for (const std::string& wrong : group.wrong) out += separator + quoted(wrong), separator = ", ";
    return out + "]\n    }";
}

std::string json(const std::vector<std::pair<std::string, std::string>>& machine, const std::string& command, int threads,
                 const std::vector<std::string>& groups) {
    std::string out = "{\n  \"machine\": {";
    const char* separator = "\n";
    for (const auto& [name, value] : machine) out += separator + ("    " + quoted(name)) + ": " + quoted(value), separator = ",\n";
    out += "\n  },\n  \"command\": " + quoted(command) + ",\n  \"threads\": " + std::to_string(threads) + ",\n  \"groups\": [";
    separator = "\n";
    for (const std::string& group : groups) out += separator + group, separator = ",\n";
    return out + "\n  ]\n}\n";
}

} // namespace harness
