// group.hpp — what is measured by turns: subjects that alternate in rounds, and lines that compare two of them round by round.
#pragma once
#include <functional>
#include <string>
#include <vector>

namespace harness {

struct Subject {
    std::string name;
    std::function<double()> seconds;      // of one whole call
    std::function<std::string()> wrong{}; // runs it once more, outside the clock, and judges what it wrote; empty: all is well
    std::vector<double> rounds{};         // seconds
    std::string kernel{};
};

enum class Better { lower, higher };

// factor * seconds(top) / seconds(bottom): a ratio of times, or the share of a ceiling.
struct Line {
    std::string row, unit;
    std::string top, bottom;
    double factor = 1;
    Better better = Better::lower;
    double limit = 0, aim = 0; // 0: none
};

// Something that is no ratio of times.
struct Fact {
    std::string row, unit;
    double value = 0, limit = 0;
};

struct Group {
    std::string name, description;
    std::vector<Subject> subjects{};
    std::vector<Line> lines{};
    std::vector<Fact> facts{};
    std::vector<std::string> wrong{}; // outputs that disagree with the reference

    Subject& subject(const std::string& subject_name);
};

struct Quartiles {
    double lower, median, upper;
};
Quartiles quartiles(std::vector<double> values);

// The line's ratio in every finished round.
std::vector<double> ratios(Group& group, const Line& line);
bool short_of(const Line& line, double median);

// At least one round, `rounds` unless `stopped` says otherwise. Outputs are judged before the first and after the last.
void measure(Group& group, int rounds, const std::function<bool()>& stopped, const std::function<void(int, const std::string&)>& progress);

} // namespace harness
