#include "group.hpp"

#include <algorithm>
#include <stdexcept>

namespace harness {

Subject& Group::subject(const std::string& subject_name) {
    for (Subject& s : subjects)
        if (s.name == subject_name) return s;
    throw std::logic_error("no subject \"" + subject_name + "\" in " + name);
}

Quartiles quartiles(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const auto at = [&](double share) {
        const double place = share * double(values.size() - 1);
        const size_t below = size_t(place), above = std::min(below + 1, values.size() - 1);
        return values[below] + (place - double(below)) * (values[above] - values[below]);
    };
    return {at(0.25), at(0.5), at(0.75)};
}

std::vector<double> ratios(Group& group, const Line& line) {
    const Subject &top = group.subject(line.top), &bottom = group.subject(line.bottom);
    std::vector<double> all;
    for (size_t round = 0; round < std::min(top.rounds.size(), bottom.rounds.size()); ++round)
        all.push_back(line.factor * top.rounds[round] / bottom.rounds[round]);
    return all;
}

bool short_of(const Line& line, double median) { return line.limit && !(line.better == Better::lower ? median <= line.limit : median >= line.limit); }

void measure(Group& group, int rounds, const std::function<bool()>& stopped, const std::function<void(int, const std::string&)>& progress) {
    const auto judge = [&](int round) {
        for (Subject& s : group.subjects) {
            if (stopped()) return;
            progress(round, s.name + ": judging its output");
            if (!s.wrong) s.seconds();
            else if (const std::string why = s.wrong(); !why.empty()) group.wrong.push_back(s.name + ": " + why);
        }
    };
    judge(0);
    for (int round = 0; round < rounds && !stopped(); ++round)
        for (Subject& s : group.subjects) {
            if (stopped()) return;
            progress(round + 1, s.name);
            s.rounds.push_back(s.seconds());
        }
    judge(rounds);
}

} // namespace harness
