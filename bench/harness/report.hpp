// report.hpp — a measured group as a table for people and as JSON for programs.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "group.hpp"

namespace harness {

// Lines with their medians, quartiles and limits, then every subject's median time.
std::string table(Group& group);

// The whole report. `groups` are objects made by json(group).
std::string json(Group& group);
std::string json(const std::vector<std::pair<std::string, std::string>>& machine, const std::string& command, int threads,
                 const std::vector<std::string>& groups);

// How many lines miss their limit, and facts that exceed theirs.
int misses(Group& group);

} // namespace harness
