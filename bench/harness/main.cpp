// attn_bench — times the library through its C ABI, by the rules of docs/performance.md.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

#include "machine.hpp"
#include "report.hpp"
#include "rows.hpp"

namespace {

volatile std::sig_atomic_t interrupted = 0;

const char* const kHelp = R"(attn_bench [--only NAME]... [--rounds N] [--threads N] [--json FILE] [--check] [--list]

Times whole calls of the library, from the ABI call to finished output. Compared cases take turns in one process; a ratio is the median of the rounds' ratios,
beside it its quartiles. The machine's ceilings (FMA peak, read bandwidth) are measured within the rounds. An unprepared dense mask has another address and one
changed byte in every run. Every output is judged against a double-precision reference before the first and after the last round.

  --only NAME     one group of rows; may be given several times (default: all; --list names them)
  --rounds N      rounds of each group (default 15; fewer are a look, not a measurement)
  --threads N     workers (default 2)
  --json FILE     everything, every round, to FILE as well; written whole or not at all
  --check         exit 1 if a row misses what it must reach
  --sample FILE   the real sample (default: the checkout's bench/data/sample.safetensors)
  --list          the groups
Ctrl-C ends after the call that is running and prints what is measured. Exit: 0; 1 wrong output, or a miss with --check; 2 bad usage; 130 interrupted.
)";

int bad_usage(const std::string& why) {
    std::fprintf(stderr, "attn_bench: %s (--help tells more)\n", why.c_str());
    return 2;
}

bool write_whole(const std::string& path, const std::string& text) {
    const std::string unfinished = path + ".unfinished";
    FILE* file = std::fopen(unfinished.c_str(), "w");
    if (!file) return false;
    const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
    if (std::fclose(file) == 0 && written && std::rename(unfinished.c_str(), path.c_str()) == 0) return true;
    std::remove(unfinished.c_str());
    return false;
}

struct Options {
    std::vector<std::string> only;
    harness::Setting setting{2, ATTENTION_SAMPLE};
    int rounds = 15;
    std::string json;
    bool check = false;
};

int run(const Options& options, const std::string& command) {
    const auto machine = harness::machine();
    for (const auto& [name, value] : machine) std::printf("- %s: %s\n", name.c_str(), value.c_str());
    std::printf("- command: %s\n- threads: %d\n", command.c_str(), options.setting.threads);
    if (options.rounds < 15) std::printf("- %d rounds: a look, not a measurement\n", options.rounds);
    std::vector<std::string> groups;
    int misses = 0, wrong = 0;
    const bool terminal = isatty(STDERR_FILENO);
    for (const harness::Entry& entry : harness::entries()) {
        if (interrupted) break;
        bool asked = options.only.empty();
        for (const std::string& name : options.only) asked |= name == entry.name;
        if (!asked) continue;
        std::fprintf(stderr, "%s: making its data%s", entry.name.c_str(), terminal ? "\r" : "\n");
        harness::Group group = entry.make(options.setting);
        harness::measure(
            group, options.rounds, [] { return interrupted != 0; },
            [&](int round, const std::string& subject) {
                if (terminal) std::fprintf(stderr, "\r\033[K%s: round %d of %d, %s", entry.name.c_str(), round, options.rounds, subject.c_str());
            });
        if (terminal) std::fprintf(stderr, "\r\033[K");
        std::fputs(harness::table(group).c_str(), stdout);
        std::fflush(stdout);
        groups.push_back(harness::json(group));
        misses += harness::misses(group), wrong += int(group.wrong.size());
        if (!options.json.empty() && !write_whole(options.json, harness::json(machine, command, options.setting.threads, groups))) {
            std::fprintf(stderr, "attn_bench: cannot write --json %s: %s\n", options.json.c_str(), std::strerror(errno));
            return 2;
        }
    }
    if (interrupted) return 130;
    return wrong || (options.check && misses) ? 1 : 0;
}

} // namespace

int main(int count, char** arguments) {
    Options options;
    std::string command = "attn_bench";
    for (int at = 1; at < count; ++at) {
        command += std::string(" ") + arguments[at];
        const std::string name = arguments[at];
        if (name == "--help" || name == "-h") return std::fputs(kHelp, stdout), 0;
        if (name == "--list") {
            for (const harness::Entry& entry : harness::entries()) std::printf("%-10s %s\n", entry.name.c_str(), entry.description.c_str());
            return 0;
        }
        if (name == "--check") {
            options.check = true;
            continue;
        }
        if (name != "--only" && name != "--rounds" && name != "--threads" && name != "--json" && name != "--sample") return bad_usage("no option " + name);
        if (++at == count) return bad_usage(name + " takes a value");
        const std::string value = arguments[at];
        command += " " + value;
        if (name == "--json") options.json = value;
        else if (name == "--sample") options.setting.sample = value;
        else if (name == "--only") {
            bool known = false;
            for (const harness::Entry& entry : harness::entries()) known |= entry.name == value;
            if (!known) return bad_usage("--only " + value + ": no such group, --list names them");
            options.only.push_back(value);
        } else {
            char* end = nullptr;
            const long number = std::strtol(value.c_str(), &end, 10), most = name == "--rounds" ? 100000 : 1024;
            if (value.empty() || *end || number < 1 || number > most)
                return bad_usage(name + " " + value + ": a whole number from 1 to " + std::to_string(most));
            (name == "--rounds" ? options.rounds : options.setting.threads) = int(number);
        }
    }
    struct sigaction stop {};
    stop.sa_handler = [](int) { interrupted = 1; };
    stop.sa_flags = int(SA_RESETHAND); // a second Ctrl-C ends at once
    sigaction(SIGINT, &stop, nullptr);
    sigaction(SIGTERM, &stop, nullptr);
    try {
        return run(options, command);
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "attn_bench: %s\n", failure.what());
        return 1;
    }
}
